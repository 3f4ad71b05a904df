"""Which columns a table must have, of which types, and in which order its rows are kept."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from clew.datasets.casts import INSTANT, KEPT_TYPES, SCHEMA_RULE, cast_column, kept_type, without_nan
from clew.datasets.complaints import MAX_NAMED_ROWS, named_rows, values_at
from clew.datasets.hashes import key_hashes
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
    _refuse_odd_names(table)
    _refuse_empty(table)
    _require_roles(table, declaration)
    columns = _schema(table, declaration, tuple(declared or ()), may_change)
    zone = declaration.timezone
    arrays = [cast_column(table[c.name], c.name, KEPT_TYPES[c.type], zone) for c in columns]
    schema = pa.schema([(c.name, KEPT_TYPES[c.type]) for c in columns])
    prepared = pa.table(arrays, schema=schema)
    _refuse_missing_times(prepared, declaration.time)
    _refuse_bad_keys(prepared, declaration.key)
    _refuse_empty_text(
        prepared[declaration.label],
        f"label={declaration.label!r}",
        declaration.label,
        "no class; where the label is not known make it null",
    )
    if is_whole:
        _refuse_no_labels(prepared, declaration.label)
    return in_order(prepared, declaration), columns


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


def _refuse_odd_names(table: pa.Table) -> None:
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


def _refuse_empty(table: pa.Table) -> None:
    if not table.num_rows:
        raise DataError("The table has no rows. Does the source have any, or does a filter drop them all?")


def _require_roles(table: pa.Table, declaration: DatasetDeclaration) -> None:
    roles = [(role, name) for role, name in _roles(declaration).items()]
    for role, name in [*roles, *(("not_features", name) for name in declaration.not_features)]:
        if name not in table.column_names:
            raise DataError(
                f"{declaration.name} declares {role}={name!r}, but the table has no such column."
                f" {did_you_mean(name, table.column_names)}",
                column=name,
            )


def _schema(
    table: pa.Table, declaration: DatasetDeclaration, declared: tuple[Column, ...], may_change: bool
) -> tuple[Column, ...]:
    kept = []
    for column in declared:
        if column.name in table.column_names:
            kept.append(_agreed(table, declaration, column, may_change))
        elif not may_change:
            raise DataError(_missing(column.name, table, declared, declaration), column=column.name)
    known = {column.name for column in kept}
    roles = set(_roles(declaration).values())
    new = [name for name in table.column_names if name not in known]
    joining = [name for name in new if name in roles or _has_value(table[name])]
    return (*kept, *(_inferred(table[name], name, declaration) for name in joining))


def _missing(
    name: str, table: pa.Table, declared: tuple[Column, ...], declaration: DatasetDeclaration
) -> str:
    new = [other for other in table.column_names if other not in {column.name for column in declared}]
    hint = did_you_mean(name, new) if new else f"The table has: {', '.join(table.column_names)}."
    return f"Column {name!r} of {declaration.name} is missing from the table. {hint} {SCHEMA_RULE}"


def _agreed(table: pa.Table, declaration: DatasetDeclaration, column: Column, may_change: bool) -> Column:
    """The declared column, or what it has become when it may change and no longer fits."""
    if not may_change:
        return column
    try:
        cast_column(table[column.name], column.name, KEPT_TYPES[column.type], declaration.timezone)
    except DataError:
        return _inferred(table[column.name], column.name, declaration)
    return column


def _has_value(column: pa.ChunkedArray) -> bool:
    return bool(without_nan(column).null_count < len(column))


def _inferred(column: pa.ChunkedArray, name: str, declaration: DatasetDeclaration) -> Column:
    if name == declaration.time:
        return Column(name, _time_type(column, name))
    if name == declaration.label and not _has_value(column):
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


def _refuse_missing_times(table: pa.Table, time: str) -> None:
    _refuse_nulls(
        table[time], f"time={time!r} is null", time, "A row without a time cannot be placed; drop it"
    )


def _refuse_nulls(column: pa.ChunkedArray, what: str, name: str, mend: str) -> None:
    if column.null_count:
        rows = np.flatnonzero(column.is_null().to_numpy()).tolist()
        raise DataError(
            f"{what} in {named_rows(rows)}. {mend} in the dataset function, or correct the source.",
            column=name,
            rows=rows[:MAX_NAMED_ROWS],
        )


def _refuse_empty_text(column: pa.ChunkedArray, what: str, name: str, mend: str) -> None:
    if not pa.types.is_string(column.type):
        return
    is_empty = pc.fill_null(pc.equal(column, ""), False)
    if pc.any(is_empty).as_py():
        rows = np.flatnonzero(is_empty.to_numpy()).tolist()
        raise DataError(
            f"{what} is an empty text in {named_rows(rows)}, which is {mend} in the dataset function, or"
            " correct the source.",
            column=name,
            rows=rows[:MAX_NAMED_ROWS],
        )


def _refuse_bad_keys(table: pa.Table, key: str) -> None:
    column = table[key]
    _refuse_nulls(column, f"key={key!r} is null", key, "A row without a key cannot get its label; drop it")
    _refuse_empty_text(column, f"key={key!r}", key, "no key, so the row cannot get its label; drop it")
    if _is_ascending(column) or _has_no_twins(column):
        return
    counts = pc.value_counts(column)
    twice = counts.field("values").filter(pc.greater(counts.field("counts"), 1))
    rows = np.flatnonzero(pc.equal(column, twice[0]).to_numpy()).tolist()
    others = f"; {len(twice) - 1} other keys are on several rows too" if len(twice) > 1 else ""
    raise DataError(
        f"key={key!r} must be unique, but {named_rows(rows, values_at(column, rows))} have the same{others}."
        " Keep one row a key in the dataset function, for example with"
        f" table.drop_duplicates({key!r}, keep='last'), or name a key that is unique.",
        column=key,
        rows=rows[:MAX_NAMED_ROWS],
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


def _is_ascending(column: pa.ChunkedArray) -> bool:
    """Whether each value is above the one before, which many keys are and which is cheap to see."""
    return bool(pc.all(pc.less(column.slice(0, len(column) - 1), column.slice(1))).as_py())


def _has_no_twins(column: pa.ChunkedArray) -> bool:
    # Equal keys have equal hashes, and sorting numbers is many times faster than counting texts.
    hashes = np.sort(key_hashes(column))
    has_hashes_in_common = bool((hashes[1:] == hashes[:-1]).any())
    return not has_hashes_in_common or pc.count_distinct(column).as_py() == len(column)


def _refuse_no_labels(table: pa.Table, label: str) -> None:
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
    times = table[declaration.time].cast(pa.int64()).to_numpy()
    if bool((np.diff(times) > 0).all()):
        return table
    keys = [(declaration.time, "ascending"), (declaration.key, "ascending")]
    return table.take(pc.sort_indices(table, sort_keys=keys))
