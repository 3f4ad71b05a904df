from __future__ import annotations

import dataclasses
import itertools
import threading
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from clew.config import Settings
from clew.datasets import (
    append_rows,
    content_digest,
    keeping,
    known_keys,
    latest_snapshot,
    list_datasets,
    list_snapshots,
    read_rows,
    take_snapshot,
)
from clew.datasets.parts import block_digests
from clew.datasets.schema import Shaped
from clew.entities import RowRange, Snapshot
from clew.errors import DataError
from clew.storage import Store, open_store
from tests.datasets.conftest import NOW
from tests.datasets.rides import declare, many_rides
from tests.datasets.test_snapshots import object_files

LAST = pa.array([np.datetime64("2030-01-01", "us")])
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
    n_late = n_late if n_first > n_late else 0
    late = data.draw(st.lists(st.integers(0, n_first - 1), min_size=n_late, max_size=n_late, unique=True))
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


# -- keys ----------------------------------------------------------------------------------------------


def coded_rides(start: int, n: int) -> pa.Table:
    """Rides whose keys are text in no order."""
    numbers = np.arange(start, start + n)
    codes = [f"{number * 2_654_435_761 % 2**32:08x}" for number in numbers.tolist()]
    times = np.datetime64("2025-01-01", "us") + numbers * np.timedelta64(1, "m")
    return pa.table({"ts": times, "id": pa.array(codes), "y": numbers % 2})


def no_keys_read(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise AssertionError("the keys of all rows were read")

    monkeypatch.setattr(keeping, "refuse_known_keys", refuse)


@pytest.mark.parametrize("make", [coded_rides, lambda start, n: many_rides(start + n).slice(start)])
def test_that_new_keys_are_new_is_known_without_reading_the_others(
    store: Store, monkeypatch: pytest.MonkeyPatch, make: Callable[[int, int], pa.Table]
) -> None:
    snap(store, make(0, 70_000))
    no_keys_read(monkeypatch)
    *_, grown = (append(store, make(start, 1_000)) for start in range(70_000, 74_000, 1_000))
    assert grown.n_rows == 74_000
    assert grown.keys is not None
    assert grown.keys.is_ascending or sum(run.n_keys for run in grown.keys.runs) == 74_000
    assert len(grown.keys.runs) <= 3


@given(data=st.data())
@settings(max_examples=10, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_key_that_is_there_is_found_among_the_fingerprints(tmp_path: Any, data: st.DataObject) -> None:
    root = tmp_path / str(next(NUMBERS))
    n_more = data.draw(st.integers(1, 30_000))
    with open_store(Settings(root=root, store=root / "store"), now=NOW) as store:
        snap(store, coded_rides(0, 66_000))
        append(store, coded_rides(66_000, n_more))
        known = data.draw(st.integers(0, 66_000 + n_more - 1))
        new = coded_rides(66_000 + n_more, 10)
        keys = new["id"].to_pylist()
        keys[3] = coded_rides(known, 1)["id"][0].as_py()
        with pytest.raises(DataError, match="keys that are there already"):
            append(store, new.set_column(1, "id", pa.array(keys)))
        assert append(store, new).n_rows == 66_000 + n_more + 10


def test_fingerprints_that_meet_are_told_apart_by_their_keys(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(known_keys, "_UNUSED_BITS", np.uint64(50))  # 14 bits: each is there many times
    snap(store, coded_rides(0, 66_000))
    assert append(store, coded_rides(66_000, 1_000)).n_rows == 67_000
    assert snap(store, coded_rides(0, 68_000)).n_rows == 68_000


@pytest.mark.parametrize("is_lost", [True, False])
def test_fingerprints_that_were_lost_or_damaged_are_made_again(
    settings: Settings, store: Store, is_lost: bool
) -> None:
    first = snap(store, coded_rides(0, 66_000))
    assert first.keys is not None
    [run] = first.keys.runs
    file = store.objects.path(run.object_digest)
    file.chmod(0o600)
    if is_lost:
        file.unlink()
    else:
        file.write_bytes(b"damaged")
    assert append(store, coded_rides(66_000, 100)).n_rows == 66_100
    with pytest.raises(DataError, match="keys that are there already"):
        append(store, coded_rides(65_000, 1))
    grown = append(store, coded_rides(66_100, 100))
    assert grown.keys is not None
    assert sum(run.n_keys for run in grown.keys.runs) == 66_200
    assert snap(store, coded_rides(0, 67_000)).n_rows == 67_000


def test_a_whole_table_that_grew_is_known_again_and_its_new_keys_are_checked(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = snap(store, coded_rides(0, 70_000))
    with monkeypatch.context() as patch:
        patch.setattr(Shaped, "refuse_twins", None)  # which looks at all keys
        grown = snap(store, coded_rides(0, 71_000))
    assert grown.parts[: len(first.parts) - 2] == first.parts[:-2]
    twice = pa.concat_tables([coded_rides(0, 71_000), coded_rides(5, 1).set_column(0, "ts", LAST)])
    with pytest.raises(DataError, match=r"row 5 .* and row 71000 .* have the same"):
        snap(store, twice)


def test_rows_at_hand_spare_the_hashing_of_those_that_a_table_goes_on_from(
    store: Store, tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    rides = many_rides(140_000)
    first = snap(store, rides.slice(0, 135_000))
    at_hand = first, read_rows(store, first)
    hashed = []

    def noted(rows: pa.Table) -> tuple[str, ...]:
        hashed.append(rows.num_rows)
        return block_digests(rows)

    monkeypatch.setattr("clew.datasets.keeping.block_digests", noted)
    told: dict[str, Any] = {"source": "rides", "code": None, "now": NOW}
    grown = take_snapshot(store, declare(), rides, **told, at_hand=at_hand)
    assert hashed == [140_000 - 2 * 65_536]
    with open_store(Settings(root=tmp_path, store=tmp_path / "other"), now=NOW) as other:
        assert snap(other, rides.slice(0, 135_000)) == first
        assert snap(other, rides) == grown
    negated = rides.set_column(3, "x", pc.negate(rides["x"]))
    # What is at hand is not the newest any more, or not what the table goes on from.
    again = take_snapshot(store, declare(), negated, **told, at_hand=at_hand)
    newest = again, read_rows(store, again)
    assert take_snapshot(store, declare(), rides, **told, at_hand=newest) == grown


def test_rows_that_changed_in_place_or_moved_are_kept_anew(store: Store) -> None:
    rides = many_rides(60_000)
    first = snap(store, rides)
    negated = rides["x"].to_numpy().copy()
    negated[0] = -0.0
    zeroed = rides.set_column(3, "x", pa.array(negated))
    second = snap(store, zeroed)
    assert np.signbit(read_rows(store, second)["x"][0].as_py())
    plus = negated.copy()
    plus[0] = 0.0
    third = snap(store, rides.set_column(3, "x", pa.array(plus)))
    assert len({first.id, second.id, third.id}) == 3
    assert not np.signbit(read_rows(store, third)["x"][0].as_py())
    slid = snap(store, rides.slice(1_000))
    assert len(set(slid.parts) - set(first.parts)) == 1


def test_parts_recorded_without_their_keys_are_known_again_by_their_rows(store: Store) -> None:
    rides = many_rides(60_000)
    first = snap(store, rides)
    older, start = [], 0
    for part in first.parts:
        rows = read_rows(store, first, RowRange(start, start + part.n_rows))
        older.append(
            {"content": content_digest(rows), "object_digest": part.object_digest, "n_rows": part.n_rows}
        )
        start += part.n_rows
    with store.write() as tx:
        tx.update("snapshots", {"id": first.id}, {"parts": older, "keys": None})
    slid = snap(store, rides.slice(1_000))
    kept = {part.object_digest for part in first.parts}
    assert len([part for part in slid.parts if part.object_digest not in kept]) == 1


# -- columns -------------------------------------------------------------------------------------------


def test_wider_columns_and_new_ones_are_versions_of_the_schema(store: Store) -> None:
    rides = many_rides(12)
    whole = rides.append_column("n", pa.array(range(12)))
    first = snap(store, whole.slice(0, 4))
    halves = whole.slice(4, 4).set_column(5, "n", pa.array([4.5, 5.0, 6.0, 7.0]))
    second = append(store, halves)
    third = append(store, whole.slice(8).append_column("w", pa.array(["a"] * 4)))
    assert read_rows(store, third)["n"].to_pylist() == [0, 1, 2, 3, 4.5, *range(5, 12)]
    assert read_rows(store, first)["n"].to_pylist() == [0, 1, 2, 3]
    [dataset] = list_datasets(store)
    assert [(each.number, each.snapshot) for each in dataset.schemas] == [
        (1, first.id),
        (2, second.id),
        (3, third.id),
    ]
    types = [{column.name: column.type for column in each.columns} for each in dataset.schemas]
    assert [(each["n"], each.get("w")) for each in types] == [
        ("int64", None),
        ("double", None),
        ("double", "string"),
    ]


def test_a_whole_number_that_no_decimal_can_hold_keeps_its_column_whole(store: Store) -> None:
    rides = many_rides(8)
    snap(store, rides.slice(0, 4).append_column("n", pa.array([0, 1, 2, 2**53 + 1])))
    with pytest.raises(DataError, match=r"'n' is declared double, but row 3 \(9007199254740993\)"):
        append(store, rides.slice(4).append_column("n", pa.array([0.5, 1, 2, 3])))
