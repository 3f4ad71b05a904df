"""The control server's routes: state, commands, the clock, metrics.

Every route but ``/health`` hangs on one dependency, `authorised`; every error has one shape,
``{"error": {"code", "message"}}``.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Annotated, Any, TypeAlias

import msgspec
from fastapi import APIRouter, Depends, FastAPI, Path, Query, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import RedirectResponse, Response
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field
from starlette.exceptions import HTTPException

import clew
from clew.errors import ClewError
from clew.loop.commands import outcome
from clew.loop.explained import ExplainedAnswer
from clew.loop.openlineage import lineage_events, thread_records
from clew.loop.trace import touched, trace
from clew.loop.why import why
from clew.registry import audit_log, list_models
from clew.server.access import Gate, authorised, cookie_name
from clew.server.figures import exposition, living_figures
from clew.server.measures import CONTENT_TYPE
from clew.server.scheduler import Scheduler
from clew.server.status import overview
from clew.storage import Store

log = logging.getLogger("clew.server")

ExplainAnswers: TypeAlias = Callable[..., list[ExplainedAnswer]]

Actor = Annotated[str, Depends(authorised)]
Model = Annotated[str, Path(description="The model's name.")]


class Order(BaseModel):
    """What a command needs: a reason, which stands in the audit log."""

    model_config = ConfigDict(extra="forbid")
    reason: str = Field(min_length=1, max_length=2000)


class MovingOrder(Order):
    """A command that moves the champion."""

    expected: int | None = Field(
        default=None,
        description="The champion's number that you saw; when it is another by then, nothing is done (409)."
        " Left out, it is the one at this moment.",
    )


class Promotion(MovingOrder):
    version: int | None = Field(default=None, description="By default the candidate, or the newest version.")


class Rollback(MovingOrder):
    to: int | None = Field(default=None, description="By default the champion before this one.")


class Threshold(Order):
    threshold: float | None = Field(
        gt=0,
        lt=1,
        description="The probability of the positive class from which on it is answered; null for the most"
        " probable class.",
    )


class ClockMove(BaseModel):
    model_config = ConfigDict(extra="forbid")
    now: AwareDatetime = Field(description="Where the clock is to stand, with a zone.")


def make_app(
    scheduler: Scheduler,
    *,
    allowed_hosts: tuple[str, ...] = (),
    is_live: Callable[[], bool] = lambda: True,
    explain: ExplainAnswers | None = None,
) -> FastAPI:
    """The application over a live system.

    Parameters
    ----------
    is_live
        Whether the loop has gone live; before that, ``/health`` says ``starting``.
    explain
        Has the versions answer again, each in a process of its own.
    """
    app = FastAPI(
        title="Clew control", version=clew.__version__, openapi_url=None, docs_url=None, redoc_url=None
    )
    app.state.store, app.state.scheduler = scheduler.store, scheduler
    app.state.is_live, app.state.explain = is_live, explain
    app.include_router(_open)
    app.include_router(_for_token_bearers)
    app.add_middleware(Gate, allowed_hosts=allowed_hosts, measures=scheduler.measures)
    app.add_exception_handler(ClewError, _clew_error)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(HTTPException, _http_error)
    app.add_exception_handler(Exception, _fault)
    return app


_open = APIRouter()
_for_token_bearers = APIRouter(dependencies=[Depends(authorised)])


@_open.get("/health", summary="Whether this process answers; needs no token")
def health(request: Request) -> Response:
    scheduler: Scheduler = request.app.state.scheduler
    state = "starting" if not request.app.state.is_live() else "ok" if scheduler.is_healthy else "failing"
    return _answer({"status": state, "version": clew.__version__})


@_for_token_bearers.get("/", summary="The link that clew up prints: remembers the token in a cookie")
def enter(request: Request) -> Response:
    if "token" not in request.query_params:
        pages = sorted(path for path, methods in request.app.openapi()["paths"].items() if "get" in methods)
        return _answer({"clew": clew.__version__, "pages": pages})
    # Onto an address without the token, which would otherwise stand in the browser's history.
    response = RedirectResponse("/", status_code=303)
    token = request.query_params["token"]
    response.set_cookie(cookie_name(request), token, httponly=True, samesite="strict", max_age=30 * 86_400)
    response.headers["referrer-policy"] = "no-referrer"
    return response


@_for_token_bearers.get("/openapi.json", summary="This interface, described for programs")
def openapi(request: Request) -> Response:
    return _answer(request.app.openapi())


@_for_token_bearers.get("/metrics", summary="Figures of workers, loop and server, for Prometheus")
def metrics(request: Request) -> Response:
    scheduler: Scheduler = request.app.state.scheduler
    content = scheduler.measures.exposition() + exposition(living_figures(scheduler.store))
    return Response(content, media_type=CONTENT_TYPE)


@_for_token_bearers.get("/status", summary="A line a model, the clock, the workers")
def status(request: Request) -> Response:
    return _answer(overview(_store(request), _scheduler(request).clock.now()))


@_for_token_bearers.get("/clock", summary="Which clock the system goes by, and where it stands")
def read_clock(request: Request) -> Response:
    clock = _scheduler(request).clock
    return _answer({"mode": clock.mode, "now": clock.now(), "trouble": clock.trouble})


@_for_token_bearers.post("/clock", summary="Move a replay on; answers when everything due by then is done")
def move_clock(request: Request, move: ClockMove) -> Response:
    scheduler = _scheduler(request)
    scheduler.move_clock(move.now.astimezone(UTC))
    return _answer({"mode": scheduler.clock.mode, "now": scheduler.clock.now()})


@_for_token_bearers.post("/models/{model}/promote", summary="Make a version the champion")
def promote(request: Request, model: Model, order: Promotion, actor: Actor) -> Response:
    return _order(request, "promote", model, order, actor, version=order.version)


@_for_token_bearers.post("/models/{model}/rollback", summary="Go back to an earlier champion")
def rollback(request: Request, model: Model, order: Rollback, actor: Actor) -> Response:
    return _order(request, "rollback", model, order, actor, to=order.to)


@_for_token_bearers.post("/models/{model}/retire", summary="Take a model out of service; promote undoes it")
def retire(request: Request, model: Model, order: MovingOrder, actor: Actor) -> Response:
    return _order(request, "retire", model, order, actor)


@_for_token_bearers.post("/models/{model}/pause", summary="Let the loop leave a model alone; it answers on")
def pause(request: Request, model: Model, order: Order, actor: Actor) -> Response:
    return _order(request, "pause", model, order, actor)


@_for_token_bearers.post("/models/{model}/resume", summary="Let the loop go on with a model")
def resume(request: Request, model: Model, order: Order, actor: Actor) -> Response:
    return _order(request, "resume", model, order, actor)


@_for_token_bearers.post("/models/{model}/retrain", summary="Order a candidate")
def retrain(request: Request, model: Model, order: Order, actor: Actor) -> Response:
    return _order(request, "retrain", model, order, actor)


@_for_token_bearers.post("/models/{model}/threshold", summary="Change the decision threshold")
def threshold(request: Request, model: Model, order: Threshold, actor: Actor) -> Response:
    return _order(request, "threshold", model, order, actor, threshold=order.threshold)


@_for_token_bearers.get("/commands/{command}", summary="What became of a command")
def command(request: Request, command: str) -> Response:
    return _answer(outcome(_store(request), command))


@_for_token_bearers.get("/trace/{reference:path}", summary="The thread from anything to what made it")
def follow(
    request: Request,
    reference: str,
    forward: Annotated[bool, Query(description="To what was made from it instead.")] = False,
    as_events: Annotated[bool, Query(alias="openlineage", description="As events of OpenLineage.")] = False,
) -> Response:
    walk, store = touched if forward else trace, _store(request)
    thread = walk(store, reference)
    if as_events:
        now = _scheduler(request).clock.now()
        return _answer(lineage_events(thread, thread_records(store, thread), now))
    return _answer(thread)


@_for_token_bearers.get(
    "/why/{reference:path}", summary="The reasons of decisions, or of answers about a key"
)
def reasons(
    request: Request,
    reference: str,
    key: Annotated[str | None, Query(description="Of the answers about this key instead.")] = None,
    entity: Annotated[str | None, Query(description="Of the answers about this entity instead.")] = None,
    at: Annotated[datetime | None, Query(description="Only of this day of event time, in UTC.")] = None,
    limit: Annotated[int, Query(ge=1, le=1000)] = 20,
) -> Response:
    if key is not None or entity is not None:
        explain: ExplainAnswers = request.app.state.explain
        day = None if at is None else at.replace(tzinfo=at.tzinfo or UTC).astimezone(UTC)
        answers = explain(reference, key=key, entity=entity, at=day, limit=limit)
        return _answer({"reference": reference, "answers": answers})
    return _answer({"reference": reference, "reasons": why(_store(request), reference)})


@_for_token_bearers.get("/models", summary="Models, their versions, where their aliases point")
def models(request: Request) -> Response:
    return _answer({"models": list_models(_store(request))})


@_for_token_bearers.get("/audit", summary="Who changed what, the newest first")
def audit(
    request: Request,
    subject: Annotated[str | None, Query(description="Only of this model, version or token.")] = None,
    limit: Annotated[int, Query(ge=1, le=10_000)] = 100,
) -> Response:
    return _answer({"entries": audit_log(_store(request), subject, limit)})


# -- what the routes share -------------------------------------------------------------------------------


def _store(request: Request) -> Store:
    store: Store = request.app.state.store
    return store


def _scheduler(request: Request) -> Scheduler:
    scheduler: Scheduler = request.app.state.scheduler
    return scheduler


def _order(request: Request, verb: str, model: str, order: Order, actor: str, **arguments: Any) -> Response:
    given = {name: value for name, value in arguments.items() if value is not None}
    if isinstance(order, MovingOrder) and order.expected is not None:
        given["expected"] = order.expected
    done = _scheduler(request).order(verb, model, given, actor=actor, reason=order.reason)
    if done.status == "refused":
        refusal = done.result
        return _error(refusal["status"], refusal["code"], refusal["message"])
    return _answer(done, 202 if done.status == "waiting" else 200)


def _answer(value: Any, status: int = 200) -> Response:
    # msgspec writes dataclasses and times as they are, and what is no number as null.
    return Response(msgspec.json.encode(value), status, media_type="application/json")


def _error(status: int, code: str, message: str, headers: Mapping[str, str] | None = None) -> Response:
    response = _answer({"error": {"code": code, "message": message}}, status)
    response.headers.update(headers or {})
    return response


async def _clew_error(_request: Request, error: Exception) -> Response:
    assert isinstance(error, ClewError)  # noqa: S101 - it is registered for these
    challenge = {"www-authenticate": "Bearer"} if error.http_status == 401 else {}
    return _error(error.http_status, error.error_code, str(error), challenge)


async def _invalid(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)  # noqa: S101 - it is registered for these
    [first, *_] = error.errors()
    if first["type"] == "json_invalid":
        where, why = first["loc"][-1], first["ctx"]["error"]
        return _error(400, "MALFORMED_JSON", f"The body is no JSON at character {where}: {why}.")
    given = request.headers.get("content-type")
    if request.method == "POST" and (given or "").partition(";")[0].strip() != "application/json":
        return _error(
            415,
            "UNSUPPORTED_MEDIA_TYPE",
            f"The body of the request says {given!r}. Send JSON with the header Content-Type:"
            " application/json.",
        )
    # Where and what, but not the value, which may be anything somebody typed into the wrong field.
    found = [f"{'.'.join(map(str, each['loc'][1:])) or 'the body'}: {each['msg']}" for each in error.errors()]
    return _error(422, "INVALID_PARAMETER_VALUE", f"The request is not as it must be: {'; '.join(found)}.")


async def _http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)  # noqa: S101 - it is registered for these
    codes = {404: "RESOURCE_DOES_NOT_EXIST", 405: "METHOD_NOT_ALLOWED"}
    code = codes.get(error.status_code, "INVALID_PARAMETER_VALUE")
    message = f"{request.method} {request.url.path}: {error.detail}. What there is: GET /openapi.json"
    return _error(error.status_code, code, message, error.headers)


async def _fault(request: Request, error: Exception) -> Response:
    log.error("a request failed", extra={"route": request.url.path, "error": type(error).__name__})
    return _error(
        500,
        "INTERNAL_ERROR",
        "This is a fault in Clew itself; the server goes on. Its log has the traceback.",
    )
