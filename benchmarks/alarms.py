"""Days from a rise of the error rate from 8 to 13 % to the page, and false alarms where nothing rises.

A hundred labels a day, alpha .001 a quarter, margin .01. The reference risk is known, or estimated from 2,000
rows (its upper 99 % limit then stands in for it). Beside it river's ADWIN, which is earlier and promises
nothing about harm: a month better than the reference makes it cry when that is over.
"""

from __future__ import annotations

import json
import math
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import numpy as np
import river.drift

from clew.monitoring import DriftMonitor, RiskMonitor, reference_of
from clew.monitoring.cohorts import to_datetime64
from clew.stats import wilson_interval
from clew.stats.arrays import FloatArray

GOAL_DAYS = 28
ALPHA, MARGIN = 0.001, 0.01
BEFORE, AFTER = 0.08, 0.13
PER_DAY, QUARTER = 100, 91
START = datetime(2026, 1, 1, tzinfo=UTC)

FirstAlarm = Callable[[FloatArray], int | None]
"""From losses to the row of the first alarm, or None."""


@dataclass(frozen=True, slots=True)
class Row:
    """How one way of paging did.

    `days` are those from the rise to the page, without the streams that were paged too early. The last two
    are pages in a quarter at the reference's level, and in one with a better month in its middle.
    """

    name: str
    days: list[float]
    n_early: int
    false_pages_per_quarter: float
    after_a_better_month: float


def clew_pages(reference_upper: float) -> FirstAlarm:
    def first_alarm(losses: FloatArray) -> int | None:
        times = to_datetime64(START) + np.arange(len(losses)) // PER_DAY * np.timedelta64(1, "D")
        monitor = RiskMonitor.start(reference_upper, MARGIN, ALPHA, QUARTER * PER_DAY, START)
        return monitor.observe(losses, times).detector.alarm_row

    return first_alarm


def adwin_pages(losses: FloatArray) -> int | None:
    detector = river.drift.ADWIN()  # type: ignore[no-untyped-call]
    for row, loss in enumerate(losses.tolist()):
        before = detector.estimation
        detector.update(loss)  # type: ignore[no-untyped-call]
        # It tells of changes to either side; only a rise is harm.
        if detector.drift_detected and detector.estimation > before:
            return row
    return None


def estimated_reference(rng: np.random.Generator, n_rows: int = 2000) -> float:
    return float(wilson_interval([rng.binomial(n_rows, BEFORE)], [n_rows], confidence=0.98)[1][0])


def measured(name: str, make: Callable[[np.random.Generator], FirstAlarm], n_seeds: int) -> Row:
    days, n_early = [], 0
    for seed in range(n_seeds):
        rng = np.random.default_rng(seed)
        n_before, n_after = 30 * PER_DAY, 365 * PER_DAY
        row = make(rng)(errors(rng, (BEFORE, n_before), (AFTER, n_after)))
        n_early += row is not None and row < n_before
        if row is None or row >= n_before:
            days.append(math.inf if row is None else (row - n_before) / PER_DAY)
    third = QUARTER * PER_DAY // 3
    steady = false_pages(make, n_seeds, (BEFORE, 3 * third))
    better_month = false_pages(make, n_seeds, (BEFORE, third), (BEFORE / 2, third), (BEFORE, third))
    return Row(name, days, n_early, steady, better_month)


def errors(rng: np.random.Generator, *levels: tuple[float, int]) -> FloatArray:
    return np.concatenate([(rng.random(n) < rate).astype(float) for rate, n in levels])


def false_pages(
    make: Callable[[np.random.Generator], FirstAlarm], n_quarters: int, *levels: tuple[float, int]
) -> float:
    """Share of quarters with a page, at error rates that are never worse than the reference's."""
    rngs = [np.random.default_rng(10_000 + seed) for seed in range(n_quarters)]
    return sum(make(rng)(errors(rng, *levels)) is not None for rng in rngs) / n_quarters


def false_tickets(n_quarters: int, n_columns: int = 30) -> tuple[float, float]:
    """Drift tickets a quarter over columns that do not drift, and milliseconds a day."""
    rng, n_tickets, seconds = np.random.default_rng(0), 0, 0.0
    days = np.datetime64("2025-10-01") + np.repeat(np.arange(QUARTER), PER_DAY)
    for _ in range(n_quarters):
        values = rng.normal(size=(n_columns, 2, QUARTER * PER_DAY))
        reference = reference_of({f"c{i}": column[0] for i, column in enumerate(values)}, days)
        rows = reference.bin_days({f"c{i}": column[1] for i, column in enumerate(values)}, days)
        monitor = DriftMonitor.start(reference, alpha=0.01)
        started = time.process_time()
        for place in range(len(rows)):
            day = rows.starts(place)
            monitor, found = monitor.observe(day, rows.counts[place]).check(day + timedelta(days=1))
            n_tickets += found is not None
        seconds += time.process_time() - started
    return n_tickets / n_quarters, 1000 * seconds / (n_quarters * QUARTER)


def shown(rows: list[Row]) -> None:
    print(f"{'':34}{'days to page':>18}{'too':>9}{'false pages a quarter':>26}")
    print(f"{'8 to 13 % error':34}{'median':>10}{'90 %':>8}{'early':>9}{'steady':>10}{'better month':>16}")
    for row in rows:
        median, late = statistics.median(row.days), float(np.quantile(row.days, 0.9, method="lower"))
        false = f"{row.false_pages_per_quarter:10.3f}{row.after_a_better_month:16.3f}"
        print(f"{row.name:34}{median:10.1f}{late:8.1f}{row.n_early:9}{false}")


def main() -> None:
    n_seeds, n_drift = (3, 1) if "--smoke" in sys.argv[1:] else (200, 50)
    known = measured("clew, reference known", lambda _: clew_pages(BEFORE), n_seeds)
    estimated = measured(
        "clew, reference from 2,000 rows", lambda rng: clew_pages(estimated_reference(rng)), n_seeds
    )
    adwin = measured("river ADWIN, no guarantee", lambda _: adwin_pages, min(n_seeds, 60))
    shown([known, estimated, adwin])
    tickets, milliseconds = false_tickets(n_drift)
    print(f"drift tickets a quarter, 30 columns without drift: {tickets:.3f}; {milliseconds:.2f} ms a day")
    result = {
        "name": "days to page, 8 to 13 % error, reference known",
        "value": round(statistics.median(known.days), 1),
        "unit": "days",
        "goal": GOAL_DAYS,
        "better": "lower",
        "floor": "0 days: the day of the rise itself",
        "peers": {
            "clew, reference from 2,000 rows": round(statistics.median(estimated.days), 1),
            "river ADWIN": round(statistics.median(adwin.days), 1),
        },
        "details": {
            "alpha": ALPHA,
            "margin": MARGIN,
            "labels_per_day": PER_DAY,
            "seeds": n_seeds,
            "false_pages_per_quarter": known.false_pages_per_quarter,
            "false_pages_per_quarter_estimated": estimated.false_pages_per_quarter,
            "false_pages_after_a_better_month": known.after_a_better_month,
            "false_pages_per_quarter_adwin": round(adwin.false_pages_per_quarter, 3),
            "false_pages_after_a_better_month_adwin": round(adwin.after_a_better_month, 3),
            "false_drift_tickets_per_quarter": tickets,
            "drift_milliseconds_per_day": round(milliseconds, 3),
        },
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
