"""Who may ask the control server: a foreign name or page is turned away, then the token is looked at.

A web page that somebody visits could send requests to their own machine. It cannot know a token; the checks
of ``Host`` and ``Origin`` stop it before that, also where a browser would add a cookie by itself.
"""

from __future__ import annotations

import ipaddress
import json
import time
from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from typing import Any, TypeAlias
from urllib.parse import urlsplit

from fastapi import Request

from clew.errors import ClewError, Forbidden, NotAuthorised
from clew.server.measures import LoopMeasures
from clew.server.tokens import name_of
from clew.storage import Store

Scope: TypeAlias = MutableMapping[str, Any]
Message: TypeAlias = MutableMapping[str, Any]
Receive: TypeAlias = Callable[[], Awaitable[Message]]
Send: TypeAlias = Callable[[Message], Awaitable[None]]
App: TypeAlias = Callable[[Scope, Receive, Send], Awaitable[None]]

MAX_BODY_BYTES = 1_000_000

_ASK = "Whoever runs it makes one with: clew token create NAME; send it as Authorization: Bearer TOKEN"


class TooLarge(ClewError):
    """A request's body is larger than any command."""

    error_code = "INVALID_PARAMETER_VALUE"
    http_status = 413


def authorised(request: Request) -> str:
    """The name of the token that this request brings: in ``Authorization``, or in the browser's cookie.

    Only the address that ``clew up`` prints may carry it in the URL, where it would stand in histories.

    Raises
    ------
    NotAuthorised
        Saying what is wrong with it, and never the token itself.
    """
    token = _token_of(request)
    if token is None:
        raise NotAuthorised(f"This server answers nobody without a token. {_ASK}")
    store: Store = request.app.state.store
    with store.read() as reader:
        name = name_of(reader, token)
    if name is None:
        raise NotAuthorised(f"The token is wrong, or was revoked. {_ASK}")
    return name


def cookie_name(request: Request) -> str:
    """One cookie for each port, since browsers share cookies between the ports of a host."""
    return f"clew_{request.url.port or 0}"


def _token_of(request: Request) -> str | None:
    scheme, _, given = request.headers.get("authorization", "").partition(" ")
    if given:
        return given.strip() if scheme.lower() == "bearer" else None
    if request.method == "GET" and request.url.path == "/" and "token" in request.query_params:
        return request.query_params["token"]
    return request.cookies.get(cookie_name(request))


class Gate:
    """Stands before the whole application: names, origins, sizes; and counts what was answered."""

    def __init__(self, app: App, allowed_hosts: Iterable[str], measures: LoopMeasures) -> None:
        self._app, self._measures = app, measures
        self._allowed = {"localhost", *(host.lower() for host in allowed_hosts)}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        begun, status = time.perf_counter(), 500

        async def noted(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            try:
                self._look_at(scope)
                _take_for_json(scope)
            except ClewError as error:
                await _refuse(error, noted)
            else:
                await self._app(scope, receive, noted)
        finally:
            route = getattr(scope.get("route"), "path", "(none)")
            self._measures.answered(scope["method"], route, status, time.perf_counter() - begun)

    def _look_at(self, scope: Scope) -> None:
        headers = dict(scope["headers"])
        host = headers.get(b"host", b"").decode("latin-1")
        here = (scope.get("server") or ("", 0))[0]
        if not self._is_ours(_hostname(host), here):
            raise Forbidden(
                f"Nobody calls this server {host!r}. If that name is right, add it in clew.toml: [serving]"
                ' allowed_hosts = ["NAME"]'
            )
        origin = headers.get(b"origin")
        if origin is not None and urlsplit(origin.decode("latin-1")).netloc.lower() != host.lower():
            raise Forbidden("A page of another origin may not ask this server.")
        # A body without a stated length is read by nobody: every route that takes one parses JSON of a
        # request that states it, as all clients do.
        length = headers.get(b"content-length", b"0")
        if not length.isdigit() or int(length) > MAX_BODY_BYTES or b"transfer-encoding" in headers:
            raise TooLarge(
                f"A request to this server has a body of at most {MAX_BODY_BYTES:,} bytes, and states its"
                " length in Content-Length."
            )

    def _is_ours(self, name: str, here: str) -> bool:
        if name in self._allowed or name == here:
            return True
        try:
            return ipaddress.ip_address(name).is_loopback
        except ValueError:
            return False


def _take_for_json(scope: Scope) -> None:
    """A body that says nothing of itself, or what curl says of any, is JSON: this server takes nothing else.

    A form of a foreign page, which a browser sends so too, was turned away by its ``Origin`` already.
    """
    given = next((value for name, value in scope["headers"] if name == b"content-type"), b"")
    if given.partition(b";")[0].strip().lower() in (b"", b"application/x-www-form-urlencoded"):
        others = [each for each in scope["headers"] if each[0] != b"content-type"]
        scope["headers"] = [*others, (b"content-type", b"application/json")]


def _hostname(host: str) -> str:
    """The name in a ``Host`` header, without its port."""
    try:
        return (urlsplit(f"//{host}").hostname or "").rstrip(".")
    except ValueError:
        return ""


async def _refuse(error: ClewError, send: Send) -> None:
    body = json.dumps({"error": {"code": error.error_code, "message": str(error)}}).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": error.http_status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
