"""Connections of a worker: how many requests wait, and which callers are too slow."""

from __future__ import annotations

import asyncio
import time
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol


class Connection(HttpToolsProtocol):
    """A connection that knows since when its caller owes the rest of a request."""

    owes_since: float | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        self.owes_since = time.monotonic()
        super().connection_made(transport)

    def on_message_begin(self) -> None:
        self.owes_since = time.monotonic()
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        # How many had come before this one, and are not answered yet.
        self.scope["n_waiting"] = len(self.tasks)  # type: ignore[typeddict-unknown-key]
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        self.owes_since = None
        super().on_message_complete()


def close_slow(connections: set[Any], timeout_seconds: float) -> int:
    """Close connections whose callers take longer than the timeout to send a request; returns how many."""
    latest = time.monotonic() - timeout_seconds
    slow = [each for each in connections if each.owes_since is not None and each.owes_since < latest]
    for connection in slow:
        connection.transport.abort()
    return len(slow)
