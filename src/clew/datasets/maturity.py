"""Which rows are old enough for their labels to be complete."""

from __future__ import annotations

from datetime import UTC, datetime

import numpy as np
import numpy.typing as npt

from clew.entities import Duration

Times = npt.NDArray[np.datetime64]

# Months differ by at most three days, so only rows this near to the limit need their own calendar.
_NEAR = np.timedelta64(4, "D")


def matured(times: Times, delay: Duration, now: datetime) -> int:
    """How many leading rows are matured: their time plus the label delay has come.

    Parameters
    ----------
    times
        Event times in UTC, ascending, shape ``(n_rows,)``, ``datetime64[us]``.
    delay
        After this long a row's label is complete.
    now
        Aware.

    Returns
    -------
    int
        0 to ``n_rows``. Rows from there on wait, even where the calendar lets one of them mature before
        an earlier one (with a delay in months, 31 January does so before 28 February has passed).

    Examples
    --------
    >>> times = np.array(["2026-03-01", "2026-03-02", "2026-03-03"], "datetime64[us]")
    >>> matured(times, Duration.parse("1d"), datetime(2026, 3, 3, tzinfo=UTC))
    2
    """
    if now.utcoffset() is None:
        raise ValueError(f"now is {now!r}, which has no zone")
    moment = _utc(now)
    limit = _utc(delay.before(now.astimezone(UTC)))
    if not delay.months:
        return int(np.searchsorted(times, limit, side="right"))
    first = int(np.searchsorted(times, limit - _NEAR))
    last = int(np.searchsorted(times, limit + _NEAR, side="right"))
    waits = _after(times[first:last], delay) > moment
    return first + int(np.argmax(waits)) if waits.any() else last


def _utc(moment: datetime) -> np.datetime64:
    return np.datetime64(moment.astimezone(UTC).replace(tzinfo=None), "us")


def _after(times: Times, delay: Duration) -> Times:
    """Each time plus the delay; a day that the later month lacks becomes its last."""
    months = times.astype("datetime64[M]")
    later = months + np.timedelta64(delay.months, "M")
    days = times.astype("datetime64[D]") - months.astype("datetime64[D]")
    last_days = (later + 1).astype("datetime64[D]") - later.astype("datetime64[D]") - np.timedelta64(1, "D")
    in_day = times - times.astype("datetime64[D]")
    landed = later.astype("datetime64[D]") + np.minimum(days, last_days)
    result: Times = landed.astype("datetime64[us]") + in_day + np.timedelta64(delay.exact)
    return result
