"""How rows become parts, a part becomes a file, and rows again.

A snapshot is named by its blocks, digests of 65,536 rows each, and kept in parts, Parquet files that
may be cut anywhere: so its name stays when another way to cut comes. Format 0 had the blocks for parts;
format 1 cuts by content, see `cutting`. The format is recorded with each snapshot.

A part says which keys it holds, in a hash of those. Where a table has a run of rows with the same keys, it
has the part when the values in it are the same too, bit by bit. The first parts of format 1 said a digest
of all their rows instead, for which every table was hashed twice.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import pyarrow as pa
import pyarrow.parquet as pq

from clew.datasets.cutting import part_sizes
from clew.datasets.digest import content_digest
from clew.datasets.hashes import Hashes
from clew.entities import Cuts, DatasetDeclaration, Part
from clew.errors import NotFound, ObjectDamaged
from clew.storage import Batch, ObjectStore

FORMAT = 1
ROWS_A_BLOCK = 65_536
# More than this many parts are never encoded in memory at once.
N_THREADS = 4

Given = TypeVar("Given")
Result = TypeVar("Result")


def n_rows_of(parts: Iterable[Part]) -> int:
    return sum(part.n_rows for part in parts)


def block_digests(table: pa.Table) -> tuple[str, ...]:
    """The digest of each block, in order; the last one may be shorter."""
    return at_once(content_digest, blocks_of(table))


def blocks_of(table: pa.Table) -> list[pa.Table]:
    return [table.slice(start, ROWS_A_BLOCK) for start in range(0, table.num_rows, ROWS_A_BLOCK)]


def n_same_rows(blocks: Sequence[str], others: Sequence[str]) -> int:
    """How many leading rows two tables have in common at least, by their blocks."""
    # The last block of each may be shorter than a block, and is then another one.
    pairs = zip(blocks[:-1], others[:-1], strict=False)
    unlike = (place for place, (one, other) in enumerate(pairs) if one != other)
    return ROWS_A_BLOCK * next(unlike, min(len(blocks), len(others)) - 1 if blocks and others else 0)


def at_once(action: Callable[[Given], Result], pieces: Iterable[Given]) -> tuple[Result, ...]:
    """Hashing, compressing and waiting for the disk all let go of the interpreter."""
    with ThreadPoolExecutor(N_THREADS) as pool:
        return tuple(pool.map(action, pieces))


class PartStore:
    """Keeps rows as parts, those that are not kept yet.

    Parameters
    ----------
    batch
        Where new parts go.
    known
        Parts that are kept already, such as those of the dataset's newest snapshot.
    """

    def __init__(
        self, objects: ObjectStore, batch: Batch, declaration: DatasetDeclaration, known: Sequence[Part]
    ) -> None:
        self._objects, self._batch, self._declaration = objects, batch, declaration
        self._by_keys = {part.keys: part for part in known if part.keys is not None}
        self._by_content = {part.content: part for part in known if part.keys is None}

    def store(self, rows: pa.Table, hashes: Hashes, cuts: Cuts) -> tuple[Part, ...]:
        """Cut rows that begin a part, and keep each part.

        Parameters
        ----------
        hashes
            Of the keys of these rows.
        """
        return at_once(lambda piece: self.store_part(*piece), _cut(rows, hashes, cuts))

    def store_part(self, rows: pa.Table, hashes: Hashes) -> Part:
        """Keep rows as one part."""
        keys = hashlib.sha256(hashes.astype("<u8", copy=False).data).hexdigest()[:32]
        found = self._found(rows, keys)
        if found is not None:
            return found
        digest = self._batch.put(_parquet(rows, self._declaration))
        return Part(digest, digest, rows.num_rows, keys)

    def _found(self, rows: pa.Table, keys: str) -> Part | None:
        part = self._by_keys.get(keys)
        if part is not None and self._objects.exists(part.object_digest):
            return part if _has_same_rows(self._objects, part, rows) else None
        part = self._by_content.get(content_digest(rows)) if self._by_content else None
        return part if part is not None and self._objects.exists(part.object_digest) else None


def _has_same_rows(objects: ObjectStore, part: Part, rows: pa.Table) -> bool:
    try:
        with open_part(objects, part) as file:
            if not file.schema_arrow.equals(rows.schema):
                return False
            # A column at a time: where one differs, the others need not be read.
            return all(
                _bits(file.read(columns=[name], use_threads=False).column(0)).equals(_bits(rows[name]))
                for name in rows.column_names
            )
    except (NotFound, ObjectDamaged):  # what is put again mends it
        return False


def are_same(some: pa.Table, others: pa.Table) -> bool:
    """Whether two tables have the same rows in the same order, bit by bit."""
    if some.num_rows != others.num_rows or not some.schema.equals(others.schema):
        return False
    return all(at_once(lambda name: _bits(some[name]).equals(_bits(others[name])), some.column_names))


def _bits(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Decimals as the whole numbers of the same bits: to Arrow 0.0 and -0.0 are equal."""
    if not pa.types.is_float64(column.type):
        return column
    return pa.chunked_array([chunk.view(pa.int64()) for chunk in column.chunks], pa.int64())


def _cut(rows: pa.Table, hashes: Hashes, cuts: Cuts) -> Iterator[tuple[pa.Table, Hashes]]:
    start = 0
    for n_rows in part_sizes(hashes, cuts.reach):
        yield rows.slice(start, n_rows), hashes[start : start + n_rows]
        start += n_rows


def _parquet(rows: pa.Table, declaration: DatasetDeclaration) -> pa.Buffer:
    # In one piece, so that the same rows make the same file however they came.
    rows = rows.combine_chunks()
    # A dictionary pays for words that repeat, which keys never do; for numbers it costs time and mostly
    # no space. The smallest and largest values help who looks for a time or a key.
    order = [declaration.time, declaration.key]
    texts = [
        field.name for field in rows.schema if pa.types.is_string(field.type) and field.name not in order
    ]
    sink = pa.BufferOutputStream()
    pq.write_table(
        rows,
        sink,
        compression="zstd",
        use_dictionary=texts,
        write_statistics=order,
        row_group_size=ROWS_A_BLOCK,
    )
    return sink.getvalue()


def open_part(objects: ObjectStore, part: Part) -> pq.ParquetFile:
    """The part's file, checked against its digest, mapped into memory."""
    return pq.ParquetFile(objects.path(part.object_digest), memory_map=True)


def read_part(objects: ObjectStore, part: Part, columns: Sequence[str]) -> pa.Table:
    with open_part(objects, part) as file:
        return file.read(columns=list(columns), use_threads=False).select(list(columns))
