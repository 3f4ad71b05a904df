"""Which columns a table must have, of which types, and in which order its rows are kept."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryFile

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from clew.datasets.casts import (
    INSTANT,
    KEPT_TYPES,
    SCHEMA_RULE,
    cast_column,
    is_exact,
    kept_type,
    without_nan,
)
from clew.datasets.complaints import MAX_NAMED_ROWS, named_rows, values_at
from clew.datasets.hashes import Hashes, key_hashes
from clew.entities import Column, DatasetDeclaration
from clew.errors import DataError, did_you_mean

_KEY_TYPES = ("string", "int64", str(INSTANT), "date32[day]")


def prepare(
    table: pa.Table,
    declaration: DatasetDeclaration,
    declared: Sequence[Column] | None = None,
    *,
    may_change: bool = False,
    is_whole: bool = True,
) -> tuple[pa.Table, tuple[Column, ...]]:
    """Check a table and bring it into the form a snapshot keeps: declared types, ordered by time and key.

    A column joins the schema with its first value: one that is null throughout and not declared is left
    out. A column that is declared stays, null or not.

    Parameters
    ----------
    declared
        The schema so far; None for a new dataset, whose types are then inferred: integers become
        ``int64``, floats ``double``, categories the type of their values.
    may_change
        Whether declared columns may go, or change to a type they cannot be cast to, because the code
        that makes the table has changed.
    is_whole
        Whether these are all rows, and not only new ones, which may all still wait for their labels.

    Returns
    -------
    table, columns
        The rows in order, and the schema, in the declared order with new columns last.

    Raises
    ------
    DataError
        Naming the column and rows at fault, and what to do.
    """
    shaped = shape(table, declaration, declared, may_change=may_change, is_whole=is_whole)
    shaped.refuse_twins(shaped.sorted_hashes(shaped.hashes()))
    return shaped.rows, shaped.columns


@dataclass(frozen=True, slots=True)
class Shaped:
    """A table in the form a snapshot keeps, but for its keys, which may have twins.

    `rows` are in order, `as_given` in that of the table, which is the one messages count in; None when that
    is not known any more. `scratch` is where to put what grows with the rows, when that is not memory.
    """

    rows: pa.Table
    columns: tuple[Column, ...]
    as_given: pa.Table | None
    key: str
    scratch: Path | None = None

    def hashes(self) -> Hashes:
        """The hash of each key."""
        return key_hashes(self.rows[self.key], self._room())

    def sorted_hashes(self, hashes: Hashes) -> Hashes:
        room = self._room()
        room[:] = hashes
        room.sort()
        return room

    def _room(self) -> Hashes:
        if self.scratch is None:
            return np.empty(self.rows.num_rows, np.uint64)
        with TemporaryFile(dir=self.scratch) as file:
            return np.memmap(file, np.uint64, "w+", shape=(self.rows.num_rows,))

    def refuse_twins(self, hashes: Hashes) -> None:
        """Refuse keys that are on several rows.

        Parameters
        ----------
        hashes
            Of the keys of `rows`, sorted: equal keys have equal hashes, and sorting numbers is many times
            faster than counting texts.
        """
        twice = hashes[1:][hashes[1:] == hashes[:-1]]
        if not len(twice):
            return
        keys = (self.rows if self.as_given is None else self.as_given)[self.key]
        counts = pc.value_counts(_with_hash_in(keys, np.unique(twice)))
        twins = counts.field("values").filter(pc.greater(counts.field("counts"), 1))
        if len(twins):
            raise _twins(keys, twins, self.key, has_rows=self.as_given is not None)


def _with_hash_in(keys: pa.ChunkedArray, hashes: Hashes) -> pa.ChunkedArray:
    found = [
        chunk.filter(pa.array(np.isin(key_hashes(pa.chunked_array([chunk])), hashes)))
        for chunk in keys.chunks
    ]
    return pa.chunked_array(found, keys.type)


def shape(
    table: pa.Table,
    declaration: DatasetDeclaration,
    declared: Sequence[Column] | None,
    *,
    may_change: bool = False,
    is_whole: bool = True,
) -> Shaped:
    """What `prepare` does, all but looking for keys that are on several rows."""
    refuse_odd_names(table)
    refuse_empty(table)
    require_roles(table, declaration)
    columns = schema_of(table, declaration, tuple(declared or ()), may_change)
    zone = declaration.timezone
    arrays = [cast_column(table[c.name], c.name, KEPT_TYPES[c.type], zone) for c in columns]
    schema = pa.schema([(c.name, KEPT_TYPES[c.type]) for c in columns])
    prepared = pa.table(arrays, schema=schema)
    refuse_nameless(prepared, declaration)
    if is_whole:
        refuse_no_labels(prepared, declaration.label)
    return Shaped(in_order(prepared, declaration), columns, prepared, declaration.key)


def feature_names(
    columns: Sequence[Column], declaration: DatasetDeclaration, also_not: Sequence[str] = ()
) -> tuple[str, ...]:
    """The columns a model is given: all but label, time, key, entity and ``not_features``.

    Parameters
    ----------
    also_not
        What the model's own ``not_features`` adds.
    """
    names = [column.name for column in columns]
    for name in also_not:
        if name not in names:
            raise DataError(
                f"not_features has {name!r}, which is no column of {declaration.name}."
                f" {did_you_mean(name, names)}",
                column=name,
            )
    left_out = {*_roles(declaration).values(), *declaration.not_features, *also_not}
    features = tuple(name for name in names if name not in left_out)
    if not features:
        raise DataError(
            f"{declaration.name} has no feature: its columns are {', '.join(names)}, each of them label,"
            " time, key, entity or in not_features."
        )
    return features


def _roles(declaration: DatasetDeclaration) -> dict[str, str]:
    roles = {"time": declaration.time, "key": declaration.key, "label": declaration.label}
    return roles | ({"entity": declaration.entity} if declaration.entity is not None else {})


# -- columns -------------------------------------------------------------------------------------------


def refuse_odd_names(table: pa.Table) -> None:
    twice = sorted(name for name, n in Counter(table.column_names).items() if n > 1)
    if twice:
        raise DataError(
            f"The table has two columns named {', '.join(map(repr, twice))}. Rename one in the dataset"
            " function.",
            column=twice[0],
        )
    if "" in table.column_names:
        position = table.column_names.index("")
        raise DataError(f"The column at position {position} has no name. Name it, or drop it.")


def refuse_empty(table: pa.Table) -> None:
    if not table.num_rows:
        raise DataError("The table has no rows. Does the source have any, or does a filter drop them all?")


def require_roles(table: pa.Table, declaration: DatasetDeclaration) -> None:
    roles = [(role, name) for role, name in _roles(declaration).items()]
    for role, name in [*roles, *(("not_features", name) for name in declaration.not_features)]:
        if name not in table.column_names:
            raise DataError(
                f"{declaration.name} declares {role}={name!r}, but the table has no such column."
                f" {did_you_mean(name, table.column_names)}",
                column=name,
            )


def schema_of(
    table: pa.Table, declaration: DatasetDeclaration, declared: tuple[Column, ...], may_change: bool
) -> tuple[Column, ...]:
    """The columns of a table as they are kept: the declared ones, then those that are new."""
    kept = []
    for column in declared:
        if column.name in table.column_names:
            kept.append(_agreed(table, declaration, column, may_change))
        elif not may_change:
            raise DataError(_missing(column.name, table, declared, declaration), column=column.name)
    known = {column.name for column in kept}
    roles = set(_roles(declaration).values())
    new = [name for name in table.column_names if name not in known]
    joining = [name for name in new if name in roles or has_value(table[name])]
    return (*kept, *(inferred(table[name], name, declaration) for name in joining))


def _missing(
    name: str, table: pa.Table, declared: tuple[Column, ...], declaration: DatasetDeclaration
) -> str:
    new = [other for other in table.column_names if other not in {column.name for column in declared}]
    hint = did_you_mean(name, new) if new else f"The table has: {', '.join(table.column_names)}."
    return f"Column {name!r} of {declaration.name} is missing from the table. {hint} {SCHEMA_RULE}"


def _agreed(table: pa.Table, declaration: DatasetDeclaration, column: Column, may_change: bool) -> Column:
    """The declared column, or what it has become when it no longer fits and is wider, or may change."""
    given = table[column.name]
    wider = widened(column, given, declaration)
    if not may_change and wider is None:
        return column
    try:
        cast_column(given, column.name, KEPT_TYPES[column.type], declaration.timezone)
    except DataError:
        return wider or inferred(given, column.name, declaration)
    return column


def widened(column: Column, given: pa.ChunkedArray, declaration: DatasetDeclaration) -> Column | None:
    """What the column becomes when these values do not fit: whole numbers become decimals, if anything.

    Not the columns with a role: a key is no decimal, and a label has its classes. And not where the values
    may be whole numbers that lost digits as decimals.
    """
    is_wider = column.type == "int64" and pa.types.is_floating(given.type) and is_exact(given)
    has_role = column.name in _roles(declaration).values()
    return Column(column.name, "double", column.is_categorical) if is_wider and not has_role else None


def has_value(column: pa.ChunkedArray) -> bool:
    return bool(without_nan(column).null_count < len(column))


def inferred(column: pa.ChunkedArray, name: str, declaration: DatasetDeclaration) -> Column:
    """How a column is kept that was never declared."""
    if name == declaration.time:
        return Column(name, _time_type(column, name))
    if name == declaration.label and not has_value(column):
        raise _no_labels(name, declaration.name, len(column))
    kept = kept_type(column.type)
    if kept is None:
        raise DataError(
            f"Column {name!r} has type {column.type}, which cannot be kept; kept are booleans, numbers, text,"
            " dates and times. Convert or drop it in the dataset function.",
            column=name,
        )
    if name == declaration.key:
        _refuse_key_type(name, kept)
    return Column(name, str(kept), kept == pa.string() or pa.types.is_dictionary(column.type))


def _time_type(column: pa.ChunkedArray, name: str) -> str:
    is_unknown = pa.types.is_null(column.type)
    if not is_unknown and kept_type(column.type) not in (pa.string(), pa.date32(), INSTANT):
        raise DataError(
            f"time={name!r} has type {column.type}, which is no time. Convert it in the dataset function, for"
            f" example with pandas.to_datetime(table[{name!r}], unit='s') when it counts seconds.",
            column=name,
        )
    return str(INSTANT)


def _refuse_key_type(name: str, kept: pa.DataType) -> None:
    if str(kept) not in _KEY_TYPES:
        raise DataError(
            f"key={name!r} has type {kept}; a key is text, a whole number, a date or a time. Convert it"
            f" in the dataset function, for example with table[{name!r}].astype('int64').",
            column=name,
        )


# -- rows ----------------------------------------------------------------------------------------------


def refuse_nameless(table: pa.Table, declaration: DatasetDeclaration, first_row: int = 0) -> None:
    """Refuse rows without a time or a key, and labels that say nothing.

    `first_row` is the position in the whole table of the first one.
    """
    time, key, label = declaration.time, declaration.key, declaration.label
    mend = "A row without a time cannot be placed; drop it"
    _refuse_nulls(table[time], f"time={time!r} is null", time, mend, first_row)
    mend = "A row without a key cannot get its label; drop it"
    _refuse_nulls(table[key], f"key={key!r} is null", key, mend, first_row)
    mend = "no key, so the row cannot get its label; drop it"
    _refuse_empty_text(table[key], f"key={key!r}", key, mend, first_row)
    mend = "no class; where the label is not known make it null"
    _refuse_empty_text(table[label], f"label={label!r}", label, mend, first_row)


def _refuse_nulls(column: pa.ChunkedArray, what: str, name: str, mend: str, first_row: int) -> None:
    if column.null_count:
        rows = (np.flatnonzero(column.is_null().to_numpy()) + first_row).tolist()
        raise DataError(
            f"{what} in {named_rows(rows)}. {mend} in the dataset function, or correct the source.",
            column=name,
            rows=rows[:MAX_NAMED_ROWS],
        )


def _refuse_empty_text(column: pa.ChunkedArray, what: str, name: str, mend: str, first_row: int) -> None:
    if not pa.types.is_string(column.type):
        return
    is_empty = pc.fill_null(pc.equal(column, ""), False)
    if pc.any(is_empty).as_py():
        rows = (np.flatnonzero(is_empty.to_numpy()) + first_row).tolist()
        raise DataError(
            f"{what} is an empty text in {named_rows(rows)}, which is {mend} in the dataset function, or"
            " correct the source.",
            column=name,
            rows=rows[:MAX_NAMED_ROWS],
        )


def _twins(column: pa.ChunkedArray, twins: pa.Array, key: str, *, has_rows: bool) -> DataError:
    rows = np.flatnonzero(pc.equal(column, twins[0]).to_numpy()).tolist()
    several = named_rows(rows, values_at(column, rows)) if has_rows else f"{len(rows)} rows ({twins[0]})"
    others = f"; {len(twins) - 1} other keys are on several rows too" if len(twins) > 1 else ""
    return DataError(
        f"key={key!r} must be unique, but {several} have the same{others}."
        " Keep one row a key in the dataset function, for example with"
        f" table.drop_duplicates({key!r}, keep='last'), or name a key that is unique.",
        column=key,
        rows=rows[:MAX_NAMED_ROWS] if has_rows else (),
    )


def refuse_known_keys(added: pa.ChunkedArray, known: pa.ChunkedArray, key: str) -> None:
    """Refuse new rows whose key an older row has."""
    # Asked this way round, the table that is searched is the small one.
    if pc.any(pc.is_in(known, added)).as_py():
        rows = np.flatnonzero(pc.is_in(added, known).to_numpy()).tolist()
        raise DataError(
            f"key={key!r} must be unique, but {named_rows(rows, values_at(added, rows))} of the new rows have"
            " keys that are there already. Append only rows that are new; to correct others, snapshot the"
            " whole table.",
            column=key,
            rows=rows[:MAX_NAMED_ROWS],
        )


def is_ascending(column: pa.ChunkedArray) -> bool:
    """Whether each value is above the one before, which many keys are and which is cheap to see."""
    # What is in no order at all mostly shows that at once.
    return _ascends(column.slice(0, 1000)) and _ascends(column)


def _ascends(column: pa.ChunkedArray) -> bool:
    return bool(pc.all(pc.less(column.slice(0, len(column) - 1), column.slice(1))).as_py())


def refuse_no_labels(table: pa.Table, label: str) -> None:
    if table[label].null_count == table.num_rows:
        raise _no_labels(label, "The table", table.num_rows)


def _no_labels(label: str, what: str, n_rows: int) -> DataError:
    return DataError(
        f"label={label!r} is null in all {n_rows} rows, so there is nothing to learn from ({what})."
        " Is it the right column, and was it filled?",
        column=label,
    )


def in_order(table: pa.Table, declaration: DatasetDeclaration) -> pa.Table:
    """The rows by time, then key."""
    if _is_in_order(table, declaration):
        return table
    keys = [(declaration.time, "ascending"), (declaration.key, "ascending")]
    return table.take(pc.sort_indices(table, sort_keys=keys))


def _is_in_order(table: pa.Table, declaration: DatasetDeclaration) -> bool:
    steps = np.diff(table[declaration.time].cast(pa.int64()).to_numpy())
    if (steps < 0).any():
        return False
    ties = np.flatnonzero(steps == 0)
    if not len(ties):
        return True
    keys = table[declaration.key]
    return bool(pc.all(pc.less(keys.take(pa.array(ties)), keys.take(pa.array(ties + 1)))).as_py())
