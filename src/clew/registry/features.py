"""One feature column: which values a model may be given, and how a given column becomes such values.

Everything a model is asked about passes through here, whether it came from a snapshot, a batch file or a
request, so that training and prediction cannot differ in how a value is read.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from clew.entities import Json
from clew.errors import DataError

N_ROWS_NAMED = 5
_DICTIONARY = pa.types.is_dictionary


@dataclass(frozen=True)
class FeatureColumn:
    """A feature as it was in training.

    Attributes
    ----------
    type
        Arrow's spelling of the value type, such as ``int64``, ``double`` or ``string``.
    levels
        The values of a categorical column, sorted; None for any other column. A value that is not among
        them is treated as missing.
    has_missing
        Whether any value was missing in training.
    """

    name: str
    type: str
    levels: tuple[Any, ...] | None = None
    has_missing: bool = False

    @classmethod
    def of(cls, name: str, values: pa.Array, is_categorical: bool) -> FeatureColumn:
        """Describe a training column.

        Raises
        ------
        DataError
            When no model can take its type, such as a list or a struct.
        """
        values = plain(values)
        wanted = _model_type(name, values.type)
        if values.type != wanted:
            values = values.cast(wanted)
        levels = _levels(name, values) if is_categorical else None
        return cls(name, str(wanted), levels, _has_missing(values))

    @classmethod
    def from_json(cls, given: Json) -> FeatureColumn:
        levels = given.get("levels")
        return cls(
            given["name"], given["type"], None if levels is None else tuple(levels), given["has_missing"]
        )

    def to_json(self) -> Json:
        levels = None if self.levels is None else list(self.levels)
        return {"name": self.name, "type": self.type, "levels": levels, "has_missing": self.has_missing}

    @cached_property
    def arrow_type(self) -> pa.DataType:
        return parse_arrow_type(self.type)

    @cached_property
    def level_values(self) -> pa.Array:
        return pa.array(self.levels or (), self.arrow_type)

    def codes(self, values: pa.Array) -> np.ndarray:
        """Positions among the levels, shape ``(n_rows,)`` int32; -1 for missing and for unseen."""
        found = pc.index_in(_one_zero(values), value_set=self.level_values, skip_nulls=True)
        return np.asarray(found.fill_null(-1).to_numpy(zero_copy_only=False), np.int32)

    def numbers(self, values: pa.Array) -> np.ndarray:
        """The values as float64, missing as NaN; a categorical column gives its codes."""
        if self.levels is not None:
            codes = self.codes(values).astype(np.float64)
            codes[codes < 0] = np.nan
            return codes
        if pa.types.is_boolean(values.type):
            values = values.cast(pa.int8())
        return np.asarray(values.cast(pa.float64(), safe=False).to_numpy(zero_copy_only=False), np.float64)

    def read(self, given: pa.Array | pa.ChunkedArray) -> pa.Array:
        """`given` in this column's type.

        Raises
        ------
        DataError
            Naming rows and values, when the type cannot be had without loss.
        """
        values = plain(given)
        if values.type == self.arrow_type:
            return values
        if pa.types.is_null(values.type):
            return pa.nulls(len(values), self.arrow_type)
        if not _is_kin(values.type, self.arrow_type):
            raise self._wrong(values, pc.is_valid(values))
        if pa.types.is_floating(values.type) and not pa.types.is_floating(self.arrow_type):
            values = pc.if_else(pc.is_nan(values), pa.scalar(None, values.type), values)
        return self._cast(values)

    def _cast(self, values: pa.Array) -> pa.Array:
        try:
            cast = values.cast(self.arrow_type)
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
            raise self._wrong(values, _uncastable(values, self.arrow_type)) from None
        # Arrow reads every number but zero as true.
        if pa.types.is_boolean(self.arrow_type) and not pa.types.is_boolean(values.type):
            changed = pc.fill_null(
                pc.not_equal(cast.cast(pa.float64()), values.cast(pa.float64(), safe=False)), False
            )
            if pc.any(changed).as_py():
                raise self._wrong(values, changed)
        return cast

    def _wrong(self, values: pa.Array, at_fault: pa.Array) -> DataError:
        rows = true_rows(at_fault)
        return DataError(
            f"Column {self.name!r} was {self.type} in training, but now has"
            f" {named_values(rows, lambda row: values[row].as_py())} ({values.type})."
            f" Send it as {self.type}, or train again on the new kind of value.",
            self.name,
            rows[:N_ROWS_NAMED],
        )


def plain(values: pa.Array | pa.ChunkedArray) -> pa.Array:
    """One chunk without a dictionary; the string types are one type."""
    if isinstance(values, pa.ChunkedArray):
        values = values.combine_chunks()
        if isinstance(values, pa.ChunkedArray):  # an empty one stays chunked
            values = pa.concat_arrays(values.chunks) if values.num_chunks else pa.array([], values.type)
    if _DICTIONARY(values.type):
        values = values.cast(values.type.value_type)
    if pa.types.is_large_string(values.type) or pa.types.is_string_view(values.type):
        values = values.cast(pa.string())
    return values


def parse_arrow_type(text: str) -> pa.DataType:
    """The type that Arrow spells `text`.

    Examples
    --------
    >>> parse_arrow_type("timestamp[us, tz=UTC]")
    TimestampType(timestamp[us, tz=UTC])
    >>> parse_arrow_type("double")
    DataType(double)
    """
    zoned = re.fullmatch(r"timestamp\[(s|ms|us|ns), tz=(.+)\]", text)
    return pa.timestamp(zoned[1], zoned[2]) if zoned else pa.type_for_alias(text)


def true_rows(mask: pa.Array) -> list[int]:
    return [int(row) for row in pc.indices_nonzero(mask).to_numpy()]


def named_values(rows: list[int], value_of: Callable[[int], Any]) -> str:
    """``'x' in row 3 and 'y' in row 7``, of many only the first few.

    Examples
    --------
    >>> named_values([3, 7], {3: "x", 7: "y"}.get)
    "'x' in row 3 and 'y' in row 7"
    """
    named = [f"{value_of(row)!r} in row {row}" for row in rows[:N_ROWS_NAMED]]
    if len(rows) > N_ROWS_NAMED:
        return f"{', '.join(named)} and in {len(rows) - N_ROWS_NAMED:,} more rows"
    return " and ".join(filter(None, [", ".join(named[:-1]), named[-1]])) if named else "other values"


def _model_type(name: str, given: pa.DataType) -> pa.DataType:
    kinds = pa.types
    if kinds.is_decimal(given) or kinds.is_null(given):
        return pa.float64()
    if _is_number(given) or kinds.is_string(given) or _is_time(given):
        return given
    raise DataError(
        f"Feature {name!r} has the type {given}, which no model can take: features are numbers, booleans,"
        f" strings or times. Turn it into such columns, or keep it out with not_features=[{name!r}].",
        name,
    )


def _levels(name: str, values: pa.Array) -> tuple[Any, ...]:
    levels = pc.unique(_one_zero(values)).drop_null().to_pylist()
    if any(not isinstance(level, str | bool | int | float) for level in levels):
        raise DataError(
            f"Categorical feature {name!r} has values of type {values.type}; categories are strings, whole"
            " numbers or booleans.",
            name,
        )
    return tuple(sorted(level for level in levels if level == level))


def _one_zero(values: pa.Array) -> pa.Array:
    """Minus zero as zero: they are equal, but Arrow looks them up as two."""
    return pc.add(values, pa.scalar(0, values.type)) if pa.types.is_floating(values.type) else values


def _has_missing(values: pa.Array) -> bool:
    if values.null_count:
        return True
    return pa.types.is_floating(values.type) and bool(pc.any(pc.is_nan(values)).as_py())


def _is_number(kind: pa.DataType) -> bool:
    return bool(
        pa.types.is_integer(kind)
        or pa.types.is_floating(kind)
        or pa.types.is_boolean(kind)
        or pa.types.is_decimal(kind)
    )


def _is_time(kind: pa.DataType) -> bool:
    return bool(pa.types.is_timestamp(kind) or pa.types.is_date(kind) or pa.types.is_duration(kind))


def _is_kin(given: pa.DataType, wanted: pa.DataType) -> bool:
    """Whether a value of `given` can mean the same as one of `wanted`: a string is no number."""
    if _is_number(wanted):
        return _is_number(given)
    if _is_time(wanted):
        return _is_time(given) or pa.types.is_string(given)
    return bool(given == wanted)


def _uncastable(values: pa.Array, wanted: pa.DataType) -> pa.Array:
    """Which single values Arrow refuses; asked one by one, as this is the way to an error message only."""

    def is_refused(value: pa.Scalar) -> bool:
        try:
            value.cast(wanted)
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
            return True
        return False

    return pa.array([is_refused(value) for value in values], pa.bool_())
