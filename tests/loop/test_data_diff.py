"""Two snapshots side by side: on real stores, on the command line, as a page, and against plain loops."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Iterator
from contextlib import chdir
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from clew.cli import run as clew
from clew.config import Settings
from clew.datasets import take_snapshot
from clew.entities import Snapshot
from clew.loop.data_change import RowsChange
from clew.loop.data_diff import ChangedRow, column_shift, data_diff
from clew.loop.data_log import data_log
from clew.storage import Store, open_store
from clew.tracking import Changed
from clew.workspace import open_workspace
from tests.loop import made, streams


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with open_store(Settings(root=tmp_path, store=tmp_path / ".clew"), now=made.NOW) as store:
        yield store


def rows_of(n: int) -> pa.Table:
    random = np.random.default_rng(3)
    words = np.array(["basic", "plus", "pro"])[random.integers(0, 3, n)]
    return made.table(made.hours(n), plan=words, load=random.normal(10, 2, n), size=random.integers(0, 9, n))


def taken(store: Store, table: pa.Table, days: int = 0, code: str | None = None, **said: Any) -> Snapshot:
    declaration, now = replace(made.RIDES, **said), made.NOW + days * made.DAY
    return take_snapshot(store, declaration, table, source="rides.parquet", code=code, now=now)


def with_column(table: pa.Table, name: str, values: Any) -> pa.Table:
    return table.set_column(table.column_names.index(name), name, values)


def later(rows: pa.Table) -> pa.Table:
    """Without the first five rows, with twenty more, and two cells of one row and one of another changed."""
    load, plan = rows["load"].to_pylist(), rows["plan"].to_pylist()
    load[10], plan[10], load[50] = 99.5, None, None
    changed = with_column(with_column(rows, "load", pa.array(load)), "plan", pa.array(plan))
    return changed.slice(5)


def test_rows_cells_and_columns_are_told(store: Store) -> None:
    rows = rows_of(220)
    then, now = taken(store, rows.slice(0, 200)), taken(store, later(rows), 1)
    diff = data_diff(store, then, now)
    assert diff.verdict == "differs"
    assert diff.rows == RowsChange(n_added=20, n_removed=5, n_changed=2, by_column={"plan": 1, "load": 2})
    plan, load = rows["plan"].to_pylist(), rows["load"].to_pylist()
    keys = rows["hour_id"].to_pylist()
    assert diff.changed == (
        ChangedRow(keys[10], {"plan": (plan[10], None), "load": (load[10], 99.5)}),
        ChangedRow(keys[50], {"load": (load[50], None)}),
    )
    assert (diff.added, diff.removed) == (tuple(keys[200:]), tuple(keys[:5]))
    assert [shift.name for shift in diff.shifts if shift.name == "hour_id"] == []
    assert {shift.name for shift in diff.shifts} == {"ts", "busy", "warmth", "plan", "load", "size"}


def test_what_is_shown_is_limited_and_what_is_counted_is_not(store: Store) -> None:
    rows = rows_of(300)
    then = taken(store, rows)
    now = taken(store, with_column(rows, "load", pc.add(rows["load"], 1.0)), 1)
    diff = data_diff(store, then, now, limit=3)
    assert diff.rows == RowsChange(0, 0, n_changed=300, by_column={"load": 300})
    assert len(diff.changed) == 3
    assert data_diff(store, then, now, limit=0).changed == ()


def test_the_other_way_round_is_the_mirror(store: Store) -> None:
    rows = rows_of(220)
    then, now = taken(store, rows.slice(0, 200)), taken(store, later(rows), 1)
    there, back = data_diff(store, then, now), data_diff(store, now, then)
    assert (there.added, there.removed) == (back.removed, back.added)
    assert [row.key for row in there.changed] == [row.key for row in back.changed]
    assert {name: cells[::-1] for row in there.changed for name, cells in row.cells.items()} == {
        name: cells for row in back.changed for name, cells in row.cells.items()
    }


def test_columns_that_came_went_or_changed_type_are_told(store: Store) -> None:
    rows = rows_of(50)
    then = taken(store, rows)
    sizes = pa.array([f"size {size}" for size in rows["size"].to_pylist()])
    other = with_column(rows.drop_columns(["plan"]), "size", sizes)
    diff = data_diff(store, then, taken(store, other.append_column("wind", rows["load"]), 1, code="c" * 64))
    assert set(diff.columns) == {
        Changed("plan", "string", None),
        Changed("size", "int64", "string"),
        Changed("wind", None, "double"),
    }
    assert diff.rows == RowsChange(0, 0, 0)
    assert diff.verdict == "differs"


def test_the_same_rows_are_recognised_whatever_their_order(store: Store) -> None:
    rows = rows_of(200)
    then = taken(store, rows)
    shuffled = rows.take(np.random.default_rng(1).permutation(200))
    assert data_diff(store, then, taken(store, shuffled, 1)).verdict == "same snapshot"
    renamed = taken(store, rows, name="walks")
    assert data_diff(store, then, renamed).verdict == "same rows"
    backwards = with_column(rows, "ts", rows["ts"].take(np.arange(200)[::-1]))
    other = taken(store, rows.append_column("seen", backwards["ts"]), name="seen")
    by_seen = taken(store, rows.append_column("seen", backwards["ts"]), name="by_seen", time="seen")
    diff = data_diff(store, other, by_seen)
    assert diff.verdict == "same rows, other order"
    assert diff.rows == RowsChange(0, 0, 0)


def test_rows_without_a_common_key_are_not_told_apart(store: Store) -> None:
    rows = rows_of(20)
    renamed = rows.rename_columns(["id" if name == "hour_id" else name for name in rows.column_names])
    diff = data_diff(store, taken(store, rows), taken(store, renamed, name="walks", key="id"))
    assert (diff.key, diff.rows) == (None, None)
    assert {change.name for change in diff.columns} == {"hour_id", "id"}
    assert diff.shifts


def test_another_key_that_names_the_older_rows_as_well_will_do(store: Store) -> None:
    rows = rows_of(20).append_column("place", pa.array(range(20)))
    then, now = taken(store, rows), taken(store, rows.slice(1), name="walks", key="place")
    diff = data_diff(store, then, now)
    assert (diff.key, diff.removed) == ("place", (0,))


# -- distributions -------------------------------------------------------------------------------------

CELLS = st.one_of(st.none(), st.sampled_from(["a", "b", "c", "d"]))
COLUMNS = st.lists(CELLS, min_size=1, max_size=30)


@given(then=COLUMNS, now=COLUMNS)
def test_a_distance_between_words_is_that_of_a_plain_count(then: list[Any], now: list[Any]) -> None:
    shift = column_shift("x", *(pa.chunked_array([pa.array(each, pa.string())]) for each in (then, now)))
    known = {value for value in then if value is not None}
    bins = [
        Counter("other" if value is not None and value not in known else value for value in each)
        for each in (then, now)
    ]
    apart = sum(abs(bins[0][x] / len(then) - bins[1][x] / len(now)) for x in {*bins[0], *bins[1]}) / 2
    assert math.isclose(shift.distance, apart, abs_tol=1e-12)
    assert (sum(shift.then), sum(shift.now)) == (len(then), len(now))
    assert shift.missing == (then.count(None) / len(then), now.count(None) / len(now))


NUMBERS = st.lists(st.one_of(st.none(), st.integers(-5, 5)), min_size=1, max_size=30)


@given(then=NUMBERS, now=NUMBERS, kind=st.sampled_from([pa.int64(), pa.float64(), pa.date32()]))
def test_every_row_is_in_a_bin_and_a_column_is_like_itself(
    then: list[Any], now: list[Any], kind: pa.DataType
) -> None:
    storage = pa.int32() if pa.types.is_date(kind) else kind
    columns = [pa.chunked_array([pa.array(each, storage).cast(kind)]) for each in (then, now)]
    shift = column_shift("x", *columns)
    assert (sum(shift.then), sum(shift.now)) == (len(then), len(now))
    assert len(shift.labels) == len(shift.then)
    assert column_shift("x", columns[0], columns[0]).distance == 0
    assert 0 <= shift.distance <= 1


def test_a_mean_and_a_distance_of_a_known_move() -> None:
    numbers = np.arange(1600.0)
    shift = column_shift("x", pa.chunked_array([numbers]), pa.chunked_array([numbers + 800]))
    assert (shift.mean_then, shift.mean_now) == (799.5, 1599.5)
    assert math.isclose(shift.distance, 0.5, abs_tol=0.01)


# -- history -------------------------------------------------------------------------------------------

LEARNER = """
@clew.model(stream, metric="accuracy", margin=0.01)
def learner(train, C=1.0):
    return LogisticRegression(C=C).fit(train.X, train.y)
"""


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two snapshots, a version of each, and a second version of the second."""
    folder = tmp_path_factory.mktemp("history")
    rows = streams.calm(600).table()
    for n, params in ((500, {}), (600, {}), (600, {"C": 0.5})):
        streams.write_project(folder, rows.slice(0, n), model=LEARNER)
        with open_workspace(None, folder) as workspace:
            workspace.try_model(params=params)
    return folder


def test_a_history_tells_what_was_made_of_each_snapshot(project: Path) -> None:
    with open_store(Settings(root=project, store=project / ".clew"), now=made.NOW) as store:
        newest, oldest = data_log(store, "stream")
    assert (newest.versions, newest.n_runs) == (("learner@2", "learner@3"), 2)
    assert (oldest.versions, oldest.n_runs) == (("learner@1",), 1)
    assert (newest.n_rows, newest.n_more_rows, oldest.n_more_rows) == (600, 100, None)


# -- on the command line -------------------------------------------------------------------------------


def told(project: Path, capsys: pytest.CaptureFixture[str], *words: str, code: int = 0) -> str:
    capsys.readouterr()
    with chdir(project):
        assert clew(["data", *words]) == code
    printed = capsys.readouterr()
    return printed.out + printed.err


def test_people_read_what_differs(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = told(project, capsys, "diff", "stream")
    assert "Rows: 100 added." in text
    assert "added    100: r000500, r000501, r000502, r000503, r000504, …" in text
    assert "removed  0" in text
    document = json.loads(told(project, capsys, "diff", "stream", "--json"))["diff"]
    assert document["rows"]["n_added"] == 100
    assert document["shifts"][0]["name"] == "at"


def test_that_nothing_differs_is_said(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "The same snapshot." in told(project, capsys, "diff", "stream", "stream")


def test_a_page_tells_the_same(project: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    page = tmp_path / "diff.html"
    assert f"Report: {page}" in told(project, capsys, "diff", "stream", "--report", str(page))
    text = page.read_text()
    assert "<h1>Rows: 100 added</h1>" in text
    assert 'id="distances-dark"' in text
    assert 'id="column-0-light"' in text
    assert "clew data diff stream --report" in text
    assert [path.name for path in tmp_path.iterdir()] == ["diff.html"]


def test_words_of_the_data_do_not_become_markup(store: Store, tmp_path: Path) -> None:
    from clew.cli.report.data_page import render_data_page

    evil = "</script><script>alert(1)</script>"
    rows = rows_of(30)
    then = taken(store, rows)
    now = taken(store, with_column(rows, "plan", pa.array([evil] * 30)), 1)
    page = render_data_page(data_diff(store, then, now), command="clew data diff rides")
    assert evil not in page
    assert "&lt;/script&gt;" in page


def test_the_history_is_shown(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = told(project, capsys, "log")
    assert "learner@2, learner@3" in text
    assert "+100" in text
    assert "clew data diff stream" in text
    log = json.loads(told(project, capsys, "log", "stream", "--limit", "1", "--json"))["log"]
    assert [entry["n_rows"] for entry in log] == [600]


def test_a_file_is_written_once(project: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    place = str(tmp_path / "stream.parquet")
    assert "holds 600 rows of stream@" in told(project, capsys, "checkout", "stream", place)
    assert pq.read_table(place).num_rows == 600
    assert "replace it with --force" in told(project, capsys, "checkout", "stream", place, code=1)
    told(project, capsys, "checkout", "stream", place, "--force", "--json")


def test_damage_ends_with_1(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "is whole: 600 rows" in told(project, capsys, "verify", "stream")
    settings = Settings(root=project, store=project / ".clew")
    with open_store(settings, now=made.NOW) as store:
        from clew.datasets import find_snapshot

        file = store.objects.path(find_snapshot(store, "stream").parts[0].object_digest)
    whole = file.read_bytes()
    file.chmod(0o600)
    file.write_bytes(bytes([whole[0] ^ 1, *whole[1:]]))
    try:
        text = told(project, capsys, "verify", code=1)
        assert "is damaged" in text
        assert file.name in text.replace("\n", "").replace(" ", "")
        assert "Put back the named files from a backup" in text
        document = json.loads(told(project, capsys, "verify", "stream", "--json", code=1))
        assert document["checks"][0]["damaged"][0]["first_row"] == 0
    finally:
        file.write_bytes(whole)


@pytest.mark.parametrize("words", [["diff"], ["checkout", "stream"]])
def test_wrong_usage_is_2(project: Path, capsys: pytest.CaptureFixture[str], words: list[str]) -> None:
    told(project, capsys, *words, code=2)


def test_an_empty_folder_stays_empty(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for words in (["log"], ["diff", "rides"], ["verify", "rides"], ["checkout", "rides", "x.csv"]):
        assert "Nothing was recorded here yet" in told(tmp_path, capsys, *words, code=1)
    assert list(tmp_path.iterdir()) == []
