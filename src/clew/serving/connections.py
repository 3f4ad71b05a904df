"""HTTP/1.1 of a worker: requests parsed by httptools, answers in their order, and callers who are too slow.

An answer that is there at once is written in the call that read the request's last byte: no task, no queue,
no timer. While one takes long its connection reads no further.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from http import HTTPStatus
from typing import Any, NamedTuple, Protocol, TypeAlias

import httptools

from clew.serving.figures_file import WorkerFigures
from clew.serving.refusals import Headers, Refused

log = logging.getLogger("clew.serving")

MAX_HEAD_BYTES = 65_536
KEEP_ALIVE_SECONDS = 75.0
"""How long a connection stays open on which nothing is asked."""


class Answer(NamedTuple):
    status: int
    body: bytes
    headers: Headers = ()


Pending: TypeAlias = "Answer | asyncio.Future[Answer]"


class Answering(Protocol):
    """What gives the answers. Nothing here raises."""

    def admit(self, method: bytes, url: bytes, headers: dict[bytes, bytes], /) -> Any:
        """Judge a request by its head: an `Answer`, or what `answer` is to be given of it."""
        ...

    def answer(self, admitted: Any, body: bytes) -> Pending: ...

    def refuse(self, refused: Refused) -> Answer:
        """The answer to what breaks a rule of HTTP or a limit."""
        ...


_HEAD = b"HTTP/1.1 %b\r\ncontent-type: application/json\r\ncontent-length: %d\r\n%b\r\n%b"
_STATUS = {status.value: f"{status.value} {status.phrase}".encode() for status in HTTPStatus}


def written(answer: Answer, *, keeps_alive: bool, with_body: bool = True) -> bytes:
    """An answer as it goes over the wire.

    Examples
    --------
    >>> written(Answer(200, b"[]"), keeps_alive=False).split(b"\\r\\n")[2:4]
    [b'content-length: 2', b'connection: close']
    """
    more = b"".join([b"%b: %b\r\n" % header for header in answer.headers])
    if not keeps_alive:
        more += b"connection: close\r\n"
    body = answer.body
    return _HEAD % (_STATUS[answer.status], len(body), more, body if with_body else b"")


class Connection(asyncio.Protocol):
    """One caller. What begins with ``on_`` is called by the parser."""

    def __init__(self, connections: Connections) -> None:
        self._all, self._app, self._figures = connections, connections.app, connections.figures
        self._parser = httptools.HttpRequestParser(self)
        self._unwritten: deque[tuple[Pending, bool, bool]] = deque()
        self._admitted: Any = None
        self._is_begun = self._is_in_head = self._is_ending = False
        self._n_head_bytes = 0
        # Since when the caller owes the rest of a request, and since when nothing is asked.
        self._owes_since: float | None = None
        self._idle_since: float | None = None

    # -- of the transport ------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        self._transport = transport
        self._owes_since = time.monotonic()
        self._all.opened.add(self)

    def connection_lost(self, _error: Exception | None) -> None:
        self._is_ending = True
        self._all.opened.discard(self)
        # Answers that are still being made are for nobody; what they hold is in the log.
        self._figures.n_in_flight -= len(self._unwritten) + (self._admitted is not None)
        self._unwritten.clear()
        self._admitted = None

    def data_received(self, data: bytes) -> None:
        if self._is_ending:
            return
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            pass  # refused when its head was complete
        except httptools.HttpParserCallbackError:
            log.exception("a request failed")
            self._break_off(
                Refused(500, "INTERNAL_ERROR", "The request failed inside the server; its log says why.")
            )
        except httptools.HttpParserError:
            self._break_off(Refused(400, "MALFORMED_REQUEST", "What came is no HTTP/1.1."))
        if self._is_in_head:
            self._n_head_bytes += len(data)
            if self._n_head_bytes > MAX_HEAD_BYTES:
                message = f"The head of the request has more than {MAX_HEAD_BYTES:,} bytes."
                self._break_off(Refused(431, "HEAD_TOO_LARGE", message))

    def pause_writing(self) -> None:
        self._transport.pause_reading()

    def resume_writing(self) -> None:
        self._read_on()

    # -- of the parser ---------------------------------------------------------------------------------

    def on_message_begin(self) -> None:
        self._owes_since, self._idle_since = time.monotonic(), None
        self._is_begun = self._is_in_head = True
        self._n_head_bytes = self._n_body_bytes = 0
        self._url = b""
        self._headers: dict[bytes, bytes] = {}
        self._pieces: list[bytes] = []

    def on_url(self, url: bytes) -> None:
        self._url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        self._headers[name.lower()] = value

    def on_headers_complete(self) -> None:
        self._is_in_head = False
        if self._is_ending:
            return
        parser, method = self._parser, self._parser.get_method()
        if parser.should_upgrade():  # then the parser takes the body for the other protocol's
            self._break_off(
                Refused(400, "MALFORMED_REQUEST", "Nothing is spoken here but HTTP/1.1: no Upgrade.")
            )
            return
        self._keeps_alive = parser.should_keep_alive() and parser.get_http_version() == "1.1"
        self._with_body = method != b"HEAD"
        admitted = self._app.admit(method, self._url, self._headers)
        self._figures.n_requests += 1
        self._figures.n_in_flight += 1
        if isinstance(admitted, Answer):
            self._give(admitted)
            return
        self._admitted = admitted
        if self._headers.get(b"expect", b"").lower() == b"100-continue" and not self._unwritten:
            self._transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")

    def on_body(self, body: bytes) -> None:
        if self._admitted is None:
            return
        self._n_body_bytes += len(body)
        most = self._all.max_body_bytes
        if self._n_body_bytes <= most:
            self._pieces.append(body)
        elif self._n_body_bytes > 4 * most:
            # Read on for a while, as a caller who is still sending would not see the answer; not for ever.
            self._break_off(too_large(most))

    def on_message_complete(self) -> None:
        self._owes_since, self._is_begun = None, False
        admitted, self._admitted = self._admitted, None
        if admitted is None:
            return
        if self._n_body_bytes > self._all.max_body_bytes:
            self._give(self._app.refuse(too_large(self._all.max_body_bytes)))
        else:
            self._give(self._app.answer(admitted, b"".join(self._pieces)))

    # -- answers ---------------------------------------------------------------------------------------

    def _break_off(self, refused: Refused) -> None:
        """Answer what cannot be read to its end, and end."""
        if self._is_ending:
            return
        if self._admitted is None:
            self._figures.n_in_flight += 1
        self._admitted, self._keeps_alive, self._with_body = None, False, True
        self._give(self._app.refuse(refused))

    def _give(self, pending: Pending) -> None:
        self._is_ending = not self._keeps_alive
        if not self._unwritten and isinstance(pending, Answer):
            self._write(pending, self._keeps_alive, self._with_body)
            return
        self._transport.pause_reading()
        self._unwritten.append((pending, self._keeps_alive, self._with_body))
        if not isinstance(pending, Answer):
            pending.add_done_callback(self._write_what_is_ready)

    def _write_what_is_ready(self, _done: object) -> None:
        while self._unwritten:
            pending, keeps_alive, with_body = self._unwritten[0]
            if not isinstance(pending, Answer):
                if not pending.done():
                    return
                pending = pending.result()
            self._unwritten.popleft()
            self._write(pending, keeps_alive, with_body)
        self._read_on()

    def _write(self, answer: Answer, keeps_alive: bool, with_body: bool) -> None:
        self._figures.n_in_flight -= 1
        keeps_alive = keeps_alive and not self._all.is_ending
        self._transport.write(written(answer, keeps_alive=keeps_alive, with_body=with_body))
        if keeps_alive:
            self._idle_since = time.monotonic()
        else:
            self._is_ending = True
            self._transport.close()

    def _read_on(self) -> None:
        if not self._unwritten and not self._transport.is_closing():
            self._transport.resume_reading()

    # -- the end ---------------------------------------------------------------------------------------

    def is_overdue(self, now: float, timeout_seconds: float) -> bool:
        """Whether the caller takes too long to send a request, or has asked nothing for long."""
        if self._owes_since is not None:
            return self._owes_since < now - timeout_seconds
        return self._idle_since is not None and self._idle_since < now - KEEP_ALIVE_SECONDS

    def finish(self) -> None:
        """End when what was begun is answered."""
        if not self._is_begun and not self._unwritten:
            self._transport.close()

    def abort(self) -> None:
        self._transport.abort()


class Connections:
    """All connections of a worker, and the limits they share.

    Attributes
    ----------
    is_ending
        Whether each of them ends with the answer that it gives next.
    """

    def __init__(self, app: Answering, figures: WorkerFigures, max_body_bytes: int) -> None:
        self.app, self.figures, self.max_body_bytes = app, figures, max_body_bytes
        self.opened: set[Connection] = set()
        self.is_ending = False

    def connect(self) -> Connection:
        return Connection(self)

    async def close_slow(self, timeout_seconds: float) -> None:
        """For ever end those whose callers take longer than that to send a request, or ask nothing more."""
        while True:
            await asyncio.sleep(min(1.0, timeout_seconds / 4))
            now = time.monotonic()
            for connection in list(self.opened):
                if connection.is_overdue(now, timeout_seconds):
                    connection.abort()

    async def finish(self, timeout_seconds: float) -> None:
        """Answer what was begun, for so long, and end every connection."""
        self.is_ending = True
        give_up = time.monotonic() + timeout_seconds
        for connection in list(self.opened):
            connection.finish()
        while self.opened and time.monotonic() < give_up:  # noqa: ASYNC110 - each ends by itself
            await asyncio.sleep(0.01)
        for connection in list(self.opened):
            connection.abort()


def too_large(most: int) -> Refused:
    message = f"The body has more than {most:,} bytes (serving.max_body_bytes). Send the rows in parts."
    return Refused(413, "BODY_TOO_LARGE", message)
