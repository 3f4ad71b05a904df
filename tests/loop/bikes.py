"""A real project whose fits run in real children, for the tests of what fits, releases and answers.

The hours are busy when it is warm, except for a stretch in the middle, where they are busy when it is cold:
a model is good or bad by the rows it learned from.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from clew.config import Settings
from clew.datasets import feature_names, read_rows, take_snapshot
from clew.entities import Param, Snapshot
from clew.loop.fitter import Fitter, Thread
from clew.loop.history import History
from clew.loop.policy import metric_of
from clew.registry import ensure_deployment
from clew.storage import Store, open_store
from clew.tracking import capture_code, capture_environment, this_owner
from clew.training import Child, Described
from tests.loop.made import NOW, hours, table

N_ROWS = 1600
TURNED = (800, 1300)
"""Rows of the table in which cold hours are busy; labelled rows 720 to 1170."""

PROJECT = '''
import os
import clew
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline

@clew.dataset("rides.parquet", time="ts", key="hour_id", entity="station", label="busy", label_delay="1d",
              not_features=["city"])
def rides(table):
    return table

@clew.model(rides, metric="accuracy", margin=0.02, minimum={"log_loss": 0.69}, slices=["city"],
            rollout="shadow 1d, canary 20% 1d")
def busy_hour(train, strength=1.0, shaky=False):
    """Learns from the warmth; too few rows are more than it can bear."""
    if len(train) < 40:
        raise ValueError(f"only {len(train)} rows")
    print("fitting", len(train))
    train.log(n=len(train), step=1)
    if shaky:
        strength = 1 + int.from_bytes(os.urandom(4), "big") / 2**32
    return make_pipeline(SimpleImputer(), LogisticRegression(C=strength)).fit(train.X, train.y)
'''


def rides() -> pa.Table:
    rng = np.random.default_rng(5)
    warmth = rng.normal(size=N_ROWS)
    place = np.arange(N_ROWS)
    warm_is_busy = (place < TURNED[0]) | (place >= TURNED[1])
    busy = (warmth > 0) == warm_is_busy
    busy = busy ^ (rng.random(N_ROWS) < 0.1)
    known = [None if row % 10 == 9 else int(is_busy) for row, is_busy in enumerate(busy)]
    return table(
        hours(N_ROWS),
        warmth=warmth,
        wind=[None if row % 7 == 0 else float(row % 5) for row in range(N_ROWS)],
        station=[f"s{row % 40}" for row in range(N_ROWS)],
        city=np.array(["Bonn", "Kiel"])[place % 2].tolist(),
        busy=pa.array(known, pa.int64()),
    )


@dataclass(frozen=True, slots=True)
class Bench:
    """Everything a fit needs; `taken` is when the wall clock says it is."""

    store: Store
    child: Child
    checker: Child
    described: Described
    history: History
    thread: Thread

    def fitter(self, prefix: str, first_number: int = 0, **params: Any) -> Fitter:
        """A fitter with runs of its own; fits are numbered from `first_number`, apart from other fitters'."""
        chosen = {
            **self.thread.params,
            **{name: Param(value, "command line") for name, value in params.items()},
        }
        thread = replace(self.thread, params=chosen)
        metric = metric_of(self.described.model)
        fitter = Fitter(self.store, self.child, self.history, thread, metric, prefix, _wall_clock)
        fitter.n_fits = first_number
        return fitter


def _wall_clock() -> datetime:
    return NOW + timedelta(days=1)


@contextmanager
def bench(folder: Path) -> Iterator[Bench]:
    """The project laid into `folder`, its rows taken, two children running."""
    (folder / "bikes.py").write_text(PROJECT, encoding="utf-8")
    with ExitStack() as stack:
        store = stack.enter_context(open_store(Settings(root=folder, store=folder / ".clew"), now=NOW))
        scratch = [stack.enter_context(store.scratch(name)) for name in ("child", "checker")]
        child, checker = (stack.enter_context(Child.start(folder, folder, each)) for each in scratch)
        (described,) = child.describe(["bikes.py"])
        snapshot = _snapshot(store, described, folder)
        rows = read_rows(store, snapshot)
        for each in (child, checker):
            each.use(rows, described.model, "bikes.py", snapshot.columns)
        dataset = described.model.dataset
        history = History.of(described.model, rows, feature_names(snapshot.columns, dataset))
        ensure_deployment(store, "simulated", "backtest", "busy_hour", described.model, NOW)
        yield Bench(store, child, checker, described, history, _thread(store, described, snapshot))


def _snapshot(store: Store, described: Described, folder: Path) -> Snapshot:
    code = capture_code(store, folder, now=NOW).id
    return take_snapshot(store, described.model.dataset, rides(), source="rides.parquet", code=code, now=NOW)


def _thread(store: Store, described: Described, snapshot: Snapshot) -> Thread:
    params = {name: Param(value, "default") for name, value in described.model.params.items()}
    assert snapshot.code is not None
    environment = capture_environment(store, now=NOW, variables={})
    return Thread(snapshot, snapshot.code, environment, params, seed=3, owner=this_owner())
