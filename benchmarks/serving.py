"""Predictions over HTTP by a real worker, beside uvicorn with an application that only echoes.

The value is the CPU of the worker's process for one request of one row with everything on: the token is
checked, the answer logged before it is given, the log synced in groups, figures kept. The floor is the CPU of
one request to uvicorn, on uvloop and httptools as the worker is, with an application that reads the body and
answers as many bytes. Both servers run at the same time and are asked in turn, by sixteen connections that
stay open. CPU counts whatever a process does meanwhile, such as looking for new routes.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import os
import platform
import select
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import psutil

from benchmarks._credit import NOW, applications, packaged
from clew.config import load_settings
from clew.entities import Column, DatasetDeclaration, Duration, Margin, ModelDeclaration, Route
from clew.registry import ensure_deployment, register, store_package
from clew.registry.routes import move_route
from clew.storage import Store, open_store

GOAL = 2.0
N_CONNECTIONS = 16
TOKEN = "a-token-of-the-benchmark"
PATIENCE_SECONDS = 60.0
MODEL = "credit"
BULK_ROWS = (100, 1000)


@dataclass(frozen=True, slots=True)
class Server:
    """A server that was started: where it listens, and the clock of its CPU."""

    name: str
    port: int
    process: psutil.Process

    def cpu_seconds(self) -> float:
        if (
            platform.system() == "Linux"
        ):  # psutil knows hundredths of a second there; this is the kernel's name
            return time.clock_gettime(~self.process.pid << 3 | 2)  # of the CPU clock of another process
        used = self.process.cpu_times()
        return used.user + used.system


@dataclass(frozen=True, slots=True)
class Load:
    """What came of some requests."""

    n_requests: int
    cpu_seconds: float
    seconds: float
    latencies_ms: list[float]

    @property
    def cpu_microseconds(self) -> float:
        return self.cpu_seconds / self.n_requests * 1e6

    @property
    def per_second(self) -> float:
        return self.n_requests / self.seconds


# -- servers -------------------------------------------------------------------------------------------


@contextlib.contextmanager
def worker(folder: Path) -> Iterator[Server]:
    """A prediction worker as ``clew up`` starts it, which serves the model and knows the token."""
    store = open_store(load_settings(folder, {}), now=NOW)
    with store:
        deploy(store, folder / "package")
    command = ["-P", "-m", "clew.serving.worker", str(folder)]
    with started("clew", command, lifeline=True) as server:
        yield server


def deploy(store: Store, folder: Path) -> None:
    """Make the model the champion of a deployment, and let the token in."""
    _, digest = packaged(folder)
    table = applications(1)
    about = DatasetDeclaration(
        name="applications",
        time="at",
        key="id",
        label="decision",
        label_delay=Duration.parse("1d"),
        source="-",
    )
    ensure_deployment(
        store, MODEL, "live", MODEL, ModelDeclaration(MODEL, about, "accuracy", Margin.parse(0.01)), NOW
    )
    own = [("id", "string"), ("at", "timestamp[us, tz=UTC]"), ("decision", "string")]
    columns = [Column(name, kind) for name, kind in own]
    columns += [Column(field.name, str(field.type)) for field in table.schema]
    version = register(
        store, deployment=MODEL, model=MODEL, run="run", package=store_package(store, folder),
        flavor="lightgbm", metrics={}, now=NOW, actor="benchmark", reason="to be measured",
    )  # fmt: skip
    assert version.package == digest
    with store.write() as tx:
        tx.insert("datasets", {"name": about.name, "created_at": NOW, "columns": columns})
        tx.insert(
            "tokens", {"name": "benchmark", "digest": sha256(TOKEN.encode()).hexdigest(), "created_at": NOW}
        )
        move_route(tx, Route(MODEL, 0, version.number), NOW, actor="bench", reason="to be asked")


@contextlib.contextmanager
def echo_server(n_bytes: int) -> Iterator[Server]:
    """A server whose every answer has so many bytes."""
    with started("echo", ["-m", "benchmarks.serving", "--echo", str(n_bytes)]) as server:
        yield server


@contextlib.contextmanager
def started(name: str, words: Sequence[str], *, lifeline: bool = False) -> Iterator[Server]:
    """A server on a socket that it is given as its last arguments."""
    reading, writing = os.pipe()
    with socket.create_server(("127.0.0.1", 0)) as listening:
        handles = [listening.fileno(), *([reading] if lifeline else [])]
        process = subprocess.Popen([sys.executable, *words, *map(str, handles)], pass_fds=handles)
        port = listening.getsockname()[1]
    os.close(reading)
    try:
        yield Server(name, port, psutil.Process(process.pid))
    finally:
        process.terminate()
        process.wait(PATIENCE_SECONDS)
        os.close(writing)


def serve_echo(n_bytes: int, listening: int) -> None:
    import uvicorn
    import uvloop

    answer = b"x" * n_bytes
    head = [(b"content-type", b"application/json"), (b"content-length", b"%d" % n_bytes)]

    async def echo(_scope: Any, receive: Any, send: Any) -> None:
        while (await receive())["more_body"]:
            pass
        await send({"type": "http.response.start", "status": 200, "headers": head})
        await send({"type": "http.response.body", "body": answer})

    config = uvicorn.Config(
        echo, http="httptools", ws="none", lifespan="off", log_config=None, access_log=False,
        proxy_headers=False, server_header=False, date_header=False, timeout_keep_alive=75,
    )  # fmt: skip
    serving = uvicorn.Server(config).serve(sockets=[socket.socket(fileno=listening)])
    asyncio.Runner(loop_factory=uvloop.new_event_loop).run(serving)


# -- load ----------------------------------------------------------------------------------------------


def request_of(rows: Any) -> bytes:
    body = json.dumps(rows).encode()
    head = (
        f"POST /predict/{MODEL} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {TOKEN}\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


def rows_of(n_rows: int) -> list[dict[str, Any]]:
    return [{"id": f"A{n:07d}", **row} for n, row in enumerate(applications(n_rows).to_pylist())]


class Callers:
    """Connections that stay open; each sends its next request when it has its answer."""

    def __init__(self, server: Server, n_connections: int) -> None:
        self._server = server
        self._connections = [connected(server.port) for _ in range(n_connections)]

    def close(self) -> None:
        for connection in self._connections:
            connection.close()

    def ask(self, requests: Sequence[bytes], n_requests: int) -> Load:
        """Send so many of the requests, and count the server's CPU over all of them."""
        poll, by_number = select.poll(), {each.fileno(): each for each in self._connections[:n_requests]}
        sent_at: dict[int, float] = {}
        latencies: list[float] = []
        clock, to_send = time.perf_counter, itertools.islice(itertools.cycle(requests), n_requests)
        used, began = self._server.cpu_seconds(), clock()
        for number, connection in by_number.items():
            poll.register(number, select.POLLIN)
            sent_at[number] = clock()
            connection.sendall(next(to_send))
        while len(latencies) < n_requests:
            # Not waited for: to wake a caller who sleeps would cost the slower server more than the faster.
            for number, _ in poll.poll(0):
                read_answer(by_number[number])
                now = clock()
                latencies.append((now - sent_at[number]) * 1000)
                request = next(to_send, None)
                if request is not None:
                    sent_at[number] = now
                    by_number[number].sendall(request)
        return Load(n_requests, self._server.cpu_seconds() - used, clock() - began, latencies)


def connected(port: int) -> socket.socket:
    connection = socket.create_connection(("127.0.0.1", port), PATIENCE_SECONDS)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return connection


def read_answer(connection: socket.socket) -> bytes:
    """The body of one answer, which must be a good one."""
    read = connection.recv(65_536)
    head, _, body = read.partition(b"\r\n\r\n")
    if not head.startswith(b"HTTP/1.1 200"):
        raise RuntimeError(f"the server answered {read[:500]!r}")
    n_bytes = int(head.partition(b"content-length: ")[2].partition(b"\r\n")[0])
    while len(body) < n_bytes:
        body += connection.recv(65_536)
    return body


@contextlib.contextmanager
def callers(server: Server, n_connections: int) -> Iterator[Callers]:
    opened = Callers(server, n_connections)
    try:
        yield opened
    finally:
        opened.close()


def first_answer(server: Server, request: bytes) -> bytes:
    """What it answers as soon as it does; the worker takes a connection when it has loaded."""
    with contextlib.closing(connected(server.port)) as connection:
        connection.sendall(request)
        return read_answer(connection)


# -- measuring -----------------------------------------------------------------------------------------


def in_turn(
    servers: Sequence[Server], n_connections: int, requests: Sequence[bytes], n: int, n_rounds: int
) -> list[list[Load]]:
    """What `n` requests took of each server, round by round."""
    with contextlib.ExitStack() as stack:
        all_callers = [stack.enter_context(callers(server, n_connections)) for server in servers]
        for each in all_callers:
            each.ask(requests, max(1, n // 10))
        return [[each.ask(requests, n) for each in all_callers] for _ in range(n_rounds)]


def ratio_of(rounds: list[list[Load]]) -> float:
    return statistics.median(ours.cpu_seconds / floor.cpu_seconds for ours, floor in rounds)


def median_of(rounds: list[list[Load]], of_load: Callable[[Load], float], server: int = 0) -> float:
    return statistics.median(of_load(loads[server]) for loads in rounds)


def latency(rounds: list[list[Load]], share: float) -> float:
    latencies = sorted(each for loads in rounds for each in loads[0].latencies_ms)
    return round(latencies[min(int(share * len(latencies)), len(latencies) - 1)], 3)


def facts_of(rounds: list[list[Load]]) -> dict[str, float]:
    return {
        "ratio": round(ratio_of(rounds), 2),
        "cpu_microseconds": round(median_of(rounds, lambda load: load.cpu_microseconds), 1),
        "echo_cpu_microseconds": round(median_of(rounds, lambda load: load.cpu_microseconds, 1), 1),
        "requests_per_second": round(median_of(rounds, lambda load: load.per_second)),
        "p50_ms": latency(rounds, 0.5),
        "p99_ms": latency(rounds, 0.99),
    }


def bulk_facts(server: Server, n_rows: int, n_requests: int) -> dict[str, float]:
    rounds = in_turn([server], 1, [request_of(rows_of(n_rows))], n_requests, 3)
    return {
        "rows_per_second": round(n_rows * median_of(rounds, lambda load: load.per_second)),
        "cpu_microseconds_per_row": round(median_of(rounds, lambda load: load.cpu_microseconds) / n_rows, 2),
    }


def main() -> None:
    if sys.argv[1:2] == ["--echo"]:
        serve_echo(*map(int, sys.argv[2:]))
        return
    is_smoke = "--smoke" in sys.argv
    n_requests, n_rounds, n_bulk = (50, 1, 2) if is_smoke else (4000, 11, 40)
    requests = [request_of(row) for row in rows_of(1000)]
    with tempfile.TemporaryDirectory() as folder, worker(Path(folder)) as ours:
        n_bytes = len(first_answer(ours, requests[0]))
        with echo_server(n_bytes) as echo:
            first_answer(echo, requests[0])
            by_connections = {
                n: in_turn([ours, echo], n, requests, n_requests, n_rounds) for n in (N_CONNECTIONS, 1)
            }
        bulk = {f"lists of {n:,}": bulk_facts(ours, n, n_bulk) for n in BULK_ROWS}
    many = by_connections[N_CONNECTIONS]
    details: dict[str, Any] = {f"{n} connections": facts_of(rounds) for n, rounds in by_connections.items()}
    details |= bulk | {"bytes_of_request": len(requests[0]), "bytes_of_answer": n_bytes}
    for name, facts in details.items():
        print(f"{name:18} {facts}")
    result = {
        "name": "serving",
        "value": round(ratio_of(many), 2),
        "unit": "x CPU of an echo server",
        "goal": GOAL,
        "better": "lower",
        "floor": {"uvicorn that echoes": 1.0},
        "details": details,
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
