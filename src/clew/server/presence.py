"""Who runs ``clew up`` on a store: one process at a time, known by name to all others.

The kernel's lock on ``run/up.lock`` is the truth, since it goes when its holder dies, however it dies;
``run/up.json`` holds the facts to tell. The supervisor loads this module, so it loads nothing large.
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Protocol

from clew.errors import StoreBusy, StoreError

LOCK_FILE, FACTS_FILE = "up.lock", "up.json"
TOKEN_FILE = "token"  # noqa: S105 - the name of a file

PATIENCE_SECONDS = 1.0
"""How long a start waits for the lock: others hold it for a moment while they look who is up."""


class HasFolder(Protocol):
    """A store, as far as this module needs one."""

    @property
    def folder(self) -> Path: ...


@dataclass(frozen=True, slots=True)
class Presence:
    """The ``clew up`` of a store.

    Attributes
    ----------
    machine, pid, since
        Where it runs, as which process, and since when.
    host, port, control_port
        Where predictions and where people are answered.
    processes
        The process numbers of its parts by name, such as ``control`` and ``worker 1``.
    """

    machine: str
    pid: int
    since: datetime
    host: str
    port: int
    control_port: int
    processes: Mapping[str, int] = field(default_factory=dict)

    @property
    def url(self) -> str:
        """Where predictions and labels are sent."""
        return f"http://{address(self.host, self.port)}"

    @property
    def control_url(self) -> str:
        """Where people and programs ask for state, and give commands."""
        return f"http://{address(self.host, self.control_port)}"


def address(host: str, port: int) -> str:
    """Host and port as a URL has them.

    Examples
    --------
    >>> address("127.0.0.1", 8750), address("::1", 8750), address("0.0.0.0", 8750)
    ('127.0.0.1:8750', '[::1]:8750', '127.0.0.1:8750')
    """
    reachable = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104 - compared, not bound
    return f"[{reachable}]:{port}" if ":" in reachable else f"{reachable}:{port}"


class Held:
    """The right to run on a store, held by this process."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def tell(self, presence: Presence) -> None:
        """Write down how this is reached and which processes there are now.

        Raises
        ------
        StoreError
            When the disk is full, or cannot be written.
        """
        with _explained(self._folder, "written"):
            _write_facts(self._folder, presence)


def run_folder(store_folder: Path) -> Path:
    """The folder for what belongs to a running system; made when it is missing, for its owner only."""
    folder = store_folder / "run"
    with _explained(folder, "made"):
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    return folder


@contextmanager
def _explained(folder: Path, done: str) -> Iterator[None]:
    """Turn the kernel's errors inside the block into what to do."""
    try:
        yield
    except OSError as error:
        is_full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        todo = "Free some space" if is_full else f"Check who owns {folder.parent} and its permissions"
        raise StoreError(
            f'{folder} cannot be {done}: {error.strerror}. {todo}, or name another folder: store = "…" in'
            " clew.toml, or CLEW_STORE."
        ) from error


@contextmanager
def held_up(store_folder: Path) -> Iterator[Held]:
    """Be the one ``clew up`` of this store for the time of the block.

    Raises
    ------
    StoreBusy
        When there is one already, naming it.
    StoreError
        When the store cannot be written.
    """
    folder = run_folder(store_folder)
    with _explained(folder, "written"):
        descriptor = os.open(folder / LOCK_FILE, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        _lock(descriptor, folder)
        with _explained(folder, "written"):
            (folder / FACTS_FILE).unlink(missing_ok=True)
        try:
            yield Held(folder)
        finally:
            # What is left of the facts where nothing can be written any more counts for nobody.
            with suppress(OSError):
                (folder / FACTS_FILE).unlink(missing_ok=True)
    finally:
        os.close(descriptor)


def running_up(store: HasFolder) -> Presence | None:
    """The ``clew up`` that runs on this store, or None; what a dead one left behind does not count."""
    folder = store.folder / "run"
    try:
        descriptor = os.open(folder / LOCK_FILE, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return _read_facts(folder)
    finally:
        os.close(descriptor)
    return None


def _lock(descriptor: int, folder: Path) -> None:
    give_up = time.monotonic() + PATIENCE_SECONDS
    while True:
        with suppress(BlockingIOError):
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        if time.monotonic() > give_up:
            raise StoreBusy(_who_is_up(folder))
        time.sleep(0.05)


def _who_is_up(folder: Path) -> str:
    first = _read_facts(folder)
    if first is None:
        return f"clew up is starting on the store {folder.parent} already. See it with: clew status"
    return (
        f"clew up runs on the store {folder.parent} already: process {first.pid} on {first.machine} since"
        f" {first.since:%Y-%m-%d %H:%M:%S} UTC, predictions at {first.url}, control at {first.control_url}."
        f" See it with: clew status; or end it first: kill {first.pid}"
    )


def _write_facts(folder: Path, presence: Presence) -> None:
    facts = asdict(presence) | {"since": presence.since.astimezone(UTC).isoformat()}
    fresh = folder / f"{FACTS_FILE}.new"
    fresh.write_text(json.dumps(facts), encoding="utf-8")
    fresh.replace(folder / FACTS_FILE)


def _read_facts(folder: Path) -> Presence | None:
    # Whoever holds the lock may be about to write them, so a missing file is looked for twice.
    for _ in range(20):
        with suppress(FileNotFoundError):
            facts = json.loads((folder / FACTS_FILE).read_text(encoding="utf-8"))
            return Presence(**facts | {"since": datetime.fromisoformat(facts["since"])})
        time.sleep(0.025)
    return None
