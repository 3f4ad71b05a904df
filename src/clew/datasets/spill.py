"""Tables larger than memory: cast batch by batch into a file, brought into order there, and mapped.

What a snapshot is made of then are pages of that file, which the system lets go of when memory is wanted.
A table in no order is sorted run by run, and the runs are merged (Knuth, The Art of Computer Programming,
volume 3, 5.4), a few thousand rows of each at a time.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import pyarrow as pa
import pyarrow.compute as pc

from clew.datasets.casts import INSTANT, KEPT_TYPES, cast_column, kept_type, without_nan
from clew.datasets.schema import (
    Shaped,
    in_order,
    inferred,
    refuse_empty,
    refuse_nameless,
    refuse_no_labels,
    refuse_odd_names,
    require_roles,
    schema_of,
    widened,
)
from clew.entities import Column, DatasetDeclaration
from clew.errors import DataError, StoreError

Batches: TypeAlias = Callable[[], Iterable[pa.Table]]
"""Gives the rows of a table piece by piece, all with the same columns; each call begins anew."""

RUN_BYTES = 32 << 20
"""So many bytes of a table are cast, and sorted, in memory at once."""
ROWS_A_HEAD = 16_384
"""So many rows of each run are in memory while runs are merged."""

# Where a row belongs: its time and its key.
Place: TypeAlias = tuple[Any, Any]


def shape_batches(
    batches: Batches,
    declaration: DatasetDeclaration,
    declared: Sequence[Column] | None,
    scratch: Path,
    *,
    may_change: bool = False,
    is_whole: bool = True,
    run_bytes: int = RUN_BYTES,
) -> Shaped:
    """What `clew.datasets.schema.shape` does, with a table that need not fit into memory.

    Parameters
    ----------
    scratch
        A folder with room for two copies of the table; the rows are readable while it is there.
    run_bytes
        How much of the table is in memory at a time.

    Raises
    ------
    DataError
        As `prepare` does; of keys that come twice in a table in no order, the rows are not named.
    """
    known = {column.name: column for column in declared or ()}
    while True:
        spill = _Spill(declaration, known, scratch / "spilled.arrow", may_change=may_change)
        if spill.take(_regrouped(batches(), run_bytes)):
            break
    probe = spill.probe()
    columns = schema_of(probe, declaration, tuple(known.values()), may_change)
    if is_whole:
        refuse_no_labels(probe, declaration.label)
    path = spill.path
    if len(spill.runs) > 1:
        path = scratch / "merged.arrow"
        _write(path, _merged(_mapped(spill.path), spill.runs, declaration))
        spill.path.unlink()
    rows = _mapped(path).read_all().select([column.name for column in columns])
    return Shaped(rows, columns, rows if spill.was_in_order else None, declaration.key, scratch)


class _Changed(Exception):
    """A declared column became another with the code; all begins again with its new type."""


class _Spill:
    """The pieces of a table on their way into a file, each with its rows in order.

    `runs` are the batches of the file, by number, that are in order as they follow each other.
    """

    def __init__(
        self, declaration: DatasetDeclaration, known: dict[str, Column], path: Path, *, may_change: bool
    ) -> None:
        self.path, self.was_in_order = path, True
        self.runs: list[range] = []
        self._declaration, self._known, self._may_change = declaration, known, may_change
        self._given = pa.schema([])
        self._types: dict[str, pa.DataType] = {}
        self._seen: dict[str, pa.ChunkedArray] = {}
        self._n_rows = 0
        self._last: Place | None = None

    def take(self, pieces: Iterable[pa.Table]) -> bool:
        """Write all pieces; False when all has to begin again."""
        try:
            _write(self.path, map(self._ordered, pieces))
        except _Changed:
            return False
        return True

    def probe(self) -> pa.Table:
        """A table of one row with the columns as they were given: a value where there was one, else null."""
        nothing = {field.name: pa.nulls(1, field.type) for field in self._given}
        return pa.table(nothing | self._seen)

    def _ordered(self, given: pa.Table) -> pa.Table:
        if not self._n_rows:
            self._begin(given)
        elif given.schema.remove_metadata() != self._given:
            raise ValueError(f"batches differ in their columns: {self._given} and {given.schema}")
        rows = self._cast(given)
        refuse_nameless(rows, self._declaration, self._n_rows)
        self._n_rows += rows.num_rows
        ordered = in_order(rows, self._declaration).combine_chunks()
        self._note(ordered, was_in_order=ordered.num_rows == 1 or ordered.equals(rows))
        return ordered

    def _begin(self, first: pa.Table) -> None:
        refuse_odd_names(first)
        require_roles(first, self._declaration)
        missing = [name for name in self._known if name not in first.column_names]
        if missing and not self._may_change:
            schema_of(first, self._declaration, tuple(self._known.values()), may_change=False)
        self._given = first.schema.remove_metadata()
        self._types = {field.name: kind for field in self._given if (kind := self._kind(field)) is not None}

    def _kind(self, field: pa.Field) -> pa.DataType | None:
        if field.name in self._known:
            return KEPT_TYPES[self._known[field.name].type]
        return INSTANT if field.name == self._declaration.time else kept_type(field.type)

    def _cast(self, given: pa.Table) -> pa.Table:
        for name in given.column_names:
            if name not in self._seen and len(values := without_nan(given[name]).drop_null()):
                self._seen[name] = values.take([0])
                if name not in self._known:  # refuses what cannot be kept
                    inferred(given[name], name, self._declaration)
        return pa.table({name: self._cast_column(given[name], name) for name in self._types})

    def _cast_column(self, column: pa.ChunkedArray, name: str) -> pa.ChunkedArray:
        zone = self._declaration.timezone
        try:
            return cast_column(column, name, self._types[name], zone, self._n_rows)
        except DataError:
            known = self._known.get(name)
            wider = widened(known, column, self._declaration) if known is not None else None
            if known is None or (wider is None and not self._may_change):
                raise
            self._known[name] = wider or inferred(column, name, self._declaration)
            raise _Changed from None

    def _note(self, ordered: pa.Table, *, was_in_order: bool) -> None:
        """That these rows come next in the file."""
        goes_on = self._last is not None and self._last < _place(ordered, 0, self._declaration)
        self.was_in_order &= was_in_order and (goes_on or self._last is None)
        self._last = _place(ordered, ordered.num_rows - 1, self._declaration)
        start = self.runs[-1].stop if self.runs else 0
        end = start - (-ordered.num_rows // ROWS_A_HEAD)
        if goes_on:
            self.runs[-1] = range(self.runs[-1].start, end)
        else:
            self.runs.append(range(start, end))


# -- files ---------------------------------------------------------------------------------------------


def _regrouped(batches: Iterable[pa.Table], n_bytes: int) -> Iterator[pa.Table]:
    """The same rows in pieces of about so many bytes."""
    waiting: list[pa.Table] = []
    for batch in batches:
        n_rows = max(int(batch.num_rows * n_bytes / max(batch.nbytes, 1)), 1)
        for start in range(0, batch.num_rows, n_rows):
            waiting.append(batch.slice(start, n_rows))
            if sum(piece.nbytes for piece in waiting) >= n_bytes:
                yield pa.concat_tables(waiting)
                waiting = []
    if waiting:
        yield pa.concat_tables(waiting)


def _write(path: Path, tables: Iterable[pa.Table]) -> None:
    writer = None
    try:
        with path.open("wb") as file:
            for table in tables:
                if writer is None:
                    writer = pa.ipc.new_file(file, table.schema)
                writer.write_table(table, max_chunksize=ROWS_A_HEAD)
            if writer is None:
                refuse_empty(pa.table({}))
            else:
                writer.close()
    except OSError as error:
        if error.errno is None:
            raise
        raise StoreError(
            f"The rows cannot be written to {path.parent}: {os.strerror(error.errno)}. A table that is read"
            " piece by piece needs room for two copies there. Nothing was stored."
        ) from error


def _mapped(path: Path) -> pa.ipc.RecordBatchFileReader:
    return pa.ipc.open_file(pa.memory_map(str(path)))


# -- order ---------------------------------------------------------------------------------------------


def _place(rows: pa.Table, row: int, declaration: DatasetDeclaration) -> Place:
    return rows[declaration.time][row].value, rows[declaration.key][row].as_py()


def _merged(
    file: pa.ipc.RecordBatchFileReader, runs: Sequence[range], declaration: DatasetDeclaration
) -> Iterator[pa.Table]:
    """The rows of all runs in order."""

    def blocks(run: range) -> Iterator[pa.Table]:
        return (pa.Table.from_batches([file.get_batch(number)]) for number in run)

    waiting = [blocks(run) for run in runs]
    heads = {number: next(run) for number, run in enumerate(waiting)}
    while heads:
        # What is in no head lies behind the least of their ends.
        end = min(_place(head, head.num_rows - 1, declaration) for head in heads.values())
        taken = []
        for number, head in list(heads.items()):
            n_before = _n_up_to(head, end, declaration)
            taken.append(head.slice(0, n_before))
            rest = head.slice(n_before) if n_before < head.num_rows else next(waiting[number], None)
            if rest is None:
                del heads[number]
            else:
                heads[number] = rest
        yield in_order(pa.concat_tables(taken), declaration).combine_chunks()


def _n_up_to(rows: pa.Table, end: Place, declaration: DatasetDeclaration) -> int:
    if _place(rows, 0, declaration) > end:
        return 0
    times, keys = rows[declaration.time].cast(pa.int64()), rows[declaration.key]
    is_tied = pc.and_(pc.equal(times, end[0]), pc.less_equal(keys, pa.scalar(end[1], keys.type)))
    return int(pc.sum(pc.or_(pc.less(times, end[0]), is_tied)).as_py())
