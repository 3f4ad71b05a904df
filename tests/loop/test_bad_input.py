"""What can be wrong, end to end: the error's class, what it says, and a store that is as good as before."""

from __future__ import annotations

import os
import textwrap
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from clew.errors import (
    ClewError,
    DataError,
    MissingExtra,
    ProjectError,
    SettingsError,
    StoreTooNew,
    TrainingFailed,
    UsageError,
)
from clew.loop.backtest import BacktestOptions
from clew.workspace import Workspace, open_records, open_workspace
from tests.loop import streams
from tests.loop.processes import Command, orphans

DATASET = """
import os, signal, sys, time
from datetime import timedelta
import clew

@clew.dataset("stream.parquet", time="at", key="id", label="y", label_delay="2d", frame="pyarrow",
              timezone="Europe/Berlin")
def stream(table):
    return table

class Rule:
    def predict(self, X):
        return (X["x0"].to_numpy() > 0).astype(int)
"""
MODEL = """
@clew.model(stream, metric="accuracy", margin=0.01, allow_code=True, time_limit=timedelta(seconds=2))
def learner(train):
    {body}
"""
N_ROWS = 400


def project(folder: Path, rows: pa.Table | None = None, body: str = "return Rule()") -> Path:
    """A project whose training function has this body."""
    model = MODEL.format(body=textwrap.indent(textwrap.dedent(body), "    ").strip())
    return streams.write_project(folder, table() if rows is None else rows, model, DATASET)


def table(**columns: Any) -> pa.Table:
    """Four hundred good rows, with these columns instead of their own."""
    made = streams.calm(N_ROWS).table()
    for name, values in columns.items():
        made = made.set_column(made.schema.get_field_index(name), name, pa.array(values))
    return made


def refused(
    folder: Path, kind: type[ClewError], work: Callable[[Workspace], object] = Workspace.try_model
) -> Any:
    """The error that the work ends with; nothing may be left half done, and the store opens as before."""
    with open_workspace(None, folder) as workspace, pytest.raises(kind) as caught:
        work(workspace)
    assert type(caught.value) is kind
    assert orphans(folder) == []
    with open_records(folder) as workspace, workspace.store.read() as reader:
        assert reader.find("runs", {"status": "running"}) == []
        assert reader.find("versions") == []
    return caught.value


def says(error: Exception, *words: str) -> bool:
    missing = [word for word in words if word not in str(error)]
    assert missing == [], str(error)
    return True


# ---------------------------------------------------------------- rows

KEYS = [f"r{place:06d}" for place in range(N_ROWS)]
AUTUMN = np.datetime64("2024-10-27", "us") + np.arange(N_ROWS) * np.timedelta64(36, "m")
TOMORROW = [datetime(2100, 1, 1, tzinfo=UTC) + place * timedelta(hours=1) for place in range(N_ROWS)]


@pytest.mark.parametrize(
    ("rows", "kind", "column", "words"),
    [
        (table().drop_columns(["at"]), DataError, "at", ["time='at'", "no such column", "Known: id, x0"]),
        (table(id=[None, *KEYS[1:]]), DataError, "id", ["key='id' is null in row 0", "drop it"]),
        (table(id=[KEYS[1], *KEYS[1:]]), DataError, "id", ["row 0 ('r000001') and row 1", "drop_duplicates"]),
        (table(y=pa.nulls(N_ROWS, pa.int64())), DataError, "y", ["null in all 400 rows", "right column"]),
        (table(at=AUTUMN), DataError, "at", ["row 4", "happened twice in Europe/Berlin", "offset or in UTC"]),
        (table().slice(0, 0), DataError, None, ["stream.parquet has columns but no rows", "Fill it"]),
        (table(at=TOMORROW), UsageError, None, ["Only 0 labels have matured", "needs 60", "Add rows"]),
        (table(y=[1] * N_ROWS), TrainingFailed, None, ["have y = 1", "Fit on more rows"]),
    ],
    ids=[
        "no time",
        "null key",
        "two of a key",
        "no label",
        "unclear time",
        "empty",
        "unmatured",
        "one class",
    ],
)
def test_rows_that_cannot_be_used_are_told(
    rows: pa.Table, kind: type[ClewError], column: str | None, words: list[str], tmp_path: Path
) -> None:
    error = refused(project(tmp_path, rows), kind)
    assert says(error, *words)
    assert getattr(error, "column", None) == column


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        (table().rename_columns({"x1": "warmth"}), ["'x1'", "missing", "Known: warmth", "make it there too"]),
        (table(x1=["warm"] * N_ROWS), ["'x1' is declared double", "row 0 ('warm')", "Correct the source"]),
    ],
    ids=["renamed", "words for numbers"],
)
def test_a_later_table_is_held_to_the_declared_columns(
    rows: pa.Table, words: list[str], tmp_path: Path
) -> None:
    with open_workspace(None, project(tmp_path)) as workspace:
        first = workspace.try_model()
        project(tmp_path, rows)
        with pytest.raises(DataError) as caught:
            workspace.try_model()
        assert says(caught.value, *words)
        assert caught.value.column == "x1"
        project(tmp_path)
        assert workspace.try_model().version == first.version


def test_a_slice_that_is_no_column_is_told_before_anything_is_fitted(tmp_path: Path) -> None:
    folder = project(tmp_path)
    code = (folder / "learner.py").read_text(encoding="utf-8")
    write_texts(folder, {"learner.py": code.replace("margin=0.01", 'margin=0.01, slices=["x00"]')})
    error = refused(folder, DataError)
    assert says(error, "slices=['x00']", "no column 'x00'", "Did you mean 'x0'?")
    assert error.column == "x00"
    with open_records(tmp_path) as workspace, workspace.store.read() as reader:
        assert reader.find("runs") == []


# ---------------------------------------------------------------- training functions


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ("pass", ["learner() returned None", "return the fitted model"]),
        ("return 7", ["'int', which has no predict()", "return the fitted model"]),
        ('raise ValueError("upside down")', ["ValueError: upside down", "learner.py, line"]),
        ("sys.exit(3)", ["called sys.exit()", "learner.py, line"]),
        ("time.sleep(60)", ["longer than its limit of 2 seconds", "time_limit="]),
        ("os.kill(os.getpid(), signal.SIGKILL)", ["killed by SIGKILL", "memory"]),
    ],
    ids=["none", "no model", "raises", "exits", "hangs", "killed"],
)
def test_a_training_function_that_fails_is_told_and_its_run_is_closed(
    body: str, words: list[str], tmp_path: Path
) -> None:
    error = refused(project(tmp_path, body=body), TrainingFailed)
    assert says(error, *words)
    with open_records(tmp_path) as workspace, workspace.store.read() as reader:
        (run,) = reader.find("runs")
    assert run["status"] == "failed"
    assert str(error) in run["error"]


def test_after_a_failure_another_process_may_go_on_though_the_first_lives(tmp_path: Path) -> None:
    """What a person corrects must not wait for the end of a server that met the fault."""
    body = """
        if not os.path.exists("{folder}/mended"):
            raise ValueError("a file is missing")
        return Rule()
        """
    folder = project(tmp_path / "project", body=body.format(folder=tmp_path))
    assert says(refused(folder, TrainingFailed), "a file is missing")
    (tmp_path / "mended").touch()
    assert Command(folder, "try", "--json").answer()["version"]["number"] == 1


# ---------------------------------------------------------------- rows that a model cannot answer

SCIKIT_LEARN = """
import clew
from sklearn.compose import make_column_transformer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder

@clew.dataset("stream.parquet", time="at", key="id", label="y", label_delay="2d")
def stream(table):
    return table

@clew.model(stream, metric="accuracy", margin=0.01)
def learner(train):
    columns = make_column_transformer((OneHotEncoder(), ["colour"]), remainder="passthrough")
    return make_pipeline(columns, LogisticRegression()).fit(train.X, train.y)
"""
N_LATE, FIRST_LATE = 4_000, 3_200


def late(has_gaps: bool) -> pa.Table:
    """A stream that from row 3200 on has gaps in ``x0``, or else a colour that was never there before."""
    stream, is_late = streams.calm(N_LATE), np.arange(N_LATE) >= FIRST_LATE
    colours = np.where(is_late & (not has_gaps), "pink", np.where(stream.X[:, 1] > 0, "blue", "red"))
    made = stream.table().append_column("colour", pa.array(colours.tolist()))
    x0 = pa.array(stream.X[:, 0], mask=is_late & has_gaps)
    return made.set_column(made.schema.get_field_index("x0"), "x0", x0)


@pytest.mark.parametrize(
    ("has_gaps", "column", "words"),
    [
        (True, "x0", ["training had no missing values there", "SimpleImputer()"]),
        (False, "colour", ["'pink'", "which training never had", "handle_unknown='ignore'"]),
    ],
)
def test_rows_that_no_fitted_model_can_answer_end_a_backtest_with_their_place_and_the_mend(
    has_gaps: bool, column: str, words: list[str], tmp_path: Path
) -> None:
    streams.write_project(tmp_path, late(has_gaps), model="", dataset=SCIKIT_LEARN)
    options = BacktestOptions(start=streams.BEGIN + timedelta(days=60))
    with open_workspace(None, tmp_path) as workspace, pytest.raises(DataError) as caught:
        workspace.backtest(options=options)
    assert says(caught.value, *words, "the first of 2024-03-21 00:00 UTC")
    assert (caught.value.column, caught.value.rows[0]) == (column, FIRST_LATE)
    assert orphans(tmp_path) == []


# ---------------------------------------------------------------- projects and places


@pytest.mark.parametrize(
    ("files", "kind", "words"),
    [
        ({"clew.toml": 'stor = "x"'}, SettingsError, ["no setting 'stor'", "Did you mean 'store'?"]),
        (
            {"clew.toml": 'models = ["learner.py"]\n[params.leaner]\nn = 1'},
            UsageError,
            ["clew.toml has hyperparameters for 'leaner'", "Did you mean 'learner'?"],
        ),
        ({"clew.toml": 'models = ["../outside.py"]'}, ProjectError, ["outside the project", "below it"]),
        (
            {"clew.toml": 'models = ["lerner.py"]'},
            ProjectError,
            ["'lerner.py'", "Did you mean 'learner.py'?"],
        ),
        ({"clew.toml": 'models = ["learner.ipynb"]'}, ProjectError, ["is a notebook", "Save its code"]),
        ({"learner.py": "import bycicles"}, ProjectError, ["line 1 imports 'bycicles'", "pip install"]),
        ({"learner.py": "def f(:"}, ProjectError, ["learner.py, line 1 is not valid Python"]),
        ({"learner.py": "import clew"}, ProjectError, ["declares no model", "@clew.model"]),
    ],
    ids=["setting", "params", "outside", "misspelt", "notebook", "import", "syntax", "no model"],
)
def test_a_project_that_cannot_be_used_is_told(
    files: dict[str, str], kind: type[ClewError], words: list[str], tmp_path: Path
) -> None:
    (tmp_path / "outside.py").write_text("import clew\n", encoding="utf-8")
    folder = project(tmp_path / "project")
    kept = {name: (folder / name).read_text(encoding="utf-8") for name in files}
    write_texts(folder, files)
    with pytest.raises(kind) as caught, open_workspace(None, folder) as workspace:
        workspace.try_model()
    assert says(caught.value, *words)
    write_texts(folder, kept)
    with open_workspace(None, folder) as workspace:
        assert [described.file for described in workspace.describe()] == ["learner.py"]


def write_texts(folder: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        (folder / name).write_text(text, encoding="utf-8")


def test_a_notebook_as_target_is_told_what_to_do(tmp_path: Path) -> None:
    folder = project(tmp_path)
    with pytest.raises(ProjectError) as caught, open_workspace("model.ipynb", folder):
        pass
    assert says(caught.value, "jupyter nbconvert --to script model.ipynb", "clew try model.py")


HIDING = """
import sys

class Hiding:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == "lightgbm":
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Hiding())
"""


@pytest.mark.parametrize("where", ["file", "function"])
def test_a_library_that_is_not_installed_is_told_with_its_extra(
    where: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Python reads ``sitecustomize`` when it starts; this one lets LightGBM be absent from every child."""
    (tmp_path / "site").mkdir()
    write_texts(tmp_path / "site", {"sitecustomize.py": HIDING})
    paths = [str(tmp_path / "site"), *filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))]
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(paths))
    folder = project(tmp_path / "project", body="import lightgbm" if where == "function" else "pass")
    if where == "file":
        code = (folder / "learner.py").read_text(encoding="utf-8")
        write_texts(folder, {"learner.py": f"from lightgbm import LGBMClassifier\n{code}"})
    error = refused(folder, MissingExtra)
    assert says(
        error, "learner.py, line", "'lightgbm', which is not installed", 'pip install "clew[lightgbm]"'
    )
    assert error.extra == "lightgbm"


def test_a_store_of_a_newer_clew_is_left_alone(tmp_path: Path) -> None:
    with open_workspace(None, project(tmp_path)) as workspace:
        workspace.try_model()
        with workspace.store.write() as tx:
            tx.update("meta", {"key": "store_version"}, {"value": "7000"})
    before = (tmp_path / ".clew" / "clew.sqlite").read_bytes()
    with pytest.raises(StoreTooNew, match="pip install --upgrade clew"), open_workspace(None, tmp_path):
        pass
    assert (tmp_path / ".clew" / "clew.sqlite").read_bytes() == before
    told = Command(tmp_path, "runs", "list").finished()
    assert told.process.returncode == 1
    assert "pip install --upgrade clew" in told.stderr.splitlines()[-1]
