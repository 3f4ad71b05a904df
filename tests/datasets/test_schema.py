from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clew.datasets import content_digest, feature_names, prepare
from clew.entities import Column
from clew.errors import DataError
from tests.datasets.rides import declare
from tests.datasets.tables import coded, rechunked, tables

START = datetime(2026, 3, 1, tzinfo=UTC)
DECLARED = (
    Column("ts", "timestamp[us, tz=UTC]"),
    Column("id", "string", is_categorical=True),
    Column("y", "int64"),
    Column("x", "int64"),
)


def rides(n: int = 4, **columns: Any) -> pa.Table:
    """A good table of `n` rows, but for the columns given; a column that is None is left out."""
    given: dict[str, Any] = {
        "ts": [START + timedelta(hours=i) for i in range(n)],
        "id": [f"k{i}" for i in range(n)],
        "y": [i % 2 for i in range(n)],
        "x": list(range(n)),
    } | columns
    return pa.table({name: column for name, column in given.items() if column is not None})


def refused(table: pa.Table, declared: tuple[Column, ...] | None = None, **declaration: Any) -> DataError:
    with pytest.raises(DataError) as caught:
        prepare(table, declare(**declaration), declared)
    return caught.value


# -- good tables ---------------------------------------------------------------------------------------


@given(table=tables(), data=st.data(), sizes=st.lists(st.integers(0, 9), max_size=4))
@settings(max_examples=50)
def test_the_same_rows_in_any_order_and_layout_are_prepared_alike(
    table: pa.Table, data: st.DataObject, sizes: list[int]
) -> None:
    order = data.draw(st.permutations(range(table.num_rows)))
    rows, columns = prepare(table, declare())
    other, other_columns = prepare(
        coded(rechunked(table.take(pa.array(order, pa.int64())), sizes)), declare()
    )
    assert content_digest(other) == content_digest(rows)
    assert other_columns == columns


@given(table=tables())
@settings(max_examples=50)
def test_prepared_rows_are_ordered_by_time_and_key_and_prepared_again_stay_as_they_are(
    table: pa.Table,
) -> None:
    rows, columns = prepare(table, declare())
    places = list(zip(rows["ts"].to_pylist(), rows["id"].to_pylist(), strict=True))
    assert places == sorted(places, key=lambda place: (place[0], place[1].encode()))
    again, same_columns = prepare(rows, declare(), columns)
    assert again.equals(rows)
    assert same_columns == columns


@pytest.mark.parametrize(
    ("column", "kept", "values"),
    [
        (pa.array([1, 2], pa.int8()), "int64", [1, 2]),
        (pa.array([1, 2], pa.uint64()), "int64", [1, 2]),
        (pa.array([0.5, np.nan], pa.float32(), from_pandas=False), "double", [0.5, None]),
        (pa.array([0.5, np.nan], pa.float16(), from_pandas=False), "double", [0.5, None]),
        (pa.array(["a", None], pa.large_string()), "string", ["a", None]),
        (pa.array(["a", None], pa.string_view()), "string", ["a", None]),
        (pa.array(["a", "b"]).dictionary_encode(), "string", ["a", "b"]),
        (pa.array([7, 8]).dictionary_encode(), "int64", [7, 8]),
        (pa.array([date(2026, 1, 1), None], pa.date64()), "date32[day]", [date(2026, 1, 1), None]),
        (pa.array([START, None], pa.timestamp("s", "CET")), "timestamp[us, tz=UTC]", [START, None]),
    ],
)
def test_a_new_column_is_kept_as_the_widest_type_of_its_kind(
    column: pa.Array, kept: str, values: list[object]
) -> None:
    rows, columns = prepare(rides(2, x=column), declare())
    assert columns[3].type == kept
    assert rows["x"].to_pylist() == values
    assert columns[3].is_categorical == (kept == "string" or pa.types.is_dictionary(column.type))


@pytest.mark.parametrize(
    ("given_values", "kept"),
    [
        (pa.array([1.0, None, 3.0]), "int64"),
        (pa.array(["1", None, "-30"]), "int64"),
        (pa.array([True, None, False]), "int64"),
        (pa.array([1, None, 2**53]), "double"),
        (pa.array(["1.5", None, "1e3"]), "double"),
        (pa.array([1, None, 0]), "bool"),
        (pa.array([1.0, None, 0.0]), "bool"),
        (pa.array(["true", None, "False"]), "bool"),
        (pa.array([1, None, -20]), "string"),
        (pa.array(["2026-03-01", None, "1969-01-01"]), "date32[day]"),
        (pa.array([datetime(2026, 3, 1), None, datetime(1969, 1, 1)]), "date32[day]"),  # noqa: DTZ001
        (pa.array([date(2026, 3, 1), None, date(1969, 1, 1)]), "timestamp[us, tz=UTC]"),
        (pa.array(["2026-03-01T10:00:00+01:00", None, "2026-03-01 10:00"]), "timestamp[us, tz=UTC]"),
        (pa.nulls(3), "double"),
    ],
)
def test_a_declared_column_takes_other_types_that_lose_nothing(given_values: pa.Array, kept: str) -> None:
    declared = (*DECLARED[:3], Column("x", kept))
    rows, columns = prepare(rides(3, x=given_values), declare(), declared)
    assert columns == declared
    assert str(rows.schema.field("x").type) == kept
    assert rows["x"].null_count == given_values.null_count


def test_text_times_may_mix_offsets_and_none() -> None:
    times = ["2026-07-01 12:00:00", "2026-07-01T12:00:00+02:00", "2026-07-01T11:00:00.5Z", "2026-07-02"]
    rows, _ = prepare(rides(ts=times), declare(timezone="Europe/Berlin"))
    assert [str(moment) for moment in rows["ts"].to_pylist()] == [
        "2026-07-01 10:00:00+00:00",
        "2026-07-01 10:00:00+00:00",
        "2026-07-01 11:00:00.500000+00:00",
        "2026-07-01 22:00:00+00:00",
    ]


def test_times_without_a_zone_are_read_in_the_declared_one() -> None:
    naive = pa.array([datetime(2026, 7, 1, 12), datetime(2026, 12, 1, 12)])  # noqa: DTZ001
    table = rides(2, ts=naive, x=naive)
    utc, _ = prepare(table, declare())
    berlin, _ = prepare(table, declare(timezone="Europe/Berlin"))
    assert [moment.hour for moment in utc["ts"].to_pylist()] == [12, 12]
    assert [moment.hour for moment in berlin["ts"].to_pylist()] == [10, 11]
    assert berlin["x"].to_pylist() == berlin["ts"].to_pylist()


@pytest.mark.parametrize(
    "keys", [["a", "b"], [2, 1], [START, START + timedelta(1)], [date(2026, 1, 1), date(2026, 1, 2)]]
)
def test_a_key_is_text_a_whole_number_a_date_or_a_time(keys: list[object]) -> None:
    rows, _ = prepare(rides(2, id=keys, ts=[START, START]), declare())
    assert rows["id"].to_pylist() == sorted(keys)  # type: ignore[type-var]


def test_columns_come_in_the_declared_order_with_new_ones_last() -> None:
    table = rides(new=[1, 2, 3, 4]).select(["new", "x", "y", "id", "ts"])
    rows, columns = prepare(table, declare(), DECLARED)
    assert rows.column_names == ["ts", "id", "y", "x", "new"]
    assert columns == (*DECLARED, Column("new", "int64"))


def test_a_column_joins_with_its_first_value_and_then_stays() -> None:
    empty = {"never": pa.nulls(4), "nan": [np.nan] * 4, "text": pa.nulls(4, pa.string())}
    _, columns = prepare(rides(**empty), declare())
    assert columns == DECLARED
    _, columns = prepare(rides(**empty | {"never": [None, 1, None, None]}), declare(), columns)
    assert columns == (*DECLARED, Column("never", "int64"))
    rows, columns = prepare(rides(**empty), declare(), columns)
    assert columns == (*DECLARED, Column("never", "int64"))
    assert rows["never"].null_count == 4


def test_changed_code_may_drop_and_change_columns_and_keeps_what_still_fits() -> None:
    declared = (*DECLARED, Column("old", "int64"), Column("kind", "int64"), Column("size", "double"))
    table = rides(kind=["a", "b", "c", "d"], size=[1, 2, 3, 4])
    _, columns = prepare(table, declare(), declared, may_change=True)
    assert columns == (*DECLARED, Column("kind", "string", is_categorical=True), Column("size", "double"))


# -- bad tables ----------------------------------------------------------------------------------------


def test_a_table_without_rows_is_refused() -> None:
    assert "has no rows" in str(refused(rides().slice(0, 0)))


@pytest.mark.parametrize(
    ("role", "table", "given_name"),
    [
        ("time", rides().rename_columns(["tss", "id", "y", "x"]), "ts"),
        ("key", rides().rename_columns(["ts", "idd", "y", "x"]), "id"),
        ("label", rides().rename_columns(["ts", "id", "yy", "x"]), "y"),
    ],
)
def test_a_missing_column_names_its_role_and_the_nearest(role: str, table: pa.Table, given_name: str) -> None:
    error = refused(table)
    assert f"declares {role}='{given_name}', but the table has no such column" in str(error)
    assert f"Did you mean '{given_name * 2 if given_name != 'ts' else 'tss'}'?" in str(error) or "idd" in str(
        error
    )
    assert error.column == given_name


def test_entity_and_not_features_must_be_there_too() -> None:
    assert "declares entity='customer'" in str(refused(rides(), entity="customer"))
    assert "declares not_features='xx'" in str(refused(rides(), not_features=("xx",)))


def test_a_declared_column_that_was_renamed_is_guessed() -> None:
    error = refused(
        rides(x=None, temperature_c=[1, 2, 3, 4]), (*DECLARED[:3], Column("temperature", "int64"))
    )
    assert "Column 'temperature' of rides is missing from the table. Did you mean 'temperature_c'?" in str(
        error
    )
    assert "follows a change of the code" in str(error)
    assert error.column == "temperature"


@pytest.mark.parametrize(
    ("column", "kept", "words", "rows"),
    [
        (
            ["1", "n/a", "3", "?"],
            "int64",
            "row 1 ('n/a') and row 3 ('?') (the first row is row 0) is no plain",
            (1, 3),
        ),
        (["1", "007", "3", "4"], "int64", "row 1 ('007')", (1,)),
        ([1.0, 2.0**60, 3.0, 4.0], "int64", "may have lost digits", (1,)),
        ([1, 2, 3, 2**53 + 1], "double", "row 3 (9007199254740993)", (3,)),
        (["1.5", "x", "", "2"], "double", "row 1 ('x') and row 2 ('')", (1, 2)),
        ([0, 1, 2, 1], "bool", "row 2 (2) (the first row is row 0) is neither 0 nor 1", (2,)),
        (["yes", "true", "no", "no"], "bool", "row 0 ('yes'), row 2 ('no') and row 3 ('no')", (0, 2, 3)),
        (
            ["2026-02-30", "2026-01-01", "", None],
            "date32[day]",
            "row 0 ('2026-02-30') and row 2 ('')",
            (0, 2),
        ),
        ([START, START + timedelta(hours=1), None, None], "date32[day]", "is no midnight", (1,)),
        (["soon", "2026-03-01", None, None], "timestamp[us, tz=UTC]", "is no time such as", (0,)),
        (
            pa.array([0, 1, 2000, None], pa.timestamp("ns")),
            "timestamp[us, tz=UTC]",
            "finer than a microsecond",
            (1,),
        ),
        (pa.array([1, 2**63, 3, 4], pa.uint64()), "int64", "row 1 (9223372036854775808)", (1,)),
        ([1.5, 2.0, 3.0, 4.0], "string", "is declared string, but the table has double", ()),
        (
            [True, False, True, None],
            "string",
            "has bool, which does not turn into it: row 0 (True), row 1",
            (),
        ),
        ([START] * 4, "int64", "is declared int64, but the table has timestamp[us, tz=UTC]", ()),
        ([1, 2, 3, 4], "timestamp[us, tz=UTC]", "the table has int64", ()),
        ([[1]] * 4, "int64", "the table has list<item: int64>", ()),
    ],
)
def test_a_value_that_does_not_fit_its_declared_type_is_named_with_its_row(
    column: Any, kept: str, words: str, rows: tuple[int, ...]
) -> None:
    values = pa.array(column, from_pandas=True) if isinstance(column, list) else column
    error = refused(rides(x=values), (*DECLARED[:3], Column("x", kept)))
    assert words in str(error)
    assert "'x'" in str(error)
    assert (error.column, error.rows) == ("x", rows)


def test_of_many_misfits_three_are_named() -> None:
    n = 100_000
    error = refused(rides(n, x=["?"] * n), DECLARED)
    assert "row 0 ('?'), row 1 ('?') and row 2 ('?')" in str(error)
    assert "there may be more" in str(error)


@pytest.mark.parametrize(
    "column",
    [[[1]] * 4, [{"a": 1}] * 4, [b"x"] * 4, pa.array([1, 2, 3, 4], pa.decimal128(5, 2)), [timedelta(1)] * 4],
)
def test_a_type_that_cannot_be_kept_names_the_column(column: Any) -> None:
    error = refused(rides(x=column))
    assert "Column 'x' has type" in str(error)
    assert "which cannot be kept" in str(error)


def test_a_null_or_repeated_key_names_its_rows() -> None:
    error = refused(rides(id=["a", None, "c", None]))
    assert "key='id' is null in row 1 and row 3 (the first row is row 0)" in str(error)
    assert error.rows == (1, 3)
    error = refused(rides(6, id=["b", "a", "c", "b", "a", "b"]))
    assert "row 0 ('b'), row 3 ('b') and row 5 ('b')" in str(error)
    assert "1 other key" in str(error)
    assert error.rows == (0, 3, 5)


def test_keys_that_are_the_same_instant_repeat() -> None:
    times = ["2026-03-01T10:00:00Z", "2026-03-01T11:00:00+01:00", "2026-03-02", "2026-03-03"]
    declared = (DECLARED[0], Column("id", "timestamp[us, tz=UTC]"), *DECLARED[2:])
    assert refused(rides(id=times), declared).rows == (0, 1)


@pytest.mark.parametrize("keys", [[0.5, 1.5, 2.5, 3.5], [True, False, True, False]])
def test_a_key_of_another_type_is_refused(keys: list[object]) -> None:
    assert "a key is text, a whole number, a date or a time" in str(refused(rides(id=keys)))


def test_a_null_time_names_its_rows() -> None:
    error = refused(rides(ts=[START, None, START, None]))
    assert "time='ts' is null in row 1 and row 3" in str(error)
    assert (error.column, error.rows) == ("ts", (1, 3))
    assert "time='ts' is null in row 0, row 1, row 2 and 1 more" in str(refused(rides(ts=pa.nulls(4))))


@pytest.mark.parametrize("times", [[1, 2, 3, 4], [1.5] * 4, [True] * 4])
def test_a_time_that_is_a_number_is_refused_with_the_mend(times: list[object]) -> None:
    assert "pandas.to_datetime(table['ts'], unit='s')" in str(refused(rides(ts=times)))


@pytest.mark.parametrize("zone", [None, "UTC"])
def test_a_time_beyond_the_calendar_names_its_rows(zone: str | None) -> None:
    milliseconds = [1_767_225_600_000, 0, 0, 0]
    error = refused(rides(ts=pa.array(milliseconds, pa.timestamp("s", zone))))
    assert "lies outside the years 1 to 9998; were milliseconds read as seconds?" in str(error)
    assert error.rows == (0,)


def test_a_time_that_cannot_be_read_names_its_rows() -> None:
    error = refused(rides(ts=["2026-03-01", "01/03/2026", "2026-13-01", "2026-03-04"]))
    assert "row 1 ('01/03/2026') and row 2 ('2026-13-01')" in str(error)
    assert "is no time such as '2026-03-01 14:30:00'" in str(error)
    assert error.rows == (1, 2)


@pytest.mark.parametrize("as_text", [True, False])
def test_a_time_that_happened_twice_when_the_clocks_went_back_names_its_rows(as_text: bool) -> None:
    naive = [datetime(2026, 10, 25, hour, 30) for hour in (1, 2, 3, 4)]  # noqa: DTZ001
    error = refused(rides(ts=[str(t) for t in naive] if as_text else naive), timezone="Europe/Berlin")
    assert "row 1 (" in str(error)
    assert "2026-10-25 02:30:00" in str(error)
    assert "happened twice in Europe/Berlin" in str(error)
    assert error.rows == (1,)


@pytest.mark.parametrize("as_text", [True, False])
def test_a_time_that_the_clocks_jumped_over_names_its_rows(as_text: bool) -> None:
    naive = [datetime(2026, 3, 29, hour, 30) for hour in (1, 2, 3, 4)]  # noqa: DTZ001
    error = refused(rides(ts=[str(t) for t in naive] if as_text else naive), timezone="Europe/Berlin")
    assert "2026-03-29 02:30:00" in str(error)
    assert "never happened in Europe/Berlin" in str(error)
    assert error.rows == (1,)


@pytest.mark.parametrize("label", [pa.nulls(4), pa.nulls(4, pa.int64()), [np.nan] * 4])
def test_a_table_without_any_label_is_refused(label: Any) -> None:
    for declared in (None, DECLARED):
        error = refused(rides(y=label), declared)
        assert "label='y' is null in all 4 rows" in str(error)
        assert error.column == "y"


def test_two_columns_of_one_name_and_a_column_without_are_refused() -> None:
    assert "two columns named 'id'" in str(refused(rides().rename_columns(["ts", "id", "y", "id"])))
    assert "position 3 has no name" in str(refused(rides().rename_columns(["ts", "id", "y", ""])))


# -- features ------------------------------------------------------------------------------------------


def test_features_are_the_columns_without_a_role() -> None:
    columns = (*DECLARED, Column("who", "string"), Column("age", "int64"), Column("sex", "string"))
    declaration = declare(entity="who", not_features=("sex",))
    assert feature_names(columns, declaration) == ("x", "age")
    assert feature_names(columns, declaration, ["age"]) == ("x",)
    assert feature_names(columns, declaration, ["age", "sex"]) == ("x",)


def test_features_that_are_none_or_unknown_are_refused() -> None:
    with pytest.raises(DataError, match="rides has no feature: its columns are ts, id, y, x"):
        feature_names(DECLARED, declare(), ["x"])
    with pytest.raises(DataError, match="Did you mean 'x'"):
        feature_names(DECLARED, declare(), ["xx"])


# -- schemas that change -------------------------------------------------------------------------------


def test_whole_numbers_become_decimals_when_fractions_come() -> None:
    table, columns = prepare(rides(x=[1.0, 2.5, np.nan, 4.0]), declare(), DECLARED)
    assert columns == (*DECLARED[:-1], Column("x", "double"))
    assert table["x"].to_pylist() == [1.0, 2.5, None, 4.0]
    assert prepare(rides(x=[1.0, 2.0, np.nan, 4.0]), declare(), DECLARED)[1] == DECLARED


def test_a_label_and_a_key_stay_whole_numbers() -> None:
    assert "row 1 (0.5)" in str(refused(rides(y=[1.0, 0.5, 1.0, 0.0]), DECLARED))
    declared = (DECLARED[0], Column("id", "int64"), *DECLARED[2:])
    assert "row 2 (0.5)" in str(refused(rides(id=[1.0, 2.0, 0.5, 3.0]), declared))


@pytest.mark.parametrize(
    ("name", "words"), [("id", "is no key"), ("y", "where the label is not known make it null")]
)
def test_an_empty_text_is_neither_a_key_nor_a_label(name: str, words: str) -> None:
    columns: dict[str, Any] = {name: ["a", "b", "c", ""]}
    error = refused(rides(**columns))
    assert "is an empty text in row 3" in str(error)
    assert words in str(error)
    assert (error.column, error.rows) == (name, (3,))
    assert prepare(rides(y=["a", "b", "c", None]), declare())[0].num_rows == 4
