"""Records of the prediction log as columns of a table, and back.

A value that callers may send as they like (a key, an answer, a feature) becomes a column of its own type
where the rows agree: text, boolean, integer or number; integers among numbers are numbers. Where they do
not agree it is a column of JSON text, marked so in its field. Each feature is a column ``feature.NAME``,
null where a row was not asked with it; the column ``names`` holds, as JSON, what a row was asked with.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from operator import attrgetter
from typing import Any, Literal, TypeAlias

import msgspec
import pyarrow as pa
import pyarrow.compute as pc

from clew.storage.log import prediction_id
from clew.storage.records import Failure, Label, LeanPrediction, Prediction, Record

Kind: TypeAlias = Literal["p", "f", "l"]

PLACE = ("worker", "segment", "offset")
FEATURE = "feature."

_JSON = {b"clew.values": b"json"}
_TIME = pa.timestamp("us", "UTC")
_TEXT, _WHOLE = pa.string(), pa.int64()


class LogRow(msgspec.Struct, frozen=True, gc=False):
    """A record, a prediction as a `LeanPrediction`, and the place where it was logged."""

    worker: int
    segment: int
    offset: int
    record: Record


KINDS: dict[type[Record], Kind] = {Prediction: "p", Failure: "f", Label: "l"}
LEAN_KINDS: dict[type[Record], Kind] = KINDS | {LeanPrediction: "p"}

TIME_OF: dict[Kind, str] = {"p": "event_time", "f": "event_time", "l": "received_at"}
"""Which column says when, by kind."""

# The columns of each kind. ANY stands for the type that the values turn out to have.
ANY = pa.null()
_COLUMNS: dict[Kind, dict[str, Any]] = {
    "p": {
        "deployment": _TEXT,
        "version": _WHOLE,
        "role": _TEXT,
        "answered_at": _TIME,
        "event_time": _TIME,
        "key": ANY,
        "entity": ANY,
        "predicted": ANY,
        "probabilities": pa.list_(pa.float64()),
        "request": _TEXT,
        "microseconds": _WHOLE,
        "unseen": pa.list_(_TEXT),
        "threshold": pa.float64(),
    },
    "f": {
        "deployment": _TEXT,
        "version": _WHOLE,
        "role": _TEXT,
        "answered_at": _TIME,
        "event_time": _TIME,
        "key": ANY,
        "request": _TEXT,
        "error": _TEXT,
    },
    "l": {
        "deployment": _TEXT,
        "received_at": _TIME,
        "key": ANY,
        "label": ANY,
        "source": _TEXT,
        "actor": _TEXT,
        "prediction": _TEXT,
    },
}


def table_of(kind: Kind, rows: Sequence[LogRow]) -> Any:
    """Rows of one kind as a table, in the order of their time; rows of one time in the order they have."""
    ordered = sorted(rows, key=_TIMES[kind])
    records = [row.record for row in ordered]
    columns: dict[str, tuple[Any, Any]] = {}
    for name in PLACE:
        columns[name] = _fixed(name, list(map(attrgetter(name), ordered)), _WHOLE)
    for name, column_type in _COLUMNS[kind].items():
        values = list(map(attrgetter(name), records))
        columns[name] = _typed(name, values) if column_type is ANY else _fixed(name, values, column_type)
    if kind == "p":
        columns |= _features(records)
    fields, arrays = zip(*columns.values(), strict=True)
    return pa.Table.from_arrays(list(arrays), schema=pa.schema(fields))


_TIMES: dict[Kind, Callable[[LogRow], int]] = {
    kind: attrgetter(f"record.{name}") for kind, name in TIME_OF.items()
}


def _fixed(name: str, values: list[Any], column_type: Any) -> tuple[Any, Any]:
    is_time = column_type is _TIME
    return pa.field(name, column_type), (
        pa.array(values, _WHOLE).view(_TIME) if is_time else pa.array(values, column_type)
    )


def _typed(name: str, values: Sequence[Any]) -> tuple[Any, Any]:
    """A column of the type that the values agree upon, JSON text where they do not."""
    kinds = set(map(type, values)) - {type(None)}
    try:
        array = pa.array(values, _AGREED[frozenset(kinds)])
    except (KeyError, OverflowError, pa.ArrowInvalid):  # an integer too large counts as not agreed
        return pa.field(name, _TEXT, metadata=_JSON), _as_json(values)
    return pa.field(name, array.type), array


_AGREED: dict[frozenset[type], Any] = {
    frozenset(): pa.null(),
    frozenset({bool}): pa.bool_(),
    frozenset({int}): _WHOLE,
    frozenset({float}): pa.float64(),
    frozenset({int, float}): pa.float64(),
    frozenset({str}): _TEXT,
}


def _as_json(values: Iterable[Any]) -> Any:
    # The standard library's, because its JSON knows NaN and infinity.
    return pa.array(
        [None if value is None else json.dumps(value, ensure_ascii=False) for value in values], _TEXT
    )


def _features(records: Sequence[Any]) -> dict[str, tuple[Any, Any]]:
    asked = [bytes(record.names) for record in records]
    shapes: dict[bytes, list[str]] = {names: msgspec.msgpack.decode(names) for names in dict.fromkeys(asked)}
    texts = {names: json.dumps(shape, ensure_ascii=False) for names, shape in shapes.items()}
    features = [record.features for record in records]
    if len(shapes) == 1:  # as nearly always, and column by column is much faster
        [shape] = shapes.values()
        values = {name: [each[at] for each in features] for at, name in enumerate(shape)}
    else:
        values = {name: [None] * len(records) for shape in shapes.values() for name in shape}
        for at, (names, given) in enumerate(zip(asked, features, strict=True)):
            for name, value in zip(shapes[names], given, strict=True):
                values[name][at] = value
    columns = {"names": _fixed("names", [texts[names] for names in asked], _TEXT)}
    return columns | {FEATURE + name: _typed(FEATURE + name, column) for name, column in values.items()}


# ---------------------------------------------------------------- joining


def joined(tables: Sequence[Any]) -> Any:
    """The rows of all tables under each other; columns that one lacks are null there.

    Columns whose types differ between the tables become what `table_of` would have made of all their values.
    """
    names = list(dict.fromkeys(name for table in tables for name in table.column_names))
    fields = [
        _common_field([table for table in tables if name in table.column_names], name) for name in names
    ]
    schema = pa.schema(fields)
    return pa.concat_tables([_conformed(table, schema) for table in tables])


def _common_field(tables: Sequence[Any], name: str) -> Any:
    fields = [table.schema.field(name) for table in tables]
    is_json = any(_is_json(field) for field in fields)
    types = {field.type for field in fields} - {pa.null()}
    if is_json or not _can_be_one(types, tables, name):
        return pa.field(name, _TEXT, metadata=_JSON)
    if len(types) == 2:
        return pa.field(name, pa.float64())
    return pa.field(name, types.pop() if types else pa.null())


def _can_be_one(types: set[Any], tables: Sequence[Any], name: str) -> bool:
    if len(types) <= 1:
        return True
    if types != {_WHOLE, pa.float64()}:
        return False
    try:
        for table in tables:
            pc.cast(table.column(name), pa.float64())
    except pa.ArrowInvalid:  # an integer that no float is equal to
        return False
    return True


def _conformed(table: Any, schema: Any) -> Any:
    arrays = []
    for field in schema:
        if field.name not in table.column_names:
            arrays.append(pa.nulls(table.num_rows, field.type))
            continue
        column = table.column(field.name)
        if _is_json(field) and not _is_json(table.schema.field(field.name)):
            column = _as_json(column.to_pylist())
        arrays.append(column.cast(field.type))
    return pa.Table.from_arrays(arrays, schema=schema)


def _is_json(field: Any) -> bool:
    return bool(field.metadata and field.metadata.get(b"clew.values") == b"json")


# ---------------------------------------------------------------- and back


def ids_of(table: Any) -> list[str]:
    """The ids of a table's rows, which has the columns of `PLACE`."""
    return list(map(prediction_id, *(table.column(name).to_pylist() for name in PLACE)))


def records_of(kind: Kind, table: Any) -> list[Record]:
    """The records that a table was made of."""
    columns = {name: values_of(table, name) for name in table.column_names}
    made = {Prediction: _prediction, Failure: _plain(Failure), Label: _plain(Label)}
    make = next(made[record_type] for record_type, its_kind in KINDS.items() if its_kind == kind)
    names = [name for name in columns if name not in PLACE]
    return [
        make(dict(zip(names, row, strict=True))) for row in zip(*(columns[n] for n in names), strict=True)
    ]


def values_of(table: Any, name: str) -> list[Any]:
    """A column's values as they were logged: times in microseconds, what is kept as JSON text read back."""
    column, field = table.column(name), table.schema.field(name)
    if field.type == _TIME:
        return list(column.cast(_WHOLE).to_pylist())
    values: list[Any] = column.to_pylist()
    if _is_json(field):
        return [None if value is None else json.loads(value) for value in values]
    return values


def _plain(record_type: type[Failure] | type[Label]) -> Callable[[dict[str, Any]], Record]:
    return lambda values: record_type(**values)


def _prediction(values: dict[str, Any]) -> Record:
    names = tuple(json.loads(values["names"]))
    own = {name: value for name, value in values.items() if name in _COLUMNS["p"]}
    own["probabilities"] = None if own["probabilities"] is None else tuple(own["probabilities"])
    own["unseen"] = tuple(own["unseen"])
    return Prediction(names=names, features=tuple(values[FEATURE + name] for name in names), **own)
