from __future__ import annotations

import itertools
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from clew.config import Settings
from clew.datasets import (
    append_rows,
    latest_snapshot,
    list_datasets,
    list_snapshots,
    read_rows,
    read_source,
    sources,
    spill,
    take_snapshot,
)
from clew.datasets.batches import source_batches
from clew.datasets.schema import shape
from clew.datasets.spill import Batches, shape_batches
from clew.entities import Column
from clew.errors import DataError, StoreError
from clew.storage import Store, open_store
from tests.datasets import larger_than_memory
from tests.datasets.conftest import NOW
from tests.datasets.rides import declare, many_rides
from tests.datasets.tables import rechunked, tables

NUMBERS = itertools.count()


def pieces(table: pa.Table, n_rows: int) -> Batches:
    return lambda: (table.slice(start, n_rows) for start in range(0, table.num_rows, n_rows))


def shuffled(table: pa.Table, seed: int = 0) -> pa.Table:
    return table.take(pa.array(np.random.default_rng(seed).permutation(table.num_rows)))


# -- laws ----------------------------------------------------------------------------------------------


@given(
    table=tables(max_rows=40),
    n_rows=st.integers(1, 9),
    run_bytes=st.sampled_from([1, 300, 10_000]),
    n_head=st.integers(1, 5),
    seed=st.integers(0, 99),
)
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_table_piece_by_piece_is_shaped_as_the_whole_one(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    table: pa.Table,
    n_rows: int,
    run_bytes: int,
    n_head: int,
    seed: int,
) -> None:
    monkeypatch.setattr(spill, "ROWS_A_HEAD", n_head)
    table = shuffled(table, seed)
    scratch = tmp_path / str(next(NUMBERS))
    scratch.mkdir()
    whole = shape(table, declare(), None)
    streamed = shape_batches(pieces(table, n_rows), declare(), None, scratch, run_bytes=run_bytes)
    assert streamed.columns == whole.columns
    assert streamed.rows.equals(whole.rows)
    assert (streamed.hashes() == whole.hashes()).all()


@given(data=st.data(), n_first=st.integers(1, 30_000), is_in_order=st.booleans())
@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_what_comes_piece_by_piece_is_kept_as_the_whole_table(
    tmp_path: Path, data: st.DataObject, n_first: int, is_in_order: bool
) -> None:
    rides = many_rides(n_first + data.draw(st.integers(1, 20_000)))
    first, added = rides.slice(0, n_first), rides.slice(n_first)
    if not is_in_order:
        first, added = shuffled(first), shuffled(added)
    size = data.draw(st.integers(1_000, 40_000))
    root = tmp_path / str(next(NUMBERS))
    with (
        open_store(Settings(root=root, store=root / "whole"), now=NOW) as whole,
        open_store(Settings(root=root, store=root / "pieces"), now=NOW) as streamed,
    ):
        assert take(streamed, pieces(first, size)) == take(whole, first)
        assert append(streamed, pieces(added, size)) == take(whole, rides)
        assert latest_snapshot(streamed, "rides") == latest_snapshot(whole, "rides")


def take(store: Store, table: pa.Table | Batches, code: str | None = None) -> object:
    return take_snapshot(store, declare(), table, source="rides", code=code, now=NOW)


def append(store: Store, table: pa.Table | Batches) -> object:
    return append_rows(store, declare(), table, source="rides", code=None, now=NOW)


CELLS = st.sampled_from(
    [
        *("", '""', "NA", "1", "-3", "007", "1.5", "1e5", "true", "false", "word", "ümlaut", '"a, b"'),
        *("2026-03-01", "12:30", "2026-03-01 10:00", "2026-03-01 10:00:00", "2026-03-01T10:00:00Z"),
        *("2026-03-01 10:00:00.5", "2026-03-01T10:00:00.123456Z", "2026-03-01T10:00+01:00", '"two\nlines"'),
    ]
)


@given(runs=st.lists(st.tuples(CELLS, st.integers(1, 30)), min_size=1, max_size=4), other=CELLS)
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_csv_piece_by_piece_has_the_types_and_values_of_the_whole_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, runs: list[tuple[str, int]], other: str
) -> None:
    monkeypatch.setattr(sources, "BLOCK_BYTES", 256)
    values = [value for value, n in runs for _ in range(n)]
    lines = "".join(f"{row},{value},{other}\n" for row, value in enumerate(values))
    (tmp_path / "x.csv").write_text("k,v,w\n" + lines)
    whole = read_source("x.csv", tmp_path, text=["w"])
    read = source_batches("x.csv", tmp_path, text=["w"])
    for _ in range(2):
        streamed = pa.concat_tables(list(read()))
        assert streamed.schema.equals(whole.schema)
        assert streamed.equals(whole)


@given(table=tables(max_rows=20), sizes=st.lists(st.integers(1, 9), min_size=1, max_size=5))
@settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_parquet_files_piece_by_piece_are_the_whole_ones(
    tmp_path: Path, table: pa.Table, sizes: list[int]
) -> None:
    shutil.rmtree(tmp_path / "files", ignore_errors=True)
    (tmp_path / "files").mkdir()
    for number, chunk in enumerate(rechunked(table, sizes).to_batches()):
        pq.write_table(pa.Table.from_batches([chunk]), tmp_path / "files" / f"{number:02}.parquet")
    whole = read_source("files/*.parquet", tmp_path)
    streamed = pa.concat_tables(list(source_batches("files/*.parquet", tmp_path)()))
    assert streamed.equals(whole)


def test_files_that_differ_are_refused_before_a_row_is_read(tmp_path: Path) -> None:
    pq.write_table(pa.table({"x": [1]}), tmp_path / "a.parquet")
    pq.write_table(pa.table({"y": [1]}), tmp_path / "b.parquet")
    with pytest.raises(DataError, match=r"b\.parquet has no column 'x', which a\.parquet has"):
        source_batches("*.parquet", tmp_path)
    with pytest.raises(DataError, match=r"There is no file 'c\.csv'"):
        source_batches("c.csv", tmp_path)


# -- refusals ------------------------------------------------------------------------------------------


def test_rows_at_fault_are_named_by_their_place_in_the_whole_table(tmp_path: Path) -> None:
    table = pa.concat_tables(
        [many_rides(500), many_rides(500).set_column(1, "id", pa.nulls(500, pa.int64()))]
    )
    with pytest.raises(DataError, match="key='id' is null in row 500, row 501") as refused:
        shape_batches(pieces(table, 100), declare(), None, tmp_path, run_bytes=4_000)
    assert refused.value.rows == (500, 501, 502)
    table = many_rides(900).set_column(3, "x", pa.array(["1.5"] * 899 + ["many"]))
    declared = (Column("x", "double"),)
    with pytest.raises(DataError, match="'x' is declared double, but row 899 \\('many'\\)"):
        shape_batches(pieces(table, 100), declare(), declared, tmp_path, run_bytes=1)


def test_keys_that_come_twice_far_apart_are_refused(store: Store) -> None:
    twice = pa.concat_tables([many_rides(30_000), many_rides(3)])
    with pytest.raises(DataError, match=r"2 rows \(0\) have the same; 2 other keys are on several rows too"):
        take(store, pieces(twice, 1000))
    assert list_snapshots(store) == []


def test_a_column_that_cannot_be_kept_a_missing_one_and_no_rows_are_refused(tmp_path: Path) -> None:
    rides = many_rides(10)
    lists = rides.append_column("l", pa.array([[1]] * 10))
    with pytest.raises(DataError, match="Column 'l' has type list"):
        shape_batches(pieces(lists, 5), declare(), None, tmp_path)
    declared = tuple(Column(name, "double") for name in ("x", "gone"))
    with pytest.raises(DataError, match="Column 'gone' of rides is missing"):
        shape_batches(pieces(rides, 5), declare(), declared, tmp_path)
    with pytest.raises(DataError, match="The table has no rows"):
        shape_batches(pieces(rides.slice(0, 0), 5), declare(), None, tmp_path)
    with pytest.raises(ValueError, match="batches differ in their columns"):
        shape_batches(lambda: [rides, rides.drop_columns("x")], declare(), None, tmp_path, run_bytes=1)


def test_a_column_that_changed_with_the_code_changes_piece_by_piece_too(store: Store) -> None:
    rides = many_rides(300)
    take(store, pieces(rides, 100), code="one")
    words = rides.set_column(3, "x", pa.array(["1"] * 250 + ["word"] * 50))
    take(store, pieces(words, 100), code="two")
    [dataset] = list_datasets(store)
    assert {column.name: column.type for column in dataset.columns}["x"] == "string"
    newest = latest_snapshot(store, "rides")
    assert newest is not None
    assert read_rows(store, newest)["x"].to_pylist() == ["1"] * 250 + ["word"] * 50


def test_a_full_disk_is_told_and_nothing_is_stored(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> Iterator[None]:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(pa.ipc.RecordBatchFileWriter, "write_table", full)
    with pytest.raises(StoreError, match=r"No space left on device.*room for two copies"):
        take(store, pieces(many_rides(10), 5))
    assert list_snapshots(store) == []


# -- memory --------------------------------------------------------------------------------------------

# Rows of 110 bytes each: less than half of them fit.
N_ROWS, MEMORY_BYTES = 1_000_000, 52 << 20


def kept_in_little_memory(root: Path, source: str) -> subprocess.CompletedProcess[str]:
    arguments = [str(root), str(N_ROWS), str(MEMORY_BYTES), source]
    program = [sys.executable, "-m", "tests.datasets.larger_than_memory", *arguments]
    # The room for a thread's stack counts as memory before it is used.
    command = ["sh", "-c", 'ulimit -s 1024 && exec "$@"', "sh", *program]
    return subprocess.run(command, capture_output=True, text=True, check=False, cwd=Path.cwd())


@pytest.fixture(scope="module")
def expected(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The id that the table has when it is kept in one piece."""
    root = tmp_path_factory.mktemp("expected")
    with open_store(Settings(root=root, store=root / ".clew"), now=NOW) as store:
        whole = pa.concat_tables(larger_than_memory.pieces(N_ROWS, is_in_order=True)())
        return take_snapshot(store, declare(), whole, source="rides", code=None, now=NOW).id


@pytest.mark.skipif(sys.platform != "linux", reason="other systems do not limit what a process maps")
@pytest.mark.parametrize("source", ["order", "disorder", "rides.parquet", "rides.csv"])
def test_a_table_that_does_not_fit_into_memory_is_kept_all_the_same(
    tmp_path: Path, source: str, expected: str
) -> None:
    read = larger_than_memory.pieces(N_ROWS, is_in_order=False)
    if "." in source:
        kinds = {".parquet": pq.ParquetWriter, ".csv": pa.csv.CSVWriter}
        with kinds[Path(source).suffix](tmp_path / source, next(iter(read())).schema) as writer:
            for piece in read():
                writer.write_table(piece)
    done = kept_in_little_memory(tmp_path, source)
    assert done.stdout.split() == [expected, str(N_ROWS), str(N_ROWS + 1000)], done.stderr


@pytest.mark.skipif(sys.platform != "linux", reason="other systems do not limit what a process maps")
def test_the_same_table_in_one_piece_does_not_fit(tmp_path: Path) -> None:
    assert "MemoryError" in kept_in_little_memory(tmp_path, "whole").stderr
