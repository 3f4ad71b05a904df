"""HTTP as a worker speaks it, over real connections to an application that echoes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest

from clew.serving.connections import MAX_HEAD_BYTES, Answer, Connections, Pending
from clew.serving.figures_file import WorkerFigures
from clew.serving.refusals import Refused

HEAD = b"POST /echo HTTP/1.1\r\nHost: x\r\n"


class Echo:
    """Answers with the body; a request with the header ``Slow`` when it is let go."""

    def __init__(self) -> None:
        self.let_go = asyncio.Event()
        self.tasks: set[asyncio.Task[Answer]] = set()

    def admit(self, method: bytes, _url: bytes, headers: dict[bytes, bytes], /) -> Answer | bool:
        if method != b"POST":
            return Answer(405, b"no", ((b"Allow", b"POST"),))
        return b"slow" in headers

    def answer(self, admitted: bool, body: bytes) -> Pending:
        if not admitted:
            return Answer(200, body)
        task = asyncio.ensure_future(self._later(body))
        self.tasks.add(task)
        return task

    async def _later(self, body: bytes) -> Answer:
        await self.let_go.wait()
        return Answer(200, body)

    def refuse(self, refused: Refused) -> Answer:
        return Answer(refused.status, refused.code.encode())


class Place:
    """A server, and a caller connected to it."""

    def __init__(self, app: Echo, connections: Connections, port: int) -> None:
        self.app, self.connections, self._port = app, connections, port
        self._writers: list[asyncio.StreamWriter] = []

    async def ask(self, *pieces: bytes) -> bytes:
        """Everything that comes back until the server closes the connection."""
        reader, writer = await self.call()
        for piece in pieces:
            writer.write(piece)
            await asyncio.sleep(0.01)
        return await asyncio.wait_for(reader.read(), 10)

    async def call(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        reader, writer = await asyncio.open_connection("127.0.0.1", self._port)
        self._writers.append(writer)
        return reader, writer

    async def close(self) -> None:
        for writer in self._writers:
            writer.close()
        self.app.let_go.set()
        await self.connections.finish(10)


@asynccontextmanager
async def serving(max_body_bytes: int = 100) -> AsyncIterator[Place]:
    app, figures = Echo(), WorkerFigures(1, 1)
    connections = Connections(app, figures, max_body_bytes)
    server = await asyncio.get_running_loop().create_server(connections.connect, "127.0.0.1", 0)
    place = Place(app, connections, server.sockets[0].getsockname()[1])
    try:
        yield place
    finally:
        await asyncio.wait_for(place.close(), 10)
        server.close()
    assert figures.n_in_flight == 0


def run(test: Callable[[Place], Awaitable[None]]) -> None:
    async def lived() -> None:
        async with serving() as place:
            await test(place)

    asyncio.run(lived())


def request(body: bytes, *headers: bytes) -> bytes:
    return (
        HEAD
        + b"".join(header + b"\r\n" for header in headers)
        + b"Content-Length: %d\r\n\r\n" % len(body)
        + body
    )


LAST = request(b"last", b"Connection: close")


def bodies(answers: bytes) -> list[bytes]:
    """The bodies of answers that follow each other."""
    found = []
    while answers:
        head, _, rest = answers.partition(b"\r\n\r\n")
        length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0])
        found.append(rest[:length])
        answers = rest[length:]
    return found


def test_answers_leave_in_the_order_of_their_requests_though_the_first_takes_long() -> None:
    async def test(place: Place) -> None:
        asked = asyncio.ensure_future(place.ask(request(b"first", b"Slow: yes") + request(b"second"), LAST))
        await asyncio.sleep(0.1)
        assert place.connections.figures.n_in_flight >= 2
        place.app.let_go.set()
        assert bodies(await asked) == [b"first", b"second", b"last"]

    run(test)


@pytest.mark.parametrize("size", [1, 7, 1000])
def test_a_request_may_come_in_pieces_of_any_size(size: int) -> None:
    async def test(place: Place) -> None:
        chunked = HEAD + b"Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n"
        whole = request(b"one") + chunked + LAST
        answers = await place.ask(*(whole[at : at + size] for at in range(0, len(whole), size)))
        assert bodies(answers) == [b"one", b"abcde", b"last"]

    run(test)


def test_a_caller_who_asks_for_it_is_told_to_send_the_body() -> None:
    async def test(place: Place) -> None:
        head, body = LAST[:-4], LAST[-4:]
        head = head.replace(b"\r\n\r\n", b"\r\nExpect: 100-continue\r\n\r\n")
        assert (await place.ask(head, body)).startswith(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\n")

    run(test)


@pytest.mark.parametrize(
    "ended",
    [
        request(b"a", b"Connection: close"),
        request(b"a").replace(b"HTTP/1.1", b"HTTP/1.0"),
    ],
)
def test_a_connection_that_ends_says_so_and_answers_nothing_more(ended: bytes) -> None:
    async def test(place: Place) -> None:
        answers = await place.ask(ended + request(b"b"))
        assert bodies(answers) == [b"a"]
        assert b"connection: close" in answers

    run(test)


def test_an_answer_to_head_has_no_body() -> None:
    async def test(place: Place) -> None:
        answers = await place.ask(b"HEAD / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        assert b"content-length: 2\r\nAllow: POST\r\n" in answers
        assert answers.endswith(b"\r\n\r\n")

    run(test)


@pytest.mark.parametrize(
    ("asked", "status", "code"),
    [
        (b"HELO x\r\n\r\n", 400, b"MALFORMED_REQUEST"),
        (HEAD + b"Content-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n", 400, b"MALFORMED_REQUEST"),
        (request(b"fine", b"Slow: yes") + b"GARBAGE\r\n\r\n", 200, b"MALFORMED_REQUEST"),
        (request(b"a", b"Connection: upgrade", b"Upgrade: websocket"), 400, b"MALFORMED_REQUEST"),
        (HEAD + b"X: " + b"y" * (MAX_HEAD_BYTES + 1), 431, b"HEAD_TOO_LARGE"),
        (request(b"x" * 1000), 413, b"BODY_TOO_LARGE"),
    ],
)
def test_what_cannot_be_read_is_refused_and_ends_the_connection(
    asked: bytes, status: int, code: bytes
) -> None:
    async def test(place: Place) -> None:
        place.app.let_go.set()
        answers = await place.ask(asked)
        assert answers.startswith(b"HTTP/1.1 %d " % status)
        assert bodies(answers)[-1] == code

    run(test)


def test_a_body_a_little_too_large_is_read_to_its_end_and_the_connection_goes_on() -> None:
    async def test(place: Place) -> None:
        assert bodies(await place.ask(request(b"x" * 300), LAST)) == [b"BODY_TOO_LARGE", b"last"]

    run(test)


def test_who_goes_away_leaves_nothing_that_waits() -> None:
    async def test(place: Place) -> None:
        for asked in (request(b"half")[:-2], request(b"slow", b"Slow: yes"), HEAD):
            _, writer = await place.call()
            writer.write(asked)
            await asyncio.sleep(0.02)
            writer.close()
        place.app.let_go.set()
        await asyncio.sleep(0.05)
        assert not place.connections.opened

    run(test)


def test_at_the_end_what_was_begun_is_answered_and_the_rest_is_closed() -> None:
    async def test(place: Place) -> None:
        calls = [await place.call() for _ in range(4)]
        for (_, writer), asked in zip(
            calls, (b"", request(b"done"), request(b"half")[:-2], b""), strict=True
        ):
            writer.write(asked)
        calls[3][1].write(request(b"slow", b"Slow: yes"))
        await asyncio.sleep(0.05)
        finishing = asyncio.ensure_future(place.connections.finish(5))
        await asyncio.sleep(0.05)
        calls[2][1].write(b"lf")
        place.app.let_go.set()
        answers = [await asyncio.wait_for(reader.read(), 5) for reader, _ in calls]
        assert [bodies(answer) for answer in answers] == [[], [b"done"], [b"half"], [b"slow"]]
        await finishing

    run(test)


def test_at_the_end_nobody_is_waited_for_beyond_the_timeout() -> None:
    async def test(place: Place) -> None:
        _, writer = await place.call()
        writer.write(request(b"half")[:-2])
        await asyncio.sleep(0.05)
        await asyncio.wait_for(place.connections.finish(0.1), 2)
        await asyncio.sleep(0.05)  # what was aborted is told of its end in the loop's next turn
        assert not place.connections.opened

    run(test)
