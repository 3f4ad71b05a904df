"""What differs between two runs, and between two snapshots: on real stores, and against an oracle."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from contextlib import chdir
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from clew.cli import run as clew
from clew.config import Settings
from clew.datasets import take_snapshot
from clew.entities import Param, Snapshot
from clew.errors import NotFound
from clew.loop.data_change import RowsChange, compare_rows, data_change
from clew.storage import Store, open_store
from clew.tracking import Changed
from clew.workspace import Workspace, open_records, open_workspace
from tests.loop import made, streams

LEARNER = """
@clew.model(stream, metric="accuracy", margin=0.01, minimum={"accuracy": 0.5})
def learner(train, strength=1.0, old=1):
    return LogisticRegression(C=strength).fit(train.X, train.y)
"""


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two versions: between them a hyperparameter, a file, a line of code and some rows changed."""
    folder = tmp_path_factory.mktemp("changes")
    rows = streams.calm(600).table()
    streams.write_project(folder, rows, model=LEARNER)
    with open_workspace(None, folder) as workspace:
        workspace.try_model()
    values = rows.column("x0").to_pylist()
    values[7] += 1.0
    later = rows.set_column(rows.column_names.index("x0"), "x0", pa.array(values)).slice(3)
    streams.write_project(folder, later, model=LEARNER.replace("old=1", "new=1"))
    (folder / "notes.bin").write_bytes(b"\0\1\2")
    with open_workspace(None, folder) as workspace:
        workspace.try_model(params={"strength": 0.1})
    return folder


@pytest.fixture(scope="module")
def records(project: Path) -> Iterator[Workspace]:
    with open_records(project) as records:
        yield records


def test_only_what_differs_is_told(records: Workspace) -> None:
    change = records.difference("learner@1", "learner@2")
    assert change
    assert change.facts == (Changed("rows", "0 to 600", "0 to 597"),)
    assert {each.name: (each.then, each.now) for each in change.params} == {
        "strength": (Param(1.0, "default"), Param(0.1, "command line")),
        "old": (Param(1, "default"), None),
        "new": (None, Param(1, "default")),
    }
    assert change.data is not None
    assert change.data.rows == RowsChange(n_added=0, n_removed=3, n_changed=1, by_column={"x0": 1})
    assert not change.environment
    code, binary = change.code
    assert (code.path, code.n_added, code.n_removed) == ("learner.py", 1, 1)
    assert (binary.path, binary.kind, binary.now_bytes, binary.lines) == ("notes.bin", "added", 3, ())


def test_a_metric_has_its_difference_and_the_interval_that_the_gate_recorded(records: Workspace) -> None:
    (metric,) = records.difference("learner@1", "learner@2").metrics
    assert metric.then is not None
    assert metric.now is not None
    assert metric.difference == metric.now - metric.then
    for value, interval in ((metric.then, metric.then_interval), (metric.now, metric.now_interval)):
        assert interval is not None
        assert interval[0] < value < interval[1]


def test_runs_and_versions_may_be_mixed_and_the_other_way_round_is_the_mirror(records: Workspace) -> None:
    run = records.difference("learner@2", "learner@2").then.run
    there = records.difference("learner@1", run.id[:10])
    back = records.difference(run.id[:10], "learner@1")
    assert there.now.version == back.then.version
    assert {(p.then, p.now) for p in there.params} == {(p.now, p.then) for p in back.params}
    assert back.data is not None
    assert back.data.rows == RowsChange(n_added=3, n_removed=0, n_changed=1, by_column={"x0": 1})


def test_a_run_does_not_differ_from_itself(records: Workspace) -> None:
    assert not records.difference("learner@1", "learner@1")


def test_a_run_that_does_not_exist_is_told(records: Workspace) -> None:
    with pytest.raises(NotFound, match="There is no run 'ffff'"):
        records.difference("learner@1", "ffff")


def test_two_models_of_the_same_record_differ(records: Workspace) -> None:
    assert replace(records.difference("learner@1", "learner@1"), is_same_model=False)


# -- on the command line -------------------------------------------------------------------------------


@pytest.mark.parametrize("group", ["runs", "models"])
def test_people_read_tables_and_lines(group: str, project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with chdir(project):
        assert clew([group, "diff", "learner@1", "learner@2"]) == 0
    told = capsys.readouterr().out
    assert told.startswith("learner@1 → learner@2\n")
    for line in (
        "strength    1.0 (default)   0.1 (command line)",
        "old         1 (default)     –",
        "by key   0 added, 3 removed, 1 changed",
        "changed  x0 in 1",
        "learner.py changed: 1 line added, 1 line removed",
        "-def learner(train, strength=1.0, old=1):",
        "+def learner(train, strength=1.0, new=1):",
        "notes.bin added: 3 B",
    ):
        assert line in told
    assert "seed" not in told


def test_that_nothing_differs_is_said(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with chdir(project):
        assert clew(["runs", "diff", "learner@1", "learner@1"]) == 0
        assert capsys.readouterr().out == "learner@1 → learner@1: nothing differs\n"
        assert clew(["runs", "diff", "learner@1", "learner@1", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["differs"] is False


def test_programs_get_a_document(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with chdir(project):
        assert clew(["runs", "diff", "learner@1", "learner@2", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)["change"]
    assert told["data"]["rows"]["by_column"] == {"x0": 1}
    assert told["code"][1]["path"] == "notes.bin"
    assert told["params"][0]["now"] == {"value": 0.1, "source": "command line"}


# -- snapshots -----------------------------------------------------------------------------------------


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with open_store(Settings(root=tmp_path, store=tmp_path / "store"), now=made.NOW) as store:
        yield store


def taken(store: Store, table: pa.Table, code: str | None = None, **changes: Any) -> Snapshot:
    declaration = replace(made.RIDES, **changes)
    return take_snapshot(store, declaration, table, source="rides.parquet", code=code, now=made.NOW)


def test_columns_are_told_with_their_types(store: Store) -> None:
    rows = made.table(made.hours(50))
    then = taken(store, rows)
    other = rows.drop_columns(["warmth"]).append_column("wind", pa.array(range(50)))
    change = data_change(store, then, taken(store, other, code="c" * 64))
    assert change is not None
    assert change.columns == (Changed("warmth", "double", None), Changed("wind", None, "int64"))
    assert change.rows == RowsChange(0, 0, 0)


def test_the_same_snapshot_has_no_change(store: Store) -> None:
    then = taken(store, made.table(made.hours(50)))
    assert data_change(store, then, then) is None


def test_rows_of_two_datasets_are_not_compared(store: Store) -> None:
    rows = made.table(made.hours(50))
    change = data_change(store, taken(store, rows), taken(store, rows, name="walks"))
    assert change is not None
    assert (change.dataset, change.rows) == ("rides → walks", None)


def test_parts_that_both_have_are_not_read(store: Store) -> None:
    n = 150_000
    rows = made.table(made.hours(n + 5), hour_id=[f"h{place:06d}" for place in range(n + 5)])
    then, now = taken(store, rows.slice(0, n)), taken(store, rows)
    shared = {part.content for part in then.parts} & {part.content for part in now.parts}
    assert shared
    for part in then.parts:
        if part.content in shared:
            store.objects.path(part.object_digest).unlink()
    change = data_change(store, then, now)
    assert change is not None
    assert change.rows == RowsChange(n_added=5, n_removed=0, n_changed=0)


VALUES = st.one_of(st.none(), st.sampled_from([0.0, 1.0, math.nan]))
TABLES = st.dictionaries(st.integers(0, 12), st.tuples(VALUES, VALUES), max_size=10)


def as_table(rows: dict[int, tuple[float | None, float | None]]) -> pa.Table:
    columns = {"id": pa.array(list(rows), pa.int64())}
    for place, name in enumerate("ab"):
        columns[name] = pa.array([row[place] for row in rows.values()], pa.float64())
    return pa.table(columns)


@given(then=TABLES, now=TABLES)
def test_rows_are_counted_as_a_plain_loop_counts_them(then: Any, now: Any) -> None:
    both = [key for key in now if key in then]
    differing = {
        name: sum(repr(then[key][place]) != repr(now[key][place]) for key in both)
        for place, name in enumerate("ab")
    }
    expected = RowsChange(
        n_added=len(now) - len(both),
        n_removed=len(then) - len(both),
        n_changed=sum(repr(then[key]) != repr(now[key]) for key in both),
        by_column={name: n for name, n in differing.items() if n},
    )
    assert compare_rows(as_table(then), as_table(now), "id") == expected
