"""How times of any spelling become instants in UTC."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pyarrow as pa
import pyarrow.compute as pc

_INSTANT = pa.timestamp("us", tz="UTC")
_MICROSECOND = timedelta(microseconds=1)
_FIRST = (datetime(1, 1, 2, tzinfo=UTC) - datetime(1970, 1, 1, tzinfo=UTC)) // _MICROSECOND
_END = (datetime(9999, 1, 1, tzinfo=UTC) - datetime(1970, 1, 1, tzinfo=UTC)) // _MICROSECOND
_HAS_ZONE = r"(Z|[+-]\d\d:?\d\d)$"


class Misfit(ValueError):
    """A value that would change; the message ends a sentence that begins with the row."""


def instants_of(values: pa.Array, zone: str) -> pa.Array:
    """Times as instants with microseconds in UTC.

    Parameters
    ----------
    values
        Timestamps, dates (their midnight) or ISO-8601 text.
    zone
        Where the clocks stood that wrote the times without a zone.

    Raises
    ------
    Misfit
        When a time cannot be read, has nanoseconds, or names no single instant in `zone`.

    Examples
    --------
    >>> str(instants_of(pa.array(["2026-07-01 12:00", "2026-07-01T12:00:00Z"]), "Europe/Berlin")[0])
    '2026-07-01 10:00:00+00:00'
    """
    if pa.types.is_timestamp(values.type):
        exact = _within_calendar(_microseconds(values))
        return exact.cast(_INSTANT) if values.type.tz is not None else _localised(exact, zone)
    if pa.types.is_date(values.type):
        return _localised(_within_calendar(values.cast(pa.timestamp("us"))), zone)
    return _parsed(values.cast(pa.string()), zone)


def dates_of(values: pa.Array) -> pa.Array:
    """Days, from times at midnight or from ISO-8601 text."""
    if pa.types.is_timestamp(values.type):
        in_day = pc.subtract(values, pc.floor_temporal(values, unit="day"))
        if pc.any(pc.not_equal(in_day.cast(pa.int64()), 0)).as_py():
            raise Misfit("is no midnight, so the time of day would be lost")
        return values.cast(pa.date32())
    if pa.types.is_date(values.type):
        return values.cast(pa.date32())
    try:
        return values.cast(pa.string()).cast(pa.date32())
    except pa.ArrowInvalid:
        raise Misfit("is no date such as '2026-03-01'") from None


def _microseconds(values: pa.Array) -> pa.Array:
    try:
        return values.cast(pa.timestamp("us", tz=values.type.tz))
    except pa.ArrowInvalid:
        raise Misfit("is finer than a microsecond, or beyond the years that can be kept") from None


def _within_calendar(values: pa.Array) -> pa.Array:
    """Refuse what only a wrong unit gives, and what other programs could not read back."""
    count = values.cast(pa.int64())
    if pc.any(pc.or_(pc.less(count, _FIRST), pc.greater_equal(count, _END))).as_py():
        raise Misfit("lies outside the years 1 to 9998; were milliseconds read as seconds?")
    return values


def _localised(values: pa.Array, zone: str) -> pa.Array:
    if zone == "UTC":
        return values.cast(_INSTANT)
    early = pc.assume_timezone(values, zone, ambiguous="earliest", nonexistent="earliest").cast(_INSTANT)
    late = pc.assume_timezone(values, zone, ambiguous="latest", nonexistent="latest").cast(_INSTANT)
    is_unclear = pc.not_equal(early, late)
    if pc.any(is_unclear).as_py():
        raise Misfit(_why_unclear(values, early, zone, is_unclear))
    return early


def _why_unclear(values: pa.Array, early: pa.Array, zone: str, is_unclear: pa.Array) -> str:
    # A time that the clocks jumped over does not come back from the instant it was turned into.
    first = pc.index(is_unclear, True).as_py()
    back = pc.local_timestamp(early.slice(first, 1).cast(pa.timestamp("us", tz=zone)))
    if back[0] == values[first]:
        return f"happened twice in {zone}, when the clocks went back; write times with their offset or in UTC"
    return (
        f"never happened in {zone}, where the clocks jumped over it; the times may be in UTC, or in another"
        " zone than timezone= says"
    )


def _parsed(text: pa.Array, zone: str) -> pa.Array:
    has_zone = pc.fill_null(pc.match_substring_regex(text, _HAS_ZONE), False)
    nothing = pa.scalar(None, pa.string())
    try:
        zoned = pc.if_else(has_zone, text, nothing).cast(_INSTANT)
        local = pc.if_else(has_zone, nothing, text).cast(pa.timestamp("us"))
    except pa.ArrowInvalid:
        raise Misfit("is no time such as '2026-03-01 14:30:00' or '2026-03-01T14:30:00Z'") from None
    return pc.coalesce(zoned, _localised(local, zone))
