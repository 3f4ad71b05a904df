"""Notices as rows: written with what they tell of, sent later, tried again while it fails."""

from __future__ import annotations

import hashlib
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import msgspec

from clew.config import NotificationSettings
from clew.entities import Decision, Finding, Json
from clew.notifications.command import run_command
from clew.notifications.failures import DeliveryFailed
from clew.notifications.notices import notice_of
from clew.notifications.webhook import post
from clew.storage import Where

if TYPE_CHECKING:
    from clew.storage import Store, Transaction

FIRST_PAUSE = timedelta(minutes=1)
LONGEST_PAUSE = timedelta(hours=6)
MOST_ATTEMPTS = 12
"""The last one comes 20 h 31 min after the first; a thirteenth would come after more than a day."""

LONGEST_CALL = timedelta(minutes=1)
"""`deliver_due` begins no further notice after this, so that whoever calls it has a turn again."""

log = logging.getLogger("clew.notifications")


def tell(
    tx: Transaction,
    settings: NotificationSettings,
    told: Decision | Finding,
    *,
    deployment: str,
    identity: str,
    now: datetime,
) -> None:
    """Have people told of a decision or finding, if it is one that they are told of.

    To be called in the transaction that stores it.

    Parameters
    ----------
    identity
        The id under which it is stored. Telling it again changes nothing.
    now
        When it may be sent first.
    """
    notice = notice_of(told, deployment, identity)
    if notice is not None:
        enqueue(
            tx,
            settings,
            level=notice.level,
            deployment=deployment,
            identity=identity,
            payload=notice.payload(),
            now=now,
        )


def enqueue(
    tx: Transaction,
    settings: NotificationSettings,
    *,
    level: str,
    deployment: str | None,
    identity: str,
    payload: Json,
    now: datetime,
) -> None:
    """Put something to be told into the outbox, once for each channel that is set.

    Nothing happens when `level` is not among the levels that are told, or the same `identity` was put there
    before. Rows are only written here, in the transaction of what is told; nothing is sent.
    """
    if level not in settings.levels:
        return
    for channel in channels(settings):
        row = {
            "id": notice_id(deployment, identity, channel),
            "channel": channel,
            "level": level,
            "deployment": deployment,
            "payload": payload,
            "status": "waiting",
            "attempts": 0,
            "next_attempt_at": now,
            "created_at": now,
        }
        tx.insert_if_absent("notices", row)


def channels(settings: NotificationSettings) -> tuple[str, ...]:
    """The ways in which people are told."""
    is_set = {"webhook": settings.webhook, "command": settings.command}
    return tuple(channel for channel, value in is_set.items() if value)


def notice_id(deployment: str | None, identity: str, channel: str) -> str:
    """The same notice on the same channel always has the same id, which receivers see too."""
    named = "\0".join((deployment or "", identity, channel))
    return hashlib.sha256(named.encode()).hexdigest()[:32]


def pause_after(n_attempts: int) -> timedelta:
    """How long to wait after so many attempts: a minute, then twice as long each time, at most six hours.

    Examples
    --------
    >>> [str(pause_after(n)) for n in (1, 2, 9, 10)]
    ['0:01:00', '0:02:00', '4:16:00', '6:00:00']
    """
    doubled = FIRST_PAUSE * (1 << min(n_attempts - 1, 16))
    return min(doubled, LONGEST_PAUSE)


def deliver_due(store: Store, settings: NotificationSettings, now: datetime) -> int:
    """Send what is due; returns how many notices were sent.

    Each notice is claimed before it is sent, and the claim says when it is due again: so two who deliver at
    once send it once, and one that was being sent when its process was killed is sent again. Once a channel
    failed, the rest of its notices are left for the next call. No transaction is open meanwhile.

    Parameters
    ----------
    now
        Real time, also where the loop's clock replays the past: receivers compare it with theirs, and
        whoever is away comes back in real time.
    """
    clock = _clock_from(now)
    failed: set[str] = set()
    n_sent = 0
    with store.read() as reader:
        where = {"status": "waiting", "next_attempt_at": Where("<=", now)}
        due = reader.find("notices", where, order_by=["created_at", "id"], limit=500)
    for row in due:
        if row["channel"] not in channels(settings):
            seen = {"id": row["id"], "status": "waiting"}
            _give_up(store, seen, f"{row['channel']} is no longer set in [notifications] of clew.toml")
            continue
        if row["channel"] in failed or clock() - now > LONGEST_CALL:
            continue
        claim = _claim(store, row, clock())
        if claim is None:
            continue
        if _sent(store, settings, claim, clock):
            n_sent += 1
        else:
            failed.add(claim.channel)
    return n_sent


@dataclass(frozen=True, slots=True)
class _Claim:
    """A notice that this process alone may send until its next attempt is due."""

    id: str
    channel: str
    payload: Json
    attempt: int


def _clock_from(now: datetime) -> Callable[[], datetime]:
    """Time that goes on from `now`: sending takes a while, and each notice says when it was sent."""
    begun = time.monotonic()
    return lambda: now + timedelta(seconds=time.monotonic() - begun)


def _claim(store: Store, row: dict[str, Any], now: datetime) -> _Claim | None:
    """None when another process was faster, or there will be no further attempt."""
    seen = {"id": row["id"], "status": "waiting", "attempts": row["attempts"]}
    if row["attempts"] >= MOST_ATTEMPTS:
        _give_up(store, seen, row["last_error"] or "Clew was ended during the last attempt")
        return None
    attempt = row["attempts"] + 1
    values = {"attempts": attempt, "next_attempt_at": now + pause_after(attempt)}
    with store.write() as tx:
        is_ours = tx.update("notices", seen, values) == 1
    return _Claim(row["id"], row["channel"], row["payload"], attempt) if is_ours else None


def _sent(store: Store, settings: NotificationSettings, claim: _Claim, clock: Callable[[], datetime]) -> bool:
    """Send a notice and write down what came of it."""
    try:
        _send(settings, claim, clock())
    except DeliveryFailed as failure:
        _failed(store, claim, without_secrets(str(failure), settings))
        return False
    with store.write() as tx:
        done = {"status": "sent", "sent_at": clock(), "last_error": None, "next_attempt_at": None}
        tx.update("notices", {"id": claim.id}, done)
    return True


def _send(settings: NotificationSettings, claim: _Claim, now: datetime) -> None:
    facts = {"id": claim.id, "attempt": claim.attempt, "sent_at": now.isoformat()}
    body = msgspec.json.encode(claim.payload | facts)
    if claim.channel == "command":
        run_command(settings.command, body)
        return
    assert settings.webhook is not None  # noqa: S101 - the channel is set
    post(settings.webhook, body, claim.id, settings.secret, allow_private=settings.allow_private)


def _failed(store: Store, claim: _Claim, error: str) -> None:
    # Only while the claim is still ours: whoever sent it since has the word.
    ours = {"id": claim.id, "status": "waiting", "attempts": claim.attempt}
    if claim.attempt >= MOST_ATTEMPTS:
        _give_up(store, ours, error)
        return
    log.info("notice not sent yet", extra={"notice": claim.id, "attempt": claim.attempt, "error": error})
    with store.write() as tx:
        tx.update("notices", ours, {"last_error": error})


def _give_up(store: Store, where: Json, error: str) -> None:
    log.warning("notice given up", extra={"notice": where["id"], "error": error})
    with store.write() as tx:
        values = {"status": "given up", "last_error": error, "next_attempt_at": None}
        tx.update("notices", where, values)


def without_secrets(text: str, settings: NotificationSettings) -> str:
    """A message with nothing in it of the secret, or of what a webhook's URL has beside scheme and host.

    Messages of our own hold none of it; what a command complains of may.

    Examples
    --------
    >>> given = NotificationSettings(webhook="https://me:hunter2@hooks.example/T0/B7?key=1", secret="pssst")
    >>> without_secrets("hunter2 and pssst for https://hooks.example/T0/B7?key=1", given)
    '… and … for https://hooks.example…?…'
    """
    parts = urlsplit(settings.webhook or "")
    path = parts.path if parts.path != "/" else ""
    secrets = [settings.webhook, settings.secret, parts.password, path, parts.query]
    for secret in sorted(filter(None, secrets), key=len, reverse=True):
        text = text.replace(secret, "…")
    return text
