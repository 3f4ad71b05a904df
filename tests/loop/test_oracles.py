"""Projects of many kinds through ``try`` and a short backtest, each beside a truth known from outside."""

from __future__ import annotations

import math
import shutil
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from clew.loop.result import TryResult
from clew.storage import Store
from clew.tracking import get_code, materialise_code
from clew.workspace import open_workspace
from tests.loop import streams
from tests.loop.lives import lived
from tests.training.projects import write

# ---------------------------------------------------------------- kinds of models and frames

N_ROWS, ROWS_A_DAY = 3_000, 25
NOISE = 0.5
"""Standard deviation of what no model can know of the number to be predicted."""


@dataclass(frozen=True)
class Kind:
    """A project's text, and what a good model of its table shows in the model's metric."""

    dataset: str
    model: str
    level: float


def numbers() -> pa.Table:
    """A number that hangs on three features, with normal noise; thirty customers; the label twice."""
    random = np.random.default_rng(11)
    X = random.normal(size=(N_ROWS, 3))
    y = 2 * X[:, 0] - X[:, 1] + 0.5 * X[:, 2] + random.normal(0, NOISE, N_ROWS)
    customers = [f"c{number}" for number in random.integers(0, 30, N_ROWS)]
    return rows_at(times(), a=X[:, 0], b=X[:, 1], c=X[:, 2], customer=customers, receipt=y, y=y)


def kinds() -> pa.Table:
    """One of three words, by chances that hang on a number and a colour; times are clocks of Berlin."""
    random = np.random.default_rng(12)
    a, place = random.normal(size=N_ROWS), random.integers(0, 3, N_ROWS)
    chances = chances_of_kinds(a, place)
    drawn = (random.random((N_ROWS, 1)) > chances.cumsum(axis=1)).sum(axis=1)
    colours, words = np.array(["blue", "green", "red"])[place], np.array(["ape", "bee", "cat"])[drawn]
    in_berlin = pc.local_timestamp(pa.array(times()).cast(pa.timestamp("us", "Europe/Berlin")))
    return rows_at(in_berlin, a=a, colour=colours.tolist(), y=words.tolist())


def chances_of_kinds(a: np.ndarray, place: np.ndarray) -> np.ndarray:
    scores = np.column_stack([1.5 * a, 1.5 * (place == 1), -1.5 * a])
    raised = np.exp(scores)
    chances: np.ndarray = raised / raised.sum(axis=1, keepdims=True)
    return chances


def entropy_of_kinds() -> float:
    """The mean log loss of a model that knows the chances themselves."""
    random = np.random.default_rng(13)
    chances = chances_of_kinds(random.normal(size=100_000), random.integers(0, 3, 100_000))
    return float(-(chances * np.log(chances)).sum(axis=1).mean())


def times() -> np.ndarray:
    return np.datetime64("2025-01-01", "us") + np.arange(N_ROWS) * np.timedelta64(24 * 60 // ROWS_A_DAY, "m")


def rows_at(moments: np.ndarray | pa.Array, **columns: Any) -> pa.Table:
    return pa.table({"at": moments, "id": np.arange(N_ROWS), **columns})


NUMBERS = """
import clew
from sklearn.linear_model import Ridge
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

@clew.dataset("rows.parquet", time="at", key="id", label="y", label_delay="1d", entity="customer",
              not_features=["receipt"], frame="{frame}")
def rows(table):
    return table
"""
KINDS = """
import clew
from sklearn.compose import make_column_transformer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder

@clew.dataset("rows.parquet", time="at", key="id", label="y", label_delay="1d", timezone="Europe/Berlin")
def rows(table):
    return table
"""
PIPELINE = """
@clew.model(rows, metric="{metric}", margin="5%", retrain=["auto", "every 30d"])
def model(train, alpha=1.0):
    assert "receipt" not in train.X.columns and "customer" not in train.X.columns
    return make_pipeline(StandardScaler(), Ridge(alpha=alpha)).fit(train.X, train.y)
"""
TREES = """
from lightgbm import LGBMRegressor

@clew.model(rows, metric="rmse", margin=0.1)
def model(train, num_leaves=15):
    fit, valid = train.split("7d")
    model = LGBMRegressor(n_estimators=150, num_leaves=num_leaves, verbose=-1)
    return model.fit(fit.X, fit.y, eval_set=[(valid.X, valid.y)])
"""
CLASSES = """
@clew.model(rows, metric="log_loss", margin=0.02, minimum={"accuracy": 0.5}, slices=["colour"])
def model(train):
    columns = make_column_transformer((OneHotEncoder(), ["colour"]), remainder="passthrough")
    return make_pipeline(columns, LogisticRegression()).fit(train.X, train.y)
"""
MEAN_TO_DEVIATION = math.sqrt(2 / math.pi)
"""Mean absolute value of a normal number, in standard deviations."""

KINDS_OF_MODELS = {
    "rmse, polars": Kind(NUMBERS.format(frame="polars"), PIPELINE.format(metric="rmse"), NOISE),
    "mae, pandas": Kind(
        NUMBERS.format(frame="pandas"), PIPELINE.format(metric="mae"), NOISE * MEAN_TO_DEVIATION
    ),
    "rmse, trees": Kind(NUMBERS.format(frame="pandas"), TREES, NOISE * 1.15),
    "log_loss, classes": Kind(KINDS, CLASSES, entropy_of_kinds()),
}


@pytest.mark.parametrize("name", KINDS_OF_MODELS)
def test_every_kind_of_model_reaches_what_can_be_reached(name: str, tmp_path: Path) -> None:
    kind = KINDS_OF_MODELS[name]
    write(tmp_path, {"model.py": kind.dataset + kind.model, "clew.toml": 'models = ["model.py"]\n'})
    pq.write_table(kinds() if kind.dataset == KINDS else numbers(), tmp_path / "rows.parquet")
    with open_workspace(None, tmp_path) as workspace:
        tried = workspace.try_model()
    assert failures(tried) == []
    metric, _, _ = name.partition(",")
    assert tried.version.metrics[metric] == pytest.approx(kind.level, rel=0.1)
    result = lived(tmp_path, start=datetime(2025, 3, 1, tzinfo=UTC))
    for level in (result.summary.clew, result.summary.frozen, result.summary.blind):
        assert level == pytest.approx(kind.level, rel=0.1)
    assert not result.greater_is_better
    assert [event for event in result.events if event.kind in ("page", "fit failed")] == []


def failures(tried: TryResult) -> list[str]:
    return [f"{check.name}: {check.sentence}" for check in tried.report.checks if check.outcome == "fail"]


def test_clocks_of_a_zone_are_kept_in_utc(tmp_path: Path) -> None:
    write(tmp_path, {"model.py": KINDS + CLASSES})
    pq.write_table(kinds(), tmp_path / "rows.parquet")
    with open_workspace("model.py:model", tmp_path) as workspace:
        run = workspace.try_model().run
        with workspace.store.read() as reader:
            row = reader.get("snapshots", dataset="rows", id=run.snapshot)
    assert row is not None
    first, last = (moment.astype("datetime64[us]").item().replace(tzinfo=UTC) for moment in times()[[0, -1]])
    assert (row["first_time"], row["last_time"]) == (first, last)  # the first in winter, the last in summer


# ---------------------------------------------------------------- what was captured is what runs

EDITED = """
import clew
import numpy as np
import pyarrow.parquet
from pathlib import Path

PROJECT = Path({folder!r})
MARK = 1

def edit(moment):
    "What a person does in an editor, at a moment of the training."
    if moment == {moment!r}:
        code = (PROJECT / "learner.py").read_text()
        (PROJECT / "learner.py").write_text(code.replace("MARK = " + "1", "MARK = 2", 1))

def read():
    edit("while the table is read")
    return pyarrow.parquet.read_table(PROJECT / "stream.parquet")

@clew.dataset(read, time="at", key="id", label="y", label_delay="2d", frame="pyarrow")
def stream(table):
    return table

class Rule:
    def __init__(self, mark):
        self.mark = mark

    def predict(self, X):
        return (X["x0"].to_numpy() > 0).astype(int)

@clew.model(stream, metric="accuracy", margin=0.01, allow_code=True)
def learner(train):
    edit("while it is fitted")
    train.log(mark=MARK)
    return Rule(MARK)

edit("while it is imported")
"""


@pytest.mark.parametrize("moment", ["while it is imported", "while the table is read", "while it is fitted"])
def test_an_edit_after_the_capture_is_not_for_this_run(moment: str, tmp_path: Path) -> None:
    code = EDITED.format(folder=str(tmp_path), moment=moment)
    streams.write_project(tmp_path, streams.calm(1_000), model="", dataset=code)
    with open_workspace(None, tmp_path) as workspace:
        before = workspace.try_model()
        assert "\nMARK = 2\n" in (tmp_path / "learner.py").read_text()
        after = workspace.try_model()
        store = workspace.store
        marks = {logged_mark(store, tried): captured_mark(store, tried) for tried in (before, after)}
    assert marks == {1: "MARK = 1", 2: "MARK = 2"}
    assert (before.version.number, after.version.number) == (1, 2)


def logged_mark(store: Store, tried: TryResult) -> float:
    with store.read() as reader:
        (row,) = reader.find("run_metrics", {"run": tried.run.id, "name": "mark"})
    value: float = row["value"]
    return value


def captured_mark(store: Store, tried: TryResult) -> str:
    """The line of the captured code that sets the mark."""
    (file,) = (file for file in get_code(store, tried.run.code).files if file.path == "learner.py")
    lines = store.objects.get(file.digest).decode().splitlines()
    return next(line for line in lines if line.startswith("MARK"))


PACKAGE = {
    "clew.toml": 'models = ["rides.model"]\n',
    "rides/__init__.py": "",
    "rides/rides.sql": """
        WITH RECURSIVE hour(n) AS (SELECT 0 UNION ALL SELECT n + 1 FROM hour WHERE n < 1999)
        SELECT n AS hour_id,
               datetime('2026-01-01', '+' || n || ' hours') AS at,
               (n * 7919) % 101 / 100.0 AS warmth,
               (n * 7919) % 101 + (n * 104729) % 37 > 65 AS busy
        FROM hour
        """,
    "rides/table.py": """
        import sqlite3
        from pathlib import Path
        import pandas as pd

        def hours():
            question = Path(__file__).with_name("rides.sql").read_text()
            return pd.read_sql_query(question, sqlite3.connect(":memory:"), parse_dates=["at"])
        """,
    "rides/features.py": """
        def with_season(table):
            return table.assign(month=table["at"].dt.month)
        """,
    "rides/model.py": """
        import clew
        from sklearn.linear_model import LogisticRegression
        from .features import with_season
        from .table import hours

        @clew.dataset(hours, time="at", key="hour_id", label="busy", label_delay="1d")
        def rides(table):
            return with_season(table)

        @clew.model(rides, metric="accuracy", margin=0.01)
        def busy_hour(train):
            print("from", __file__)
            return LogisticRegression().fit(train.X, train.y)
        """,
}


def test_a_project_of_modules_and_sql_runs_from_its_captured_code_anywhere(tmp_path: Path) -> None:
    here, there, store = (tmp_path / name for name in ("here", "there", "store"))
    first, printed = tried_in(write(here, PACKAGE), store)
    assert failures(first) == []
    assert str(here / "rides") not in printed
    with open_workspace(None, here, environment={"CLEW_STORE": str(store)}) as workspace:
        materialise_code(workspace.store, first.run.code, there)
    shutil.rmtree(here)
    second, _ = tried_in(there, tmp_path / "another store")
    assert second.run.code == first.run.code
    assert second.run.snapshot == first.run.snapshot
    assert second.run.model_digest == first.run.model_digest
    assert second.version.metrics == first.version.metrics


def tried_in(project: Path, store: Path) -> tuple[TryResult, str]:
    """A try with the store elsewhere, and what the training function printed."""
    with open_workspace(None, project, environment={"CLEW_STORE": str(store)}) as workspace:
        tried = workspace.try_model()
        assert tried.run.output is not None
        return tried, workspace.store.objects.get(tried.run.output).decode()
