"""What a worker answers: routes, limits, and which requests may be answered while others wait."""

from __future__ import annotations

import asyncio
import functools
import itertools
import logging
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Literal, NamedTuple, TypeAlias
from urllib.parse import unquote

import httptools
import msgspec

from clew.config import ServingSettings
from clew.serving.connections import Answer, Pending
from clew.serving.door import Door
from clew.serving.figures_file import WorkerFigures
from clew.serving.first_answers import FirstAnswers
from clew.serving.labels import n_of_unknown_classes, read_labels
from clew.serving.predict import Beside, Predictor
from clew.serving.recorder import Recorder
from clew.serving.refusals import LATER, Refused
from clew.serving.routing_table import RoutingTable, Served
from clew.storage.records import Label

log = logging.getLogger("clew.serving")

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


class Asked(NamedTuple):
    """What a worker knows of a request by its head.

    Attributes
    ----------
    name
        The model's.
    key
        Its ``Idempotency-Key``.
    """

    action: Action
    name: str
    actor: str
    key: bytes | None


class Application:
    """What a worker answers.

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
        self._warned: set[str] = set()
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

    # -- requests --------------------------------------------------------------------------------------

    def admit(self, method: bytes, url: bytes, headers: dict[bytes, bytes]) -> Asked | Answer:
        """Who asks, and for what; or already the answer."""
        name = ""
        try:
            path, rule, name = _rule_of(url)
            needs_token = rule is None or rule.needs_token
            actor = self._door.admit(headers, self.table, needs_token=needs_token)
            if rule is None or method.decode() != rule.method:
                raise _no_such(path, rule, method.decode())
            if rule.action == "health":
                return self._health()
            if self._figures.n_in_flight > self._settings.max_waiting:
                raise _too_busy(self._settings.max_waiting)
            return Asked(rule.action, name, actor, headers.get(b"idempotency-key"))
        except Refused as refused:
            return self.refuse(refused, name)

    def answer(self, asked: Asked, body: bytes) -> Pending:
        """Answer at once, or on the thread for what takes long."""
        if asked.key is None and not self._is_slow(asked, body):
            return self._answered(asked, body)
        return asyncio.get_running_loop().run_in_executor(self._slow, self._answered, asked, body)

    def refuse(self, refused: Refused, name: str = "") -> Answer:
        self._figures.refuse(name if name in self.table.deployments else "", refused.code)
        return Answer(refused.status, refused.body(), refused.headers)

    def _answered(self, asked: Asked, body: bytes) -> Answer:
        try:
            if asked.key is None:
                return Answer(200, self._handle(asked, body))
            with self._first_answers.claim(
                asked.key, f"{asked.action}/{asked.name}", asked.actor, body
            ) as claim:
                if claim.answer is not None:
                    return Answer(200, claim.answer)
                answer = self._handle(asked, body, claim.name)
                claim.keep(answer)
                return Answer(200, answer)
        except Refused as refused:
            return self.refuse(refused, asked.name)
        # The last line of defence: whatever went wrong, this request gets an answer and others go on.
        except Exception:
            log.exception("a request failed")
            broken = Refused(500, "INTERNAL_ERROR", "The request failed inside the server; its log says why.")
            return self.refuse(broken)

    def _is_slow(self, asked: Asked, body: bytes) -> bool:
        if len(body) > LARGE_BODY_BYTES:
            return True
        served = self.table.deployments.get(asked.name) if asked.action == "predict" else None
        if served is None or served.champion is None:
            return False
        return not (
            served.champion.is_quick(1) and (served.candidate is None or served.candidate.is_quick(1))
        )

    def _handle(self, asked: Asked, body: bytes, request: str = "") -> bytes:
        served = self.table.deployment(asked.name)
        now = self._now()
        if asked.action == "labels":
            max_rows = self._settings.max_rows
            labels = read_labels(served, body, now=now, actor=asked.actor, max_rows=max_rows)
            if labels:
                self._recorder.append_or_refuse(labels)
            self._figures.n_labels += len(labels)
            return msgspec.json.encode({"accepted": len(labels)} | self._told_of_classes(served, labels))
        request = request or f"{self._worker}-{next(self._numbers):x}"
        return self._predictor.predict(served, body, now, request)

    def _told_of_classes(self, served: Served, labels: list[Label]) -> dict[str, int]:
        """Labels of classes that the champion does not know are kept: the next version learns them."""
        n_unknown = n_of_unknown_classes(served, labels)
        if not n_unknown:
            return {}
        self._figures.n_unknown_classes += n_unknown
        if served.name not in self._warned:
            self._warned.add(served.name)
            log.warning("labels of a class that the champion never saw", extra={"model": served.name})
        return {"unknown_class": n_unknown}

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


@functools.lru_cache(100)  # a caller asks for the same again and again
def _rule_of(url: bytes) -> tuple[str, RouteRule | None, str]:
    """The path that was asked for, the route there, and the name of the model behind it."""
    try:
        path = unquote(httptools.parse_url(url).path or b"")
    except httptools.HttpParserInvalidURLError:
        path = url.decode("latin-1")
    for rule in ROUTES:
        if path.startswith(rule.prefix) and rule.prefix.endswith("/"):
            return path, rule, path[len(rule.prefix) :]
        if path == rule.prefix:
            return path, rule, ""
    return path, None, ""


def _no_such(path: str, rule: RouteRule | None, method: str) -> Refused:
    if rule is None:
        known = ", ".join(
            f"{each.method} {each.prefix}{'{model}' * each.prefix.endswith('/')}" for each in ROUTES
        )
        return Refused(404, "RESOURCE_DOES_NOT_EXIST", f"There is no {path!r} here; there are {known}.")
    message = f"{path!r} takes {rule.method}, not {method}."
    return Refused(405, "METHOD_NOT_ALLOWED", message, headers={"Allow": rule.method})


def _too_busy(most: int) -> Refused:
    message = f"More than {most:,} requests are waiting (serving.max_waiting). Come again in a moment."
    return Refused(503, "TOO_BUSY", message, headers=LATER | {"Retry-After": "1"})
