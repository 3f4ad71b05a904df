"""How the rows of a snapshot are cut into parts, and a part becomes a file and rows again.

Format 0 cuts after every 65,536 rows. The format is recorded with each snapshot, so that another way to
cut can come without touching what is stored.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import pyarrow as pa
import pyarrow.parquet as pq

from clew.datasets.digest import content_digest
from clew.entities import Part
from clew.storage import ObjectStore

FORMAT = 0
ROWS_A_PART = 65_536


def cut(table: pa.Table) -> Iterator[pa.Table]:
    """The rows of each part, in order."""
    for start in range(0, table.num_rows, ROWS_A_PART):
        yield table.slice(start, ROWS_A_PART)


def store_part(objects: ObjectStore, rows: pa.Table, known: Mapping[str, Part]) -> Part:
    """Keep the rows as a Parquet file, unless a part with the same content is kept already.

    Parameters
    ----------
    known
        Parts by content, such as those of the dataset's other snapshots.
    """
    content = content_digest(rows)
    part = known.get(content)
    if part is not None and objects.exists(part.object_digest):
        return part
    return Part(content, objects.put(_parquet(rows)), rows.num_rows)


def _parquet(rows: pa.Table) -> pa.Buffer:
    texts = [field.name for field in rows.schema if pa.types.is_string(field.type)]
    sink = pa.BufferOutputStream()
    # A dictionary pays for words that repeat; for numbers it costs time and mostly no space.
    pq.write_table(rows, sink, compression="zstd", use_dictionary=texts, row_group_size=ROWS_A_PART)
    return sink.getvalue()


def open_part(objects: ObjectStore, part: Part) -> pq.ParquetFile:
    """The part's file, checked against its digest, mapped into memory."""
    return pq.ParquetFile(objects.path(part.object_digest), memory_map=True)


def read_part(objects: ObjectStore, part: Part, columns: Sequence[str]) -> pa.Table:
    with open_part(objects, part) as file:
        return file.read(columns=list(columns), use_threads=False).select(list(columns))
