"""A child must not outlive its parent, whatever either of them is doing at that moment.

The parent holds the writing end of a pipe and never writes; when it ends, however it ends, the kernel
closes that end. The child's whole process group is killed then.
"""

from __future__ import annotations

import fcntl
import os
import select
import signal
import threading


def die_with_parent(lifeline: int) -> None:
    """Kill this process group when the other end of the pipe `lifeline` closes.

    On Linux the kernel sends the signal itself, so it also ends a child that is deep in native code. (A
    parent-death signal would do too, but it fires already when the parent's *thread* ends.)
    Elsewhere a thread waits; it must get hold of the interpreter first.
    """
    os.set_inheritable(lifeline, False)
    if hasattr(fcntl, "F_SETSIG"):
        fcntl.fcntl(lifeline, fcntl.F_SETOWN, -os.getpgrp())
        fcntl.fcntl(lifeline, fcntl.F_SETSIG, signal.SIGKILL)
        fcntl.fcntl(lifeline, fcntl.F_SETFL, fcntl.fcntl(lifeline, fcntl.F_GETFL) | os.O_ASYNC)
        if _is_closed(lifeline, timeout_seconds=0):
            _kill_group()  # the parent was gone before the kernel was asked to watch
    else:
        threading.Thread(target=_wait_and_kill, args=[lifeline], name="lifeline", daemon=True).start()


def _wait_and_kill(lifeline: int) -> None:
    while not _is_closed(lifeline, timeout_seconds=60):
        pass
    _kill_group()


def _is_closed(lifeline: int, timeout_seconds: float) -> bool:
    readable, _, _ = select.select([lifeline], [], [], timeout_seconds)
    return bool(readable)


def _kill_group() -> None:
    os.killpg(os.getpgrp(), signal.SIGKILL)
