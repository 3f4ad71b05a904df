"""HTTP around predictions and labels: routes, limits, and the thin layer that speaks ASGI."""

from __future__ import annotations

import asyncio
import itertools
import logging
import threading
from collections.abc import Awaitable, Callable, MutableMapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, TypeAlias

import msgspec

from clew.config import ServingSettings
from clew.serving.door import Door
from clew.serving.figures_file import WorkerFigures
from clew.serving.first_answers import FirstAnswers
from clew.serving.labels import read_labels
from clew.serving.predict import Beside, Predictor
from clew.serving.recorder import Recorder
from clew.serving.refusals import LATER, Headers, Refused
from clew.serving.routing_table import RoutingTable

log = logging.getLogger("clew.serving")

Scope: TypeAlias = MutableMapping[str, Any]
Receive: TypeAlias = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send: TypeAlias = Callable[[MutableMapping[str, Any]], Awaitable[None]]
Action: TypeAlias = Literal["predict", "labels", "health"]

LARGE_BODY_BYTES = 32_768
"""A larger body takes milliseconds to read and answer, so it is not read on the thread all requests share."""
MAX_BESIDE = 1000
"""Questions that wait for a shadow; when there are more it is not asked."""


@dataclass(frozen=True, slots=True)
class RouteRule:
    """One thing that can be asked for; `prefix` is followed by a model's name where it ends with ``/``."""

    method: str
    prefix: str
    action: Action
    needs_token: bool = True


ROUTES = (
    RouteRule("POST", "/predict/", "predict"),
    RouteRule("POST", "/labels/", "labels"),
    RouteRule("GET", "/health", "health", needs_token=False),
)
"""All that a worker answers. Every request, whatever its path, passes through the same `Door`."""


class Answer(NamedTuple):
    status: int
    body: bytes
    headers: Headers = ()


class Application:
    """What a worker answers, as an ASGI application.

    Attributes
    ----------
    table
        What it serves by; replaced as a whole by the thread that loads.
    is_ready
        Whether a first table was loaded.
    """

    def __init__(
        self,
        settings: ServingSettings,
        recorder: Recorder,
        first_answers: FirstAnswers,
        figures: WorkerFigures,
        now_microseconds: Callable[[], int],
    ) -> None:
        self.table, self.is_ready = RoutingTable(), False
        self._settings, self._recorder, self._figures = settings, recorder, figures
        self._first_answers, self._now = first_answers, now_microseconds
        self._door = Door(settings)
        self._numbers = itertools.count()
        self._worker = f"{figures.worker:x}"
        # One thread for what takes long, so that it takes turns with itself and not with quick requests.
        self._slow = ThreadPoolExecutor(1, thread_name_prefix="slow")
        self._beside = ThreadPoolExecutor(1, thread_name_prefix="beside")
        self._n_beside, self._beside_lock = 0, threading.Lock()
        self._predictor = Predictor(recorder, figures, settings.max_rows, self._ask_later)

    def close(self) -> None:
        """Wait for the answers that are being made; shadows that nobody has asked yet are left out."""
        self._slow.shutdown()
        self._beside.shutdown(cancel_futures=True)

    # -- ASGI ------------------------------------------------------------------------------------------

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        figures = self._figures
        figures.n_in_flight += 1
        figures.n_requests += 1
        try:
            status, body, headers = await self._answered(scope, receive)
        finally:
            figures.n_in_flight -= 1
        length = b"%d" % len(body)
        start = [(b"content-type", b"application/json"), (b"content-length", length), *headers]
        await send({"type": "http.response.start", "status": status, "headers": start})
        await send({"type": "http.response.body", "body": body})

    async def _answered(self, scope: Scope, receive: Receive) -> Answer:
        name = ""
        try:
            headers = dict(scope["headers"])
            rule, name = _rule_of(scope["path"])
            needs_token = rule is None or rule.needs_token
            table = self.table
            actor = self._door.admit(headers, table, needs_token=needs_token)
            _require(rule, scope)
            if rule is None or rule.action == "health":
                return self._health()
            if scope.get("n_waiting", 0) > self._settings.max_waiting:
                raise _too_busy(self._settings.max_waiting)
            body = await self._body(receive)
            key = headers.get(b"idempotency-key")
            if key is None and not self._is_slow(rule.action, table, name, body):
                return self._handle(rule.action, name, body, actor)
            work = asyncio.get_running_loop().run_in_executor
            return await work(self._slow, self._handle_slowly, rule.action, name, body, actor, key)
        except Refused as refused:
            self._figures.refuse(name if name in self.table.deployments else "", refused.code)
            return Answer(refused.status, refused.body(), refused.headers)
        # The last line of defence: whatever went wrong, this request gets an answer and others go on.
        except Exception:
            log.exception("a request failed")
            self._figures.refuse("", "INTERNAL_ERROR")
            broken = Refused(500, "INTERNAL_ERROR", "The request failed inside the server; its log says why.")
            return Answer(broken.status, broken.body())

    async def _body(self, receive: Receive) -> bytes:
        most = self._settings.max_body_bytes
        message = await receive()
        if message["type"] == "http.disconnect":
            raise _gone()
        body: bytes = message["body"]
        if message["more_body"]:
            body = await _rest_of(body, receive, most)
        if len(body) > most:
            raise _too_large(most)
        return body

    # -- answering -------------------------------------------------------------------------------------

    def _is_slow(self, action: Action, table: RoutingTable, name: str, body: bytes) -> bool:
        if len(body) > LARGE_BODY_BYTES:
            return True
        served = table.deployments.get(name) if action == "predict" else None
        if served is None or served.champion is None:
            return False
        return not (
            served.champion.is_quick(1) and (served.candidate is None or served.candidate.is_quick(1))
        )

    def _handle_slowly(self, action: Action, name: str, body: bytes, actor: str, key: bytes | None) -> Answer:
        if key is None:
            return self._handle(action, name, body, actor)
        with self._first_answers.claim(key, f"{action}/{name}", actor, body) as claim:
            if claim.answer is not None:
                return Answer(200, claim.answer)
            answer = self._handle(action, name, body, actor, claim.name)
            claim.keep(answer.body)
            return answer

    def _handle(self, action: Action, name: str, body: bytes, actor: str, request: str = "") -> Answer:
        served = self.table.deployment(name)
        now = self._now()
        if action == "labels":
            max_rows = self._settings.max_rows
            labels = read_labels(served, body, now=now, actor=actor, max_rows=max_rows)
            if labels:
                self._recorder.append_or_refuse(labels)
            self._figures.n_labels += len(labels)
            return Answer(200, msgspec.json.encode({"accepted": len(labels)}))
        request = request or f"{self._worker}-{next(self._numbers):x}"
        return Answer(200, self._predictor.predict(served, body, now, request))

    def _health(self) -> Answer:
        state = {"status": "ready" if self.is_ready else "loading", "worker": self._figures.worker}
        return Answer(200 if self.is_ready else 503, msgspec.json.encode(state))

    # -- shadows that are slow -------------------------------------------------------------------------

    def _ask_later(self, beside: Beside) -> None:
        with self._beside_lock:
            has_room = self._n_beside < MAX_BESIDE
            self._n_beside += has_room
        if has_room:
            self._beside.submit(self._ask_beside, beside)
        else:
            self._predictor.skip_beside(beside)

    def _ask_beside(self, beside: Beside) -> None:
        try:
            self._predictor.ask_beside(beside)
        # Nobody waits for it, and the next one may go well; the log of the worker says what was lost.
        except Exception:
            log.exception("a shadow could not be asked", extra={"version": beside.version.name})
        finally:
            with self._beside_lock:
                self._n_beside -= 1


def _rule_of(path: str) -> tuple[RouteRule | None, str]:
    for rule in ROUTES:
        if path.startswith(rule.prefix) and rule.prefix.endswith("/"):
            return rule, path[len(rule.prefix) :]
        if path == rule.prefix:
            return rule, ""
    return None, ""


def _require(rule: RouteRule | None, scope: Scope) -> None:
    if rule is None:
        known = ", ".join(
            f"{rule.method} {rule.prefix}{'{model}' * rule.prefix.endswith('/')}" for rule in ROUTES
        )
        message = f"There is no {scope['path']!r} here; there are {known}."
        raise Refused(404, "RESOURCE_DOES_NOT_EXIST", message)
    if scope["method"] != rule.method:
        message = f"{scope['path']!r} takes {rule.method}, not {scope['method']}."
        raise Refused(405, "METHOD_NOT_ALLOWED", message, headers={"Allow": rule.method})


async def _rest_of(body: bytes, receive: Receive, most: int) -> bytes:
    """The rest of a body that came in pieces; of one that is too large only the length is of interest."""
    pieces, n_bytes = [body], len(body)
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise _gone()
        n_bytes += len(message["body"])
        if n_bytes <= most:
            pieces.append(message["body"])
        elif n_bytes > 4 * most:
            # Read on for a while, as a caller who is still sending would not see the answer; not for ever.
            raise _too_large(most, is_unread=True)
        if not message["more_body"]:
            break
    if n_bytes > most:
        raise _too_large(most)
    return b"".join(pieces)


def _gone() -> Refused:
    return Refused(400, "CLIENT_GONE", "The caller went away before the request was complete.")


def _too_large(most: int, *, is_unread: bool = False) -> Refused:
    message = f"The body has more than {most:,} bytes (serving.max_body_bytes). Send the rows in parts."
    return Refused(413, "BODY_TOO_LARGE", message, headers={"Connection": "close"} if is_unread else None)


def _too_busy(most: int) -> Refused:
    message = f"More than {most:,} requests are waiting (serving.max_waiting). Come again in a moment."
    return Refused(503, "TOO_BUSY", message, headers=LATER | {"Retry-After": "1"})
