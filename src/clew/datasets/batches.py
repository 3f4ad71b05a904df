"""Reading Parquet and CSV files piece by piece, for tables larger than memory.

The values are those that `read_source` gives, by the same rules. The types of a CSV hang on all of its
values, so it is read through as often as a column turns out to be of another type than its beginning said.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import TypeAlias

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq

from clew.datasets import sources
from clew.errors import DataError

Read: TypeAlias = Callable[[], Iterator[pa.Table]]

_ROWS_A_BATCH = 65_536
# What Arrow takes a column of a CSV for, each when the one before does not fit all of its values.
_LADDER = (
    pa.null(),
    pa.int64(),
    pa.bool_(),
    pa.date32(),
    pa.time32("s"),
    pa.timestamp("s"),
    pa.timestamp("s", "UTC"),
    pa.timestamp("ns"),
    pa.timestamp("ns", "UTC"),
    pa.float64(),
    pa.string(),
)


def can_be_read_in_batches(source: str) -> bool:
    """Whether a source names Parquet or CSV files of this machine."""
    return "://" not in source and source.lower().endswith(sources.PARQUET + sources.CSV)


def source_batches(source: str, root: Path, text: Collection[str] = ()) -> Read:
    """What gives the rows of `read_source` piece by piece, from the beginning whenever it is called.

    Parameters
    ----------
    source, root, text
        As for `read_source`; `can_be_read_in_batches` says for which sources.

    Raises
    ------
    DataError
        As `read_source` does.
    """
    files = sources.files_of(source, root)
    readers = [(file, _reader(file, text)) for file in files]
    empty = [(file, _columns(file, read)) for file, read in readers]
    joined = sources.joined(empty, root) if len(empty) > 1 else empty[0][1]

    def rows() -> Iterator[pa.Table]:
        n_rows = 0
        for file, read in readers:
            for table in _explained(file, read()):
                n_rows += table.num_rows
                yield table.select(joined.column_names).cast(joined.schema)
        if not n_rows:
            raise DataError(f"{source} has columns but no rows. Fill it, or name another source.")

    return rows


def _reader(file: Path, text: Collection[str]) -> Read:
    sources.refuse_unreadable(file)
    with sources.explained(file):
        return partial(_parquet, file) if file.name.lower().endswith(sources.PARQUET) else _csv(file, text)


def _columns(file: Path, read: Read) -> pa.Table:
    """The file's columns, without rows."""
    return next(iter(_explained(file, read()))).slice(0, 0)


def _explained(file: Path, pieces: Iterable[pa.Table]) -> Iterator[pa.Table]:
    with sources.explained(file):
        yield from pieces


def _parquet(file: Path) -> Iterator[pa.Table]:
    # Not mapped: pages that were read stay in memory as long as they are mapped.
    with pq.ParquetFile(file, pre_buffer=False) as parquet:
        yield parquet.schema_arrow.remove_metadata().empty_table()
        for batch in parquet.iter_batches(_ROWS_A_BATCH, use_threads=False):
            yield pa.Table.from_batches([batch]).replace_schema_metadata(None)


# -- CSV -----------------------------------------------------------------------------------------------


def _csv(file: Path, text: Collection[str]) -> Read:
    """What reads a CSV, once its types are known."""
    _, header = sources.header_of(file)
    types = _types(file, {name: pa.string() for name in text if name in header})
    is_text = [name for name, kind in types.items() if pa.types.is_string(kind) or pa.types.is_time(kind)]
    numbers = [name for name, kind in types.items() if pa.types.is_int64(kind)]
    is_text += _with_leading_zeros(file, numbers)
    words = dict.fromkeys(is_text, pa.string())
    others = {name: kind for name, kind in types.items() if name not in words}

    def rows() -> Iterator[pa.Table]:
        readers = []
        if others:
            readers.append(_parsed(file, others, sources.NULL_WORDS))
        if words:
            readers.append(_parsed(file, words, [""]))
        for pieces in zip(*readers, strict=True):
            columns = {name: piece[name] for piece in pieces for name in piece.column_names}
            yield pa.table({name: columns[name] for name in types})

    return rows


def _types(file: Path, given: dict[str, pa.DataType]) -> dict[str, pa.DataType]:
    """The type of each column that all of its values have."""
    with _opened(file, pa.csv.ConvertOptions(column_types=given, null_values=sources.NULL_WORDS)) as reader:
        types = {field.name: field.type for field in reader.schema}
    while True:
        try:
            for _ in _parsed(file, types, sources.NULL_WORDS):
                pass
            return types
        except pa.ArrowInvalid as error:
            name = _unlike(error, list(types))
            if name is None:
                raise
            if types[name] == pa.string():
                raise sources.not_utf8(file, name) from None
            place = _LADDER.index(types[name]) if types[name] in _LADDER else len(_LADDER) - 2
            types[name] = _LADDER[place + 1]


def _unlike(error: pa.ArrowInvalid, names: list[str]) -> str | None:
    """The column that has a value of another type."""
    found = re.search(r"In CSV column #(\d+): .*conversion error", str(error))
    return names[int(found[1])] if found else None


def _with_leading_zeros(file: Path, numbers: list[str]) -> list[str]:
    found: set[str] = set()
    if numbers:
        for words in _parsed(file, dict.fromkeys(numbers, pa.string()), [""]):
            found |= {name for name in numbers if sources.has_leading_zero(words[name])}
    return [name for name in numbers if name in found]


def _parsed(file: Path, types: dict[str, pa.DataType], null_words: list[str]) -> Iterator[pa.Table]:
    options = pa.csv.ConvertOptions(include_columns=list(types), column_types=types, null_values=null_words)
    with _opened(file, options) as reader:
        for batch in reader:
            yield pa.Table.from_batches([batch])


def _opened(file: Path, options: pa.csv.ConvertOptions) -> pa.csv.CSVStreamingReader:
    separator, _ = sources.header_of(file)
    options.strings_can_be_null = True
    options.quoted_strings_can_be_null = False
    return pa.csv.open_csv(
        file,
        read_options=pa.csv.ReadOptions(block_size=sources.BLOCK_BYTES, use_threads=False),
        parse_options=pa.csv.ParseOptions(delimiter=separator, newlines_in_values=True),
        convert_options=options,
    )
