from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet
import pytest

from clew.errors import DataError, ProjectError, TrainingFailed
from clew.training import Child
from tests.training.conftest import StartChild
from tests.training.projects import DATASET, MODEL, project, rides, write

DATASETS = """
import clew

def dataset(source, frame):
    roles = dict(time="ts", key="hour_id", label="busy", label_delay="1d")
    return clew.dataset(source, frame=frame, **roles)

@dataset("data/rides.parquet", "pandas")
def in_pandas(table):
    print("busiest:", table["warmth"].idxmax())
    return table[table["warmth"] > 0]

@dataset("data/rides.parquet", "polars")
def in_polars(table):
    import polars as pl
    return table.filter(pl.col("warmth") > 0)

@dataset("data/rides.parquet", "pyarrow")
def in_pyarrow(table):
    import pyarrow.compute as pc
    return table.filter(pc.greater(table["warmth"], 0))

@dataset("data/codes.csv", "pyarrow")
def in_csv(table):
    return table

def fetched():
    import pyarrow as pa
    return pa.table({"n": [1, 2, 3]})

@dataset(fetched, "pandas")
def from_function(table):
    return table.assign(twice=table["n"] * 2)

def unreachable():
    raise ConnectionError("no route to the database")

@dataset(unreachable, "pandas")
def from_broken_function(table):
    return table

@dataset("data/rides.parquet", "pandas")
def forgetful(table):
    table[table["warmth"] > 0]

@dataset("data/rides.parquet", "pandas")
def mistaken(table):
    return table["warmht"]

@dataset("data/rides.parquet", "pandas")
def odd(table):
    return 7

@dataset("data/missing.parquet", "pandas")
def missing(table):
    return table

def by_arrow():
    import pyarrow.parquet
    return pyarrow.parquet.read_table("data/rides.parquet")

def by_pandas():
    import pandas as pd
    return pd.read_csv("data/codes.csv")

@dataset(by_arrow, "pyarrow")
def left_behind(table):
    return table

@dataset(by_pandas, "pyarrow")
def left_behind_too(table):
    return table
"""


@pytest.fixture(scope="module")
def child(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Child]:
    root = write(
        tmp_path_factory.mktemp("project"), {"bikes.py": "raise SystemExit('not the captured file')\n"}
    )
    (root / "data").mkdir()
    pa.parquet.write_table(rides(), root / "data" / "rides.parquet")
    (root / "data" / "codes.csv").write_text("code,n\n007,1\n010,2\n", encoding="utf-8")
    code = write(tmp_path_factory.mktemp("code"), {"bikes.py": DATASETS})
    with Child.start(code, root, tmp_path_factory.mktemp("scratch")) as child:
        yield child


@pytest.mark.parametrize("dataset", ["in_pandas", "in_polars", "in_pyarrow"])
def test_a_function_gets_and_gives_the_declared_frame(child: Child, dataset: str) -> None:
    table = child.table("bikes.py", dataset)
    expected = rides().filter(pa.compute.greater(rides()["warmth"], 0))
    assert table.column_names == expected.column_names
    assert table.to_pylist() == expected.to_pylist()


def test_what_the_function_prints_is_kept(child: Child) -> None:
    child.table("bikes.py", "in_pandas")
    assert child.output.startswith(b"busiest: ")


def test_text_columns_of_a_csv_stay_text_when_declared(child: Child) -> None:
    assert child.table("bikes.py", "in_csv", ["code"])["code"].to_pylist() == ["007", "010"]


def test_a_source_may_be_a_function(child: Child) -> None:
    assert child.table("bikes.py", "from_function").to_pydict() == {"n": [1, 2, 3], "twice": [2, 4, 6]}


FAILURES = {
    "from_broken_function": (
        "unreachable() raised ConnectionError: no route to the database (bikes.py, line 36)"
    ),
    "forgetful": "forgetful() returned None. End it with: return the table.",
    "mistaken": "mistaken() raised KeyError: 'warmht' (bikes.py, line 48)",
}


@pytest.mark.parametrize("dataset", FAILURES)
def test_a_function_that_fails_is_told(child: Child, dataset: str) -> None:
    with pytest.raises(TrainingFailed) as caught:
        child.table("bikes.py", dataset)
    assert str(caught.value) == FAILURES[dataset]


@pytest.mark.parametrize(
    ("dataset", "file"), [("left_behind", "data/rides.parquet"), ("left_behind_too", "data/codes.csv")]
)
def test_a_data_file_that_is_not_captured_is_told_with_its_place(
    child: Child, dataset: str, file: str
) -> None:
    with pytest.raises(TrainingFailed, match=f"{file} lies in /") as caught:
        child.table("bikes.py", dataset)
    assert "where data files are not. Name it by its absolute path" in str(caught.value)


@pytest.mark.parametrize("dataset", ["odd", "missing"])
def test_what_is_no_table_is_a_fault_of_the_data(child: Child, dataset: str) -> None:
    with pytest.raises(DataError, match="int" if dataset == "odd" else r"missing\.parquet"):
        child.table("bikes.py", dataset)


def test_an_unknown_dataset_is_refused(child: Child) -> None:
    with pytest.raises(ProjectError, match=r"declares no dataset 'in_panda'\. Did you mean 'in_pandas'"):
        child.table("bikes.py", "in_panda")


def test_the_dataset_of_a_model_may_be_declared_in_another_file(start: StartChild, tmp_path: Path) -> None:
    root = write(
        project(tmp_path / "p"), {"data.py": DATASET, "models.py": "import data\nfrom data import clew\n"}
    )
    write(
        root,
        {"models.py": "import data\nfrom data import clew, Cut\n" + MODEL.replace("(rides", "(data.rides")},
    )
    pa.parquet.write_table(rides(), root / "rides.parquet")
    assert start(root).table("models.py", "rides").num_rows == 240
