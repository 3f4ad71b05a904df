from __future__ import annotations

import dataclasses
import itertools
import threading
from datetime import timedelta
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from clew.config import Settings
from clew.datasets import append_rows, latest_snapshot, list_snapshots, read_rows, take_snapshot
from clew.entities import Snapshot
from clew.errors import DataError
from clew.storage import Store, open_store
from tests.datasets.conftest import NOW
from tests.datasets.rides import declare, many_rides
from tests.datasets.test_snapshots import object_files

LATER = NOW + timedelta(days=1)
NUMBERS = itertools.count()


def snap(store: Store, table: pa.Table, code: str | None = None, **given: Any) -> Snapshot:
    return take_snapshot(store, declare(**given), table, source="rides", code=code, now=NOW)


def append(store: Store, table: pa.Table, code: str | None = None, **given: Any) -> Snapshot:
    return append_rows(store, declare(**given), table, source="rides", code=code, now=NOW)


@given(data=st.data(), n_first=st.integers(1, 90_000), n_late=st.sampled_from([0, 0, 3]))
@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_what_is_appended_is_kept_as_the_whole_table_would_be(
    tmp_path: Any, data: st.DataObject, n_first: int, n_late: int
) -> None:
    rides = many_rides(100_000)
    late = data.draw(st.lists(st.integers(0, n_first - 1), min_size=n_late, max_size=n_late, unique=True))
    late = late if n_first > n_late else []
    steps = sorted(data.draw(st.lists(st.integers(n_first, 100_000), max_size=3, unique=True)))
    there = np.ones(100_000, bool)
    there[late] = False
    root = tmp_path / str(next(NUMBERS))
    with (
        open_store(Settings(root=root, store=root / "whole"), now=NOW) as whole,
        open_store(Settings(root=root, store=root / "grown"), now=NOW) as grown,
    ):
        first = rides.filter(pa.array(there[:n_first].tolist() + [False] * (100_000 - n_first)))
        assert snap(whole, first) == snap(grown, first)
        at = n_first
        for step in steps:
            added = rides.slice(at, step - at)
            if step == steps[-1]:
                added = pa.concat_tables([added, rides.take(pa.array(late, pa.int64()))])
            if added.num_rows:
                now_there = rides.slice(0, step)
                if step != steps[-1]:
                    now_there = now_there.filter(pa.array(there[:step]))
                assert append(grown, added) == snap(whole, now_there)
            at = step
        last, expected = latest_snapshot(grown, "rides"), latest_snapshot(whole, "rides")
        assert last is not None
        assert expected is not None
        rows = read_rows(grown, last)
        assert rows.equals(read_rows(whole, expected))
        with open_store(Settings(root=root, store=root / "fresh"), now=NOW) as fresh:
            # So small a table is cut alike whatever its dataset began with.
            assert snap(fresh, rows).parts == last.parts


def test_appending_stores_the_last_parts_only(store: Store, settings: Settings) -> None:
    first = snap(store, many_rides(60_000))
    before = object_files(settings)
    grown = append(store, many_rides(61_000).slice(60_000))
    assert grown.parts[: len(first.parts) - 1] == first.parts[:-1]
    assert len(object_files(settings)) - len(before) <= 2


def test_the_first_rows_of_a_dataset_may_be_appended(store: Store) -> None:
    assert append(store, many_rides(3)).n_rows == 3


def test_rows_that_all_wait_for_their_labels_may_be_appended(store: Store) -> None:
    rides = many_rides(10)
    snap(store, rides.slice(0, 8))
    unlabelled = rides.slice(8).set_column(2, "y", pa.nulls(2, pa.int64()))
    grown = append(store, unlabelled)
    assert read_rows(store, grown)["y"].null_count == 2


def test_a_key_that_is_there_is_not_appended(store: Store) -> None:
    first = snap(store, many_rides(10))
    with pytest.raises(
        DataError, match=r"row 0 .* keys that are there already\. Append only rows that are new"
    ):
        append(store, many_rides(12).slice(9))
    assert list_snapshots(store) == [first]


def test_a_column_that_is_new_makes_the_table_anew(store: Store) -> None:
    rides = many_rides(10)
    snap(store, rides.slice(0, 8))
    grown = append(store, rides.slice(8).append_column("w", pa.array([1, 2])))
    assert read_rows(store, grown)["w"].to_pylist() == [None] * 8 + [1, 2]


def test_rows_in_another_order_make_the_table_anew(store: Store) -> None:
    rides = many_rides(10)
    rides = rides.append_column("other", pa.array([*reversed(range(10))]))
    snap(store, rides.slice(0, 8))
    grown = append(store, rides.slice(8), key="other")
    assert grown.id == snap(store, rides, key="other").id
    assert grown.declaration == dataclasses.replace(declare(), key="other")


@pytest.mark.parametrize("n_first", [0, 30_000])
def test_rows_appended_at_once_follow_each_other(store: Store, settings: Settings, n_first: int) -> None:
    rides = many_rides(40_000)
    if n_first:
        snap(store, rides.slice(0, n_first))

    def grow(start: int) -> None:
        with open_store(settings, now=NOW) as own:
            append(own, rides.slice(start, 2_500))

    threads = [threading.Thread(target=grow, args=(start,)) for start in range(n_first, 40_000, 2_500)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    last = latest_snapshot(store, "rides")
    assert last is not None
    assert read_rows(store, last)["id"].to_pylist() == list(range(40_000))
