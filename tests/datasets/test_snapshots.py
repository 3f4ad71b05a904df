from __future__ import annotations

import itertools
import shutil
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from clew.config import Settings
from clew.datasets import (
    content_digest,
    from_frame,
    get_snapshot,
    latest_snapshot,
    list_datasets,
    list_snapshots,
    prepare,
    read_rows,
    read_source,
    take_snapshot,
)
from clew.datasets.cutting import SMALLEST_REACH, cuts_for
from clew.datasets.parts import block_digests
from clew.entities import Column, Cuts, Snapshot
from clew.errors import DataError, NotFound, ObjectDamaged, StoreTooNew
from clew.storage import Store, open_store
from tests.datasets.conftest import NOW
from tests.datasets.rides import declare, many_rides
from tests.datasets.tables import tables
from tests.storage import processes
from tests.storage.processes import StartChild

DATASET_NUMBERS = itertools.count()
LATER = NOW + timedelta(days=1)
TAKE = """
from clew.datasets import take_snapshot
from tests.datasets.rides import declare, many_rides
table = many_rides(400_000)
say("ready"); wait()
with open_store(settings, now=now) as store:
    say(take_snapshot(store, declare(), table, source="rides", code=None, now=now).id)
"""


def snap(
    store: Store, table: pa.Table, code: str | None = None, now: datetime = NOW, **given: Any
) -> Snapshot:
    return take_snapshot(store, declare(**given), table, source="rides.parquet", code=code, now=now)


def history(store: Store) -> list[tuple[int, str]]:
    with store.read() as reader:
        rows = reader.find("snapshot_log", {"dataset": "rides"}, ["sequence"])
    return [(row["sequence"], row["snapshot"]) for row in rows]


def object_files(settings: Settings) -> list[Path]:
    return sorted((settings.store / "objects").glob("[0-9a-f][0-9a-f]/*"))


# -- one content, one snapshot -------------------------------------------------------------------------


def test_the_same_rows_from_csv_parquet_pandas_and_polars_are_one_snapshot(
    store: Store, tmp_path: Path
) -> None:
    start = datetime(2026, 3, 1, tzinfo=UTC)
    rows = {
        "ts": [start + timedelta(minutes=i) for i in range(5)],
        "id": ["a", "b", "c", "d", "e"],
        "y": [0, 1, 1, 0, None],
        "x": [0.1, -1e300, 5e-324, None, 3.0],
        "n": [1, -(2**53), 2**53, 0, 7],
        "flag": [True, False, None, True, False],
        "day": [date(2026, 3, 1), None, date(1969, 12, 31), date(2000, 2, 29), date(2026, 1, 1)],
        "seen": [start, None, datetime(1969, 12, 31, 23, 59, 59, 999_999, tzinfo=UTC), start, start],
        "kind": ["red", None, "green", "red", 'ünï,"quoted"\nline'],
    }
    table = pa.table(rows)
    frame = pd.DataFrame(rows)
    frame["kind"] = frame["kind"].astype("category")
    polars = pl.DataFrame(rows).with_columns(pl.col("kind").cast(pl.Categorical), pl.col("n").cast(pl.Int64))
    pq.write_table(table, tmp_path / "a.parquet")
    frame.to_parquet(tmp_path / "b.parquet")
    polars.write_parquet(tmp_path / "c.parquet")
    pa.csv.write_csv(table, tmp_path / "a.csv")
    frame.to_csv(tmp_path / "b.csv", index=False)
    polars.write_csv(tmp_path / "c.csv")
    files = ["a.parquet", "b.parquet", "c.parquet", "a.csv", "b.csv", "c.csv"]
    taken = [snap(store, read_source(file, tmp_path)) for file in files]
    taken += [snap(store, from_frame(frame)), snap(store, from_frame(polars))]
    shuffled = frame.sample(frac=1, random_state=3)
    taken += [snap(store, from_frame(shuffled)), snap(store, from_frame(polars.reverse()))]
    assert {snapshot.id for snapshot in taken} == {taken[0].id}
    assert len(list_snapshots(store)) == len(history(store)) == 1
    assert read_rows(store, taken[0]).to_pydict() == rows


@given(table=tables(), data=st.data())
@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_what_was_kept_is_read_back_in_order(store: Store, table: pa.Table, data: st.DataObject) -> None:
    order = data.draw(st.permutations(range(table.num_rows)))
    name = f"d{next(DATASET_NUMBERS)}"
    snapshot = snap(store, table, name=name)
    expected, columns = prepare(table, declare())
    assert snapshot.columns == columns
    assert content_digest(read_rows(store, snapshot)) == content_digest(expected)
    assert snap(store, table.take(pa.array(order, pa.int64())), name=name) == snapshot


def test_a_snapshot_says_what_it_is(store: Store) -> None:
    table = many_rides(3)
    snapshot = snap(store, table, code="c0de")
    assert (snapshot.dataset, snapshot.n_rows, snapshot.taken_at) == ("rides", 3, NOW)
    assert (snapshot.source, snapshot.code, snapshot.declaration) == ("rides.parquet", "c0de", declare())
    assert snapshot.first_time == datetime(2025, 1, 1, tzinfo=UTC)
    assert snapshot.last_time == datetime(2025, 1, 1, 0, 2, tzinfo=UTC)
    assert get_snapshot(store, snapshot.id) == snapshot
    with store.read() as reader:
        edges = reader.find("edges", {"from_id": snapshot.id})
    assert [(edge["relation"], edge["to_kind"], edge["to_id"]) for edge in edges] == [
        ("made by", "code", "c0de")
    ]


def test_the_same_rows_in_two_datasets_are_two_snapshots_over_the_same_bytes(
    store: Store, settings: Settings
) -> None:
    one, other = snap(store, many_rides(3)), snap(store, many_rides(3), name="rides_too")
    assert one.id != other.id
    assert one.parts == other.parts
    assert len(object_files(settings)) == 1


# -- history -------------------------------------------------------------------------------------------


def test_history_has_an_entry_for_each_change_and_none_for_a_repeat(store: Store) -> None:
    short, long = many_rides(3), many_rides(4)
    a = snap(store, short)
    assert snap(store, short, now=LATER) == a
    b = snap(store, long, now=LATER)
    assert snap(store, short, now=LATER) == a
    assert history(store) == [(1, a.id), (2, b.id), (3, a.id)]
    assert latest_snapshot(store, "rides") == a
    assert [snapshot.id for snapshot in list_snapshots(store, "rides")] == [b.id, a.id]
    assert latest_snapshot(store, "other") is None


def changed(rides: pa.Table) -> dict[str, pa.Table]:
    """The rows 2,000 to 58,000 of 60,000, once with something done to them."""
    same = rides.slice(2_000, 56_000)
    x = same["x"].to_numpy().copy()
    x[30_000:30_100] += 1
    return {
        "rows appended": rides.slice(2_000, 57_000),
        "rows prepended": rides.slice(1_000, 57_000),
        "window slid": rides.slice(3_000, 56_000),
        "rows removed": pa.concat_tables([same.slice(0, 20_000), same.slice(21_000)]),
        "values corrected": same.set_column(3, "x", pa.array(x)),
    }


@pytest.mark.parametrize("change", list(changed(many_rides(60_000))))
def test_what_is_done_to_some_rows_leaves_most_parts_as_they_are(store: Store, change: str) -> None:
    rides = many_rides(60_000)
    first = snap(store, rides.slice(2_000, 56_000))
    assert len(first.parts) > 5
    after = snap(store, changed(rides)[change])
    assert after.cuts == first.cuts
    assert sum(part not in first.parts for part in after.parts) <= 2
    assert read_rows(store, after).num_rows == after.n_rows


def test_a_table_that_shrinks_to_what_parts_hold_stores_nothing(store: Store, settings: Settings) -> None:
    first = snap(store, many_rides(60_000))
    before = object_files(settings)
    n_rows = sum(part.n_rows for part in first.parts[:-1])
    shorter = snap(store, many_rides(60_000).slice(0, n_rows))
    assert shorter.parts == first.parts[:-1]
    assert object_files(settings) == before


def test_a_new_key_is_cut_by_and_a_table_outgrown_its_cuts_is_cut_anew(store: Store) -> None:
    rides = many_rides(60_000)
    assert snap(store, rides).cuts == Cuts("id", SMALLEST_REACH)
    by_text = rides.append_column("code", rides["id"].cast(pa.string()))
    assert snap(store, by_text, code="two", key="code").cuts == Cuts("code", SMALLEST_REACH)
    with store.write() as tx:
        tx.update("snapshots", {"dataset": "rides"}, {"cuts": {"column": "id", "reach": 20}})
    again = snap(store, rides.slice(1), code="three")
    assert again.cuts == cuts_for(59_999, "id", None)
    assert len(again.parts) < 20


def test_a_lost_part_is_stored_again(store: Store, settings: Settings) -> None:
    snapshot = snap(store, many_rides(3))
    [file] = object_files(settings)
    file.unlink()
    with pytest.raises(NotFound):
        read_rows(store, snapshot)
    assert snap(store, many_rides(3)) == snapshot
    assert read_rows(store, snapshot).num_rows == 3


def test_a_damaged_part_is_refused_when_read(store: Store, settings: Settings) -> None:
    snapshot = snap(store, many_rides(3))
    [file] = object_files(settings)
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.chmod(0o600)
    file.write_bytes(content)
    with pytest.raises(ObjectDamaged):
        read_rows(store, snapshot)


def test_the_declared_schema_follows_the_code(store: Store) -> None:
    first = snap(store, many_rides(3), code="one")
    without_z = many_rides(3).drop_columns("z")
    with pytest.raises(DataError, match="Column 'z' of rides is missing"):
        snap(store, without_z, code="one")
    assert history(store) == [(1, first.id)]
    second = snap(store, without_z, code="two")
    assert [column.name for column in second.columns] == ["ts", "id", "y", "x"]
    third = snap(store, without_z.append_column("w", pa.array([1, 2, 3])), code="two")
    assert third.columns[-1] == Column("w", "int64")
    [dataset] = list_datasets(store)
    assert (dataset.name, dataset.columns, dataset.schema_version) == ("rides", third.columns, 3)
    assert read_rows(store, first).column_names == ["ts", "id", "y", "x", "z"]


def test_a_schema_agreed_under_the_newest_code_holds_though_the_rows_are_older(store: Store) -> None:
    first = snap(store, many_rides(3), code="one")
    assert snap(store, many_rides(3), code="two") == first
    with pytest.raises(DataError, match="Column 'z' of rides is missing"):
        snap(store, many_rides(3).drop_columns("z"), code="two")


def test_a_snapshot_in_a_later_format_is_refused_with_what_to_do(store: Store) -> None:
    snapshot = snap(store, many_rides(3))
    with store.write() as tx:
        tx.update("snapshots", {"id": snapshot.id}, {"format": 2})
    with pytest.raises(StoreTooNew, match=r"format 2; this Clew knows formats up to 1\. Run: pip install"):
        get_snapshot(store, snapshot.id)


def test_a_refused_table_leaves_nothing(store: Store, settings: Settings) -> None:
    with pytest.raises(DataError, match="must be unique"):
        snap(store, many_rides(3).set_column(1, "id", pa.array([1, 1, 2])))
    assert (list_datasets(store), list_snapshots(store), object_files(settings)) == ([], [], [])


# -- format 0 ------------------------------------------------------------------------------------------


@pytest.fixture
def old_store(tmp_path: Path) -> Iterator[Store]:
    """Written by the Clew that cut after every 65,536 rows, from `old_rides`: the first 66,000, then all."""
    shutil.unpack_archive(Path(__file__).parent / "store_of_format_0.tar.xz", tmp_path, filter="data")
    with open_store(Settings(root=tmp_path, store=tmp_path / "store"), now=NOW) as store:
        yield store


def old_rides() -> pa.Table:
    numbers = np.arange(70_000)
    times = np.datetime64("2025-01-01", "us") + numbers // 1000 * np.timedelta64(1, "D")
    return pa.table({"ts": times, "id": numbers, "y": numbers % 2})


def newest(store: Store) -> Snapshot:
    found = latest_snapshot(store, "rides")
    assert found is not None
    return found


OLD_ID = "faeb9d74a91d89f81462fdc04583c6769671d2492640dfa47abf0a01522e9a18"


def test_a_snapshot_of_format_0_is_read(old_store: Store) -> None:
    last, first = list_snapshots(old_store, "rides")
    assert [part.n_rows for part in last.parts] == [65_536, 4_464]
    assert last.cuts is None
    for snapshot, n_rows in ((first, 66_000), (last, 70_000)):
        assert content_digest(read_rows(old_store, snapshot)) == content_digest(
            prepare(old_rides().slice(0, n_rows), declare())[0]
        )
    assert last.blocks == block_digests(read_rows(old_store, last))


def test_the_name_of_rows_is_the_one_that_format_0_gave_them(store: Store, old_store: Store) -> None:
    anew = snap(store, old_rides())
    assert anew.id == OLD_ID == newest(old_store).id
    assert len(anew.parts) > 2


def test_rows_that_format_0_kept_are_not_kept_again(old_store: Store) -> None:
    before = newest(old_store)
    assert snap(old_store, old_rides()) == before
    assert before.cuts is None


def test_a_table_kept_in_format_0_goes_on_in_format_1(old_store: Store) -> None:
    older = list_snapshots(old_store, "rides")
    shorter = snap(old_store, old_rides().slice(100))
    assert shorter.cuts == Cuts("id", SMALLEST_REACH)
    assert read_rows(old_store, shorter).num_rows == 69_900
    assert [get_snapshot(old_store, each.id) for each in older] == older


def test_a_part_that_format_0_lost_is_mended_under_the_same_name(old_store: Store, tmp_path: Path) -> None:
    before = newest(old_store)
    digest = before.parts[0].object_digest
    (tmp_path / "store" / "objects" / digest[:2] / digest[2:]).unlink()
    mended = snap(old_store, old_rides())
    assert (mended.id, mended.taken_at) == (before.id, before.taken_at)
    assert read_rows(old_store, mended).num_rows == 70_000


# -- finding -------------------------------------------------------------------------------------------


def test_a_snapshot_is_found_by_the_beginning_of_its_id(store: Store) -> None:
    taken = [snap(store, many_rides(n), now=NOW + timedelta(n)) for n in range(1, 20)]
    assert get_snapshot(store, taken[4].id[:12]) == taken[4]
    assert get_snapshot(store, taken[4].id[:12], dataset="rides") == taken[4]
    by_letter = next(s.id[0] for s in taken if sum(other.id[0] == s.id[0] for other in taken) > 1)
    with pytest.raises(NotFound, match=f"Several snapshots begin with '{by_letter}'.*Write more of the id"):
        get_snapshot(store, by_letter)
    for unknown in ("", "xyz", taken[4].id + "0"):
        with pytest.raises(NotFound, match=f"the newest are {taken[-1].id[:12]}"):
            get_snapshot(store, unknown)
    with pytest.raises(NotFound, match="of dataset 'other'; there are none yet"):
        get_snapshot(store, taken[4].id[:12], dataset="other")


# -- processes -----------------------------------------------------------------------------------------


def test_two_processes_that_snapshot_at_once_make_one_history(settings: Settings, start: StartChild) -> None:
    children = [start(settings, TAKE) for _ in range(2)]
    for child in children:
        assert processes.hear(child) == "ready"
    for child in children:
        processes.tell(child)
    ids = {processes.finish(child) for child in children}
    assert len(ids) == 1
    with open_store(settings, now=NOW) as store:
        assert history(store) == [(1, ids.pop())]
        assert snap(store, many_rides(400_000)).n_rows == 400_000
        assert len(history(store)) == 1


def test_a_process_killed_in_mid_snapshot_leaves_nothing_visible_and_the_repeat_finishes(
    settings: Settings, store: Store, start: StartChild
) -> None:
    before = snap(store, many_rides(10))
    child = start(settings, TAKE)
    assert processes.hear(child) == "ready"
    processes.tell(child)
    while len(object_files(settings)) < 3:
        assert child.poll() is None
    processes.kill(child)
    assert history(store) == [(1, before.id)]
    assert latest_snapshot(store, "rides") == before
    with open_store(settings, now=NOW) as reopened:
        snapshot = snap(reopened, many_rides(400_000))
        assert history(reopened) == [(1, before.id), (2, snapshot.id)]
        rows = read_rows(reopened, snapshot)
    assert content_digest(rows) == content_digest(prepare(many_rides(400_000), declare())[0])
