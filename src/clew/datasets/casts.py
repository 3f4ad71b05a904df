"""How a column becomes the type it is declared with, without losing anything.

Six types are kept: ``bool``, ``int64``, ``double``, ``string``, ``date32[day]`` and
``timestamp[us, tz=UTC]``. Narrower numbers are widened, so that the same rows are the same whether they
come from a CSV, a Parquet file, pandas or polars.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pyarrow as pa
import pyarrow.compute as pc

from clew.datasets.complaints import MAX_NAMED_ROWS, named_rows, values_at
from clew.datasets.instants import Misfit, dates_of, instants_of
from clew.errors import DataError

INSTANT = pa.timestamp("us", tz="UTC")
KEPT_TYPES: dict[str, pa.DataType] = {
    str(kept): kept for kept in (pa.bool_(), pa.int64(), pa.float64(), pa.string(), pa.date32(), INSTANT)
}
# Whole numbers beyond this one have no float of their own: 2**53 + 1 and 2**53 are the same float.
_MAX_EXACT_FLOAT = float(2**53)


def kept_type(arrow: pa.DataType) -> pa.DataType | None:
    """The type that values of an Arrow type are kept as, or None when they cannot be kept.

    Examples
    --------
    >>> kept_type(pa.int8()), kept_type(pa.dictionary(pa.int32(), pa.large_string()))
    (DataType(int64), DataType(string))
    """
    if pa.types.is_dictionary(arrow):
        return kept_type(arrow.value_type)
    family = _family(arrow)
    return KEPT_TYPES.get({"int": "int64", "float": "double"}.get(family, family))


def cast_column(
    column: pa.ChunkedArray, name: str, target: pa.DataType, zone: str, first_row: int = 0
) -> pa.ChunkedArray:
    """The same values as `target`, one of the kept types; times without a zone are read in `zone`.

    `first_row` is the position in the table of the column's first value, when it is a part of one.

    Raises
    ------
    DataError
        Naming the column and the rows whose values would change.
    """
    if pa.types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    if pa.types.is_null(column.type):
        return pa.chunked_array([pa.nulls(len(column), target)])
    column = without_nan(column)
    convert = _converter(column.type, target, zone)
    if convert is None:
        raise DataError(_no_way(column, name, target, first_row), column=name)
    try:
        return pa.chunked_array([convert(chunk) for chunk in column.chunks], target)
    except (pa.ArrowInvalid, Misfit):
        raise _misfits(column, name, target, convert, first_row) from None


def without_nan(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """NaN is how pandas says null; in a snapshot both are null."""
    if not pa.types.is_floating(column.type):
        return column
    is_nan = pc.is_nan(column.cast(pa.float32()) if pa.types.is_float16(column.type) else column)
    if not pc.any(is_nan).as_py():
        return column
    return pc.if_else(is_nan, pa.scalar(None, column.type), column)


Convert = Callable[[pa.Array], pa.Array]


def _converter(given: pa.DataType, target: pa.DataType, zone: str) -> Convert | None:
    """How values of one type become another's; it raises where one of them would change."""
    if given == target:
        return lambda values: values
    pairs: dict[tuple[str, str], Convert] = {
        ("int", "int64"): lambda values: values.cast(pa.int64()),
        ("float", "int64"): _float_to_int,
        ("bool", "int64"): lambda values: values.cast(pa.int64()),
        ("string", "int64"): _text_to_int,
        ("int", "double"): _int_to_float,
        ("float", "double"): lambda values: values.cast(pa.float64()),
        ("string", "double"): lambda values: without_nan(pa.chunked_array([values.cast(pa.float64())])).chunk(
            0
        ),
        ("int", "bool"): _number_to_bool,
        ("float", "bool"): _number_to_bool,
        ("string", "bool"): lambda values: values.cast(pa.bool_()),
        ("string", "string"): lambda values: values.cast(pa.string()),
        ("int", "string"): lambda values: values.cast(pa.string()),
        ("date32[day]", "date32[day]"): dates_of,
        (str(INSTANT), "date32[day]"): dates_of,
        ("string", "date32[day]"): dates_of,
        (str(INSTANT), str(INSTANT)): lambda values: instants_of(values, zone),
        ("date32[day]", str(INSTANT)): lambda values: instants_of(values, zone),
        ("string", str(INSTANT)): lambda values: instants_of(values, zone),
    }
    return pairs.get((_family(given), str(target)))


def _family(arrow: pa.DataType) -> str:
    kinds = pa.types
    if kinds.is_integer(arrow):
        return "int"
    if kinds.is_floating(arrow):
        return "float"
    if kinds.is_string(arrow) or kinds.is_large_string(arrow) or kinds.is_string_view(arrow):
        return "string"
    if kinds.is_date(arrow):
        return "date32[day]"
    if kinds.is_timestamp(arrow):
        return str(INSTANT)
    return str(arrow)


def is_exact(values: pa.Array | pa.ChunkedArray) -> bool:
    """Whether these decimals are so small that whole numbers among them lost no digit."""
    return not pc.any(pc.greater(pc.abs(values.cast(pa.float64())), _MAX_EXACT_FLOAT)).as_py()


def _float_to_int(values: pa.Array) -> pa.Array:
    if not is_exact(values):
        raise Misfit("may have lost digits as a float")
    return values.cast(pa.int64())


def _int_to_float(values: pa.Array) -> pa.Array:
    return values.cast(pa.int64()).cast(pa.float64())


def _text_to_int(values: pa.Array) -> pa.Array:
    # Anything else, such as 007 or +5, would not come back as it was.
    if not pc.all(pc.match_substring_regex(values, r"^(0|-?[1-9][0-9]*)$")).as_py():
        raise Misfit("is no plain whole number")
    return values.cast(pa.int64())


def _number_to_bool(values: pa.Array) -> pa.Array:
    if not pc.all(pc.or_(pc.equal(values, 0), pc.equal(values, 1))).as_py():
        raise Misfit("is neither 0 nor 1")
    return values.cast(pa.bool_())


def _no_way(column: pa.ChunkedArray, name: str, target: pa.DataType, first_row: int) -> str:
    rows = _first_values(column)
    n_rows, places = len(column) - column.null_count, [first_row + row for row in rows]
    return (
        f"Column {name!r} is declared {target}, but the table has {column.type}, which does not turn into it:"
        f" {named_rows(places, values_at(column, rows), n_rows=n_rows)}."
        f" Convert it to {target} in the dataset function. {SCHEMA_RULE}"
    )


SCHEMA_RULE = "If the change is meant, make it there too: the declared schema follows a change of the code."


def _misfits(
    column: pa.ChunkedArray, name: str, target: pa.DataType, convert: Convert, first_row: int
) -> DataError:
    rows: list[int] = []
    reasons: list[str] = []
    for row, reason in _failures(column, convert):
        rows.append(row)
        reasons.append(reason)
        if len(rows) == MAX_NAMED_ROWS:
            break
    places = [first_row + row for row in rows]
    more = "; there may be more" if len(rows) == MAX_NAMED_ROWS else ""
    return DataError(
        f"Column {name!r} is declared {target}, but {named_rows(places, values_at(column, rows))}"
        f" {reasons[0]}{more}. Correct the source, or convert the column in the dataset function.",
        column=name,
        rows=places,
    )


def _failures(column: pa.ChunkedArray, convert: Convert) -> Iterator[tuple[int, str]]:
    """Each row whose value does not convert, with why; by halving, so that few are found fast."""
    offset = 0
    for chunk in column.chunks:
        for row, reason in _failures_in(chunk, convert):
            yield offset + row, reason
        offset += len(chunk)


def _failures_in(values: pa.Array, convert: Convert) -> Iterator[tuple[int, str]]:
    try:
        convert(values)
    except (pa.ArrowInvalid, Misfit) as error:
        if len(values) == 1:
            yield 0, str(error) if isinstance(error, Misfit) else f"does not fit: {_first_line(error)}"
            return
        half = len(values) // 2
        yield from _failures_in(values.slice(0, half), convert)
        for row, reason in _failures_in(values.slice(half), convert):
            yield half + row, reason


def _first_line(error: pa.ArrowInvalid) -> str:
    return str(error).splitlines()[0].rstrip(".")


def _first_values(column: pa.ChunkedArray) -> list[int]:
    valid = pc.indices_nonzero(column.is_valid())
    return [int(row) for row in valid[:MAX_NAMED_ROWS].to_pylist()]
