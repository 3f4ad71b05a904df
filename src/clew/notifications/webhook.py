"""Posting a notice to a URL."""

from __future__ import annotations

import asyncio
import os
import ssl
import time
from collections.abc import Iterator, Mapping
from http import HTTPStatus
from typing import TYPE_CHECKING

import clew
from clew.notifications.addresses import Lookup, addresses_of, look_up
from clew.notifications.failures import DeliveryFailed
from clew.notifications.signature import DELIVERY_HEADER, SIGNATURE_HEADER, sign

if TYPE_CHECKING:
    import httpx

TIMEOUT_SECONDS = 10.0
"""For all of it: looking the name up, connecting, sending, and the answer's status."""


def post(
    webhook: str,
    body: bytes,
    identity: str,
    secret: str | None,
    *,
    allow_private: bool = False,
    lookup: Lookup = look_up,
    timeout_seconds: float = TIMEOUT_SECONDS,
) -> None:
    """Post JSON to a URL, and take any status 2xx for an answer.

    The host's name is looked up once, and the connection goes to the address that was judged, so that a
    second look-up cannot lead elsewhere; a certificate must still be that of the name. Redirects are not
    followed, and a proxy, which would look the name up by itself, is not asked.

    Raises
    ------
    DeliveryFailed
        With the reason, and of the URL only its scheme, host and port: the rest may hold secrets.
    """
    import httpx

    deadline = time.monotonic() + timeout_seconds
    url = httpx.URL(webhook)
    host, port = url.raw_host.decode(), url.port or (443 if url.scheme == "https" else 80)
    addresses = addresses_of(host, port, allow_private=allow_private, seconds=timeout_seconds, lookup=lookup)
    headers = {
        "Host": url.netloc.decode(),
        "Content-Type": "application/json",
        "User-Agent": f"clew/{clew.__version__}",
        DELIVERY_HEADER: identity,
    }
    if secret:
        headers[SIGNATURE_HEADER] = sign(body, secret)
    where = f"{url.scheme}://{url.netloc.decode()}"
    try:
        status = asyncio.run(_status(url, addresses, body, headers, deadline - time.monotonic()))
    except TimeoutError:
        raise DeliveryFailed(f"{where} did not answer within {timeout_seconds:g} s") from None
    except (httpx.HTTPError, OSError) as error:
        raise DeliveryFailed(f"{where} {_what_happened(error)}") from None
    if not 200 <= status < 300:
        raise DeliveryFailed(f"{where} answered {_in_words(status)}")


async def _status(
    url: httpx.URL, addresses: list[str], body: bytes, headers: Mapping[str, str], seconds: float
) -> int:
    import httpx

    # A receiver that sends byte after byte would outlast any limit on a single read.
    async with (
        asyncio.timeout(max(seconds, 0)),
        httpx.AsyncClient(verify=_trusted(), trust_env=False, timeout=None) as client,  # noqa: S113 - limited above
    ):
        for place, address in enumerate(addresses):
            pinned = url.copy_with(host=address)
            named = {"sni_hostname": url.raw_host.decode()}
            is_last = place == len(addresses) - 1
            limit = httpx.Timeout(None, connect=None if is_last else seconds / len(addresses))
            try:
                # Of the answer nothing is read but its status.
                async with client.stream(
                    "POST", pinned, content=body, headers=headers, extensions=named, timeout=limit
                ) as response:
                    return response.status_code
            except (httpx.ConnectError, httpx.ConnectTimeout):
                if is_last:
                    raise
    raise DeliveryFailed("it has no address")


def _trusted() -> ssl.SSLContext:
    """What httpx trusts, and what this machine's owner added."""
    import httpx

    context = httpx.create_ssl_context(trust_env=False)
    context.load_default_certs()
    return context


def _what_happened(error: BaseException) -> str:
    """In words of our own: an exception's may hold the URL."""
    import httpx

    for cause in _causes(error):
        if isinstance(cause, ssl.SSLCertVerificationError):
            return f"has a certificate that is not trusted: {cause.verify_message}"
        if isinstance(cause, ssl.SSLError):
            return "speaks no TLS that this machine understands"
    is_unreachable = isinstance(error, httpx.ConnectError)
    # The number says more than asyncio's own words for it.
    reasons = [os.strerror(each.errno) for each in _causes(error) if isinstance(each, OSError) and each.errno]
    reason = f": {reasons[-1]}" if reasons else ""
    return f"cannot be reached{reason}" if is_unreachable else f"broke off{reason}"


def _causes(error: BaseException) -> Iterator[BaseException]:
    found: BaseException | None = error
    while found is not None:
        yield found
        if isinstance(found, BaseExceptionGroup):
            yield from found.exceptions
        found = found.__cause__ or found.__context__


def _in_words(status: int) -> str:
    try:
        words = f"{status} {HTTPStatus(status).phrase}"
    except ValueError:
        words = str(status)
    return f"{words}, a redirect, which is not followed" if 300 <= status < 400 else words
