"""The command ``clew`` as a real process: started, watched through its records, ended at a chosen moment."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import psutil

CLEW = [sys.executable, "-c", "import sys; from clew.cli import run; sys.exit(run())"]

DONE = (0, 3, 4)
"""Exit codes of a command that did its work: the gate passed, failed or is undecided."""

NO_TIME_TO_COMPARE = {"started_at", "ended_at", "created_at", "seconds", "peak_memory_bytes", "is_new"}
"""What differs between two runs that are otherwise the same: when they were, how long they took."""


class Command:
    """A ``clew`` command in the project `folder`, running; its output goes to files beside the project."""

    def __init__(self, folder: Path, *words: str, variables: Mapping[str, str] | None = None) -> None:
        self.folder, self.words = folder, words
        self.began = time.monotonic()
        self._said, self._told = (folder.parent / f"{folder.name}.{name}" for name in ("out", "err"))
        with self._said.open("wb") as out, self._told.open("wb") as err:
            self.process = subprocess.Popen(
                [*CLEW, *words], cwd=folder, stdout=out, stderr=err, env={**os.environ, **(variables or {})}
            )

    @property
    def stdout(self) -> str:
        return self._said.read_text(encoding="utf-8")

    @property
    def stderr(self) -> str:
        return self._told.read_text(encoding="utf-8")

    def finished(self, timeout_seconds: float = 90) -> Command:
        """Wait for the end."""
        self.process.wait(timeout_seconds)
        return self

    def answer(self) -> Any:
        """What a command with ``--json`` answered, without its times. It must have ended well."""
        assert self.finished().process.returncode in DONE, self.stderr
        return timeless(json.loads(self.stdout))

    def is_over_after(self, seconds: float) -> bool:
        """Whether the process ends by itself within `seconds` of its start."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(max(0.0, self.began + seconds - time.monotonic()))
        return self.process.poll() is not None

    def is_over_before(self, question: str, n_rows: int, timeout_seconds: float = 60) -> bool:
        """Whether the process ended before the SQL `question` counted `n_rows` rows in its store."""
        deadline = time.monotonic() + timeout_seconds
        while count(self.folder, question) < n_rows:
            if self.process.poll() is not None:
                assert self.process.returncode in DONE, self.stderr
                return True
            assert time.monotonic() < deadline, f"never {n_rows} rows: {question}"
            time.sleep(0.002)
        return False

    def kill(self) -> None:
        """What the out-of-memory killer does: no clean-up of any kind."""
        self.process.kill()
        self.process.wait()

    def interrupt(self) -> None:
        """What Ctrl-C does."""
        self.process.send_signal(signal.SIGINT)


def count(folder: Path, question: str) -> int:
    """What ``SELECT count(*) FROM`` + `question` says of the store in `folder`; 0 while there is none."""
    path = folder / ".clew" / "clew.sqlite"
    if not path.exists():
        return 0
    with contextlib.closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True, timeout=10)) as connection:
        try:
            (n_rows,) = connection.execute(f"SELECT count(*) FROM {question}").fetchone()
        except sqlite3.OperationalError:  # its tables are not made yet
            return 0
    return int(n_rows)


def timeless(answer: Any) -> Any:
    """A JSON document without the times that no two runs share."""
    if isinstance(answer, dict):
        return {key: timeless(value) for key, value in answer.items() if key not in NO_TIME_TO_COMPARE}
    return [timeless(value) for value in answer] if isinstance(answer, list) else answer


def orphans(folder: Path, patience_seconds: float = 5.0) -> list[list[str]]:
    """Command lines of processes that still work for the project in `folder`, after a short wait."""
    deadline = time.monotonic() + patience_seconds
    while found := _working_for(folder):
        if time.monotonic() > deadline:
            break
        time.sleep(0.05)
    return found


def _working_for(folder: Path) -> list[list[str]]:
    lines = (process.info["cmdline"] or [] for process in psutil.process_iter(["cmdline"]))
    return [
        line for line in lines if any(word.startswith(f"{folder}/") or word == str(folder) for word in line)
    ]
