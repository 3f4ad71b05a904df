"""Which rows are meant: plain mappings turned into SQL."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import msgspec
from sqlalchemy import ARRAY, ColumnElement, Dialect, Table, and_, any_, bindparam, func, select

from clew.errors import did_you_mean
from clew.storage.tables import metadata

Operator: TypeAlias = Literal["!=", "<", "<=", ">", ">=", "prefix"]

# SQLite takes 32,766 parameters in a statement and PostgreSQL 65,535.
_MAX_SINGLE_VALUES = 1000


@dataclass(frozen=True, slots=True)
class Where:
    """A condition other than equality, such as ``{"started_at": Where(">=", monday)}``.

    ``"prefix"`` asks for text that begins with `value`; ``Where("!=", None)`` for rows with a value.
    """

    op: Operator
    value: Any


def table_named(name: str) -> Table:
    if name not in metadata.tables:
        raise ValueError(f"there is no table {name!r}. {did_you_mean(name, metadata.tables)}")
    return metadata.tables[name]


def known_columns(table: Table, row: Mapping[str, Any]) -> dict[str, Any]:
    """The row itself, once each of its names is known to be a column."""
    for name in row:
        if name not in table.c:
            raise ValueError(f"{table.name} has no column {name!r}. {did_you_mean(name, table.c.keys())}")
    return dict(row)


def condition(table: Table, where: Mapping[str, Any], dialect: Dialect) -> ColumnElement[bool]:
    """All of `where` at once; an empty one holds for every row."""
    known = known_columns(table, where)
    return and_(True, *(one_condition(table.c[name], value, dialect) for name, value in known.items()))


def ordering(table: Table, order_by: Sequence[str]) -> list[ColumnElement[Any]]:
    """Columns to order by, ``-`` before a name for descending; the primary key when none is named."""
    is_descending = {name.removeprefix("-"): name.startswith("-") for name in order_by}
    known_columns(table, is_descending)
    if not is_descending:
        return list(table.primary_key.columns)
    return [
        table.c[name].desc() if is_down else table.c[name].asc() for name, is_down in is_descending.items()
    ]


def one_condition(column: ColumnElement[Any], value: Any, dialect: Dialect) -> ColumnElement[bool]:
    """One entry of `where`: a value, None, several values, or a `Where`."""
    if isinstance(value, Where):
        if value.op not in _COMPARISONS:
            raise ValueError(f"there is no operator {value.op!r}; there are {', '.join(_COMPARISONS)}")
        return _COMPARISONS[value.op](column, value.value)
    if value is None:
        return column.is_(None)
    if isinstance(value, list | tuple | set | frozenset):
        values = list(value)
        return column.in_(values) if len(values) <= _MAX_SINGLE_VALUES else _one_of(column, values, dialect)
    equal: ColumnElement[bool] = column == value
    return equal


def _one_of(column: ColumnElement[Any], values: list[Any], dialect: Dialect) -> ColumnElement[bool]:
    """One parameter that holds all values, however many."""
    if dialect.name == "postgresql":
        held: ColumnElement[bool] = column == any_(bindparam(None, values, type_=ARRAY(column.type)))
        return held
    convert = column.type.dialect_impl(dialect).bind_processor(dialect)
    stored = values if convert is None else list(map(convert, values))
    listed = func.json_each(msgspec.json.encode(stored).decode()).table_valued("value")
    return column.in_(select(listed.c.value))


def _begins_with(column: ColumnElement[Any], prefix: str) -> ColumnElement[bool]:
    # A range and not LIKE: SQLite's LIKE ignores case, and both treat % and _ as wild.
    if not prefix:
        return column.is_not(None)
    return and_(column >= prefix, column < prefix[:-1] + chr(ord(prefix[-1]) + 1))


_COMPARISONS: dict[str, Callable[[ColumnElement[Any], Any], ColumnElement[bool]]] = {
    # A row without a value differs from any value, as it does in Python and does not in plain SQL.
    "!=": lambda column, value: column.is_distinct_from(value),
    "<": lambda column, value: column < value,
    "<=": lambda column, value: column <= value,
    ">": lambda column, value: column > value,
    ">=": lambda column, value: column >= value,
    "prefix": _begins_with,
}
