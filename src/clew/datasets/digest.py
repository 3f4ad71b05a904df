"""The identity of rows: a hash of what they say, however they are stored.

The hash is over values, not over a file: it does not know about chunks, slices, dictionaries, Parquet
versions or compression. Two tables have the same digest exactly when they have the same column names,
the same types and the same values in the same order, nested ones too. Types that say the same are one:
text and large text, lists however they are laid out, times of day in any unit, instants in any zone. Null
is one value; every NaN is the same; ``-0.0`` and ``0.0`` differ, as they do for a model that divides.

The bytes hashed are part of the format and never change: a test pins them.
"""

from __future__ import annotations

import hashlib
import struct

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

_FORMAT = b"clew rows 0"
_UTC_MICROSECONDS = pa.timestamp("us", tz="UTC")
# Our own names: a library's spelling of its types may change.
_TYPE_NAMES = {
    pa.null(): "null",
    pa.bool_(): "bool",
    pa.int64(): "int64",
    pa.float64(): "float64",
    pa.string(): "text",
    pa.binary(): "binary",
    pa.date32(): "date",
    pa.time64("ns"): "time",
    _UTC_MICROSECONDS: "instant",
}


def content_digest(table: pa.Table) -> str:
    """SHA-256 of the rows, in lowercase hex.

    Examples
    --------
    >>> whole = pa.table({"x": [1, 2, None], "y": ["a", "b", "a"]})
    >>> coded = pa.table({"x": whole["x"], "y": whole["y"].dictionary_encode()})
    >>> content_digest(whole) == content_digest(coded)
    True
    >>> content_digest(whole) == content_digest(whole.slice(1))
    False
    """
    rows = hashlib.sha256(_FORMAT)
    rows.update(struct.pack("<QQ", table.num_rows, table.num_columns))
    for name, column in zip(table.column_names, table.columns, strict=True):
        rows.update(_framed(name.encode()))
        rows.update(_column_digest(column))
    return rows.hexdigest()


def _framed(content: bytes) -> bytes:
    """With its length before it, so that no two sequences of parts give the same bytes."""
    return struct.pack("<Q", len(content)) + content


def _plain(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Without dictionaries, in the one type of its kind."""
    if pa.types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    plain = _plain_type(column.type)
    return column if plain == column.type else column.cast(plain)


def _plain_type(kind: pa.DataType) -> pa.DataType:
    if pa.types.is_large_string(kind) or pa.types.is_string_view(kind):
        return pa.string()
    if pa.types.is_large_binary(kind) or pa.types.is_binary_view(kind) or pa.types.is_fixed_size_binary(kind):
        return pa.binary()
    if pa.types.is_timestamp(kind) and kind.tz is not None:
        return _UTC_MICROSECONDS
    if pa.types.is_date64(kind):
        return pa.date32()
    if pa.types.is_time(kind):
        return pa.time64("ns")
    if pa.types.is_decimal(kind):
        return pa.decimal256(kind.precision, kind.scale)
    return kind


def _type_name(kind: pa.DataType) -> str:
    if _is_list(kind):
        return "list"  # what is in it is said by the digest of that
    if pa.types.is_struct(kind):
        return "struct"
    if pa.types.is_decimal(kind):
        return f"decimal {kind.precision} {kind.scale}"
    if pa.types.is_duration(kind):
        return f"duration {kind.unit}"
    return _TYPE_NAMES.get(kind, str(kind))


def _is_list(kind: pa.DataType) -> bool:
    return bool(pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind))


def _column_digest(column: pa.ChunkedArray) -> bytes:
    column = _plain(column)
    column_hash = hashlib.sha256(_framed(_type_name(column.type).encode()))
    validity, values = hashlib.sha256(), hashlib.sha256()
    lengths = hashlib.sha256()
    for chunk in column.chunks:
        if column.null_count:
            validity.update(chunk.is_valid().cast(pa.uint8()).to_numpy(zero_copy_only=False))
        if pa.types.is_string(column.type) or pa.types.is_binary(column.type):
            _add_text(chunk, lengths, values)
        elif _is_list(column.type):
            n_items = pc.list_value_length(chunk).cast(pa.int64()).fill_null(0)
            lengths.update(n_items.to_numpy(zero_copy_only=False))
        elif not pa.types.is_struct(column.type):
            values.update(_numbers(chunk))
    for name, child in _children(column):
        values.update(_framed(name.encode()))
        values.update(_column_digest(child))
    column_hash.update(struct.pack("<Q", column.null_count))
    for part in (validity, lengths, values):
        column_hash.update(part.digest())
    return column_hash.digest()


def _children(column: pa.ChunkedArray) -> list[tuple[str, pa.ChunkedArray]]:
    """The columns below a list or a struct, without what lies under its nulls."""
    if _is_list(column.type):
        items = [chunk.flatten() for chunk in column.chunks]
        return [("", pa.chunked_array(items, column.type.value_type))]
    if pa.types.is_struct(column.type):
        return list(zip((field.name for field in column.type), column.flatten(), strict=True))
    return []


def _add_text(chunk: pa.Array, lengths: hashlib._Hash, values: hashlib._Hash) -> None:
    filled = chunk.fill_null(pa.scalar(b"", chunk.type)) if chunk.null_count else chunk
    lengths.update(pc.binary_length(filled).cast(pa.int64()).to_numpy(zero_copy_only=False))
    _, offsets, content = filled.buffers()
    ends = np.frombuffer(offsets, np.int32)[filled.offset : filled.offset + len(filled) + 1]
    if content is not None and len(ends):
        values.update(memoryview(content)[int(ends[0]) : int(ends[-1])])


def _numbers(chunk: pa.Array) -> memoryview:
    """The values in little-endian order of bytes, with one value in the place of every null."""
    kind = chunk.type
    if pa.types.is_null(kind):
        return memoryview(b"")
    if pa.types.is_decimal(kind):
        filled = chunk.fill_null(pa.scalar(0, kind)) if chunk.null_count else chunk
        width = kind.byte_width
        return memoryview(filled.buffers()[1])[filled.offset * width : (filled.offset + len(filled)) * width]
    if pa.types.is_boolean(kind):
        chunk = chunk.cast(pa.uint8())
    elif pa.types.is_timestamp(kind) or pa.types.is_time(kind) or pa.types.is_duration(kind):
        chunk = chunk.cast(pa.int64())
    elif pa.types.is_date32(kind):
        chunk = chunk.cast(pa.int32())
    elif not (pa.types.is_integer(kind) or pa.types.is_floating(kind)):
        raise TypeError(f"rows with a column of type {kind} have no digest")
    filled = chunk.fill_null(0) if chunk.null_count else chunk
    values = filled.to_numpy(zero_copy_only=False)
    if pa.types.is_floating(kind) and np.isnan(values).any():
        values = np.where(np.isnan(values), np.array(np.nan, values.dtype), values)
    return np.ascontiguousarray(values, values.dtype.newbyteorder("<")).data
