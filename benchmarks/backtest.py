"""A whole backtest, beside the time of its fits and predictions alone.

The floor makes the very fits of the backtest on the same rows, and the very predictions, in this process with
nothing around them: no child, no records, no gate, no monitors. Both are timed in turn, pair by pair. What
starting costs (capture, snapshot, two processes that import the project's libraries) is shown beside it.
"""

from __future__ import annotations

import json
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pandas as pd
from lightgbm import LGBMClassifier

from clew.entities import Duration
from clew.loop.backtest import BacktestOptions
from clew.loop.fitter import Fitter
from clew.loop.result import BacktestResult
from clew.loop.standing import FittedModel, Pieces
from clew.registry import Predictions
from clew.training import Fit, Listener
from clew.workspace import Workspace, open_workspace

GOAL = 1.5
START = datetime(2022, 1, 1, tzinfo=UTC)
MONTHS_BEFORE = 8
FEATURES = ["x0", "x1", "x2", "x3", "x4", "x5", "place"]

PROJECT = """
import clew
from lightgbm import LGBMClassifier


@clew.dataset("rows.parquet", time="at", key="id", label="yes", label_delay="2d")
def rows(table):
    return table


@clew.model(rows, metric="accuracy", margin=0.01)
def model(train):
    return LGBMClassifier(n_estimators=100, num_leaves=31, n_jobs=1, verbose=-1).fit(train.X, train.y)
"""

Work = list[tuple[str, Pieces] | tuple[str, int, int]]


def drifting_rows(n_rows: int, n_months: int) -> pd.DataFrame:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(n_rows, 6))
    angle = np.linspace(0, np.pi / 2, n_rows)
    score = 2 * (np.cos(angle) * x[:, 0] + np.sin(angle) * x[:, 1]) + x[:, 2] * x[:, 3]
    days = np.linspace(0, 30.44 * n_months, n_rows, endpoint=False)
    return pd.DataFrame(
        {
            "at": pd.Timestamp(START) + pd.to_timedelta(days, unit="D").round("s"),
            "id": np.arange(n_rows),
            **{f"x{i}": x[:, i] for i in range(6)},
            "place": rng.choice(["north", "south", "east"], n_rows),
            "yes": rng.random(n_rows) < 1 / (1 + np.exp(-2 * score)),
        }
    )


@contextmanager
def recorded(work: Work) -> Iterator[None]:
    """Note every fit and prediction that a backtest asks its child for."""
    fit, predictions = Fitter._fit_in_child, Fitter.predictions

    def noted_fit(self: Fitter, name: str, pieces: Pieces, listener: Listener | None = None) -> Fit:
        work.append((name, pieces))
        return fit(self, name, pieces, listener)

    def noted_predictions(self: Fitter, model: FittedModel, start: int, end: int) -> Predictions:
        work.append((model.name, start, end))
        return predictions(self, model, start, end)

    Fitter._fit_in_child, Fitter.predictions = noted_fit, noted_predictions  # type: ignore[method-assign]
    try:
        yield
    finally:
        Fitter._fit_in_child, Fitter.predictions = fit, predictions  # type: ignore[method-assign]


def live_through(workspace: Workspace, n_months: int) -> tuple[BacktestResult, float]:
    """The result, and the seconds of the whole command: capture, snapshot and two processes included."""
    start = Duration(months=MONTHS_BEFORE).after(START)
    options = BacktestOptions(start, Duration(months=n_months).after(START), Duration(months=1))
    began = time.perf_counter()
    result = workspace.backtest(options=options, again=True)
    return result, time.perf_counter() - began


def floor_seconds(frame: pd.DataFrame, work: Work) -> float:
    x = frame[FEATURES].astype({"place": "category"})
    y = frame["yes"].to_numpy()
    began, models = time.perf_counter(), {}
    for item in work:
        if len(item) == 2:
            rows = np.concatenate([np.arange(a, b) for a, b in item[1]])
            model = LGBMClassifier(n_estimators=100, num_leaves=31, n_jobs=1, verbose=-1)
            models[item[0]] = model.fit(x.iloc[rows], y[rows])
        else:
            models[item[0]].predict_proba(x.iloc[item[1] : item[2]])
    return time.perf_counter() - began


def main() -> None:
    n_rows, n_months, n_rounds = (3_000, 12, 1) if "--smoke" in sys.argv else (40_000, 48, 3)
    frame = drifting_rows(n_rows, n_months)
    with tempfile.TemporaryDirectory() as folder:
        frame.to_parquet(Path(folder) / "rows.parquet")
        (Path(folder) / "model.py").write_text(PROJECT)
        whole: list[float] = []
        lived: list[float] = []
        floor: list[float] = []
        work: Work = []
        results: list[BacktestResult] = []
        with open_workspace("model.py", Path(folder), environment={}) as workspace:
            for _ in range(n_rounds):
                work.clear()
                with recorded(work):
                    result, seconds = live_through(workspace, n_months)
                results.append(result)
                whole.append(seconds)
                lived.append(result.summary.seconds)
                floor.append(floor_seconds(frame, work))
    ratio = statistics.median(a / b for a, b in zip(lived, floor, strict=True))
    with_start = statistics.median(a / b for a, b in zip(whole, floor, strict=True))
    n_fits = sum(len(item) == 2 for item in work)
    n_predicted = sum(item[2] - item[1] for item in work if len(item) == 3)
    print(
        f"{n_rows:,} rows, {len(results[-1].windows)} windows, {n_fits} fits, {n_predicted:,} rows predicted"
    )
    timed = {"backtest": lived, "with start-up": whole, "its fits and predictions alone": floor}
    for name, times in timed.items():
        print(f"{name:32s} {statistics.median(times):7.2f} s")
    details = {
        "fits": n_fits,
        "windows": len(results[-1].windows),
        "seconds": round(statistics.median(lived), 2),
        "ratio with start-up": round(with_start, 3),
    }
    summary = {
        "name": "backtest",
        "value": round(ratio, 3),
        "unit": "times its fits and predictions alone",
        "goal": GOAL,
        "better": "lower",
        "floor": {"fits and predictions alone": 1.0},
        "details": details,
    }
    print(json.dumps(summary))


if __name__ == "__main__":
    main()
