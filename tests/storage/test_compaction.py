from __future__ import annotations

import random
import time
from collections import Counter
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from clew.config import Settings
from clew.errors import NotFound, UsageError
from clew.storage import (
    LOG_FOLDER,
    LogWriter,
    Store,
    compact,
    open_store,
    parse_prediction_id,
    read_record,
    read_since,
    scan,
)
from clew.storage.log_columns import KINDS, LogRow, joined, records_of, table_of
from clew.storage.log_segments import HEADER_BYTES, list_segments, segment_path
from clew.storage.records import Label, Prediction, Record, decode_lean_record, encode_record
from tests.storage import log_records, processes
from tests.storage.conftest import NOW
from tests.storage.log_records import DAY, NOON, label, mixed, prediction
from tests.storage.processes import StartChild

DEPLOYMENTS = ("busy_hour", "credit")


def write(store: Store, records: Iterable[Record], worker: int = 1, segment_bytes: int = 2000) -> list[str]:
    writer = LogWriter(store.folder / LOG_FOLDER, worker, segment_bytes=segment_bytes)
    ids = [name for record in records for name in writer.append([record])]
    writer.close()
    return ids


def scanned(store: Store, deployments: Iterable[str] = DEPLOYMENTS) -> dict[str, Record]:
    """Every record by its id, as `scan` and `read_record` give it."""
    found: dict[str, Record] = {}
    for deployment in deployments:
        for kind in KINDS.values():
            table = scan(store, deployment, kind)
            ids = table.column("id").to_pylist()
            assert not found.keys() & set(ids)
            assert len(set(ids)) == len(ids)
            found |= dict(zip(ids, records_of(kind, table.drop_columns("id")), strict=True))
    return found


def raw_bytes(store: Store) -> int:
    return sum(segment.n_bytes - HEADER_BYTES for segment in list_segments(store.folder / LOG_FOLDER))


def rows_of(store: Store, table: str) -> list[dict[str, Any]]:
    with store.read() as reader:
        return reader.find(table)


# ---------------------------------------------------------------- what is moved


def test_everything_is_the_same_after_compaction(store: Store) -> None:
    given = [mixed(n) for n in range(200)]
    ids = write(store, given)
    before = scanned(store)
    assert before == dict(zip(ids, given, strict=True))
    done = compact(store, consumed=[], now=NOW)
    assert done.n_records == 200
    assert done.n_parts == len(rows_of(store, "log_parts")) > 3
    assert raw_bytes(store) == 0
    assert scanned(store) == before
    assert {name: read_record(store, name) for name in ids} == before


def test_parts_are_by_model_kind_and_day_and_are_told(store: Store) -> None:
    write(store, [prediction(n) for n in range(-24, 24)])
    done = compact(store, consumed=[], now=NOW)
    parts = rows_of(store, "log_parts")
    assert [(part["deployment"], part["kind"], part["day"], part["n_rows"]) for part in parts] == [
        ("busy_hour", "p", "2026-02-28", 12),
        ("busy_hour", "p", "2026-03-01", 24),
        ("busy_hour", "p", "2026-03-02", 12),
    ]
    assert parts[1]["first_time"] == datetime(2026, 3, 1, tzinfo=UTC)
    assert parts[1]["last_time"] == datetime(2026, 3, 1, 23, tzinfo=UTC)
    assert sum(part["n_bytes"] for part in parts) == done.n_bytes_after
    segments = rows_of(store, "log_segments")
    assert [f"{row['worker']}/{row['segment']}" for row in segments] == list(done.segments)
    assert {row["compacted_at"] for row in segments} == {NOW}
    assert segments[0]["path"] == "log/1/00000001.log"
    assert sum(row["n_records"] for row in segments) == 48


def test_any_engine_reads_a_part_with_typed_columns(store: Store) -> None:
    write(store, [prediction(n) for n in range(10)])
    compact(store, consumed=[], now=NOW)
    [part] = rows_of(store, "log_parts")
    table = pq.read_table(store.objects.path(part["object_digest"]))
    types = {field.name: str(field.type) for field in table.schema}
    assert types["feature.temp"] == "double"
    assert types["feature.weather"] == "string"
    assert types["feature.holiday"] == "bool"
    assert types["event_time"] == "timestamp[us, tz=UTC]"
    assert types["key"] == "int64"
    assert table.column("feature.temp").to_pylist() == [n / 8 for n in range(10)]


def test_a_segment_waits_until_every_reader_has_passed_it(store: Store) -> None:
    folder = store.folder / LOG_FOLDER
    write(store, [prediction(n) for n in range(50)])
    _, ends = read_since(folder, {})
    slow = {"1/1": ends["1/1"], "1/2": ends["1/2"] - 1}
    assert compact(store, consumed=[ends, slow], now=NOW).segments == ("1/1",)
    assert compact(store, consumed=[ends, {}], now=NOW).segments == ()
    assert len(compact(store, consumed=[ends, ends], now=NOW).segments) == len(ends) - 1


def test_a_segment_with_a_torn_tail_waits_for_its_whole_records_alone(store: Store) -> None:
    ids = write(store, [prediction(n) for n in range(3)], segment_bytes=10**6)
    path = segment_path(store.folder / LOG_FOLDER, 1, 1)
    torn = b"\x40\0\0\0half a record"
    with path.open("ab") as file:
        file.write(torn)
    _, ends = read_since(store.folder / LOG_FOLDER, {})
    before_the_last = {"1/1": parse_prediction_id(ids[-1])[2]}
    assert compact(store, consumed=[ends, before_the_last], now=NOW).segments == ()
    assert compact(store, consumed=[ends], now=NOW).n_records == 3
    assert path.with_suffix(".torn").read_bytes() == torn
    assert len(scanned(store)) == 3


def test_a_segment_that_is_written_is_left(store: Store) -> None:
    writer = LogWriter(store.folder / LOG_FOLDER, 1)
    writer.append([prediction(1)])
    assert compact(store, consumed=[], now=NOW).segments == ()
    writer.append([prediction(2)])
    writer.close()
    assert compact(store, consumed=[], now=NOW).segments == ("1/1",)
    assert len(scanned(store)) == 2


def test_an_empty_log_compacts_to_nothing(store: Store) -> None:
    assert compact(store, consumed=[], now=NOW).segments == ()
    write(store, [])
    assert compact(store, consumed=[], now=NOW).segments == ()
    assert scanned(store) == {}


def test_a_number_is_never_given_again_after_compaction(store: Store) -> None:
    ids: list[str] = []
    for life in range(4):
        ids += write(store, [prediction(life)])
        compact(store, consumed=[], now=NOW)
        assert len(list_segments(store.folder / LOG_FOLDER)) <= 2
    assert len(set(ids)) == 4
    assert scanned(store).keys() == set(ids)


def test_a_writer_that_finds_no_room_gives_no_number_free(store: Store) -> None:
    """The file without a header that it removes again does not let the one before it go."""
    [first] = write(store, [prediction(1)])
    segment_path(store.folder / LOG_FOLDER, 1, 2).touch()
    compact(store, consumed=[], now=NOW)
    segment_path(store.folder / LOG_FOLDER, 1, 2).unlink()
    assert write(store, [prediction(2)]) != [first]


def test_many_rows_are_moved_in_bounded_memory(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("clew.storage.compaction.ROWS_AT_ONCE", 30)
    ids = write(store, [prediction(n) for n in range(100)], segment_bytes=10**6)
    ids += write(store, [prediction(n) for n in range(100, 200)], segment_bytes=1000)
    done = compact(store, consumed=[], now=NOW)
    assert done.n_records == 200
    assert list(scanned(store)) == ids
    assert [read_record(store, name) for name in ids] == [prediction(n) for n in range(200)]


# ---------------------------------------------------------------- scanning


def test_a_scan_is_in_the_order_of_time_over_parts_and_segments(store: Store) -> None:
    numbers = list(range(100))
    random.Random(1).shuffle(numbers)
    write(store, [prediction(n) for n in numbers[:60]])
    compact(store, consumed=[], now=NOW)
    write(store, [prediction(n) for n in numbers[60:]])
    table = scan(store, "busy_hour")
    assert table.column("key").to_pylist() == list(range(100))
    assert scan(store, "nothing").num_rows == 0


def test_a_scan_of_some_days_has_what_lies_in_them(store: Store) -> None:
    write(store, [prediction(n) for n in range(72)])
    compact(store, consumed=[], now=NOW)
    write(store, [prediction(n) for n in range(72, 144)], worker=2)
    for start, end in ((0, 144), (10, 20), (60, 90), (100, 500), (-5, 1)):
        table = scan(store, "busy_hour", "p", NOW + timedelta(hours=start), NOW + timedelta(hours=end))
        assert table.column("key").to_pylist() == [n for n in range(144) if start <= n < end]
    assert scan(store, "busy_hour", "p", start=NOW + timedelta(hours=100)).num_rows == 44
    assert scan(store, "busy_hour", "p", end=NOW + timedelta(hours=100)).num_rows == 100


def test_labels_of_one_moment_stay_in_the_order_in_which_they_came(store: Store) -> None:
    labels = [Label("busy_hour", NOON, "A7", f"v{n}", "http", "ann") for n in range(300)]
    write(store, labels[:200], segment_bytes=10**6)
    compact(store, consumed=[], now=NOW)
    write(store, labels[200:])
    assert scan(store, "busy_hour", "l").column("label").to_pylist() == [f"v{n}" for n in range(300)]


def test_columns_of_differing_types_are_joined(store: Store) -> None:
    def asked(n: int, **features: Any) -> Prediction:
        return Prediction(
            "busy_hour", 1, "champion", NOON, NOON + n, n, None, tuple(features), tuple(features.values()),
            None, None, "r", 1,
        )  # fmt: skip

    write(store, [asked(0, a=1, b=1, c="x", d=None), asked(1, a=2, b=2, c="y", d=None)])
    compact(store, consumed=[], now=NOW)
    write(store, [asked(2, a=0.5, b=2**53 + 1, c=7, e=True)])
    compact(store, consumed=[], now=NOW)
    write(store, [asked(3, b=0.5, c=float("nan"), d=2**63)])
    table = scan(store, "busy_hour")
    assert table.column("feature.a").to_pylist() == [1.0, 2.0, 0.5, None]
    assert table.column("feature.b").to_pylist() == ["1", "2", str(2**53 + 1), "0.5"]
    assert table.column("feature.c").to_pylist() == ['"x"', '"y"', "7", "NaN"]
    assert table.column("feature.d").to_pylist() == [None, None, None, str(2**63)]
    assert table.column("feature.e").to_pylist() == [None, None, True, None]


def test_a_kind_that_there_is_not_is_refused(store: Store) -> None:
    with pytest.raises(UsageError, match="no records of kind 'x'"):
        scan(store, "busy_hour", "x")  # type: ignore[arg-type]


def test_an_id_of_nothing_is_not_found(store: Store) -> None:
    [name] = write(store, [prediction(1)])
    worker, segment, offset = name.split("-")
    compact(store, consumed=[], now=NOW)
    for wrong in (
        "no id",
        f"{worker}-{segment}-{offset}1",
        f"{worker}-2-{offset}",
        "f-1-c",
        "f" * 16 + "-1-1",
    ):
        with pytest.raises(NotFound):
            read_record(store, wrong)


# ---------------------------------------------------------------- laws


def log_rows(given: list[Record]) -> list[LogRow]:
    return [LogRow(1, 1, n, decode_lean_record(encode_record(record))) for n, record in enumerate(given)]


@hypothesis_settings(max_examples=100, deadline=None)
@given(given=st.lists(log_records.records, max_size=12), cut=st.integers(0, 12))
def test_records_come_back_from_columns_and_from_joined_columns(given: list[Record], cut: int) -> None:
    for record_type, kind in KINDS.items():
        of_kind = [record for record in given if isinstance(record, record_type)]
        pieces = [log_rows(of_kind)[:cut], log_rows(of_kind)[cut:]]
        whole, parts = table_of(kind, log_rows(of_kind)), joined([table_of(kind, piece) for piece in pieces])
        assert Counter(records_of(kind, whole)) == Counter(of_kind)
        assert Counter(records_of(kind, parts)) == Counter(of_kind)
        assert Counter(map(str, parts.schema.types)) == Counter(map(str, whole.schema.types))


@hypothesis_settings(max_examples=15, deadline=None)
@given(given=st.lists(log_records.records, max_size=15), cut=st.integers(0, 15))
def test_any_log_is_the_same_after_any_compaction(
    tmp_path_factory: pytest.TempPathFactory, given: list[Record], cut: int
) -> None:
    root = tmp_path_factory.mktemp("project")
    with open_store(Settings(root=root, store=root / ".clew"), now=NOW) as store:
        ids = write(store, given[:cut], segment_bytes=300)
        compact(store, consumed=[], now=NOW)
        ids += write(store, given[cut:], segment_bytes=300)
        expected = dict(zip(ids, given, strict=True))
        assert scanned(store, ("busy_hour", "credit", "büro")) == expected
        assert {name: read_record(store, name) for name in ids} == expected


# ---------------------------------------------------------------- death


COMPACT = """
from clew.storage import compact
store = open_store(settings, now=now)
say("compacting")
compact(store, consumed=[], now=now)
say("done")
"""


def test_a_compaction_killed_at_any_moment_loses_and_doubles_nothing(
    settings: Settings, store: Store, start: StartChild
) -> None:
    expected: dict[str, Record] = {}
    seconds, dice, n_killed = 1.0, random.Random(0), 0
    for life in range(30):
        given = [mixed(life * 100 + n) for n in range(100)]
        expected |= dict(zip(write(store, given, worker=1 + life % 3), given, strict=True))
        child = start(settings, COMPACT)
        assert processes.hear(child) == "compacting"
        began = time.monotonic()
        time.sleep(dice.random() * seconds)
        n_killed += child.poll() is None
        if child.poll() is not None:
            seconds = min(seconds, time.monotonic() - began)
        processes.kill(child)
        if life % 5 == 0:
            assert scanned(store) == expected
    assert n_killed >= 10
    compact(store, consumed=[], now=NOW)
    assert raw_bytes(store) == 0
    assert scanned(store) == expected
    assert sum(row["n_records"] for row in rows_of(store, "log_segments")) == len(expected)
    assert sum(row["n_rows"] for row in rows_of(store, "log_parts")) == len(expected)


def test_scans_beside_a_compaction_miss_and_double_nothing(
    settings: Settings, store: Store, start: StartChild
) -> None:
    for life in range(3):
        write(
            store, [prediction(n) for n in range(life * 300, life * 300 + 300)], worker=1, segment_bytes=3000
        )
        child = start(settings, COMPACT)
        while child.poll() is None:
            assert scan(store, "busy_hour").column("key").to_pylist() == list(range(life * 300 + 300))
        processes.finish(child)
    assert raw_bytes(store) == 0


def test_two_compactions_at_once_do_each_segment_once(
    settings: Settings, store: Store, start: StartChild
) -> None:
    ids = write(store, [label(n) for n in range(400)], segment_bytes=1000)
    children = [start(settings, COMPACT) for _ in range(2)]
    for child in children:
        processes.finish(child)
    assert scanned(store).keys() == set(ids)
    assert sum(row["n_rows"] for row in rows_of(store, "log_parts")) == 400


def test_a_compaction_keeps_up_with_writers_that_go_on(store: Store, start: StartChild) -> None:
    writers = [LogWriter(store.folder / LOG_FOLDER, worker, segment_bytes=1500) for worker in (1, 2)]
    expected: dict[str, Record] = {}
    positions: dict[str, int] = {}
    read: list[tuple[str, Record]] = []
    for n in range(0, 200, 2):
        for writer in writers:
            given = [mixed(n), mixed(n + 1)]
            expected |= dict(zip(writer.append(given), given, strict=True))
        if n % 20 == 0:
            new, positions = read_since(store.folder / LOG_FOLDER, positions)
            read += new
            compact(store, consumed=[positions], now=NOW)
            assert scanned(store) == expected
    for writer in writers:
        writer.close()
    new, _ = read_since(store.folder / LOG_FOLDER, positions)
    assert dict(read + new) == expected
    assert len(read + new) == len(expected)


def test_days_far_away_are_days_too(store: Store) -> None:
    for n in (-(10**6), 0, 10**7):
        record = Label("busy_hour", NOON + n * DAY, 1, n, "http", "ann")
        [name] = write(store, [record])
        compact(store, consumed=[], now=NOW)
        assert read_record(store, name) == record
    assert len(rows_of(store, "log_parts")) == 3


def test_a_path_that_looks_like_a_partition_adds_no_column(tmp_path: Path) -> None:
    root = tmp_path / "year=2026"
    root.mkdir()
    with open_store(Settings(root=root, store=root / ".clew"), now=NOW) as store:
        write(store, [prediction(1)])
        compact(store, consumed=[], now=NOW)
        assert "year" not in scan(store, "busy_hour").column_names
