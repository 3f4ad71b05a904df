"""Who works on something, and whether they still do: a process, named so that no other has its name."""

from __future__ import annotations

import functools
import os
import socket
from pathlib import Path

import psutil


def this_owner() -> str:
    """This process as ``host:pid:start``.

    A pid comes back after its process ended; with the start time it names one process for good.
    """
    return _owner(os.getpid())


def is_alive(owner: str) -> bool:
    """Whether the process that `owner` names still runs.

    Of another host nothing can be known, so its processes count as alive.
    """
    host, pid, start = owner.rsplit(":", 2)
    return host != socket.gethostname() or _start_of(int(pid)) == start


@functools.cache
def _owner(pid: int) -> str:
    return f"{socket.gethostname()}:{pid}:{_start_of(pid)}"


def _start_of(pid: int) -> str | None:
    """When a process started, as text that every process reads alike; None when it has ended."""
    if Path("/proc/self/stat").exists():
        return _ticks_since_boot(pid)
    try:
        process = psutil.Process(pid)
        return None if process.status() == psutil.STATUS_ZOMBIE else f"{process.create_time():.2f}"
    except psutil.NoSuchProcess:
        return None


def _ticks_since_boot(pid: int) -> str | None:
    # psutil adds the time of boot, which moves when the clock is set: the same process would be another.
    try:
        told = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except (FileNotFoundError, ProcessLookupError):
        return None
    after_name = told.rpartition(")")[2].split()
    state, start = after_name[0], after_name[19]
    return None if state in "ZX" else start
