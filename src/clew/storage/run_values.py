"""Params, metrics and tags of runs as rows, and the search over them.

A value is kept as text and, if it is one, as a number, each under an index of its own. A search first asks
each condition for the runs that meet it, but only for so many: a condition met by few names them all, and
the others are then asked about these few alone. Where every condition is met by many, runs are walked in the
order asked for until enough of them meet all.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal, TypeAlias

import msgspec
from sqlalchemy import ColumnElement, Select, and_, exists, func, select

from clew.storage.conditions import Where, known_columns, one_condition
from clew.storage.rows import Reader, Row
from clew.storage.tables import metadata

Kind: TypeAlias = Literal["metric", "param", "tag"]
Operator: TypeAlias = Literal["=", "!=", "<", "<=", ">", ">=", "like", "ilike"]

FEW = 4_000
"""Of so many runs their ids are fetched and the rest is asked about them alone."""

LONGEST_TEXT_BYTES = 1_500
LONGEST_NAME_BYTES = 400
"""Of longer ones the beginning is searched: an entry of an index has to fit into a page of PostgreSQL."""


@dataclass(frozen=True, slots=True)
class ValueCondition:
    """One condition of a search, such as ``metric.accuracy > 0.9``.

    `kind` is None for a column of runs. A number is held against numbers, text against text, and a run
    without the value meets no condition about it, not even ``!=``.
    """

    kind: Kind | None
    name: str
    op: Operator
    value: str | float | datetime


@dataclass(frozen=True, slots=True)
class ValueOrder:
    """By what found runs are sorted; those that do not have it are left out."""

    kind: Kind | None
    name: str
    is_descending: bool = True


def value_rows(run: str, kind: Kind, values: Mapping[str, Any]) -> list[Row]:
    """Rows of ``run_values``: each value as text and, if it is one, as a number.

    Examples
    --------
    >>> value_rows("r", "param", {"leaves": 31, "boosting": "dart"})[0]
    {'run': 'r', 'kind': 'param', 'name': 'leaves', 'text': '31', 'number': 31.0}
    """
    rows = {}
    for name, value in values.items():
        key = _beginning(name, LONGEST_NAME_BYTES)
        text = value if isinstance(value, str) else _told(value)
        rows[key] = {
            "run": run,
            "kind": kind,
            "name": key,
            "text": _beginning(text, LONGEST_TEXT_BYTES),
            "number": _number(value),
        }
    return list(rows.values())


def _told(value: Any) -> str:
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return msgspec.json.encode(value, enc_hook=str).decode()


def _number(value: Any) -> float | None:
    """NaN is none: it is neither above nor below anything, and databases hold otherwise."""
    if isinstance(value, str):
        # A tag from the command line is text, and 3 of them is more than 10 only as text.
        try:
            value = float(value)
        except ValueError:
            return None
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        number = float(value)
    except OverflowError:  # an int beyond the floats
        return None
    return None if math.isnan(number) else number


def _beginning(text: str, n_bytes: int) -> str:
    return text.encode(errors="replace")[:n_bytes].decode(errors="ignore")


# -- the search ------------------------------------------------------------------------------------------


def search_runs(
    reader: Reader,
    conditions: Sequence[ValueCondition] = (),
    where: Mapping[str, Any] | None = None,
    order: ValueOrder | None = None,
    limit: int | None = None,
) -> list[Row]:
    """Runs that meet all conditions, the newest first unless `order` says otherwise.

    `where` are conditions on columns of runs, as for `Reader.find`.
    """
    known_columns(_runs, where or {})
    tests = [_Test(reader, condition) for condition in conditions]
    tests += [_Test.on_column(reader, name, value) for name, value in (where or {}).items()]
    few = _few(tests)
    query = _in_order(order).limit(limit)
    query = query.where(*(test.holds() for test in tests if few is None or not test.is_known))
    if few is not None:
        query = query.where(one_condition(_runs.c.id, sorted(few), reader.dialect))
    return reader.rows(query)


def value_names(reader: Reader, kind: Kind) -> list[str]:
    """Every name that a run has a value of this kind under, sorted."""
    query = select(_values.c.name).where(_values.c.kind == kind).distinct().order_by(_values.c.name)
    return [row["name"] for row in reader.rows(query)]


_runs = metadata.tables["runs"]
_values = metadata.tables["run_values"]


class _Test:
    """One condition: which runs meet it, and whether a run that is looked at does."""

    def __init__(self, reader: Reader, condition: ValueCondition | None) -> None:
        self._reader, self._condition = reader, condition
        self._on_runs: ColumnElement[bool] | None = None
        self._while_walking: ColumnElement[bool] | None = None
        self.is_known = False
        if condition is not None and condition.kind is None:
            self._on_runs = self._compared(_runs.c[condition.name], condition.op, condition.value)

    @classmethod
    def on_column(cls, reader: Reader, name: str, value: Any) -> _Test:
        test = cls(reader, None)
        test._on_runs = one_condition(_runs.c[name], value, reader.dialect)
        if isinstance(value, Where) and value.op == "prefix":
            # No index fits this form, so that the one in the order of the walk is used.
            test._while_walking = func.substr(_runs.c[name], 1, len(value.value)) == value.value
        return test

    def ids(self, limit: int) -> list[str]:
        """The first `limit` runs that meet it."""
        if self._on_runs is not None:
            query = select(_runs.c.id.label("run")).where(self._on_runs)
        else:
            query = select(_values.c.run).where(self._on_values())
        return [row["run"] for row in self._reader.rows(query.limit(limit))]

    def holds(self) -> ColumnElement[bool]:
        if self._while_walking is not None:
            return self._while_walking
        if self._on_runs is not None:
            return self._on_runs
        return exists().where(_values.c.run == _runs.c.id, self._on_values())

    def _on_values(self) -> ColumnElement[bool]:
        condition = self._condition
        assert condition is not None  # noqa: S101 - the other kind of test is on columns of runs
        column = _values.c.text if isinstance(condition.value, str) else _values.c.number
        compared = self._compared(column, condition.op, condition.value)
        return and_(_values.c.kind == condition.kind, _values.c.name == condition.name, compared)

    def _compared(self, column: ColumnElement[Any], op: Operator, value: Any) -> ColumnElement[bool]:
        if op == "ilike":
            return func.lower(column).like(func.lower(value))
        if op == "like":
            return _like(column, value, self._reader.dialect.name)
        return _COMPARISONS[op](column, value)


def _few(tests: Sequence[_Test]) -> set[str] | None:
    """The runs that meet all the conditions that only few meet; None when each is met by many."""
    few: set[str] | None = None
    for test in tests:
        met = test.ids(FEW + 1)
        if len(met) <= FEW:
            test.is_known = True
            few = set(met) if few is None else few & set(met)
    return few


def _in_order(order: ValueOrder | None) -> Select[Any]:
    if order is None or order.kind is None:
        column = _runs.c[order.name if order else "started_at"]
        is_down = order is None or order.is_descending
        query = select(_runs).where(column.is_not(None))
        return query.order_by(column.desc() if is_down else column.asc(), _runs.c.id)
    number, text = _values.c.number, _values.c.text
    columns = [number] if order.kind == "metric" else [number, text]
    sorted_by = [column.desc() if order.is_descending else column.asc() for column in columns]
    query = select(_runs).join_from(_values, _runs, _values.c.run == _runs.c.id)
    query = query.where(_values.c.kind == order.kind, _values.c.name == order.name)
    if order.kind == "metric":
        query = query.where(number.is_not(None))
    else:
        sorted_by[0] = sorted_by[0].nulls_last()
    return query.order_by(*sorted_by, _runs.c.id)


def _like(column: ColumnElement[Any], pattern: str, dialect: str) -> ColumnElement[bool]:
    """SQL's ``LIKE``, which minds case: SQLite's own does not, but its ``GLOB`` does."""
    if dialect != "sqlite":
        return column.like(pattern, escape="\x1b")
    wild = {"%": "*", "_": "?", "*": "[*]", "?": "[?]", "[": "[[]"}
    return column.op("GLOB", is_comparison=True)("".join(wild.get(letter, letter) for letter in pattern))


_COMPARISONS: dict[str, Callable[[ColumnElement[Any], Any], ColumnElement[bool]]] = {
    "=": lambda column, value: column == value,
    "!=": lambda column, value: column != value,
    "<": lambda column, value: column < value,
    "<=": lambda column, value: column <= value,
    ">": lambda column, value: column > value,
    ">=": lambda column, value: column >= value,
}
