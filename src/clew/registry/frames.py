"""Columns as the frame a model was fitted on, and any frame as Arrow columns."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from clew.entities import FrameKind
from clew.errors import DataError, MissingExtra, did_you_mean
from clew.registry.features import N_ROWS_NAMED, FeatureColumn, named_values

Frame: TypeAlias = Any
"""A pandas or polars frame or a ``pyarrow.Table``; pandas and polars are optional, so no type names them."""


def pick_columns(frame: Frame, names: Sequence[str]) -> dict[str, pa.Array | pa.ChunkedArray]:
    """The columns `names` of a frame; others, and a pandas index, are left out.

    Raises
    ------
    DataError
        When a column is missing, is there twice, mixes types, or `frame` is no frame.
    """
    there = _column_names(frame)
    for name in names:
        if name not in there:
            raise DataError(f"The table has no column {name!r}. {did_you_mean(name, there)}", name)
        if there.count(name) > 1:
            raise DataError(f"The table has {there.count(name)} columns {name!r}; keep one.", name)
    return {name: _arrow_column(frame, name) for name in names}


def _column_names(frame: Frame) -> list[str]:
    if isinstance(frame, pa.Table | pa.RecordBatch):
        return list(frame.schema.names)
    if _library(frame) in ("pandas", "polars") and hasattr(frame, "columns"):
        return [str(name) for name in frame.columns]
    raise DataError(
        f"A model predicts for a pandas or polars frame or a pyarrow table, not for {type(frame).__name__!r}."
        " Make one, for example with pyarrow.Table.from_pylist(rows)."
    )


def _library(frame: Frame) -> str:
    return type(frame).__module__.partition(".")[0]


def _arrow_column(frame: Frame, name: str) -> pa.Array | pa.ChunkedArray:
    if isinstance(frame, pa.Table | pa.RecordBatch):
        return frame.column(name)
    if _library(frame) == "polars":
        return frame.get_column(name).to_arrow()
    try:
        return pa.array(frame[name], from_pandas=True)
    except (pa.ArrowInvalid, pa.ArrowTypeError):
        raise _mixed_types(name, frame[name].tolist()) from None


def _mixed_types(name: str, values: list[Any]) -> DataError:
    kinds = [type(value) for value in values if value is not None and value == value]
    usual = max(set(kinds), key=kinds.count)
    odd = [row for row, value in enumerate(values) if value is not None and not isinstance(value, usual)]
    odd = [row for row in odd if values[row] == values[row]]
    return DataError(
        f"Column {name!r} mixes types: most values are {usual.__name__}, but it has"
        f" {named_values(odd, values.__getitem__)}.",
        name,
        odd[:N_ROWS_NAMED],
    )


def build_frame(columns: Sequence[FeatureColumn], values: Mapping[str, pa.Array], kind: FrameKind) -> Frame:
    """The frame of `kind` that a model is fitted on and asked with: same columns, types and levels."""
    build = {"pandas": _pandas_frame, "polars": _polars_frame, "pyarrow": _arrow_table}[kind]
    return build(columns, values)


def _pandas_frame(columns: Sequence[FeatureColumn], values: Mapping[str, pa.Array]) -> Frame:
    try:
        import pandas as pd  # optional: projects on polars or pyarrow do without
    except ImportError:
        raise MissingExtra("pandas", "sklearn", "A model that was fitted on pandas frames") from None
    n_rows = len(next(iter(values.values()), ()))
    data = {column.name: _pandas_values(pd, column, values[column.name]) for column in columns}
    return pd.DataFrame(data, index=pd.RangeIndex(n_rows), copy=False)


def _pandas_values(pd: Any, column: FeatureColumn, values: pa.Array) -> Any:
    if column.levels is not None:
        return pd.Categorical.from_codes(column.codes(values), categories=list(column.levels))
    is_number = pa.types.is_integer(values.type) or pa.types.is_boolean(values.type)
    if is_number and (column.has_missing or values.null_count):
        # As NaN in float64, where NumPy has no missing value of its own; always so if training had any,
        # so that the type does not depend on the rows that are asked about.
        return column.numbers(values)
    if is_number or pa.types.is_floating(values.type):
        return np.array(values.to_numpy(zero_copy_only=False))
    return values.to_pandas(date_as_object=False)


def _polars_frame(columns: Sequence[FeatureColumn], values: Mapping[str, pa.Array]) -> Frame:
    try:
        import polars as pl  # optional: projects on pandas or pyarrow do without
    except ImportError:
        raise MissingExtra("polars", "polars", "A model that was fitted on polars frames") from None
    data = {}
    for column in columns:
        series = pl.from_arrow(_only_levels(column, values[column.name]))
        is_enum = column.levels is not None and pa.types.is_string(column.arrow_type)
        data[column.name] = series.cast(pl.Enum(list(column.levels or ()))) if is_enum else series
    return pl.DataFrame(data)


def _arrow_table(columns: Sequence[FeatureColumn], values: Mapping[str, pa.Array]) -> pa.Table:
    return pa.table({column.name: _arrow_values(column, values[column.name]) for column in columns})


def _arrow_values(column: FeatureColumn, values: pa.Array) -> pa.Array:
    if column.levels is None:
        return values
    codes = column.codes(values)
    return pa.DictionaryArray.from_arrays(pa.array(codes, mask=codes < 0), column.level_values)


def _only_levels(column: FeatureColumn, values: pa.Array) -> pa.Array:
    if column.levels is None:
        return values
    known = pc.is_in(values, value_set=column.level_values)
    return pc.if_else(known, values, pa.scalar(None, values.type))
