"""Signing what a webhook posts, and the receiver's side of it.

The body itself says when it was sent, so the signature covers that moment: who overheard a notice cannot post
it again later.
"""

from __future__ import annotations

import hashlib
import hmac
from datetime import datetime, timedelta

import msgspec

from clew.entities import Json
from clew.errors import SignatureRefused

SIGNATURE_HEADER = "X-Clew-Signature"
DELIVERY_HEADER = "X-Clew-Delivery"
TOLERANCE = timedelta(minutes=5)
"""How old a notice may be when it arrives, and how far clocks may differ."""


def sign(body: bytes, secret: str) -> str:
    """What ``X-Clew-Signature`` says of a body: HMAC-SHA256 with the secret as the key.

    Examples
    --------
    >>> sign(b"{}", "a secret")[:20]
    'sha256=c424c6f590d0d'
    """
    return "sha256=" + hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()


def verify_signature(
    body: bytes, signature: str | None, secret: str, *, now: datetime, tolerance: timedelta = TOLERANCE
) -> Json:
    """The notice in a request, once it is certain that Clew sent it and that it is no old one.

    A notice may still come twice, when Clew was killed before it could write down that it was sent. Both
    have the same ``id``, which is also in the header ``X-Clew-Delivery``.

    Parameters
    ----------
    body
        The request's body, byte by byte as it came: no parsed and re-written JSON.
    signature
        The header ``X-Clew-Signature``; None when the request has none.
    secret
        The same as ``secret`` in ``[notifications]``.
    now
        The receiver's time, with its zone.
    tolerance
        How far ``sent_at`` may be from `now`, to either side.

    Raises
    ------
    SignatureRefused
        When the signature is missing or another one, or the notice was sent too long ago.

    Examples
    --------
    >>> from datetime import UTC
    >>> body = b'{"sentence": "champion is version 3", "sent_at": "2026-03-01T12:00:00+00:00"}'
    >>> now = datetime(2026, 3, 1, 12, 0, 2, tzinfo=UTC)
    >>> verify_signature(body, sign(body, "a secret"), "a secret", now=now)["sentence"]
    'champion is version 3'
    >>> verify_signature(body, sign(body, "a guess"), "a secret", now=now)
    Traceback (most recent call last):
    clew.errors.SignatureRefused: The signature is not that of this body and secret...
    """
    if not signature:
        raise SignatureRefused(
            f"The request has no header {SIGNATURE_HEADER}: it is not from Clew, or no secret is set in"
            " [notifications] of clew.toml."
        )
    if not hmac.compare_digest(signature.encode(), sign(body, secret).encode()):
        raise SignatureRefused(
            "The signature is not that of this body and secret. Hand over the body as it came, and the secret"
            " that stands in [notifications] of clew.toml."
        )
    notice: Json = msgspec.json.decode(body)
    age = now - datetime.fromisoformat(notice["sent_at"])
    if abs(age) > tolerance:
        raise SignatureRefused(
            f"The notice was sent at {notice['sent_at']}, {_apart(age)} this machine's time: more than the"
            f" {tolerance} that are allowed. Somebody may have sent it again, or the clocks differ."
        )
    return notice


def _apart(age: timedelta) -> str:
    return f"{age} before" if age > timedelta() else f"{-age} after"
