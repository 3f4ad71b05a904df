from __future__ import annotations

import sys
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clew.datasets import content_digest, from_frame, prepare, to_frame
from clew.entities import FrameKind
from clew.errors import DataError, MissingExtra
from tests.datasets.rides import declare
from tests.datasets.tables import tables


@given(table=tables(max_rows=12), kind=st.sampled_from(["pandas", "polars", "pyarrow"]))
@settings(max_examples=50)
def test_rows_that_went_through_a_frame_are_the_same_rows(table: pa.Table, kind: FrameKind) -> None:
    # Pandas keeps integers as floats where some are missing, so only those that floats can hold come back.
    whole = table["x int64"].to_pylist()
    exact = [value if value is None or abs(value) <= 2**53 else 1 for value in whole]
    table = table.set_column(table.column_names.index("x int64"), "x int64", pa.array(exact, pa.int64()))
    back = from_frame(to_frame(table, kind), like=table)
    rows, columns = prepare(table, declare())
    assert content_digest(prepare(back, declare(), columns)[0]) == content_digest(rows)


def test_an_index_is_dropped() -> None:
    frame = pd.DataFrame({"x": [1, 2]}, index=pd.Index(["a", "b"], name="key"))
    assert from_frame(frame).to_pydict() == {"x": [1, 2]}


def test_integers_with_gaps_are_integers_again_when_the_table_before_is_known() -> None:
    before = pa.table({"y": [1, None, 0], "n": [1, 2, None]})
    frame = to_frame(before, "pandas")
    frame["n"] /= 2
    assert from_frame(frame).schema.field("y").type == pa.float64()
    table = from_frame(frame, like=before)
    assert table["y"].to_pylist() == [1, None, 0]
    assert table["n"].to_pylist() == [0.5, 1.0, None]
    assert table.schema.types == [pa.int64(), pa.float64()]


@pytest.mark.parametrize(
    ("series", "expected"),
    [
        (pd.Series([True, None]), [True, None]),
        (pd.Series([1, None], dtype="Int64"), [1, None]),
        (pd.Series(["a", None], dtype="category"), ["a", None]),
        (pd.Series([1.5, np.nan]), [1.5, None]),
        (pd.Series(pd.arrays.SparseArray([0, 1])), [0, 1]),
        (pd.Series(["a", np.nan], dtype=object), ["a", None]),
        (pd.Series([pd.Timestamp("2026-01-01", tz="UTC"), pd.NaT]), [datetime(2026, 1, 1, tzinfo=UTC), None]),
    ],
)
def test_what_pandas_calls_missing_is_null(series: Any, expected: list[object]) -> None:
    assert from_frame(pd.DataFrame({"x": series}))["x"].to_pylist() == expected


@pytest.mark.parametrize(
    ("frame", "words", "column", "rows"),
    [
        (
            pd.DataFrame({"x": [1, "a", 2, None, "b"]}),
            r"'x' mixes int and str: most rows are int, but not row 1 \('a'\) and row 4",
            "x",
            (1, 4),
        ),
        (pd.DataFrame({"x": [1 + 2j, 3j]}), "Column 'x' holds values that cannot be kept", "x", ()),
        (
            pd.DataFrame({"x": [date(2026, 1, 1), datetime(2026, 1, 1, 5)]}),  # noqa: DTZ001
            r"mixes dates and times: row 1 \(2026-01-01 05:00:00\)",
            "x",
            (1,),
        ),
        (pd.DataFrame({"x": pd.Series(["\ud800"], dtype=object)}), "values that cannot be kept", "x", ()),
        (pd.DataFrame({"x": [2**70]}), "Column 'x' holds values that cannot be kept", "x", ()),
        (pd.DataFrame([[1, 2]], columns=["x", "x"]), "two columns named 'x'", "x", ()),
        (pd.DataFrame({0: [1]}), "named 0; names of columns are strings", "0", ()),
        (pd.DataFrame({("a", "b"): [1]}), r"named \('a', 'b'\)", "('a', 'b')", ()),
    ],
)
def test_a_frame_that_is_no_table_names_the_column(
    frame: pd.DataFrame, words: str, column: str, rows: tuple[int, ...]
) -> None:
    with pytest.raises(DataError, match=words) as caught:
        from_frame(frame)
    assert (caught.value.column, caught.value.rows) == (column, rows)


@pytest.mark.parametrize(
    ("returned", "words"),
    [
        (None, "returned None; end it with: return table"),
        (pl.LazyFrame({"x": [1]}), r"return table\.collect\(\)"),
        ([1, 2], "returned list; return a pandas or polars DataFrame"),
        (pd.Series([1]), "returned Series"),
        (pl.Series([1]), "returned Series"),
    ],
)
def test_what_is_no_frame_is_refused(returned: object, words: str) -> None:
    with pytest.raises(DataError, match=words):
        from_frame(returned)


def test_a_record_batch_is_a_table() -> None:
    assert from_frame(pa.record_batch({"x": [1]})).to_pydict() == {"x": [1]}


def test_a_polars_type_that_arrow_lacks_names_the_column() -> None:
    with pytest.raises(DataError, match="Column 'x' has type Int128, which cannot be kept"):
        from_frame(pl.DataFrame({"w": [1], "x": pl.Series([1], dtype=pl.Int128)}))


def test_decimals_pass_here_and_are_refused_by_the_schema() -> None:
    assert pa.types.is_decimal(from_frame(pd.DataFrame({"x": [Decimal("1.5")]})).schema.field("x").type)


@pytest.mark.parametrize("kind", ["pandas", "polars"])
def test_a_library_that_is_not_installed_is_named_with_its_extra(
    kind: FrameKind, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delitem(sys.modules, kind)
    monkeypatch.setattr("sys.path", [])
    monkeypatch.setattr("sys.path_importer_cache", {})
    with pytest.raises(MissingExtra, match=rf"{kind}.* pip install \"clew\["):
        to_frame(pa.table({"x": [1]}), kind)
