"""How rows become parts, a part becomes a file, and rows again.

A snapshot is named by its blocks, digests of 65,536 rows each, and kept in parts, Parquet files that
may be cut anywhere: so its name stays when another way to cut comes. Format 0 had the blocks for parts;
format 1 cuts by content, see `cutting`. The format is recorded with each snapshot.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime
from typing import TypeVar

import pyarrow as pa
import pyarrow.parquet as pq

from clew.datasets.cutting import part_sizes
from clew.datasets.digest import content_digest
from clew.datasets.hashes import key_hashes
from clew.entities import Cuts, Part
from clew.storage import ObjectStore

FORMAT = 1
ROWS_A_BLOCK = 65_536
# More than this many parts are never encoded in memory at once.
N_THREADS = 4

Result = TypeVar("Result")


@dataclass(frozen=True, slots=True)
class Kept:
    """A table as it is kept."""

    parts: tuple[Part, ...]
    blocks: tuple[str, ...]
    cuts: Cuts | None
    first_time: datetime | None
    last_time: datetime


def n_rows_of(parts: Iterable[Part]) -> int:
    return sum(part.n_rows for part in parts)


def block_digests(table: pa.Table) -> tuple[str, ...]:
    """The digest of each block, in order; the last one may be shorter."""
    starts = range(0, table.num_rows, ROWS_A_BLOCK)
    return _at_once(content_digest, (table.slice(start, ROWS_A_BLOCK) for start in starts))


def n_same_rows(blocks: Sequence[str], others: Sequence[str]) -> int:
    """How many leading rows two tables have in common at least, by their blocks."""
    # The last block of each may be shorter than a block, and is then another one.
    pairs = zip(blocks[:-1], others[:-1], strict=False)
    unlike = (place for place, (one, other) in enumerate(pairs) if one != other)
    return ROWS_A_BLOCK * next(unlike, min(len(blocks), len(others)) - 1 if blocks and others else 0)


def store_parts(objects: ObjectStore, rows: pa.Table, cuts: Cuts, known: Sequence[Part]) -> tuple[Part, ...]:
    """Cut rows that begin a part, and keep the parts that are not kept yet.

    Parameters
    ----------
    known
        Parts that are kept already, such as those of the dataset's newest snapshot.
    """
    by_content = {part.content: part for part in known}
    return _at_once(lambda part: _store_part(objects, part, cuts.column, by_content), _cut(rows, cuts))


def _at_once(action: Callable[[pa.Table], Result], pieces: Iterable[pa.Table]) -> tuple[Result, ...]:
    """Hashing, compressing and waiting for the disk all let go of the interpreter."""
    with ThreadPoolExecutor(N_THREADS) as pool:
        return tuple(pool.map(action, pieces))


def _cut(rows: pa.Table, cuts: Cuts) -> Iterator[pa.Table]:
    start = 0
    for n_rows in part_sizes(key_hashes(rows[cuts.column]), cuts.reach):
        yield rows.slice(start, n_rows)
        start += n_rows


def _store_part(objects: ObjectStore, rows: pa.Table, key: str, known: Mapping[str, Part]) -> Part:
    content = content_digest(rows)
    part = known.get(content)
    if part is not None and objects.exists(part.object_digest):
        return part
    return Part(content, objects.put(encoded(rows, key)), rows.num_rows)


def encoded(rows: pa.Table, key: str) -> pa.Buffer:
    """The file of a part."""
    # A dictionary pays for words that repeat, which keys never do; for numbers it costs time and mostly
    # no space.
    texts = [field.name for field in rows.schema if pa.types.is_string(field.type) and field.name != key]
    sink = pa.BufferOutputStream()
    pq.write_table(rows, sink, compression="zstd", use_dictionary=texts, row_group_size=ROWS_A_BLOCK)
    return sink.getvalue()


def open_part(objects: ObjectStore, part: Part) -> pq.ParquetFile:
    """The part's file, checked against its digest, mapped into memory."""
    return pq.ParquetFile(objects.path(part.object_digest), memory_map=True)


def read_part(objects: ObjectStore, part: Part, columns: Sequence[str]) -> pa.Table:
    with open_part(objects, part) as file:
        return file.read(columns=list(columns), use_threads=False).select(list(columns))
