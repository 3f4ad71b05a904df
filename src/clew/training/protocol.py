"""How a parent and the child that runs user code talk: a length, a JSON header, raw buffers.

Nothing is ever unpickled, so that user code cannot reach into the parent. Arrays travel as ``npy``, or
as Arrow where their items are objects; errors travel as the name of a class in `clew.errors` and its
words.
"""

from __future__ import annotations

import io
import json
import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

from clew import errors
from clew.entities import Json

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa

    from clew.registry import Predictions

Read: TypeAlias = Callable[[int], bytearray]
Write: TypeAlias = Callable[[memoryview], None]

_PREFIX = struct.Struct(">4sI")
_MAGIC = b"CLW0"


class NotAMessage(Exception):
    """The other side wrote something else than a message."""


@dataclass(frozen=True, slots=True)
class Message:
    header: Json
    buffers: tuple[bytearray, ...] = ()


def send(write: Write, header: Json, buffers: Sequence[bytes | bytearray] = ()) -> None:
    """Write one message; `write` must write all it is given."""
    text = json.dumps({**header, "buffers": [len(buffer) for buffer in buffers]}).encode()
    write(memoryview(_PREFIX.pack(_MAGIC, len(text)) + text))
    for buffer in buffers:
        write(memoryview(buffer))


def receive(read: Read) -> Message:
    """Read one message; `read` must return exactly as many bytes as it is asked for.

    Raises
    ------
    NotAMessage
        When the bytes do not begin like one.
    """
    magic, n_bytes = _PREFIX.unpack(read(_PREFIX.size))
    if magic != _MAGIC:
        raise NotAMessage(f"a message begins with {_MAGIC!r}, this one with {magic!r}")
    header = json.loads(read(n_bytes))
    return Message(header, tuple(read(size) for size in header.pop("buffers")))


# -- arrays and tables ---------------------------------------------------------------------------------


def pack_array(values: np.ndarray[Any, Any]) -> bytes:
    """An array as bytes, without pickle: strings and other objects as one Arrow column."""
    import numpy as np

    if values.dtype != object:
        file = io.BytesIO()
        np.save(file, values, allow_pickle=False)
        return file.getvalue()
    import pyarrow as pa

    return pack_table(pa.table({"values": pa.array(values.tolist())}))


def unpack_array(packed: bytes | bytearray) -> np.ndarray[Any, Any]:
    """The array that `pack_array` packed."""
    import numpy as np

    if packed[:6] == b"\x93NUMPY":
        loaded: np.ndarray[Any, Any] = np.load(io.BytesIO(packed), allow_pickle=False)
        return loaded
    return np.array(unpack_table(packed)["values"].to_pylist(), dtype=object)


def pack_table(table: pa.Table) -> bytes:
    import pyarrow as pa

    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    packed: bytes = sink.getvalue().to_pybytes()
    return packed


def unpack_table(packed: bytes | bytearray) -> pa.Table:
    import pyarrow as pa

    with pa.ipc.open_stream(pa.py_buffer(packed)) as reader:
        return reader.read_all()


def pack_predictions(predictions: Predictions) -> tuple[Json, list[bytes]]:
    classes = None if predictions.classes is None else list(predictions.classes)
    arrays = [pack_array(predictions.predicted)]
    if predictions.probabilities is not None:
        arrays.append(pack_array(predictions.probabilities))
    return {"classes": classes}, arrays


def unpack_predictions(message: Message) -> Predictions:
    from clew.registry import Predictions

    arrays = [unpack_array(buffer) for buffer in message.buffers]
    classes = message.header["classes"]
    return Predictions(
        arrays[0], arrays[1] if len(arrays) > 1 else None, None if classes is None else tuple(classes)
    )


# -- errors --------------------------------------------------------------------------------------------


def pack_error(error: errors.ClewError) -> Json:
    """An error of Clew's as JSON: its class, its message, the attributes for programs."""
    attributes = {name: value for name, value in vars(error).items() if name != "output" and _is_plain(value)}
    return {"class": type(error).__name__, "message": str(error), "attributes": attributes}


def _is_plain(value: object) -> bool:
    if isinstance(value, list | tuple):
        return all(map(_is_plain, value))
    return value is None or isinstance(value, str | int | float)


def unpack_error(packed: Json) -> errors.ClewError:
    """The error that `pack_error` packed; a class unknown here becomes a plain `ClewError`."""
    found = getattr(errors, packed["class"], errors.ClewError)
    kind = found if isinstance(found, type) and issubclass(found, errors.ClewError) else errors.ClewError
    error = kind.__new__(kind)
    # Past the classes' own constructors, which build messages from parts that did not travel.
    Exception.__init__(error, packed["message"])
    for name, value in packed["attributes"].items():
        setattr(error, name, tuple(value) if isinstance(value, list) else value)
    return error
