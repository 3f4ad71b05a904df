"""What a model takes, and what it is told when given something else."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from clew.entities import FrameKind
from clew.errors import DataError
from clew.registry import FeatureColumn, Signature
from tests.registry.rides import rides, signature_of

KINDS: list[FrameKind] = ["pandas", "polars", "pyarrow"]


def one(values: Any, kind: pa.DataType | None = None, *, is_categorical: bool = False) -> Signature:
    """The signature of a table with the one column x."""
    names = {"x"} if is_categorical else set()
    return Signature.of(pa.table({"x": pa.array(values, kind)}), names, "pandas", "regression")


def as_frame(table: pa.Table, kind: FrameKind) -> Any:
    if kind == "polars":
        return pl.from_arrow(table)
    return table.to_pandas() if kind == "pandas" else table


# -- describing ----------------------------------------------------------------------------------------


def test_columns_carry_type_levels_and_whether_values_were_missing() -> None:
    assert signature_of(rides(has_gaps=True)).columns == (
        FeatureColumn("warmth", "double", None, True),
        FeatureColumn("hour", "int64"),
        FeatureColumn("holiday", "bool"),
        FeatureColumn("city", "string", ("Bonn", "Kiel", "Ulm"), True),
    )


def test_a_nan_is_missing_although_arrow_counts_no_null() -> None:
    assert one([1.0, float("nan")]).columns[0].has_missing


def test_a_dictionary_and_a_large_string_are_strings() -> None:
    for values in (pa.array(["b", "a"]).dictionary_encode(), pa.array(["b", "a"], pa.large_string())):
        assert FeatureColumn.of("x", values, is_categorical=True) == FeatureColumn("x", "string", ("a", "b"))


def test_decimals_and_columns_without_any_value_become_numbers() -> None:
    assert one([Decimal("1.50")]).columns[0].type == "double"
    assert one([None, None]).columns[0] == FeatureColumn("x", "double", None, True)


def test_a_type_that_no_model_takes_is_refused_by_name() -> None:
    with pytest.raises(DataError, match=r"'x' has the type list<.*not_features=\['x'\]") as caught:
        one([[1], [2]])
    assert caught.value.column == "x"


def test_categories_that_json_cannot_hold_are_refused() -> None:
    with pytest.raises(DataError, match="categories are strings, whole numbers or booleans"):
        one([datetime(2026, 1, 1, tzinfo=UTC)], is_categorical=True)


@given(
    st.lists(st.one_of(st.none(), st.text(max_size=5))),
    st.sampled_from([("a", "b"), (0, 1), (False, True), None]),
)
def test_a_signature_survives_json(texts: list[str | None], classes: tuple[Any, ...] | None) -> None:
    table = pa.table(
        {"text": pa.array(texts, pa.string()), "at": pa.nulls(len(texts), pa.timestamp("us", "UTC"))}
    )
    signature = Signature.of(table, {"text"}, "polars", "classification", classes)
    again = Signature.from_json(json.loads(json.dumps(signature.to_json())))
    assert again == signature
    assert again.columns[1].arrow_type == pa.timestamp("us", "UTC")


# -- frames --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("given_kind", KINDS)
def test_any_frame_becomes_the_frame_of_training(kind: FrameKind, given_kind: FrameKind) -> None:
    table = rides(40, has_gaps=True)
    signature = signature_of(table, frame=kind)
    expected = signature.to_frame(table)
    found = signature.to_frame(as_frame(table, given_kind))
    assert type(found) is type(expected)
    assert found.equals(expected)


def test_pandas_gets_categories_at_the_training_levels() -> None:
    X = signature_of(rides()).to_frame(rides(3, seed=1))
    assert list(X.columns) == ["warmth", "hour", "holiday", "city"]
    assert list(X["city"].cat.categories) == ["Bonn", "Kiel", "Ulm"]
    assert [str(X[name].dtype) for name in ("warmth", "hour", "holiday")] == ["float64", "int64", "bool"]


@pytest.mark.parametrize("kind", KINDS)
def test_an_unseen_category_is_missing(kind: FrameKind) -> None:
    table = pa.table({"city": ["Ulm", "Rom", None]})
    signature = Signature.of(pa.table({"city": ["Ulm", "Bonn"]}), {"city"}, kind, "regression")
    frame = signature.to_frame(table)
    column = frame["city"].to_pylist() if kind == "pyarrow" else frame["city"].to_list()
    assert [value if isinstance(value, str) else None for value in column] == ["Ulm", None, None]


def test_an_index_and_other_columns_are_left_out() -> None:
    frame = rides(4).to_pandas().set_index(pd.Index([9, 8, 7, 6], name="row")).assign(other=1)
    X = signature_of(rides()).to_frame(frame)
    assert list(X.columns) == ["warmth", "hour", "holiday", "city"]
    assert X.index.equals(pd.RangeIndex(4))


def test_whole_numbers_with_gaps_have_one_type_whether_a_row_has_a_gap_or_not() -> None:
    signature = one([1, None, 3], pa.int64())
    for rows in ([1, 2], [1, None]):
        X = signature.to_frame(pa.table({"x": pa.array(rows, pa.int64())}))
        assert X["x"].dtype == np.float64
    assert one([1, 2]).to_frame(pa.table({"x": [5]}))["x"].dtype == np.int64


def test_times_reach_pandas_as_times() -> None:
    times = pa.array([datetime(2026, 1, 1, tzinfo=UTC)], pa.timestamp("us", "UTC"))
    table = pa.table({"at": times, "day": times.cast(pa.date32())})
    X = Signature.of(table, (), "pandas", "regression").to_frame(table)
    assert [dtype.kind for dtype in X.dtypes] == ["M", "M"]


def test_pandas_floats_that_stand_for_whole_numbers_with_gaps_are_read_as_such() -> None:
    values = one([1, 2, 3]).read(pd.DataFrame({"x": [4.0, float("nan")]}))["x"]
    assert values.to_pylist() == [4, None]


@pytest.mark.parametrize(
    ("trained", "given"),
    [
        (pa.float64(), pa.int64()),
        (pa.float32(), pa.float64()),
        (pa.int64(), pa.int8()),
        (pa.int64(), pa.bool_()),
    ],
)
def test_numbers_of_another_width_are_taken(trained: pa.DataType, given: pa.DataType) -> None:
    values = one([0, 1], trained).read(pa.table({"x": pa.array([1, 0]).cast(given)}))["x"]
    assert values.type == trained
    assert values.to_pylist() == [1, 0]


def test_a_chunked_and_sliced_table_reads_like_a_whole_one() -> None:
    table = rides(60, has_gaps=True)
    pieces = pa.concat_tables([table.slice(0, 7), table.slice(7, 0), table.slice(7)])
    signature = signature_of(table)
    pd.testing.assert_frame_equal(signature.to_frame(pieces), signature.to_frame(table))


# -- what is refused, and how --------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_a_missing_feature_is_named_with_the_nearest_one_that_is_there(kind: FrameKind) -> None:
    table = rides(5).rename_columns(["warmht", "hour", "holiday", "city"])
    with pytest.raises(DataError, match=r"no column 'warmth'\. Did you mean 'warmht'"):
        signature_of(rides()).to_frame(as_frame(table, kind))


def test_a_column_that_is_there_twice_is_refused() -> None:
    with pytest.raises(DataError, match="2 columns 'x'"):
        one([1]).to_frame(pa.Table.from_arrays([pa.array([1]), pa.array([2])], ["x", "x"]))


@pytest.mark.parametrize(
    ("trained", "given", "named"),
    [
        ([1, 2], ["7", None], "'7' in row 0 (string)"),
        ([1, 2], [5.0, 5.5, 6.5], "5.5 in row 1 and 6.5 in row 2 (double)"),
        ([True, False], [0, 2], "2 in row 1 (int64)"),
        (["a", "b"], [None, 5], "5 in row 1 (int64)"),
        ([1.5], ["x"] * 9, "'x' in row 4 and in 4 more rows (string)"),
    ],
)
def test_a_value_of_another_kind_is_named_with_its_row(
    trained: list[Any], given: list[Any], named: str
) -> None:
    with pytest.raises(DataError) as caught:
        one(trained).to_frame(pa.table({"x": given}))
    assert named in str(caught.value)
    assert caught.value.column == "x"
    assert caught.value.rows


def test_a_number_too_large_for_its_type_is_named() -> None:
    with pytest.raises(DataError, match="300 in row 1"):
        one([1], pa.int8()).to_frame(pa.table({"x": [5, 300]}))


def test_mixed_values_of_a_pandas_column_are_named() -> None:
    frame = pd.DataFrame({"x": pd.Series(["a", "b", 3, None], dtype=object)})
    with pytest.raises(DataError, match="most values are str, but it has 3 in row 2") as caught:
        one(["a"], is_categorical=True).to_frame(frame)
    assert caught.value.rows == (2,)


def test_something_that_is_no_frame_is_refused() -> None:
    with pytest.raises(DataError, match="not for 'dict'"):
        one([1]).to_frame({"x": [1]})


def test_flags_count_unseen_categories_and_values_missing_where_training_had_them() -> None:
    signature = signature_of(rides())
    table = pa.table({"warmth": [1.0, None], "hour": [1, 2], "holiday": [True, None], "city": ["Rom", None]})
    assert signature.flags(table) == {
        "warmth": {"unseen": 0, "missing": 1},
        "holiday": {"unseen": 0, "missing": 1},
        "city": {"unseen": 1, "missing": 1},
    }
    assert signature_of(rides(has_gaps=True)).flags(rides(50, has_gaps=True)) == {}


def test_minus_zero_is_the_category_zero() -> None:
    signature = one([-0.0, 1.0, 0.0], is_categorical=True)
    assert signature.columns[0].levels == (0.0, 1.0)
    assert signature.flags(pa.table({"x": [-0.0, 0.0, 1.0]})) == {}


def test_a_number_too_long_to_be_a_flag_is_named() -> None:
    with pytest.raises(DataError, match=r"was bool in training, but now has 1152921504606846976 in row 1"):
        one([True, False]).read(pa.table({"x": [1, 2**60]}))
