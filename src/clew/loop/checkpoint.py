"""A loop's state as bytes, so that it survives its process: plain values, arrays, tables, Clew's records.

Nothing is pickled: what comes to life is one of the types below, or a dataclass of Clew's own that is named
in the bytes and made from its fields. Bytes of anything else are refused.
"""

from __future__ import annotations

import dataclasses
import io
import math
import zlib
from collections import deque
from datetime import date, datetime, timedelta
from importlib import import_module
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa

from clew.errors import StoreError
from clew.storage.records import Failure, Label, Prediction, decode_record, encode_record

FORMAT = 1
_LEVEL = 1  # tracks of losses are mostly zeros and NaN: the fastest level takes nearly all of it away


def packed(value: Any) -> bytes:
    """`value` as bytes.

    Raises
    ------
    TypeError
        When there is something in it that is not kept.

    Examples
    --------
    >>> from clew.entities import RowRange
    >>> unpacked(packed({"rows": (RowRange(0, 5),), "level": float("nan")}))
    {'rows': (RowRange(start=0, end=5),), 'level': nan}
    """
    return bytes([FORMAT]) + zlib.compress(msgspec.msgpack.encode(_plain(value)), _LEVEL)


def unpacked(content: bytes) -> Any:
    """What `packed` was given.

    Raises
    ------
    StoreError
        When the bytes are damaged or of a newer Clew.
    """
    plain = unwrapped(content)
    try:
        return _alive(msgspec.msgpack.decode(plain))
    except (msgspec.DecodeError, KeyError, IndexError) as error:
        raise StoreError(f"The state of a loop is damaged: {error}.") from error


def unwrapped(content: bytes) -> bytes:
    """The bytes of `packed`, uncompressed: every text in them can be found, and nothing comes to life."""
    if content[:1] != bytes([FORMAT]):
        raise StoreError(
            f"The state of a loop has format {content[:1].hex() or 'none'}; this Clew reads {FORMAT:02x}."
        )
    try:
        return zlib.decompress(content[1:])
    except zlib.error as error:
        raise StoreError(f"The state of a loop is damaged: {error}.") from error


def _plain(value: Any) -> Any:
    """Lists stand for themselves only behind a tag, so that every other value can have one too."""
    if isinstance(value, np.generic | np.ndarray):
        return _plain_array(value)
    if value is None or isinstance(value, bool | int | str | bytes):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else ["float", repr(value)]
    if isinstance(value, list | tuple | set | frozenset | deque):
        return [type(value).__name__, *map(_plain, value)]
    if isinstance(value, dict):
        return ["dict", *([_plain(key), _plain(each)] for key, each in value.items())]
    if isinstance(value, datetime):
        return ["datetime", value.isoformat()]
    if isinstance(value, date):
        return ["date", value.isoformat()]
    if isinstance(value, timedelta):
        return ["timedelta", value.days, value.seconds, value.microseconds]
    return _plain_record(value)


def _plain_array(value: Any) -> Any:
    array = np.asarray(value)
    if array.dtype.kind == "O":
        return ["objects", list(array.shape), *map(_plain, array.ravel().tolist())]
    kind = "scalar" if isinstance(value, np.generic) else "array"
    return [kind, array.dtype.str, list(array.shape), np.ascontiguousarray(array).tobytes()]


def _plain_record(value: Any) -> Any:
    if isinstance(value, Prediction | Failure | Label):
        return ["logged", encode_record(value)]
    if isinstance(value, pa.Table):
        sink = io.BytesIO()
        with pa.ipc.new_stream(sink, value.schema) as writer:
            writer.write_table(value)
        return ["table", sink.getvalue()]
    if dataclasses.is_dataclass(value) and type(value).__module__.startswith("clew."):
        fields = {field.name: _plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
        return ["record", f"{type(value).__module__}:{type(value).__qualname__}", fields]
    raise TypeError(f"a checkpoint cannot keep {value!r} of type {type(value).__name__}")


def _alive(value: Any) -> Any:
    if not isinstance(value, list):
        return value
    return _MAKERS[value[0]](value[1:])


def _record(parts: list[Any]) -> Any:
    name, fields = parts
    module, _, qualified = name.partition(":")
    if not module.startswith("clew."):
        raise StoreError(f"The state of a loop names {name!r}, which is not one of Clew's records.")
    kind: Any = import_module(module)
    for part in qualified.split("."):
        kind = getattr(kind, part)
    if not (isinstance(kind, type) and dataclasses.is_dataclass(kind)):
        raise StoreError(f"The state of a loop names {name!r}, which is no record.")
    record = object.__new__(kind)
    for field, value in fields.items():
        object.__setattr__(record, field, _alive(value))
    return record


def _array(parts: list[Any]) -> np.ndarray:
    dtype, shape, content = parts
    return np.frombuffer(content, np.dtype(dtype)).reshape(shape).copy()


def _objects(parts: list[Any]) -> np.ndarray:
    shape, *values = parts
    array = np.empty(len(values), dtype=object)
    array[:] = [_alive(value) for value in values]
    return array.reshape(shape)


_MAKERS: dict[str, Any] = {
    "float": lambda parts: float(parts[0]),
    "list": lambda parts: [_alive(each) for each in parts],
    "tuple": lambda parts: tuple(_alive(each) for each in parts),
    "set": lambda parts: {_alive(each) for each in parts},
    "frozenset": lambda parts: frozenset(_alive(each) for each in parts),
    "deque": lambda parts: deque(_alive(each) for each in parts),
    "dict": lambda parts: {_alive(key): _alive(each) for key, each in parts},
    "datetime": lambda parts: datetime.fromisoformat(parts[0]),
    "timedelta": lambda parts: timedelta(parts[0], parts[1], parts[2]),
    "date": lambda parts: date.fromisoformat(parts[0]),
    "logged": lambda parts: decode_record(parts[0]),
    "scalar": lambda parts: _array(parts)[()],
    "array": _array,
    "objects": _objects,
    "table": lambda parts: pa.ipc.open_stream(parts[0]).read_all(),
    "record": _record,
}
