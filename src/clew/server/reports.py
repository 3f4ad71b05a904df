"""What the control process tells the supervisor that started it, a JSON document a line through a pipe."""

from __future__ import annotations

import json
import os
import threading
from contextlib import suppress
from datetime import datetime
from typing import Any

from clew.errors import ClewError


class Reports:
    """The control process's end; without a pipe everything goes nowhere."""

    def __init__(self, descriptor: int | None) -> None:
        self._descriptor, self._lock = descriptor, threading.Lock()
        if descriptor is not None:
            os.set_inheritable(descriptor, False)
            os.set_blocking(descriptor, False)

    def opened(self, *, made_token: bool) -> None:
        """The store is open and may be used by others."""
        self._send(kind="opened", made_token=made_token)

    def event(self, at: datetime, kind: str, sentence: str) -> None:
        """The loop saw or did something."""
        self._send(kind="event", at=at.isoformat(), what=kind, sentence=sentence)

    def ready(self, models: dict[str, int | None], clock: str, now: datetime) -> None:
        """The loop is live; `models` have these champions."""
        self._send(kind="ready", models=models, clock=clock, now=now.isoformat())

    def failed(self, error: ClewError) -> None:
        """This process cannot do its work, and ends."""
        facts = {"code": error.error_code, "message": str(error), "exit_code": error.exit_code}
        self._send(kind="failed", traceback=getattr(error, "traceback", ""), **facts)

    def _send(self, **document: Any) -> None:
        if self._descriptor is None:
            return
        line = json.dumps(document).encode() + b"\n"
        # A supervisor that reads nothing must not hold up the loop: what does not fit is not told.
        with self._lock, suppress(BlockingIOError, BrokenPipeError):
            os.write(self._descriptor, line)
