"""The data contract: new rows still look as if they came from where the reference came from.

Drift asks whether the mix has moved; the contract asks whether something is *broken*: a column gone missing,
a level nobody has ever seen, a number outside the range, a column that stands still. Every test is of one
day's rows against the reference and against the worst of the reference's own days.

A page is for what is certainly broken, which only two faults are: most values of a column are missing, or
most are levels outside the reference. A range may be left lawfully (a counter, a calendar year) and a column
may lawfully stand still, so these are tickets.

The labels have a contract of their own: `clew.monitoring.labels`.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import datetime, timedelta
from typing import Any, Literal, NamedTuple, TypeAlias

import numpy as np

from clew.entities import Finding, Json, Level
from clew.monitoring.budget import DAYS_IN_QUARTER
from clew.monitoring.days import DayRows
from clew.monitoring.distances import FlatCounts, FloatArray, IntArray
from clew.monitoring.reference import Reference
from clew.monitoring.words import list_of_names
from clew.stats import wilson_interval

Fault: TypeAlias = Literal["missing", "unseen", "range", "constant"]
_Told: TypeAlias = tuple[str, str, str]
FAULTS: tuple[Fault, ...] = ("missing", "unseen", "range", "constant")

SMALLEST_EXCESS = 0.1
"""A fault in fewer than a tenth of a day's rows more than usual is not worth a ticket."""

PAGE_SHARE = 0.5
"""Most rows: below it the column still carries news and a ticket is enough."""

MONITOR = "contract"

_QUIET_DAYS = 28
_WORDS: dict[Fault, str] = {
    "missing": "missing values",
    "unseen": "levels outside the reference's",
    "range": "numbers far outside the reference's range",
    "constant": "one value only",
}


@dataclass(frozen=True, slots=True)
class Breach:
    """A column of a day that breaks the contract: `share` of its `n` rows does, `usual` would be fine."""

    column: str
    fault: Fault
    level: Level
    share: float
    lower: float
    upper: float
    usual: float
    n: int


@dataclass(frozen=True, slots=True, eq=False)
class ContractMonitor:
    """Checks each day of new rows against the reference; a value.

    A fault is told once and not again while it lasts (or within four weeks of it), unless it grows from a
    ticket to a page. When the reference changes, start a new monitor.

    Attributes
    ----------
    reference
        What rows should look like.
    alpha
        The chance of any false finding within a quarter: see `page_alpha`.
    told
        By fault, level and column the last day on which it was seen.

    Examples
    --------
    >>> from datetime import UTC
    >>> from clew.monitoring.reference import reference_of
    >>> rng = np.random.default_rng(0)
    >>> before = np.datetime64("2026-01-01") + np.repeat(np.arange(50), 100)
    >>> reference = reference_of({"age": rng.normal(40, 10, 5000)}, before)
    >>> monitor = ContractMonitor.start(reference, alpha=0.01)
    >>> times = np.full(200, np.datetime64("2026-03-01"))
    >>> day = reference.bin_days({"age": np.full(200, np.nan)}, times)
    >>> monitor, (found,) = monitor.check(day, datetime(2026, 3, 2, tzinfo=UTC))
    >>> found.level, found.sentence
    ('page', 'age has missing values in 100 % of 200 rows of 2026-03-01; the reference had at most 0 %')
    """

    reference: Reference
    alpha: float
    told: tuple[tuple[_Told, datetime], ...]

    @classmethod
    def start(cls, reference: Reference, alpha: float) -> ContractMonitor:
        """A monitor before its first day.

        Raises
        ------
        ValueError
            If alpha does not lie strictly between 0 and 1.
        """
        if not 0 < alpha < 1:
            raise ValueError(f"alpha is {alpha}; it must lie between 0 and 1, both excluded")
        return cls(reference, float(alpha), ())

    @property
    def test_level(self) -> float:
        """The chance that one test of one column on one day may fail by (Bonferroni)."""
        return self.alpha / (len(self.reference.columns) * len(FAULTS) * DAYS_IN_QUARTER)

    def check(self, rows: DayRows, now: datetime) -> tuple[ContractMonitor, tuple[Finding, ...]]:
        """The monitor after these days, and what it has not told before, worst first.

        Parameters
        ----------
        rows
            Whole days, counted in the bins of the reference: `Reference.bin_days`.
        now
            When it was found.

        Raises
        ------
        ValueError
            If the rows were counted for other columns.
        """
        if rows.names != self.reference.names:
            raise ValueError(f"the rows have the columns {rows.names}, the reference {self.reference.names}")
        told, findings = dict(self.told), list[Finding]()
        for place in range(len(rows)):
            day = rows.starts(place)
            breaches = self.breaches(rows, place)
            told = {key: seen for key, seen in told.items() if (day - seen).days <= _QUIET_DAYS}
            new = [each for each in breaches if _key(each) not in told]
            findings += _findings(new, day, now, self.test_level)
            told |= {_key(each): day for each in breaches}
        worst_first = sorted(findings, key=lambda found: found.level != "page")
        return replace(self, told=tuple(sorted(told.items()))), tuple(worst_first)

    def breaches(self, rows: DayRows, place: int) -> list[Breach]:
        """What of one day breaks the contract, told before or not, fault by fault."""
        shares = [breach for each in self._shares(rows, place) for breach in self._too_many(each)]
        return shares + list(self._constant(rows, place))

    def _shares(self, rows: DayRows, place: int) -> tuple[_Shares, ...]:
        columns, known = self.reference.columns, self._known
        n, n_missing, n_unseen = _row_counts(self.reference.flat, rows.counts[place])
        usual_missing = np.array([column.usual_missing for column in columns])
        usual_unseen = np.array([column.usual_unseen for column in columns])
        is_level = np.array([column.is_category for column in columns])
        nothing = np.zeros_like(known.n)
        return (
            _Shares(
                "missing", n_missing, n, np.maximum(self._upper(known.n_missing, known.n), usual_missing)
            ),
            _Shares(
                "unseen",
                np.where(is_level, n_unseen, 0),
                n,
                np.maximum(self._upper(np.where(is_level, known.n_unseen, 0), known.n), usual_unseen),
            ),
            _Shares(
                "range", rows.n_outside[place], n - n_missing, self._upper(nothing, known.n - known.n_missing)
            ),
        )

    @property
    def _known(self) -> _RowCounts:
        return _row_counts(self.reference.flat, self.reference.flat.counts)

    def _upper(self, n_with: IntArray, n: IntArray) -> FloatArray:
        return wilson_interval(n_with, n, 1 - 2 * self.test_level)[1]

    def _too_many(self, shares: _Shares) -> Iterator[Breach]:
        lower, _ = wilson_interval(shares.n_with, shares.n, 1 - 2 * self.test_level)
        for place in np.flatnonzero((shares.n > 0) & (lower - shares.fine > SMALLEST_EXCESS)).tolist():
            is_broken = shares.fault in ("missing", "unseen") and lower[place] > PAGE_SHARE
            n_with, n = int(shares.n_with[place]), int(shares.n[place])
            yield _breach(
                self.reference.names[place],
                shares.fault,
                "page" if is_broken else "ticket",
                n_with,
                n,
                float(shares.fine[place]),
            )

    def _constant(self, rows: DayRows, place: int) -> Iterator[Breach]:
        """Columns that stand still, although rows like the reference's would not by chance."""
        n, n_missing, _ = _row_counts(self.reference.flat, rows.counts[place])
        for i in np.flatnonzero(rows.is_constant[place]).tolist():
            column, n_values = self.reference.columns[i], int(n[i] - n_missing[i])
            # No value is more frequent than the fullest bin.
            most_frequent = self._upper(np.array([max(column.counts[:-1])]), np.array([column.n_values]))[0]
            is_chance = n_values * math.log(most_frequent) > math.log(self.test_level)
            if not (is_chance or column.has_constant_days):
                yield _breach(column.name, "constant", "ticket", n_values, n_values, 0.0)

    def to_dict(self) -> Json:
        """Plain values for JSON."""
        return {
            "reference": self.reference.to_dict(),
            "alpha": self.alpha,
            "told": [[*key, day.isoformat()] for key, day in self.told],
        }

    @classmethod
    def from_dict(cls, stored: Mapping[str, Any]) -> ContractMonitor:
        """The monitor that `to_dict` wrote."""
        told = tuple(((f, lv, c), datetime.fromisoformat(day)) for f, lv, c, day in stored["told"])
        return cls(Reference.from_dict(stored["reference"]), float(stored["alpha"]), told)


class _RowCounts(NamedTuple):
    """Of each column: all rows, the missing ones, those in the last bin before; shape ``(n_columns,)``."""

    n: IntArray
    n_missing: IntArray
    n_unseen: IntArray


class _Shares(NamedTuple):
    """Of each column: rows with the fault, out of how many, and the share that would be fine."""

    fault: Fault
    n_with: IntArray
    n: IntArray
    fine: FloatArray


def _row_counts(flat: FlatCounts, counts: IntArray) -> _RowCounts:
    last = flat.starts + flat.widths - 1
    return _RowCounts(np.add.reduceat(counts, flat.starts), counts[last], counts[last - 1])


def _breach(column: str, fault: Fault, level: Level, n_with: int, n: int, usual: float) -> Breach:
    lower, upper = wilson_interval([n_with], [n])
    return Breach(column, fault, level, n_with / n, float(lower[0]), float(upper[0]), usual, n)


def _key(breach: Breach) -> _Told:
    return breach.fault, breach.level, breach.column


def _findings(
    breaches: Sequence[Breach], day: datetime, now: datetime, test_level: float
) -> Iterator[Finding]:
    """One finding for each fault and level, naming all its columns."""
    for fault, level in itertools.product(FAULTS, ("page", "ticket")):
        group = [each for each in breaches if (each.fault, each.level) == (fault, level)]
        if group:
            yield _finding(sorted(group, key=lambda each: (-each.share, each.column)), day, now, test_level)


def _finding(breaches: Sequence[Breach], day: datetime, now: datetime, test_level: float) -> Finding:
    worst = breaches[0]
    return Finding(
        monitor=MONITOR,
        level=worst.level,
        subject=", ".join(each.column for each in breaches),
        window_start=day,
        window_end=day + timedelta(days=1),
        found_at=now,
        value=worst.share,
        lower=worst.lower,
        upper=worst.upper,
        n=worst.n,
        method=f"wilson interval of a day's share against the reference's at {test_level:.1e}",
        sentence=_sentence(breaches, day),
        evidence={"fault": worst.fault, "columns": [asdict(each) for each in breaches]},
    )


def _sentence(breaches: Sequence[Breach], day: datetime) -> str:
    worst, others = breaches[0], list_of_names([each.column for each in breaches[1:]])
    share = f"{worst.share * 100:.0f} % of {worst.n:,} rows of {day:%Y-%m-%d}"
    usual = f"; the reference had at most {worst.usual * 100:.0f} %" if worst.fault != "constant" else ""
    return f"{worst.column} has {_WORDS[worst.fault]} in {share}{usual}" + (
        f"; so do {others}" if others else ""
    )
