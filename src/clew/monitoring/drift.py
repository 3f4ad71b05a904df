"""Ticket on drift: new rows are no longer distributed like those the model was judged on.

Drift is no harm by itself, so nobody is woken; but a cause of harm to come shows here weeks before its labels
arrive. A column has drifted when two things hold of the same window:

* chance does not explain it: a chi-square test at ``alpha / (columns * windows)`` (Bonferroni);
* it is large enough to matter: total variation, less what sampling noise alone would give, above a floor,
  and above what is usual for windows of the reference itself (`ColumnReference.usual_distance`).

The first alone cries at every hair once rows are many, the second alone at every small window. Windows are
the day, the week and the four weeks up to the newest whole day.

The chi-square test takes rows as independent. Rows of one day rarely are (weather, campaigns, weekends), and
then it errs far more often than it says. What keeps tickets rare on such data is the second condition, and
it promises nothing: of 30 columns whose level moves from day to day (autocorrelation 0.8, 30 % of the
variance) there were 0.7 false tickets a quarter with half a year of reference, 0.05 with a year, and 9 where
only the floor was known. A season that the reference has not seen is drift, and is called so.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import numpy.typing as npt

from clew.entities import Finding, Json
from clew.monitoring.budget import DAYS_IN_QUARTER
from clew.monitoring.distances import (
    FloatArray,
    IntArray,
    WindowDistances,
    merged_neighbours,
    window_distances,
)
from clew.monitoring.reference import MERGE_DAYS, Reference
from clew.monitoring.words import distance_interval, list_of_names
from clew.stats import chi_square_test

FLOOR = 0.1
"""Drift below a tenth of the rows in other bins is not worth a ticket.

Simulated with 16 equal bins: a normal column that moves by a quarter of its deviation lies at 0.1, and an
accuracy can change by no more than the share of rows that moved. In 28-day windows of unchanged columns the
largest distance beyond noise was 0.06 with 30 rows a day, 0.03 with 100, 0.01 with 1,000 (270 quarters of 30
columns); single days of 100 rows reached 0.16, and there the test decides.
"""

LEAST_EXPECTED = 10
"""Rows of the window that a bin of the chi-square test should hold; neighbours are merged until they do.

Cochran's 5 is for levels such as 0.05. At the 1e-6 that a budget leaves for one test, simulated with 16
bins: with 100 rows the test errs 3 times as often as it says, with 30 rows 13 times; merged to 10 rows a bin
at most twice, which the floor and the overlap of windows take back.
"""

TICKET_EVERY = timedelta(days=7)
"""Columns that join an open ticket sooner wait and come together."""

MONITOR = "drift"

_DAY = timedelta(days=1)
_QUIET_DAYS = max(MERGE_DAYS)


@dataclass(frozen=True, slots=True)
class ColumnDrift:
    """A column that has drifted, in the window in which it is farthest away.

    Attributes
    ----------
    column, importance
        Which, and how much the model leans on it.
    n_days, n_rows
        The window: its days, and their rows.
    distance, lower, upper
        Total variation beyond noise, with an interval.
    p_value
        Of the chi-square test.
    """

    column: str
    importance: float
    n_days: int
    n_rows: int
    distance: float
    lower: float
    upper: float
    p_value: float


@dataclass(frozen=True, slots=True, eq=False)
class DriftMonitor:
    """Compares the newest day, week and four weeks with the reference; a value.

    Feed counts with `observe`, ask with `check`. A ticket names all columns that have drifted; it is not
    repeated while the same columns stay drifted, and comes again when others join, but never twice within a
    week: in a change of season columns join one by one. A column is forgiven after four weeks in which it
    was fine. When the reference changes, start a new monitor.

    Attributes
    ----------
    reference
        What to compare with.
    alpha
        The chance of any false ticket within a quarter: see `ticket_alpha`.
    recent
        By midnight of the day its counts, no further back than windows reach.
    checked_through
        The newest day that `check` has judged, or None.
    told
        By column the last day on which a column in a ticket was still drifted.
    last_ticket
        The day of the last ticket, or None.

    Examples
    --------
    >>> from clew.monitoring.reference import reference_of
    >>> rng = np.random.default_rng(0)
    >>> start = datetime(2026, 3, 1, tzinfo=UTC)
    >>> before = np.datetime64("2026-01-01") + np.repeat(np.arange(50), 100)
    >>> reference = reference_of({"age": rng.normal(40, 10, 5000), "size": rng.normal(size=5000)}, before)
    >>> monitor = DriftMonitor.start(reference, alpha=0.01)
    >>> today = {"age": rng.normal(55, 10, 300), "size": rng.normal(size=300)}
    >>> rows = reference.bin_days(today, np.full(300, np.datetime64("2026-03-01")))
    >>> monitor, found = monitor.observe(start, rows.counts[0]).check(start + timedelta(days=1))
    >>> found.level, found.subject, found.n
    ('ticket', 'age', 300)
    >>> found.sentence
    '1 of 2 columns drifted: age (0.43 of rows in other bins over 1 day to 2026-03-01, 95 % ...)'
    """

    reference: Reference
    alpha: float
    recent: tuple[tuple[datetime, IntArray], ...]
    checked_through: datetime | None
    told: tuple[tuple[str, datetime], ...]
    last_ticket: datetime | None

    @classmethod
    def start(cls, reference: Reference, alpha: float) -> DriftMonitor:
        """A monitor before its first day.

        Raises
        ------
        ValueError
            If alpha does not lie strictly between 0 and 1.
        """
        if not 0 < alpha < 1:
            raise ValueError(f"alpha is {alpha}; it must lie between 0 and 1, both excluded")
        return cls(reference, float(alpha), (), None, (), None)

    @property
    def test_level(self) -> float:
        """What one chi-square test may err by: alpha over columns, scales and the days of a quarter."""
        return self.alpha / (len(self.reference.columns) * len(MERGE_DAYS) * DAYS_IN_QUARTER)

    def observe(self, day: datetime, counts: npt.ArrayLike) -> DriftMonitor:
        """The monitor after rows of this event-time day; more rows of the same day add to them.

        Parameters
        ----------
        day
            Any moment of the day, aware.
        counts
            Rows by bin, all columns in one row: `Reference.counts_of`, or a row of `DayRows.counts`.

        Raises
        ------
        ValueError
            If the counts do not fit the reference.
        """
        added = np.asarray(counts, dtype=np.int64)
        if added.shape != self.reference.flat.counts.shape:
            raise ValueError(
                f"counts have shape {added.shape}; the reference has {self.reference.flat.counts.shape}"
            )
        days = dict(self.recent)
        midnight = _midnight(day)
        days[midnight] = days[midnight] + added if midnight in days else added
        # A day more than the windows need: the newest may not be over when `check` is asked.
        oldest = max(days) - (_QUIET_DAYS + 1) * _DAY
        return replace(self, recent=tuple(sorted((d, c) for d, c in days.items() if d >= oldest)))

    def check(self, now: datetime) -> tuple[DriftMonitor, Finding | None]:
        """The monitor after judging the newest day that is over at `now`, and the ticket, if any.

        A day is judged once; asking again finds nothing new. Ask after every day: windows of one day that
        nobody asked about are not made up for.
        """
        last_day = self._newest_whole_day(now)
        if last_day is None or (self.checked_through is not None and last_day <= self.checked_through):
            return self, None
        drifted = self._drifted(last_day)
        told_before = {name: day for name, day in self.told if (last_day - day).days <= _QUIET_DAYS}
        new = [each.column for each in drifted if each.column not in told_before]
        is_due = bool(new) and (self.last_ticket is None or last_day - self.last_ticket >= TICKET_EVERY)
        told = {each.column: last_day for each in drifted if is_due or each.column in told_before}
        after = replace(
            self,
            checked_through=last_day,
            told=tuple(sorted((told_before | told).items())),
            last_ticket=last_day if is_due else self.last_ticket,
        )
        return after, self._ticket(drifted, new, last_day, now) if is_due else None

    def _newest_whole_day(self, now: datetime) -> datetime | None:
        return max((day for day, _ in self.recent if day + _DAY <= now), default=None)

    def windows(self, last_day: datetime) -> IntArray:
        """Counts of the windows that end with this day, shape ``(n_scales, n_bins_of_all_columns)``."""
        days, blank = [day for day, _ in self.recent], np.zeros_like(self.reference.flat.counts)
        counts = np.array([count for _, count in self.recent] or [blank])
        ages = np.array([(last_day - day).days for day in days] or [0])
        return np.stack([counts[(ages >= 0) & (ages < n)].sum(axis=0) for n in MERGE_DAYS])

    def _drifted(self, last_day: datetime) -> list[ColumnDrift]:
        """Columns that have drifted, what matters most first."""
        windows = self.windows(last_day)
        distances = window_distances(self.reference.flat, windows)
        is_far = distances.corrected > self._floors()
        found: dict[int, ColumnDrift] = {}
        for scale, place in np.argwhere(is_far).tolist():
            p_value = self._p_value(place, windows[scale])
            if p_value <= self.test_level and distances.corrected[scale, place] > _distance(found, place):
                found[place] = self._drift(place, scale, distances, p_value)
        return sorted(found.values(), key=lambda each: (-each.importance * each.distance, each.column))

    def _floors(self) -> FloatArray:
        usual = np.array([column.usual_distance for column in self.reference.columns]).T
        return np.asarray(np.maximum(usual, FLOOR), dtype=np.float64)

    def _p_value(self, place: int, window: IntArray) -> float:
        flat = self.reference.flat
        bins = merged_neighbours(flat.column(flat.counts, place), flat.column(window, place), LEAST_EXPECTED)
        return chi_square_test(*bins).p_value

    def _drift(self, place: int, scale: int, distances: WindowDistances, p_value: float) -> ColumnDrift:
        column = self.reference.columns[place]
        n_rows = int(distances.n_rows[scale, place])
        total_variation = float(distances.total_variation[scale, place])
        distance = float(distances.corrected[scale, place])
        lower, upper = distance_interval(total_variation, distance, column.n_rows, n_rows)
        return ColumnDrift(
            column=column.name,
            importance=column.importance,
            n_days=MERGE_DAYS[scale],
            n_rows=n_rows,
            distance=distance,
            lower=lower,
            upper=upper,
            p_value=p_value,
        )

    def _ticket(
        self, drifted: list[ColumnDrift], new: list[str], last_day: datetime, now: datetime
    ) -> Finding:
        top = drifted[0]
        return Finding(
            monitor=MONITOR,
            level="ticket",
            subject=", ".join(each.column for each in drifted),
            window_start=last_day - (top.n_days - 1) * _DAY,
            window_end=last_day + _DAY,
            found_at=now,
            value=top.distance,
            lower=top.lower,
            upper=top.upper,
            n=top.n_rows,
            method=f"total variation beyond noise above {FLOOR} and above the reference's own windows,"
            f" and chi-square p at most {self.test_level:.1e}",
            sentence=self._sentence(drifted, last_day),
            evidence={"new": new, "columns": [_plain(each) for each in drifted]},
        )

    def _sentence(self, drifted: list[ColumnDrift], last_day: datetime) -> str:
        top = drifted[0]
        days = "1 day" if top.n_days == 1 else f"{top.n_days} days"
        others = list_of_names([each.column for each in drifted[1:]])
        return (
            f"{len(drifted)} of {len(self.reference.columns)} columns drifted: {top.column}"
            f" ({top.distance:.2f} of rows in other bins over {days} to {last_day:%Y-%m-%d},"
            f" 95 % {top.lower:.2f} to {top.upper:.2f}, {top.n_rows:,} rows)"
            + (f", then {others}" if others else "")
        )

    def to_dict(self) -> Json:
        """Plain values for JSON."""
        return {
            "reference": self.reference.to_dict(),
            "alpha": self.alpha,
            "recent": [{"day": day.isoformat(), "counts": counts.tolist()} for day, counts in self.recent],
            "checked_through": self.checked_through.isoformat() if self.checked_through else None,
            "told": {name: day.isoformat() for name, day in self.told},
            "last_ticket": self.last_ticket.isoformat() if self.last_ticket else None,
        }

    @classmethod
    def from_dict(cls, stored: Mapping[str, Any]) -> DriftMonitor:
        """The monitor that `to_dict` wrote."""
        return cls(
            reference=Reference.from_dict(stored["reference"]),
            alpha=float(stored["alpha"]),
            recent=tuple(
                (datetime.fromisoformat(each["day"]), np.array(each["counts"], dtype=np.int64))
                for each in stored["recent"]
            ),
            checked_through=_time(stored["checked_through"]),
            told=tuple((name, datetime.fromisoformat(day)) for name, day in stored["told"].items()),
            last_ticket=_time(stored["last_ticket"]),
        )


def _midnight(moment: datetime) -> datetime:
    if moment.tzinfo is None:
        raise ValueError(f"{moment} has no time zone; times here are aware, in UTC")
    return moment.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)


def _time(stored: str | None) -> datetime | None:
    return None if stored is None else datetime.fromisoformat(stored)


def _distance(found: Mapping[int, ColumnDrift], place: int) -> float:
    return found[place].distance if place in found else -1.0


def _plain(drift: ColumnDrift) -> Json:
    return {name: getattr(drift, name) for name in ColumnDrift.__slots__}
