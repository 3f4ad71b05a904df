"""Speed of counting a table into reference bins, beside the bare search and count of 16 bins."""

from __future__ import annotations

import json
import statistics
import sys
import time
from collections.abc import Callable

import numpy as np
import pandas as pd

from clew.stats.arrays import FloatArray
from clew.stats.bins import category_bins, numeric_bins

GOAL = 1.5


def seconds(work: Callable[[], object]) -> float:
    started = time.process_time()
    work()
    return time.process_time() - started


def table_with_missing(n_columns: int, n_rows: int) -> FloatArray:
    rng = np.random.default_rng(0)
    table = rng.normal(size=(n_columns, n_rows))
    table[rng.random(table.shape) < 0.01] = np.nan
    return table


def main() -> None:
    n_rows, n_columns, n_rounds = (2000, 3, 1) if "--smoke" in sys.argv else (200_000, 30, 7)
    table = table_with_missing(n_columns, n_rows)
    clean = np.nan_to_num(table)
    bins = [numeric_bins(column) for column in table]
    edges = [np.array(of_column.edges) for of_column in bins]
    town = np.random.default_rng(1).choice([f"town {i}" for i in range(40)], size=n_rows).astype(object)
    towns = category_bins(town)

    def pandas_cut() -> None:
        for column, of_column in zip(table[:3], edges, strict=False):
            pd.cut(pd.Series(column), [-np.inf, *of_column, np.inf]).value_counts(dropna=False)

    def bare() -> None:
        for column, of_column in zip(clean, edges, strict=True):
            np.bincount(np.searchsorted(of_column, column), minlength=16)

    works: dict[str, tuple[Callable[[], object], int]] = {
        "clew numeric bins": (lambda: [b.counts(c) for b, c in zip(bins, table, strict=True)], n_columns),
        "floor: searchsorted and bincount": (bare, n_columns),
        "clew category bins, 40 levels": (lambda: towns.counts(town), 1),
        "fitting clew numeric bins": (lambda: [numeric_bins(column) for column in table[:3]], 3),
        "pandas value_counts, 40 levels": (lambda: pd.Series(town).value_counts(dropna=False), 1),
        "pandas cut": (pandas_cut, 3),
        "numpy histogram": (
            lambda: [np.histogram(c, e) for c, e in zip(clean, edges, strict=True)],
            n_columns,
        ),
    }
    rounds: dict[str, list[float]] = {name: [] for name in works}
    for _ in range(n_rounds):
        for name, (work, n_counted) in works.items():
            rounds[name].append(seconds(work) / n_counted / n_rows * 1e6)
    took = {name: statistics.median(of_name) for name, of_name in rounds.items()}
    ours, floor, *others = took
    for name, per_million in took.items():
        print(f"{name:<38} {per_million:9.4f} s a million values {per_million / took[floor]:7.2f} x floor")
    print(f"a table of {n_rows:,} x {n_columns}: {took[ours] * n_rows * n_columns / 1e6:.3f} s")
    result = {
        "name": "binning",
        "value": round(statistics.median(a / b for a, b in zip(rounds[ours], rounds[floor], strict=True)), 2),
        "goal": GOAL,
        "better": "lower",
        "unit": "x floor",
        "floor": {"searchsorted and bincount, 16 bins": 1.0},
        "peers": {name: round(took[name] / took[floor], 2) for name in others if "clew" not in name},
        "details": {"seconds_per_million_values": round(took[ours], 4)},
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
