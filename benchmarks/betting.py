"""Speed of spread-start betting with eight bets, beside the cumulative sum it cannot do without."""

from __future__ import annotations

import json
import statistics
import sys
import time
from collections.abc import Callable

import numpy as np
import river.drift

from clew.stats.betting import RiskDetector, harm_detector
from clew.stats.intervals import wilson_interval

GOAL = 6.0
HORIZON, ALPHA, LABELS_PER_DAY = 9000, 0.001, 100


def seconds(work: Callable[[], object]) -> float:
    started = time.process_time()
    work()
    return time.process_time() - started


def adwin_over(losses: list[float]) -> None:
    detector = river.drift.ADWIN()  # type: ignore[no-untyped-call]
    for loss in losses:
        detector.update(loss)  # type: ignore[no-untyped-call]


def page_hinkley_over(losses: list[float]) -> None:
    detector = river.drift.PageHinkley()
    for loss in losses:
        detector.update(loss)  # type: ignore[no-untyped-call]


def row_by_row(detector: RiskDetector, losses: list[float]) -> None:
    """The same recursion without our kernel: one numpy expression a row."""
    bets = np.array(detector.evidence.bets)
    wealth = np.zeros(len(bets))
    for loss in losses:
        wealth = (wealth + 1 / detector.evidence.horizon) * (1 + bets * (loss - detector.limit))


def days_to_page(n_streams: int, n_reference: int | None) -> float:
    """Mean days from a rise of the error rate from 8 to 13 % to the page; infinite if one stream has none.

    With `n_reference` rows the reference is their upper 99 % limit, else it is known.
    """
    rng, days = np.random.default_rng(1), []
    for _ in range(n_streams):
        upper = 0.08
        if n_reference is not None:
            upper = float(
                wilson_interval(rng.binomial(n_reference, 0.08), n_reference, confidence=0.98)[1][0]
            )
        losses = rng.random(4 * HORIZON) < np.repeat([0.08, 0.13], [3000, 4 * HORIZON - 3000])
        alarm_row = harm_detector(upper, 0.0, ALPHA, HORIZON).extended(losses)[0].alarm_row
        days.append(float("inf") if alarm_row is None else (alarm_row - 3000) / LABELS_PER_DAY)
    return statistics.fmean(days)


def main() -> None:
    is_smoke = "--smoke" in sys.argv
    n_rows, n_peer_rows, n_rounds = (20_000, 2000, 1) if is_smoke else (1_000_000, 100_000, 7)
    losses = (np.random.default_rng(0).random(n_rows) < 0.08).astype(float)
    few = losses[:n_peer_rows].tolist()
    detector = harm_detector(0.08, 0.01, ALPHA, HORIZON)
    bets = np.array(detector.evidence.bets)
    log_increments = np.log1p(bets[:, None] * (losses - detector.limit))
    works: dict[str, tuple[Callable[[], object], int]] = {
        "clew harm detector, 8 bets": (lambda: detector.extended(losses), n_rows),
        "floor: cumsum of its log increments": (lambda: np.cumsum(log_increments, axis=1), n_rows),
        "the recursion row by row in numpy": (lambda: row_by_row(detector, few), n_peer_rows),
        "river ADWIN": (lambda: adwin_over(few), n_peer_rows),
        "river PageHinkley": (lambda: page_hinkley_over(few), n_peer_rows),
    }
    rounds: dict[str, list[float]] = {name: [] for name in works}
    for _ in range(n_rounds):
        for name, (work, n) in works.items():
            rounds[name].append(seconds(work) / n * 1e6)
    took = {name: statistics.median(of_name) for name, of_name in rounds.items()}
    ours, floor, *others = took
    for name, per_million in took.items():
        print(f"{name:<38} {per_million:9.4f} s a million rows {per_million / took[floor]:9.1f} x floor")
    n_streams = 5 if is_smoke else 200
    days = {
        "reference known": round(days_to_page(n_streams, None), 1),
        "reference estimated on 10,000 rows": round(days_to_page(n_streams, 10_000), 1),
        "reference estimated on 2,000 rows": round(days_to_page(n_streams, 2000), 1),
    }
    for name, mean_days in days.items():
        print(f"days to page, 8 to 13 %, {name:<36} {mean_days:6.1f}")
    result = {
        "name": "betting",
        "value": round(statistics.median(a / b for a, b in zip(rounds[ours], rounds[floor], strict=True)), 2),
        "goal": GOAL,
        "better": "lower",
        "unit": "x floor",
        "floor": {"cumsum of its log increments": 1.0},
        "peers": {name: round(took[name] / took[floor], 1) for name in others},
        "details": {"seconds_per_million_rows": round(took[ours], 4), "days_to_page_8_to_13_percent": days},
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
