"""What may be done with rows inside a transaction: plain dicts in, plain dicts out."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, TypeAlias

from sqlalchemy import (
    ColumnElement,
    Connection,
    Dialect,
    Table,
    Text,
    delete,
    func,
    insert,
    select,
    type_coerce,
    update,
)
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.sql import Select
from sqlalchemy.types import TypeEngine

from clew.storage.conditions import condition, known_columns, ordering, table_named
from clew.storage.tables import JsonText, Number, SortedText

Row: TypeAlias = dict[str, Any]


class Reader:
    """Reads the rows of one moment: everything read through one reader belongs together."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    @property
    def dialect(self) -> Dialect:
        """Which database it is. Storage's own."""
        return self._connection.dialect

    def rows(self, query: Select[Any]) -> list[Row]:
        """What a query finds. Storage's own: other rooms know no SQL."""
        return [dict(row) for row in self._connection.execute(query).mappings()]

    def column(self, query: Select[Any]) -> list[Any]:
        """The first column of what a query finds. Storage's own."""
        return list(self._connection.execute(query).scalars())

    def _condition(self, table: Table, where: Mapping[str, Any]) -> ColumnElement[bool]:
        return condition(table, where, self._connection.dialect)

    def get(self, table: str, **key: Any) -> Row | None:
        """The row whose columns have these values, or None.

        Raises
        ------
        ValueError
            When several rows have them: `key` names too few columns.
        """
        found = self.find(table, key, limit=2)
        if len(found) > 1:
            raise ValueError(f"{table} has several rows with {key}; name all columns of a key")
        return found[0] if found else None

    def find(
        self,
        table: str,
        where: Mapping[str, Any] | None = None,
        order_by: Sequence[str] = (),
        limit: int | None = None,
        offset: int = 0,
    ) -> list[Row]:
        """Rows that meet every condition of `where`, in a stated order.

        Parameters
        ----------
        where
            By column: a value (equal), None (is null), a list, tuple or set (one of), or a `Where`.
        order_by
            Columns; ``"-started_at"`` is descending. By default the primary key.
        """
        this = table_named(table)
        query: Select[Any] = select(this).where(self._condition(this, where or {}))
        query = query.order_by(*ordering(this, order_by)).limit(limit).offset(offset or None)
        return [dict(row) for row in self._connection.execute(query).mappings()]

    def texts(self, table: str, where: Mapping[str, Any] | None = None, *, n_least: int = 0) -> Iterator[str]:
        """Each text or JSON value of a table as it is stored, from `n_least` characters on; not the nulls."""
        this = table_named(table)
        chosen = self._condition(this, where or {})
        for column in this.columns:
            if isinstance(column.type, SortedText | JsonText):
                raw = type_coerce(column, Text)
                query = select(raw).where(chosen, func.length(raw) >= n_least)
                yield from self._connection.execute(query).yield_per(1000).scalars()

    def count(self, table: str, where: Mapping[str, Any] | None = None) -> int:
        this = table_named(table)
        query = select(func.count()).select_from(this).where(self._condition(this, where or {}))
        return int(self._connection.execute(query).scalar_one())


class Transaction(Reader):
    """Reads and changes rows; all of it is kept, or nothing when the block raises."""

    def insert(self, table: str, row: Mapping[str, Any]) -> None:
        """Add a row."""
        this = table_named(table)
        self._connection.execute(insert(this).values(known_columns(this, row)))

    def insert_many(self, table: str, rows: Sequence[Mapping[str, Any]]) -> None:
        """Add rows in one batch of the driver. All rows have the columns of the first one."""
        if not rows:
            return
        this = table_named(table)
        names = list(known_columns(this, rows[0]))
        for position, row in enumerate(rows):
            if row.keys() != rows[0].keys():
                raise ValueError(
                    f"row {position} of {table} has columns {sorted(row)}, the first {sorted(names)}"
                )
        self.insert_columns(table, {name: [row[name] for row in rows] for name in names})

    def insert_columns(self, table: str, columns: Mapping[str, Sequence[Any]]) -> None:
        """Add rows given column by column, all of the same length, in one batch of the driver."""
        # SQLAlchemy's own executemany converts each value of each row through several Python calls;
        # converting column by column costs a third.
        this, dialect = table_named(table), self._connection.dialect
        known = known_columns(this, columns).items()
        converted = [_converted(this.c[name].type, column, dialect) for name, column in known]
        quote = dialect.identifier_preparer.quote
        mark = "?" if dialect.name == "sqlite" else "%s"
        statement = (
            f"INSERT INTO {quote(this.name)} ({', '.join(map(quote, columns))})"  # noqa: S608 - names of our tables
            f" VALUES ({', '.join([mark] * len(columns))})"
        )
        self._connection.exec_driver_sql(statement, list(zip(*converted, strict=True)))

    def insert_if_absent(self, table: str, row: Mapping[str, Any]) -> bool:
        """Add a row unless its primary key or a unique value of it is there; True when it was added."""
        this = table_named(table)
        flavoured = sqlite.insert if self._connection.dialect.name == "sqlite" else postgresql.insert
        statement = flavoured(this).values(known_columns(this, row)).on_conflict_do_nothing()
        options = {"preserve_rowcount": True}
        return self._connection.execute(statement, execution_options=options).rowcount == 1

    def update(self, table: str, where: Mapping[str, Any], values: Mapping[str, Any]) -> int:
        """Set `values` in the rows that meet `where`; returns how many.

        This is compare-and-set: with the expected old value in `where`, 0 says that somebody was faster.
        """
        this = table_named(table)
        statement = update(this).where(self._condition(this, where)).values(known_columns(this, values))
        return self._connection.execute(statement).rowcount

    def delete(self, table: str, where: Mapping[str, Any]) -> int:
        """Remove the rows that meet `where`; returns how many.

        Raises
        ------
        ValueError
            When `where` is empty, which would remove every row.
        """
        if not where:
            raise ValueError(f"delete on {table} has no condition, which would remove every row")
        this = table_named(table)
        return self._connection.execute(delete(this).where(self._condition(this, where))).rowcount


def _converted(kind: TypeEngine[Any], column: Sequence[Any], dialect: Dialect) -> Sequence[Any]:
    """A column's values as the driver takes them."""
    if dialect.name == "sqlite":
        if type(kind) is SortedText:
            return column
        if isinstance(kind, Number):  # as that does, without a call for each of thousands
            return [None if each is None else "nan" if each != each else float(each) for each in column]
    convert = kind.dialect_impl(dialect).bind_processor(dialect)
    if convert is None:
        return column
    found, last, stored = [], object(), None
    for value in column:
        if value is not last:  # the same time, row after row, is told once
            last, stored = value, convert(value)
        found.append(stored)
    return found


def link(tx: Transaction, from_kind: str, from_id: str, relation: str, to_kind: str, to_id: str) -> None:
    """Record one step of the thread, such as run → "used" → snapshot; repeating it changes nothing."""
    tx.insert_if_absent(
        "edges",
        {
            "from_kind": from_kind,
            "from_id": from_id,
            "relation": relation,
            "to_kind": to_kind,
            "to_id": to_id,
        },
    )
