"""Telling a notice to a program of the user's."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import IO

from clew.notifications.failures import DeliveryFailed

LIMIT_SECONDS = 30.0
_RUNNER = Path(__file__).with_name("runner.py")
_MOST_SAID = 300
"""Characters of a program's complaint that are kept."""


def run_command(command: Sequence[str], body: bytes, limit_seconds: float = LIMIT_SECONDS) -> None:
    """Run a program with the notice on its standard input; exit code 0 says that it was told.

    It runs in a session of its own. At the limit, or when this process ends, the program and all it started
    are killed.

    Raises
    ------
    DeliveryFailed
        When it cannot be started, ends with another code or takes too long; with the last line that it
        wrote to its standard error.
    """
    theirs, lifeline = os.pipe()
    # Files and not pipes: a program may leave its input unread, and one it left behind hold its output open.
    with tempfile.TemporaryFile() as given, tempfile.TemporaryFile() as complaints:
        given.write(body)
        given.seek(0)
        try:
            process = subprocess.Popen(
                [sys.executable, "-I", "-S", str(_RUNNER), str(theirs), *command],
                stdin=given,
                stdout=subprocess.DEVNULL,
                stderr=complaints,
                pass_fds=[theirs],
                start_new_session=True,
            )
            os.close(theirs)
            code = _code_of(process, command[0], limit_seconds)
        finally:
            os.close(lifeline)
        if code != 0:
            raise DeliveryFailed(f"{command[0]} ended with exit code {code}{_last_line(complaints)}")


def _code_of(process: subprocess.Popen[bytes], name: str, limit_seconds: float) -> int:
    try:
        return process.wait(limit_seconds)
    except subprocess.TimeoutExpired:
        raise DeliveryFailed(f"{name} ran longer than {limit_seconds:g} s and was killed") from None
    finally:
        if process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def _last_line(complaints: IO[bytes]) -> str:
    complaints.seek(max(0, complaints.seek(0, os.SEEK_END) - 4 * _MOST_SAID))
    lines = complaints.read().decode(errors="replace").strip().splitlines()
    return f": {lines[-1].strip()[-_MOST_SAID:]}" if lines else ""
