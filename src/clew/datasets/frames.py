"""Tables as pandas, polars or pyarrow frames, and back."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from datetime import datetime
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import narwhals as nw
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from clew.datasets.complaints import MAX_NAMED_ROWS, named_rows
from clew.entities import FrameKind
from clew.errors import DataError, MissingExtra

# What Arrow raises for values it has no type for; UnicodeEncodeError for half of a surrogate pair.
_NO_ARROW = (
    pa.ArrowInvalid,
    pa.ArrowTypeError,
    pa.ArrowNotImplementedError,
    OverflowError,
    UnicodeEncodeError,
)

_EXTRAS = {"pandas": "sklearn", "polars": "polars", "duckdb": "duckdb"}


def to_frame(table: pa.Table, kind: FrameKind) -> Any:
    """The table as the frame a dataset declared with ``frame=``.

    Raises
    ------
    MissingExtra
        When that library is not installed.
    """
    if kind == "pyarrow":
        return table
    _require(kind)
    if kind == "pandas":
        return table.to_pandas()
    import polars as pl

    return pl.from_arrow(table)


def part_relation(paths: Sequence[Path]) -> Any:
    """A DuckDB relation over the Parquet files of parts, in their order.

    Raises
    ------
    MissingExtra
        When duckdb is not installed.
    """
    _require("duckdb")
    import duckdb

    # What is built in suffices; nothing is to be fetched while rows are read.
    config: dict[str, Any] = {"autoinstall_known_extensions": "false", "autoload_known_extensions": "false"}
    return duckdb.connect(config=config).read_parquet([str(path) for path in paths])


def _require(library: str) -> None:
    if find_spec(library) is None:
        raise MissingExtra(library, _EXTRAS[library], f'frame="{library}"')


def from_frame(frame: Any, like: pa.Table | None = None) -> pa.Table:
    """The Arrow table of what a dataset's function returned; an index is dropped.

    Parameters
    ----------
    like
        The table the function was given. Pandas turns integers into floats where some are missing;
        columns that were integers in `like` and still hold whole numbers become integers again.

    Raises
    ------
    DataError
        When it is no frame, or a column holds values of several types.
    """
    table = _arrow(frame)
    if like is None:
        return table
    for position, name in enumerate(table.column_names):
        if name in like.column_names and pa.types.is_integer(like.schema.field(name).type):
            table = table.set_column(position, name, _whole_again(table.column(position)))
    return table


def _arrow(frame: Any) -> pa.Table:
    if isinstance(frame, pa.Table):
        return frame
    if isinstance(frame, pa.RecordBatch):
        return pa.Table.from_batches([frame])
    if nw.dependencies.is_pandas_dataframe(frame):
        return _from_pandas(frame)
    if nw.dependencies.is_polars_dataframe(frame):
        return _from_polars(frame)
    raise DataError(_no_frame(frame))


def _no_frame(frame: Any) -> str:
    if frame is None:
        return "The dataset function returned None; end it with: return table"
    if nw.dependencies.is_polars_lazyframe(frame):
        return "The dataset function returned a polars LazyFrame; end it with: return table.collect()"
    return (
        f"The dataset function returned {type(frame).__name__}; return a pandas or polars DataFrame, or a"
        " pyarrow Table."
    )


def _from_pandas(frame: Any) -> pa.Table:
    names = list(frame.columns)
    odd = next((name for name in names if not isinstance(name, str)), None)
    if odd is not None:
        raise DataError(
            f"A column is named {odd!r}; names of columns are strings. Rename it.", column=str(odd)
        )
    twice = next((name for name, n in Counter(names).items() if n > 1), None)
    if twice is not None:
        raise DataError(f"The table has two columns named {twice!r}. Rename one.", column=twice)
    arrays = [_from_series(frame[name], name) for name in names]
    return pa.table(arrays, names=names)


def _from_series(series: Any, name: str) -> pa.Array | pa.ChunkedArray:
    if hasattr(series, "sparse"):
        series = series.sparse.to_dense()
    try:
        array = pa.array(series, from_pandas=True)
    except _NO_ARROW as error:
        raise _mixed(series.tolist(), name, error) from None
    if pa.types.is_date(array.type) and series.dtype == object:
        _refuse_times_among_dates(series.tolist(), name)
    return array


def _refuse_times_among_dates(values: list[Any], name: str) -> None:
    # Arrow takes a column of dates and times for dates, and drops the time of day.
    rows = [row for row, value in enumerate(values) if isinstance(value, datetime)]
    if rows:
        shown = [values[row] for row in rows[:MAX_NAMED_ROWS]]
        raise DataError(
            f"Column {name!r} mixes dates and times: {named_rows(rows, shown)} would lose the time of"
            f" day. Give it one type in the dataset function, for example with"
            f" pandas.to_datetime(table[{name!r}]).",
            column=name,
            rows=rows[:MAX_NAMED_ROWS],
        )


def _from_polars(frame: Any) -> pa.Table:
    arrays = {name: _from_polars_series(frame[name], name) for name in frame.columns}
    return pa.table(arrays)


def _from_polars_series(series: Any, name: str) -> pa.Array:
    try:
        return series.to_arrow()
    except _NO_ARROW:
        raise DataError(
            f"Column {name!r} has type {series.dtype}, which cannot be kept. Convert or drop it in the"
            " dataset function.",
            column=name,
        ) from None


def _mixed(values: list[Any], name: str, error: Exception) -> DataError:
    """Which rows of an object column have another type than most."""
    kinds = [type(value).__name__ for value in values]
    present = Counter(kind for kind, value in zip(kinds, values, strict=True) if not _is_missing(value))
    if len(present) < 2:
        return DataError(
            f"Column {name!r} holds values that cannot be kept: {str(error).splitlines()[0].rstrip('.')}."
            " Convert or drop it in the dataset function.",
            column=name,
        )
    usual = present.most_common(1)[0][0]
    rows = [row for row, kind in enumerate(kinds) if kind in present and kind != usual]
    shown = [values[row] for row in rows[:MAX_NAMED_ROWS]]
    return DataError(
        f"Column {name!r} mixes {' and '.join(sorted(present))}: most rows are {usual}, but not"
        f" {named_rows(rows, shown)}. Give it one type in the dataset function, for example with"
        f" table[{name!r}].astype(str).",
        column=name,
        rows=rows[:MAX_NAMED_ROWS],
    )


def _is_missing(value: Any) -> bool:
    return value is None or (isinstance(value, float | np.floating) and bool(np.isnan(value)))


def _whole_again(column: pa.ChunkedArray) -> pa.ChunkedArray:
    if not pa.types.is_floating(column.type):
        return column
    known = pc.if_else(pc.is_nan(column), pa.scalar(None, column.type), column)
    try:
        return known.cast(pa.int64())
    except pa.ArrowInvalid:  # the function made fractions of it
        return column
