"""Real receivers of notices on this machine, and a store to send them from."""

from __future__ import annotations

import json
import ssl
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from clew.config import NotificationSettings
from clew.notifications import enqueue
from clew.storage import Store

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
SECRET = "a secret of both"


@dataclass(frozen=True, slots=True)
class Received:
    """One request as it came."""

    path: str
    headers: Mapping[str, str]
    body: bytes

    @property
    def notice(self) -> dict[str, Any]:
        told: dict[str, Any] = json.loads(self.body)
        return told


@dataclass
class Receiver:
    """An HTTP server that keeps what it gets and answers `status`; at `before_answer` it may do anything."""

    port: int = 0
    status: int = 204
    location: str = ""
    received: list[Received] = field(default_factory=list)
    before_answer: Callable[[], None] = lambda: None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/hook"


@contextmanager
def receiver(tls: ssl.SSLContext | None = None) -> Iterator[Receiver]:
    """A receiver on a free port of the loopback address, for the length of the block."""
    here = Receiver()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            here.received.append(Received(self.path, dict(self.headers), body))
            here.before_answer()
            self.send_response(here.status)
            if here.location:
                self.send_header("Location", here.location)
            self.end_headers()

        def log_message(self, *_arguments: object) -> None:
            """Be silent."""

    class Server(ThreadingHTTPServer):
        def handle_error(self, *_arguments: object) -> None:
            """Whoever hangs up is meant to."""

    server = Server(("127.0.0.1", 0), Handler)
    if tls is not None:
        server.socket = tls.wrap_socket(server.socket, server_side=True)
    here.port = server.server_port
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield here
    server.shutdown()
    thread.join()
    server.server_close()


def webhook(here: Receiver, **changes: Any) -> NotificationSettings:
    """Settings that post to this receiver."""
    return NotificationSettings(**{"webhook": here.url, "secret": SECRET, "allow_private": True, **changes})


def put(store: Store, settings: NotificationSettings, *identities: str, now: datetime = NOW) -> None:
    """Put a notice of each identity into the outbox."""
    with store.write() as tx:
        for identity in identities:
            payload = {"level": "page", "sentence": f"this is {identity}"}
            enqueue(
                tx, settings, level="page", deployment="churn", identity=identity, payload=payload, now=now
            )


def rows(store: Store) -> list[dict[str, Any]]:
    with store.read() as reader:
        return reader.find("notices", order_by=["created_at", "id"])


def until(is_so: Callable[[], bool], seconds: float = 10) -> None:
    """Wait for something another process does."""
    deadline = time.monotonic() + seconds
    while not is_so():
        assert time.monotonic() < deadline, "it never came"
        time.sleep(0.01)
