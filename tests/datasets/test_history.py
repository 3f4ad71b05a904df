"""Which snapshot is meant, what a dataset's history says, rows as files, and damage that is found."""

from __future__ import annotations

import errno
import os
import random
from collections.abc import Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clew.config import Settings
from clew.datasets import (
    checkout_snapshot,
    find_snapshot,
    get_snapshot,
    read_rows,
    read_source,
    snapshot_log,
    take_snapshot,
    verify_snapshot,
)
from clew.entities import Snapshot
from clew.errors import Conflict, NotFound, StoreError, UsageError
from clew.storage import Store, open_store
from tests.datasets.conftest import NOW
from tests.datasets.rides import declare, many_rides


def take(store: Store, rows: pa.Table, days: float = 0, name: str = "rides", **said: Any) -> Snapshot:
    now = NOW + timedelta(days=days)
    return take_snapshot(store, declare(name, **said), rows, source="rides.parquet", code=None, now=now)


@pytest.fixture
def three(store: Store) -> list[Snapshot]:
    """Of the first of June, the third and the fifth, each at noon; then the first one again, on the ninth."""
    rows = many_rides(300)
    taken = [take(store, rows.slice(0, n), days) for n, days in ((100, 0), (200, 2), (300, 4))]
    take(store, rows.slice(0, 100), 8)
    return taken


@pytest.mark.parametrize(
    ("words", "place"),
    [
        ("rides", 0),
        ("rides@2026-06-01", 0),
        ("rides@2026-06-02", 0),
        ("rides@2026-06-03", 1),
        ("rides@2026-06-03T11:59", 0),
        ("rides@2026-06-03T12:00", 1),
        ("rides@2026-06-03T14:00+02:00", 1),
        ("rides@2026-06-08", 2),
        ("rides@2026-06-09", 0),
        ("2026-06-05", 2),
    ],
)
def test_a_day_means_its_end_and_a_time_its_moment(
    store: Store, three: list[Snapshot], words: str, place: int
) -> None:
    assert find_snapshot(store, words).id == three[place].id


def test_an_id_or_its_beginning_names_a_snapshot(store: Store, three: list[Snapshot]) -> None:
    for snapshot in three:
        for words in (snapshot.id, snapshot.id[:16], f"rides@{snapshot.id[:16]}"):
            assert find_snapshot(store, words) == get_snapshot(store, snapshot.id)
        assert find_snapshot(store, snapshot.id[:16], "rides").id == snapshot.id


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("rides@2026-05-31", "had no snapshot by 2026-05-31 23:59Z; the first was taken 2026-06-01 12:00Z"),
        ("ride@2026-06-05", "There is no dataset 'ride'. Did you mean 'rides'"),
        ("rides@ffffffffffff", "There is no snapshot 'ffffffffffff' of dataset 'rides'; the newest are"),
        ("walks", "There is no snapshot 'walks'; the newest are"),
    ],
)
def test_what_is_not_there_is_told_with_what_is(
    store: Store, three: list[Snapshot], words: str, said: str
) -> None:
    with pytest.raises(NotFound) as refused:
        find_snapshot(store, words)
    assert said in str(refused.value)


def test_a_date_needs_its_dataset_where_there_are_two(store: Store, three: list[Snapshot]) -> None:
    take(store, many_rides(5), name="walks")
    with pytest.raises(NotFound, match="but of which dataset"):
        find_snapshot(store, "2026-06-05")


def test_the_log_counts_each_part_once(store: Store, three: list[Snapshot]) -> None:
    entries = snapshot_log(store, "rides")
    assert [entry.number for entry in entries] == [4, 3, 2, 1]
    assert [entry.snapshot.id for entry in entries] == [
        three[0].id,
        *(each.id for each in reversed(three)),
    ]
    on_disk = {
        part.object_digest: store.objects.path(part.object_digest).stat().st_size
        for each in three
        for part in each.parts
    }
    assert sum(entry.n_new_bytes for entry in entries) == sum(on_disk.values())
    assert entries[0].n_new_bytes == 0
    assert entries[0].n_bytes == entries[3].n_bytes > 0


# -- rows as files -------------------------------------------------------------------------------------

TEXTS = st.one_of(st.none(), st.sampled_from(["", "NA", "null", "01067", 'a "quoted", word', "two\nlines"]))
FLOATS = st.one_of(st.none(), st.floats(allow_nan=False, width=64))


@settings(max_examples=30, deadline=None)
@given(texts=st.lists(TEXTS, min_size=3, max_size=20), data=st.data())
@pytest.mark.parametrize("suffix", [".parquet", ".csv", ".csv.gz"])
def test_a_file_read_back_is_the_same_snapshot(
    suffix: str, texts: Sequence[str | None], data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    n = len(texts)
    floats = data.draw(st.lists(FLOATS, min_size=n, max_size=n))
    rows = pa.table(
        {
            "ts": np.datetime64("2025-01-01", "us") + np.arange(n) * np.timedelta64(1, "s"),
            "id": [f"k{place}" for place in range(n)],
            "y": [True, False] * (n // 2) + [None] * (n % 2),
            "text": pa.array([*texts[:-1], "words"], pa.string()),
            "real": pa.array([*floats[:-1], 0.5], pa.float64()),
            "day": pa.array([18_000] * n, pa.int32()).cast(pa.date32()),
        }
    )
    folder = tmp_path_factory.mktemp("files")
    with open_store(Settings(root=folder, store=folder / "store"), now=NOW) as store:
        snapshot = take(store, rows)
        n_bytes = checkout_snapshot(store, snapshot, folder / f"out{suffix}")
        assert (folder / f"out{suffix}").stat().st_size == n_bytes
        again = read_source(f"out{suffix}", folder, text=["id", "text"])
        assert take(store, again).id == snapshot.id


def test_a_file_that_is_there_is_left_as_it_is(store: Store, tmp_path: Path) -> None:
    snapshot = take(store, many_rides(50))
    place = tmp_path / "rides.parquet"
    place.write_text("mine")
    with pytest.raises(Conflict, match=r"is there already\. Name another file, or replace it with --force"):
        checkout_snapshot(store, snapshot, place)
    assert place.read_text() == "mine"
    checkout_snapshot(store, snapshot, place, force=True)
    assert pq.read_table(place).equals(read_rows(store, snapshot))
    assert [path.name for path in tmp_path.iterdir() if path.name.endswith(".part")] == []


def test_a_file_made_meanwhile_is_not_replaced(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    snapshot, place, link = take(store, many_rides(50)), tmp_path / "rides.csv", os.link

    def late(*given: Any, **more: Any) -> None:
        place.write_text("theirs")
        link(*given, **more)

    monkeypatch.setattr(os, "link", late)
    with pytest.raises(Conflict):
        checkout_snapshot(store, snapshot, place)
    assert place.read_text() == "theirs"


def test_a_file_system_without_links_is_written_to(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_links(*given: Any, **more: Any) -> None:
        raise OSError(errno.EPERM, "no links here")

    snapshot = take(store, many_rides(50))
    monkeypatch.setattr(os, "link", no_links)
    checkout_snapshot(store, snapshot, tmp_path / "rides.parquet")
    assert pq.read_table(tmp_path / "rides.parquet").num_rows == 50


@pytest.mark.parametrize(
    ("name", "said"),
    [("rides.xlsx", "'rides.xlsx' says by its end no kind"), ("no/rides.csv", "Make it: mkdir -p")],
)
def test_where_nothing_can_be_written_is_said(store: Store, tmp_path: Path, name: str, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        checkout_snapshot(store, take(store, many_rides(5)), tmp_path / name)


def test_a_damaged_part_leaves_no_file(store: Store, tmp_path: Path) -> None:
    snapshot = take(store, many_rides(500))
    flip(store.objects.path(snapshot.parts[-1].object_digest), random.Random(1))
    with pytest.raises(StoreError, match="is damaged"):
        checkout_snapshot(store, snapshot, tmp_path / "rides.parquet")
    assert [path.name for path in tmp_path.iterdir()] == [".clew"]


# -- damage --------------------------------------------------------------------------------------------


def flip(file: Path, draw: random.Random) -> None:
    """Turn one bit of a file."""
    content = bytearray(file.read_bytes())
    bit = draw.randrange(len(content) * 8)
    content[bit // 8] ^= 1 << bit % 8
    file.chmod(0o600)
    file.write_bytes(content)


@pytest.mark.parametrize("n", [500, 70_000, 140_000])
def test_a_whole_snapshot_is_whole(store: Store, n: int) -> None:
    check = verify_snapshot(store, take(store, many_rides(n)))
    assert check.is_whole
    assert check.n_rows == n


@pytest.mark.parametrize("seed", range(5))
def test_a_flipped_bit_is_found_and_its_part_and_rows_named_and_can_be_mended(
    store: Store, seed: int
) -> None:
    draw, rows = random.Random(seed), many_rides(70_000)
    snapshot = take(store, rows)
    place = draw.randrange(len(snapshot.parts))
    file = store.objects.path(snapshot.parts[place].object_digest)
    flip(file, draw)
    check = verify_snapshot(store, snapshot)
    (damage,) = check.damaged
    assert not check.is_whole
    assert (damage.part, damage.what, Path(damage.file)) == (place + 1, "is not what it was", file)
    assert damage.first_row == sum(part.n_rows for part in snapshot.parts[:place])
    file.unlink()
    (damage,) = verify_snapshot(store, snapshot).damaged
    assert damage.what == "is lost"
    assert verify_snapshot(store, take(store, rows)).is_whole


def test_a_record_that_was_changed_is_found(store: Store) -> None:
    snapshot = take(store, many_rides(500))
    columns = msgspec.to_builtins(snapshot.columns)
    columns[-1]["is_categorical"] = not columns[-1]["is_categorical"]
    with store.write() as tx:
        tx.update("snapshots", {"dataset": "rides", "id": snapshot.id}, {"columns": columns})
    check = verify_snapshot(store, get_snapshot(store, snapshot.id))
    assert check.unlike == ("its record names columns, roles or rows that its id does not",)


def test_a_part_that_was_exchanged_for_another_is_found(store: Store) -> None:
    one, other = take(store, many_rides(500)), take(store, many_rides(501).slice(1))
    parts = msgspec.to_builtins(other.parts)
    with store.write() as tx:
        tx.update("snapshots", {"dataset": "rides", "id": one.id}, {"parts": parts})
    check = verify_snapshot(store, get_snapshot(store, one.id))
    assert check.unlike == ("rows 0 to 499 are not those that it was named by",)


def test_times_of_the_log_are_those_of_the_snapshots(store: Store, three: list[Snapshot]) -> None:
    taken: list[datetime] = [entry.taken_at for entry in snapshot_log(store, "rides")]
    assert taken == sorted(taken, reverse=True)
