"""A running system elsewhere: what verbs ask for over HTTP when they are given ``--server URL``."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import click

from clew.cli.commands import option
from clew.config import TOKEN_VARIABLE, server_token
from clew.errors import ClewError, UsageError

F = TypeVar("F", bound=Callable[..., Any])
T = TypeVar("T")

ANSWER_SECONDS = 60.0


class ServerRefused(ClewError):
    """The system elsewhere refused, or nobody answered there; told as it told it."""

    def __init__(self, code: str, message: str) -> None:
        self.error_code = code
        super().__init__(message)


def server_option(command: F) -> F:
    return option(
        "--server",
        metavar="URL",
        purpose="Where",
        help=f"A running system elsewhere, by its control address; {TOKEN_VARIABLE} holds a token of it.",
    )(command)


def ask_server(url: str, method: str, path: str, kind: type[T], **more: Any) -> T:
    """What the control server at `url` answers.

    Parameters
    ----------
    kind
        The type that its JSON is read as.
    more
        For httpx: ``json``, ``params``.

    Raises
    ------
    UsageError
        When the address is none, or no token is known.
    ServerRefused
        When the server refuses, or nobody answers.
    """
    import httpx
    import msgspec

    if not url.startswith(("http://", "https://")):
        raise UsageError(f"--server is {url!r}, and no address. Write http://HOST:8751; there: clew status")
    token = server_token()
    if token is None:
        raise UsageError(
            "A system elsewhere is asked with a token of its own. Make one there: clew token create NAME; and"
            f" set it here: export {TOKEN_VARIABLE}=…"
        )
    try:
        answer = httpx.request(
            method,
            url.rstrip("/") + path,
            headers={"Authorization": f"Bearer {token}"},
            timeout=ANSWER_SECONDS,
            **more,
        )
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise ServerRefused(
            "TEMPORARILY_UNAVAILABLE",
            f"Nobody answers at {url}: {error}. Does clew up run there? Its control address, not that of"
            " predictions, is meant.",
        ) from None
    try:
        if answer.is_success:
            return msgspec.json.decode(answer.content, type=kind)
        told = msgspec.json.decode(answer.content)["error"]
        code, message = str(told["code"]), str(told["message"])
    except (msgspec.DecodeError, KeyError, TypeError):
        raise ServerRefused(
            "INTERNAL_ERROR",
            f"{url}{path} answered {answer.status_code} with something else than Clew's control server does."
            " Is it the control address?",
        ) from None
    raise ServerRefused(code, message)


def refuse_elsewhere(ctx: click.Context, server: str | None, what: str) -> None:
    """Refuse what is only told where the store is.

    Raises
    ------
    click.UsageError
        When a server is given.
    """
    if server is not None:
        raise click.UsageError(f"{what} is told where the store is, and not by --server", ctx)
