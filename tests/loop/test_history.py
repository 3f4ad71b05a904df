from __future__ import annotations

from datetime import UTC, date, datetime, timedelta

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from clew.entities import Duration, RowRange
from clew.errors import DataError
from clew.loop.history import History, as_moment, as_time, matured_times
from tests.loop.made import START, declared, history, hours, table

MICROSECOND = timedelta(microseconds=1)


def hourly(n: int = 100, delay: str = "1d") -> History:
    return history(table(hours(n)), declared(label_delay=Duration.parse(delay)))


@given(st.timedeltas(timedelta(), timedelta(days=40_000)))
def test_a_moment_survives_the_way_through_numpy(passed: timedelta) -> None:
    moment = datetime(1980, 1, 1, tzinfo=UTC) + passed
    assert as_moment(as_time(moment)) == moment


def test_a_moment_of_another_zone_is_the_same_instant() -> None:
    berlin = datetime.fromisoformat("2026-07-01T12:00:00+02:00")
    assert as_time(berlin) == np.datetime64("2026-07-01T10:00:00")


def test_rows_without_a_label_are_not_counted() -> None:
    rows = hourly(100)
    assert len(rows) == 90
    assert rows.rows[8:11].tolist() == [8, 10, 11]
    assert rows.y[:3].tolist() == [0, 1, 0]


def test_a_table_without_any_label_is_refused_by_name() -> None:
    empty = table(hours(5), busy=pa.nulls(5, pa.int64()))
    with pytest.raises(DataError, match="No row of 'rides' has a label in column 'busy'") as caught:
        history(empty)
    assert caught.value.column == "busy"


def test_a_row_arrives_one_microsecond_after_its_event() -> None:
    rows = hourly()
    at = START + timedelta(hours=5)
    assert [rows.arrived(moment) for moment in (at - MICROSECOND, at, at + MICROSECOND)] == [5, 5, 6]


def test_a_label_matures_at_its_delay_to_the_microsecond() -> None:
    rows = hourly(delay="1d")
    at = START + timedelta(days=1, hours=5)
    assert [rows.matured(moment) for moment in (at - MICROSECOND, at, at + MICROSECOND)] == [5, 6, 6]


def test_without_a_delay_a_label_is_known_with_its_event() -> None:
    rows = hourly(delay="0d")
    at = START + timedelta(hours=5)
    assert (rows.matured(at), rows.arrived(at)) == (6, 5)


@given(st.integers(0, 200), st.sampled_from(["0d", "90m", "1d", "1mo"]))
def test_no_label_has_matured_before_its_row_arrived(hour: int, delay: str) -> None:
    rows, now = hourly(60, delay), START + timedelta(hours=hour, microseconds=1)
    assert rows.matured(now) <= rows.arrived(now)


def test_months_of_delay_are_counted_in_the_calendar() -> None:
    rows = hourly(40 * 24, delay="1mo")
    # Rows of 1 January until midnight, the tenth of each ten without a label, mature on 1 February.
    assert rows.matured(datetime(2026, 2, 2, tzinfo=UTC) - MICROSECOND) == 22
    assert rows.matured(datetime(2026, 2, 2, tzinfo=UTC)) == 23


def test_maturity_never_runs_backwards_where_months_differ_in_length() -> None:
    # One month after 30 January 23:00 is 28 February 23:00; after 31 January 01:00 it is 01:00 that day.
    times = [datetime(2026, 1, day, hour, tzinfo=UTC) for day, hour in ((30, 23), (31, 1), (31, 23))]
    rows = history(table(times), declared(label_delay=Duration(1)))
    assert rows.matured(datetime(2026, 2, 28, 2, tzinfo=UTC)) == 0
    assert rows.matured(datetime(2026, 2, 28, 23, tzinfo=UTC)) == 3


@given(st.lists(st.integers(0, 10**6), min_size=1, max_size=50), st.integers(0, 3), st.integers(0, 60))
def test_what_has_matured_is_a_beginning_of_the_rows(
    minutes: list[int], months: int, later_days: int
) -> None:
    times = np.array([as_time(START + timedelta(minutes=m)) for m in sorted(minutes)])
    matured = matured_times(times, Duration(months, timedelta(hours=5)))
    assert (np.diff(matured) >= np.timedelta64(0)).all()
    assert (matured >= times + np.timedelta64(5, "h")).all()


def test_the_time_of_a_row_beyond_the_end_is_the_last() -> None:
    rows = hourly(10)
    assert (rows.time_of(0), rows.time_of(99)) == (START, START + timedelta(hours=8))


def test_ranges_take_the_unlabelled_rows_between_along() -> None:
    rows = hourly(30)
    assert rows.ranges([(0, 5), (7, 12), (12, 12)]) == (RowRange(0, 5), RowRange(7, 13))


@given(st.integers(0, 25), st.integers(0, 25))
def test_ranges_hold_exactly_the_labelled_rows_asked_for(start: int, length: int) -> None:
    rows = hourly(60)
    found = [row for each in rows.ranges([(start, start + length)]) for row in range(each.start, each.end)]
    assert [row for row in found if row in rows.rows] == rows.rows[start : start + length].tolist()


def test_a_column_is_read_on_labelled_rows_only() -> None:
    rows = hourly(30)
    assert rows.column("hour_id", 8, 11).tolist() == ["h00008", "h00010", "h00011"]


def test_features_become_numbers_and_words() -> None:
    n = 12
    rows = history(
        table(
            hours(n),
            warmth=pa.array([None, *range(n - 1)], pa.int64()),
            rainy=pa.array([True, False, None] * 4),
            city=pa.array(["Bonn", None, "Kiel"] * 4).dictionary_encode(),
            opened=pa.array([date(2026, 1, 1), None, date(2026, 1, 2)] * 4),
            seen=pa.array([START, None, START + timedelta(seconds=1)] * 4, pa.timestamp("us", "UTC")),
        )
    )
    warmth, rainy, city, opened, seen = rows.feature_columns([(0, 3)])
    assert np.isnan(warmth[0])
    assert warmth[1:].tolist() == [0.0, 1.0]
    assert (rainy[:2].tolist(), np.isnan(rainy[2])) == ([1.0, 0.0], True)
    assert city.tolist() == ["Bonn", "", "Kiel"]
    assert opened[2] - opened[0] == 24 * 3600 * 1e6
    assert seen[2] - seen[0] == 1e6
    assert np.isnan([opened[1], seen[1]]).all()


def test_whole_numbers_that_no_float_can_hold_are_rounded() -> None:
    rows = history(table(hours(2), warmth=pa.array([2**53 + 1, 2**62], pa.int64())))
    assert rows.feature_columns([(0, 2)])[0].tolist() == [2.0**53, 2.0**62]


def test_features_of_several_pieces_follow_each_other() -> None:
    rows = hourly(40)
    (warmth,) = rows.feature_columns([(0, 2), (20, 22)])
    assert warmth.tolist() == [*rows.column("warmth", 0, 2), *rows.column("warmth", 20, 22)]
    assert rows.feature_columns([])[0].tolist() == []
