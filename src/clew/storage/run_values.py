"""Params, metrics and tags of runs as rows, and the search over them.

A value is kept as text and, if it is one, as a number, each under an index of its own. A search goes the
first of three ways that leads to an answer. A condition that few runs meet names them, and the others are
asked about these alone. Where each is met by many, some runs are looked at in the order asked for: mostly
enough of them meet all. Else the runs that meet each are held against each other.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping, Sequence
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

FEW = 3_000
"""Of so many runs the rest is asked one by one."""

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
    tests = [_Test(reader, each) for each in _together(conditions)]
    tests += [_Test(reader, on_column=given) for given in (where or {}).items()]
    search = _Search(reader, tests, order, limit)
    if not any(each.kind for each in conditions):
        return search.in_order()
    few = search.met_by_few()
    if few is None and limit is not None:
        looked_at = search.first_in_order()
        found = search.among(looked_at)
        if len(found) == limit or len(looked_at) < FEW:
            return found
    return search.among(search.met_by_all() if few is None else few)


def value_names(reader: Reader, kind: Kind) -> list[str]:
    """Every name that a run has a value of this kind under, sorted."""
    query = select(_values.c.name).where(_values.c.kind == kind).distinct().order_by(_values.c.name)
    return [row["name"] for row in reader.rows(query)]


_runs = metadata.tables["runs"]
_values = metadata.tables["run_values"]


_INDEXED = ("id", "key", "model", "status", "purpose", "started_at")


class _Test:
    """Conditions about one thing: which runs meet them, and whether a run that is looked at does."""

    def __init__(
        self,
        reader: Reader,
        conditions: Sequence[ValueCondition] = (),
        on_column: tuple[str, Any] | None = None,
    ) -> None:
        self._reader, self._conditions = reader, conditions
        self.is_on_runs = on_column is not None or conditions[0].kind is None
        name, value = on_column or (conditions[0].name, None)
        self.has_index = not self.is_on_runs or name in _INDEXED
        self._name, self._value = name, value
        self._met: list[str] | None = None

    def few(self) -> list[str] | None:
        """The runs that meet them; None when they are more than a few."""
        # Counted first: that costs a fraction of handing thousands of ids over.
        if self._met is None and self.has_index and self.count(FEW + 1) <= FEW:
            self._met = self._reader.column(self._ids())
        return self._met

    def count(self, limit: int | None = None) -> int:
        """How many runs meet them, counted no further than `limit`."""
        counted = select(func.count()).select_from(self._ids().limit(limit).subquery())
        return int(self._reader.column(counted)[0])

    def all(self) -> list[str]:
        """The runs that meet them, however many."""
        if self._met is None:
            self._met = self._reader.column(self._ids())
        return self._met

    def holds(self) -> ColumnElement[bool]:
        if not self.is_on_runs:
            values = _values.alias()
            return exists().where(values.c.run == _runs.c.id, self._on_values(values))
        if isinstance(self._value, Where) and self._value.op == "prefix":
            # No index fits this form, so that runs are walked in their order.
            prefix: str = self._value.value
            begins: ColumnElement[bool] = func.substr(_runs.c[self._name], 1, len(prefix)) == prefix
            return begins
        return self._on_runs()

    def _ids(self) -> Select[Any]:
        if self.is_on_runs:
            return select(_runs.c.id).where(self._on_runs())
        return select(_values.c.run).where(self._on_values(_values))

    def _on_runs(self) -> ColumnElement[bool]:
        if not self._conditions:
            return one_condition(_runs.c[self._name], self._value, self._reader.dialect)
        column = _runs.c[self._name]
        return and_(*(self._compared(column, each.op, each.value) for each in self._conditions))

    def _on_values(self, values: Any) -> ColumnElement[bool]:
        this = self._conditions[0]
        compared = (
            self._compared(
                values.c.text if isinstance(each.value, str) else values.c.number, each.op, each.value
            )
            for each in self._conditions
        )
        return and_(values.c.kind == this.kind, values.c.name == this.name, *compared)

    def _compared(self, column: ColumnElement[Any], op: Operator, value: Any) -> ColumnElement[bool]:
        if op == "ilike":
            return func.lower(column).like(func.lower(value))
        if op == "like":
            return _like(column, value, self._reader.dialect.name)
        return _COMPARISONS[op](column, value)


class _Search:
    """The ways to an answer."""

    def __init__(
        self, reader: Reader, tests: Sequence[_Test], order: ValueOrder | None, limit: int | None
    ) -> None:
        self._reader, self._tests, self._order, self._limit = reader, tests, order, limit

    def in_order(self) -> list[Row]:
        """Runs as they come in the order asked for."""
        held = (test.holds() for test in self._tests)
        return self._reader.rows(_in_order(self._order, _runs).where(*held).limit(self._limit))

    def met_by_few(self) -> set[str] | None:
        """The runs that meet every condition which few meet; None when there is none such."""
        met = [few for test in self._tests if (few := test.few()) is not None]
        return set.intersection(*map(set, met)) if met else None

    def first_in_order(self) -> list[str]:
        """The first few in the order asked for that meet the conditions on columns of runs."""
        held = (test.holds() for test in self._tests if test.is_on_runs)
        return self._reader.column(_in_order(self._order, _runs.c.id).where(*held).limit(FEW))

    def met_by_all(self) -> set[str]:
        """The runs that meet every condition on values; or, once they are few, the first of these."""
        tests = [test for test in self._tests if not test.is_on_runs]
        first, *others = sorted(tests, key=lambda test: test.count())
        met = set(first.all())
        for test in others:
            if len(met) <= FEW:
                break
            met &= set(test.all())
        return met

    def among(self, ids: Collection[str]) -> list[Row]:
        """Those of some runs that meet all conditions."""
        chosen = one_condition(_runs.c.id, sorted(ids), self._reader.dialect)
        held = (test.holds() for test in self._tests)
        return self._reader.rows(_sorted(self._order).where(chosen, *held).limit(self._limit))


def _together(conditions: Sequence[ValueCondition]) -> list[list[ValueCondition]]:
    """Conditions by what they are about: an index then finds both limits of a range at once."""
    by_name: dict[tuple[object, ...], list[ValueCondition]] = {}
    for each in conditions:
        by_name.setdefault((each.kind, each.name, isinstance(each.value, str)), []).append(each)
    return list(by_name.values())


def _in_order(order: ValueOrder | None, wanted: Any) -> Select[Any]:
    """Runs by walking an index in the order asked for."""
    if order is None or order.kind is None:
        column = _runs.c[order.name if order else "started_at"]
        return select(wanted).where(column.is_not(None)).order_by(*_by(order, column))
    query = select(wanted).join_from(_values, _runs, _values.c.run == _runs.c.id)
    query = query.where(_values.c.kind == order.kind, _values.c.name == order.name)
    if order.kind == "metric":
        query = query.where(_values.c.number.is_not(None))
    return query.order_by(*_by(order, *_sorting(order, _values)))


def _sorted(order: ValueOrder | None) -> Select[Any]:
    """Runs that are chosen otherwise, sorted afterwards."""
    if order is None or order.kind is None:
        return _in_order(order, _runs)
    values = _values.alias()
    mine = and_(values.c.run == _runs.c.id, values.c.kind == order.kind, values.c.name == order.name)
    columns = [select(column).where(mine).scalar_subquery() for column in _sorting(order, values)]
    is_there = columns[0] if order.kind == "metric" else columns[-1]
    return select(_runs).where(is_there.is_not(None)).order_by(*_by(order, *columns))


def _sorting(order: ValueOrder, values: Any) -> list[ColumnElement[Any]]:
    return [values.c.number] if order.kind == "metric" else [values.c.number, values.c.text]


def _by(order: ValueOrder | None, *columns: ColumnElement[Any]) -> list[ColumnElement[Any]]:
    is_down = order is None or order.is_descending
    sorted_by = [column.desc() if is_down else column.asc() for column in columns]
    if len(columns) > 1:
        sorted_by[0] = sorted_by[0].nulls_last()
    return [*sorted_by, _runs.c.id.asc()]


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
