"""When the thing predicted happens, as a caller writes it: ISO-8601 text, in whole microseconds of UTC."""

from __future__ import annotations

import functools
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
AHEAD_MICROSECONDS = 5 * 60 * 1_000_000
"""How far an event may lie ahead of the clock: clocks of callers differ a little."""


class WrongTime(ValueError):
    """A time that names no instant; the message ends a sentence that begins with the field."""


def microseconds_of(given: object, zone: str) -> int:
    """Microseconds since 1970 of ISO-8601 text; a time without an offset is one of `zone`.

    Raises
    ------
    WrongTime
        When it cannot be read, or happened twice or never in `zone`.

    Examples
    --------
    >>> microseconds_of("2026-07-01T12:00:00+02:00", "UTC") == microseconds_of("2026-07-01 10:00", "UTC")
    True
    >>> microseconds_of("2026-07-01 12:00", "Europe/Berlin") == microseconds_of("2026-07-01T10:00Z", "UTC")
    True
    """
    if not isinstance(given, str):
        raise WrongTime("is no text; write a time such as '2026-03-01T14:30:00Z'")
    try:
        moment = datetime.fromisoformat(given)
    except ValueError:
        raise WrongTime("is no time such as '2026-03-01 14:30:00' or '2026-03-01T14:30:00Z'") from None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC) if zone == "UTC" else _local(moment, zone)
    return (moment - _EPOCH) // _MICROSECOND


def is_ahead(event_time: int, now: int) -> bool:
    """Whether an event lies further ahead of the clock than clocks differ; both in microseconds."""
    return event_time > now + AHEAD_MICROSECONDS


def moment_of(microseconds: int) -> datetime:
    return _EPOCH + microseconds * _MICROSECOND


@functools.cache
def _zone(name: str) -> ZoneInfo:
    return ZoneInfo(name)


def _local(moment: datetime, zone: str) -> datetime:
    early = moment.replace(tzinfo=_zone(zone), fold=0)
    late = early.replace(fold=1)
    if early.utcoffset() == late.utcoffset():
        return early
    is_gap = early.astimezone(UTC).astimezone(_zone(zone)).replace(tzinfo=None) != moment
    raise WrongTime(
        f"never happened in {zone}, where the clocks jumped over it"
        if is_gap
        else f"happened twice in {zone}, when the clocks went back; write it with its offset or in UTC"
    )
