"""What differs between two snapshots of a dataset: columns, and rows by their key.

Parts that both have hold the same rows, so only the others are read.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

import pyarrow as pa
import pyarrow.compute as pc

from clew.datasets import read_rows
from clew.entities import Part, RowRange, Snapshot
from clew.storage import Store
from clew.tracking import Changed


@dataclass(frozen=True, slots=True)
class RowsChange:
    """Rows that only one of two snapshots has, or both with other values.

    `by_column` counts the changed rows in which a column's value differs.
    """

    n_added: int
    n_removed: int
    n_changed: int
    by_column: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class DataChange:
    """Two snapshots, and what differs between them.

    Attributes
    ----------
    columns
        Columns by name, with their type then and now.
    rows
        None for snapshots of two datasets, or with other keys: rows are told apart by their key.
    """

    dataset: str
    then: str
    now: str
    then_rows: int
    now_rows: int
    columns: tuple[Changed, ...]
    rows: RowsChange | None


def data_change(store: Store, then: Snapshot, now: Snapshot) -> DataChange | None:
    """Compare two snapshots; None when they are the same one.

    Raises
    ------
    StoreError
        When rows that have to be read are damaged.
    """
    if then.id == now.id:
        return None
    key = _key(then)
    is_comparable = key is not None and then.dataset == now.dataset and key == _key(now)
    return DataChange(
        dataset=then.dataset if then.dataset == now.dataset else f"{then.dataset} → {now.dataset}",
        then=then.id,
        now=now.id,
        then_rows=then.n_rows,
        now_rows=now.n_rows,
        columns=tuple(changed_columns(then, now)),
        rows=_rows_change(store, then, now, key) if key is not None and is_comparable else None,
    )


def _key(snapshot: Snapshot) -> str | None:
    return snapshot.declaration.key if snapshot.declaration else None


def changed_columns(then: Snapshot, now: Snapshot) -> Iterator[Changed]:
    """Columns that only one has, or both with other types."""
    before, after = ({column.name: column.type for column in each.columns} for each in (then, now))
    for name in [*before, *(name for name in after if name not in before)]:
        if before.get(name) != after.get(name):
            yield Changed(name, before.get(name), after.get(name))


def shared_columns(then: Snapshot, now: Snapshot) -> list[str]:
    """Columns that both have with one type."""
    types = [{column.name: column.type for column in each.columns} for each in (then, now)]
    return [name for name in types[0] if types[0][name] == types[1].get(name)]


def _rows_change(store: Store, then: Snapshot, now: Snapshot, key: str) -> RowsChange:
    shared = shared_columns(then, now)
    if key not in shared:
        return RowsChange(now.n_rows, then.n_rows, 0)
    return compare_rows(rows_apart(store, then, now, shared), rows_apart(store, now, then, shared), key)


def rows_apart(store: Store, mine: Snapshot, other: Snapshot, columns: list[str]) -> pa.Table:
    """Rows of the parts that the other snapshot has not."""
    theirs = Counter(part.content for part in other.parts)
    pieces, start = [read_rows(store, mine, RowRange(0, 0), columns)], 0
    for part in mine.parts:
        if not _is_taken(theirs, part):
            pieces.append(read_rows(store, mine, RowRange(start, start + part.n_rows), columns))
        start += part.n_rows
    return pa.concat_tables(pieces)


def _is_taken(theirs: Counter[str], part: Part) -> bool:
    theirs[part.content] -= 1
    return theirs[part.content] >= 0


def compare_rows(then: pa.Table, now: pa.Table, key: str) -> RowsChange:
    """Tell rows apart by their key, and count those whose values differ; NaN is the same as NaN.

    Examples
    --------
    >>> then = pa.table({"id": [1, 2, 3], "x": [0.1, None, 0.3]})
    >>> now = pa.table({"id": [2, 3, 4], "x": [None, 0.4, 0.5]})
    >>> compare_rows(then, now, "id")
    RowsChange(n_added=1, n_removed=1, n_changed=1, by_column={'x': 1})
    """
    before, after, _ = in_pairs(then, now, key)
    differing = {name: differs(before[name], after[name]) for name in now.column_names}
    n_by_column = {name: _count(mask) for name, mask in differing.items()}
    return RowsChange(
        n_added=now.num_rows - after.num_rows,
        n_removed=then.num_rows - after.num_rows,
        n_changed=_count(any_of(differing.values(), after.num_rows)),
        by_column={name: n for name, n in n_by_column.items() if n},
    )


def in_pairs(then: pa.Table, now: pa.Table, key: str) -> tuple[pa.Table, pa.Table, pa.ChunkedArray]:
    """Rows of keys that both have, in pairs and in the order of `now`; and which rows of `now` these are."""
    places = pc.index_in(now[key], value_set=then[key].combine_chunks())
    is_known = pc.is_valid(places)
    return then.take(places.filter(is_known)), now.filter(is_known), is_known


def any_of(masks: Iterable[pa.ChunkedArray], n_rows: int) -> pa.ChunkedArray:
    """Where one of the masks is true."""
    found = pa.chunked_array([pa.repeat(False, n_rows)])
    for mask in masks:
        found = pc.or_(found, mask)
    return found


def differs(then: pa.ChunkedArray, now: pa.ChunkedArray) -> pa.ChunkedArray:
    """Where two columns of one type differ; null and NaN are like themselves."""
    is_gone_or_new = pc.xor(pc.is_null(then), pc.is_null(now))
    is_other = pc.fill_null(pc.not_equal(then, now), False)
    if pa.types.is_floating(then.type):
        is_both_nan = pc.and_(pc.fill_null(pc.is_nan(then), False), pc.fill_null(pc.is_nan(now), False))
        is_other = pc.and_not(is_other, is_both_nan)
    return pc.or_(is_gone_or_new, is_other)


def _count(mask: pa.ChunkedArray) -> int:
    return int(pc.sum(mask).as_py() or 0)
