"""Real child processes for the tests: each runs a few lines of Python against a store."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeAlias

import msgspec

from clew.config import Settings
from clew.errors import StoreError

StartChild: TypeAlias = Callable[[Settings, str], subprocess.Popen[str]]

_PROLOGUE = """
import os, sys, time, msgspec
from datetime import UTC, datetime
from pathlib import Path
from clew.config import ObjectSettings, Settings
from clew.storage import open_store

given = msgspec.json.decode(sys.argv[1])
settings = Settings(
    root=Path(given["root"]), store=Path(given["store"]), database=given["database"],
    objects=ObjectSettings(given["url"], given["options"]),
)
now = datetime(2026, 3, 1, 12, tzinfo=UTC)
def say(word):
    print(word, flush=True)
def wait():
    sys.stdin.readline()
"""


def start(settings: Settings, code: str) -> subprocess.Popen[str]:
    """Run `code` in a child that knows `settings`, `now`, `open_store`, `say` and `wait`."""
    given = {
        "root": str(settings.root),
        "store": str(settings.store),
        "database": settings.database,
        "url": settings.objects.url,
        "options": dict(settings.objects.options),
    }
    return subprocess.Popen(
        [sys.executable, "-c", _PROLOGUE + textwrap.dedent(code), msgspec.json.encode(given).decode()],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
    )


@contextmanager
def children() -> Iterator[StartChild]:
    """Starts children as `start` does; those that still live are killed at the end."""
    started: list[subprocess.Popen[str]] = []

    def start_one(settings: Settings, code: str) -> subprocess.Popen[str]:
        started.append(start(settings, code))
        return started[-1]

    yield start_one
    for child in started:
        kill(child)


def hear(child: subprocess.Popen[str]) -> str:
    """The next line the child says; its errors when it died instead."""
    assert child.stdout is not None
    line = child.stdout.readline().strip()
    if not line:
        raise AssertionError(f"the child ended with:\n{child.communicate()[1]}")
    return line


def tell(child: subprocess.Popen[str]) -> None:
    """Let a child that waits go on."""
    assert child.stdin is not None
    child.stdin.write("\n")
    child.stdin.flush()


def finish(child: subprocess.Popen[str]) -> str:
    """Wait for the child to end well; what it still said."""
    said, errors = child.communicate(timeout=60)
    assert child.returncode == 0, errors
    return said.strip()


def kill(child: subprocess.Popen[str]) -> None:
    """What the out-of-memory killer does: no clean-up of any kind. A child that has ended stays so."""
    child.kill()
    child.wait()
    for pipe in (child.stdin, child.stdout, child.stderr):
        assert pipe is not None
        pipe.close()


def works_in_a_fork(do: Callable[[], object]) -> bool:
    """Whether a forked child can do it."""
    pid = os.fork()
    if pid == 0:
        try:
            do()
            os._exit(0)
        finally:
            os._exit(1)
    return os.waitpid(pid, 0)[1] == 0


def refusal_in_a_fork(do: Callable[[], object]) -> str:
    """What Clew refuses a forked child with; nothing when it does not."""
    read_end, write_end = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            do()
        except StoreError as error:
            os.write(write_end, str(error).encode())
        finally:
            os._exit(0)
    os.close(write_end)
    os.waitpid(pid, 0)
    said = os.read(read_end, 10_000).decode()  # less than a pipe holds
    os.close(read_end)
    return said
