"""The control server's connections: a caller who sends half a request does not hold one for ever."""

from __future__ import annotations

import asyncio
import time

import uvicorn
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

    def on_message_complete(self) -> None:
        self.owes_since = None
        super().on_message_complete()


class Server(uvicorn.Server):
    """A server that closes connections whose callers take too long to send a request."""

    def __init__(self, config: uvicorn.Config, timeout_seconds: float) -> None:
        super().__init__(config)
        self._timeout_seconds = timeout_seconds

    async def on_tick(self, counter: int) -> bool:
        latest = time.monotonic() - self._timeout_seconds
        for connection in list(self.server_state.connections):
            # Every one is a Connection of this module: the server was told so.
            if connection.owes_since is not None and connection.owes_since < latest:  # type: ignore[union-attr]
                connection.transport.abort()
        return await super().on_tick(counter)
