from __future__ import annotations

import dataclasses
import itertools
from datetime import UTC, datetime, timedelta

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from clew.datasets import find_rows, read_rows, take_snapshot
from clew.entities import RowRange, Snapshot
from clew.errors import DataError, NotFound, StoreError
from clew.storage import Store
from tests.datasets.conftest import NOW
from tests.datasets.rides import declare

START = datetime(2026, 1, 1, tzinfo=UTC)
N_ROWS = 30_000


@pytest.fixture(scope="module")
def rides() -> pa.Table:
    numbers = np.arange(N_ROWS)
    times = np.datetime64("2026-01-01", "us") + numbers * np.timedelta64(1, "m")
    keys = [f"k{number}" for number in numbers]
    return pa.table(
        {"ts": pa.array(times, pa.timestamp("us", "UTC")), "id": keys, "y": numbers % 2, "n": numbers}
    )


@pytest.fixture
def snapshot(store: Store, rides: pa.Table) -> Snapshot:
    return take_snapshot(store, declare(), rides, source="rides", code=None, now=NOW)


@given(data=st.data())
@settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_range_of_rows_is_read_as_if_from_one_table(
    store: Store, snapshot: Snapshot, rides: pa.Table, data: st.DataObject
) -> None:
    assert len(snapshot.parts) > 2
    near_a_cut = st.sampled_from([0, *itertools.accumulate(part.n_rows for part in snapshot.parts)])
    place = st.builds(lambda cut, offset: min(max(cut + offset, 0), N_ROWS), near_a_cut, st.integers(-2, 2))
    start, end = sorted(data.draw(st.tuples(place, place)))
    columns = data.draw(st.none() | st.permutations(["ts", "n"]))
    found = read_rows(store, snapshot, RowRange(start, end), columns)
    expected = rides.slice(start, end - start)
    assert found.equals(expected.select(columns) if columns else expected)


@pytest.mark.parametrize(("start", "end"), [(-1, 5), (5, 4), (0, N_ROWS + 1)])
def test_rows_beyond_the_snapshot_are_refused(store: Store, snapshot: Snapshot, start: int, end: int) -> None:
    with pytest.raises(ValueError, match=f"rows {start} to {end} are asked of a snapshot with {N_ROWS}"):
        read_rows(store, snapshot, RowRange(start, end))


def test_a_column_that_is_not_there_is_named(store: Store, snapshot: Snapshot) -> None:
    with pytest.raises(NotFound, match=r"no column 'idd'. Did you mean 'id'\?"):
        read_rows(store, snapshot, columns=["n", "idd"])


def test_rows_are_found_by_key_in_the_snapshots_order(store: Store, snapshot: Snapshot) -> None:
    keys = [f"k{N_ROWS - 1}", "k5", "unknown", "k20000"]
    assert find_rows(store, snapshot, keys=keys)["n"].to_pylist() == [5, 20000, N_ROWS - 1]
    assert find_rows(store, snapshot, keys=[]).num_rows == 0
    assert find_rows(store, snapshot, keys=iter(["unknown"])).schema.names == ["ts", "id", "y", "n"]


def test_rows_are_found_by_event_time_with_the_end_left_out(store: Store, snapshot: Snapshot) -> None:
    ten, twelve = START + timedelta(minutes=10), START + timedelta(minutes=12)
    assert find_rows(store, snapshot, start=ten, end=twelve)["n"].to_pylist() == [10, 11]
    assert find_rows(store, snapshot, start=START + timedelta(minutes=N_ROWS - 1)).num_rows == 1
    assert find_rows(store, snapshot, end=ten, keys=["k9", "k10"])["n"].to_pylist() == [9]
    assert find_rows(store, snapshot).num_rows == N_ROWS
    with pytest.raises(ValueError, match="no zone"):
        find_rows(store, snapshot, start=datetime(2026, 1, 1))  # noqa: DTZ001


def test_text_is_read_as_a_number_where_keys_are_numbers(store: Store, rides: pa.Table) -> None:
    numbered = rides.slice(0, 10).set_column(1, "id", pa.array(range(10)))
    snapshot = take_snapshot(store, declare(), numbered, source="rides", code=None, now=NOW)
    assert find_rows(store, snapshot, keys=["7", "3"])["n"].to_pylist() == [3, 7]
    assert find_rows(store, snapshot, keys=[7, 3])["n"].to_pylist() == [3, 7]
    with pytest.raises(DataError, match=r"are int64, which these cannot be: 'k7'"):
        find_rows(store, snapshot, keys=["k7"])


def test_a_snapshot_without_its_declaration_cannot_be_searched(store: Store, snapshot: Snapshot) -> None:
    with pytest.raises(StoreError, match="does not say which columns are its time and key"):
        find_rows(store, dataclasses.replace(snapshot, declaration=None), keys=["k1"])
