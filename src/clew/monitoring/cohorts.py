"""Matured cohorts: which rows of which event-time day may be judged at a moment.

Labels do not arrive evenly: a default or a complaint is known sooner than its absence. Judging rows as soon
as they have a label would therefore judge a biased choice of them. So a row counts only when its label
delay has passed, by event time, and only if it then has a label; a missing label is unknown and counts
neither for nor against the model.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import numpy as np
import numpy.typing as npt

from clew.entities import Duration

TimeArray = npt.NDArray[np.datetime64]
BoolArray = npt.NDArray[np.bool_]

_DAY = np.timedelta64(1, "D")


@dataclass(frozen=True, slots=True)
class Cohort:
    """The rows of one event-time day (UTC) and how far they can be judged.

    Attributes
    ----------
    day
        Its midnight.
    n_rows, n_matured, n_scored
        All rows of the day, those whose label delay has passed, and those of them that have a label.
    """

    day: datetime
    n_rows: int
    n_matured: int
    n_scored: int

    @property
    def is_complete(self) -> bool:
        """True when no row of the day is still waiting for its label delay."""
        return self.n_matured == self.n_rows

    @property
    def label_coverage(self) -> float:
        """Share of the matured rows that have a label; 0 when none has matured."""
        return self.n_scored / self.n_matured if self.n_matured else 0.0


def matured_at(times: TimeArray, delay: Duration) -> TimeArray:
    """The moment at which each row's label is complete, shape ``(n,)``: event time plus label delay.

    Months are those of the calendar, as `Duration.after` counts them.

    Examples
    --------
    >>> matured_at(np.array(["2026-01-31T10:00"], dtype="datetime64[us]"), Duration.parse("1mo"))
    array(['2026-02-28T10:00:00.000000'], dtype='datetime64[us]')
    """
    moments = np.asarray(times, dtype="datetime64[us]")
    return _months_later(moments, delay.months) + np.timedelta64(delay.exact, "us")


def is_matured(times: TimeArray, delay: Duration, now: datetime) -> BoolArray:
    """Which rows are older than the label delay at `now`, shape ``(n,)``."""
    return np.asarray(matured_at(times, delay) <= to_datetime64(now))


def newly_scored(
    times: TimeArray, has_label: BoolArray, delay: Duration, since: datetime, now: datetime
) -> npt.NDArray[np.intp]:
    """Positions of the rows to judge at `now`: matured after `since` and no later than `now`, with a label.

    Ticks at ``t0, t1, t2, …`` with ``since`` the tick before see each row once, at the tick that it matures
    in. A row whose label is not there by then is passed over for good: rows labelled late are no fair
    sample of all rows.

    Parameters
    ----------
    times
        Event times in UTC, shape ``(n,)``.
    has_label
        Shape ``(n,)``; False where the label is null.

    Examples
    --------
    >>> times = np.array(["2026-03-01", "2026-03-02", "2026-03-03", "2026-03-04"], dtype="datetime64[us]")
    >>> newly_scored(
    ...     times,
    ...     np.array([True, True, False, True]),
    ...     Duration.parse("1d"),
    ...     since=datetime(2026, 3, 2, tzinfo=UTC),
    ...     now=datetime(2026, 3, 4, 12, tzinfo=UTC),
    ... )
    array([1])
    """
    moment = matured_at(times, delay)
    is_new = (moment > to_datetime64(since)) & (moment <= to_datetime64(now))
    return np.flatnonzero(is_new & has_label)


def cohorts(times: TimeArray, has_label: BoolArray, delay: Duration, now: datetime) -> tuple[Cohort, ...]:
    """The event-time days of these rows, in order, each with what of it can be judged at `now`.

    Examples
    --------
    >>> times = np.array(["2026-03-01T08", "2026-03-01T20", "2026-03-02T08"], dtype="datetime64[us]")
    >>> first, second = cohorts(
    ...     times, np.array([True, False, True]), Duration.parse("1d"), datetime(2026, 3, 3, tzinfo=UTC)
    ... )
    >>> first.n_matured, first.n_scored, first.label_coverage, second.is_complete
    (2, 1, 0.5, False)
    """
    matured = is_matured(times, delay, now)
    days, of_day = np.unique(event_days(times), return_inverse=True)
    n = len(days)
    n_rows = np.bincount(of_day, minlength=n)
    n_matured = np.bincount(of_day[matured], minlength=n)
    n_scored = np.bincount(of_day[matured & has_label], minlength=n)
    return tuple(
        Cohort(from_datetime64(day), int(rows), int(ripe), int(scored))
        for day, rows, ripe, scored in zip(days, n_rows, n_matured, n_scored, strict=True)
    )


def event_days(times: TimeArray) -> TimeArray:
    """The UTC day of each row, shape ``(n,)``, as ``datetime64[D]``."""
    return np.asarray(times, dtype="datetime64[us]").astype("datetime64[D]")


def to_datetime64(moment: datetime) -> np.datetime64:
    """An aware moment as numpy keeps it: UTC, without saying so.

    Raises
    ------
    ValueError
        If the moment has no zone: it could mean any of 24 hours.
    """
    if moment.tzinfo is None:
        raise ValueError(f"{moment} has no time zone; times here are aware, in UTC")
    return np.datetime64(moment.astimezone(UTC).replace(tzinfo=None), "us")


def from_datetime64(moment: np.datetime64) -> datetime:
    """The aware UTC moment that numpy keeps without its zone."""
    microseconds = int(moment.astype("datetime64[us]").astype(np.int64))
    return datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=microseconds)


def _months_later(times: TimeArray, months: int) -> TimeArray:
    if not months:
        return times
    month = times.astype("datetime64[M]")
    within = times - month.astype("datetime64[us]")
    day, time_of_day = within // _DAY, within % _DAY
    later = month + np.timedelta64(months, "M")
    # The 31st of a month has no counterpart in a shorter one: its last day stands in.
    last_day = (later + 1).astype("datetime64[D]") - later.astype("datetime64[D]") - 1
    day = np.minimum(day, last_day.astype(np.int64))
    return np.asarray(later.astype("datetime64[us]") + day * _DAY + time_of_day, dtype="datetime64[us]")
