"""A program around the user's command: it ends the command when Clew ends, however Clew ends.

Run by its path, so that nothing is imported but Python's own: a notice costs a few milliseconds more.
It stands in the command's process group, and `lifeline` is a pipe that closes with Clew.
"""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
import threading

CANNOT_START = 127


def main(lifeline: int, command: list[str]) -> int:
    """Run the command; its exit code, or 128 and the signal's number, as a shell has it."""
    os.set_inheritable(lifeline, False)
    threading.Thread(target=_die_with_parent, args=[lifeline], daemon=True).start()
    try:
        process = subprocess.Popen(command)
    except OSError as error:
        sys.stderr.write(f"it cannot be started: {error.strerror}\n")
        return CANNOT_START
    code = process.wait()
    return code if code >= 0 else 128 - code


def _die_with_parent(lifeline: int) -> None:
    select.select([lifeline], [], [])
    os.killpg(os.getpgrp(), signal.SIGKILL)


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]), sys.argv[2:]))
