from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clew.errors import SignatureRefused
from clew.notifications import verify_signature
from clew.notifications.signature import sign
from tests.docs.pages import DOCS, blocks
from tests.notifications.receivers import NOW, SECRET


def body(**facts: object) -> bytes:
    return json.dumps({"sentence": "so it is", "sent_at": NOW.isoformat(), **facts}).encode()


def test_what_was_signed_with_the_secret_is_taken() -> None:
    sent = body()
    assert verify_signature(sent, sign(sent, SECRET), SECRET, now=NOW)["sentence"] == "so it is"


@given(place=st.integers(0, len(body()) - 1), byte=st.integers(0, 255))
def test_a_body_with_another_byte_is_refused(place: int, byte: int) -> None:
    sent = body()
    changed = sent[:place] + bytes([byte]) + sent[place + 1 :]
    if changed == sent:
        return
    with pytest.raises(SignatureRefused, match="not that of this body and secret"):
        verify_signature(changed, sign(sent, SECRET), SECRET, now=NOW)


@pytest.mark.parametrize("signature", ["sha256=", "sha256=00", "é", sign(body(), "another secret")])
def test_another_signature_is_refused(signature: str) -> None:
    with pytest.raises(SignatureRefused, match="not that of this body and secret"):
        verify_signature(body(), signature, SECRET, now=NOW)


@pytest.mark.parametrize("signature", [None, ""])
def test_a_request_without_a_signature_is_refused(signature: str | None) -> None:
    with pytest.raises(SignatureRefused, match="no header X-Clew-Signature"):
        verify_signature(body(), signature, SECRET, now=NOW)


@pytest.mark.parametrize(
    ("late", "said"), [(timedelta(minutes=6), "0:06:00 before"), (timedelta(hours=-1), "1:00:00 after")]
)
def test_a_notice_from_another_time_is_refused(late: timedelta, said: str) -> None:
    sent = body()
    with pytest.raises(SignatureRefused, match=said) as caught:
        verify_signature(sent, sign(sent, SECRET), SECRET, now=NOW + late)
    assert caught.value.http_status == 401
    verify_signature(sent, sign(sent, SECRET), SECRET, now=NOW + late, tolerance=timedelta(hours=2))


def test_what_a_receiver_without_clew_is_shown_takes_and_refuses_the_same() -> None:
    page = (DOCS / "how-to" / "get-told.md").read_text(encoding="utf-8")
    shown: dict[str, Any] = {}
    exec(next(block.body for block in blocks(page) if "def notice_in" in block.body), shown)
    now = datetime.now(UTC)  # noqa: TID251 - what is shown reads the clock, as receivers do
    fresh, old = body(sent_at=now.isoformat()), body()
    assert shown["notice_in"](fresh, sign(fresh, SECRET), SECRET)["sentence"] == "so it is"
    with pytest.raises(ValueError, match="too old"):
        shown["notice_in"](old, sign(old, SECRET), SECRET)
    with pytest.raises(ValueError, match="not from Clew"):
        shown["notice_in"](fresh, sign(fresh, "another secret"), SECRET)
