"""Reading the tables that users have: Parquet, CSV and JSON lines files, one or many.

CSV has no types, so these rules decide:

- Types are inferred from all values of a column: whole numbers, decimals, true/false, ISO-8601 dates and
  times, else text.
- Nothing between two separators is null. In a column of text ``""`` is an empty string, as polars and
  pyarrow write it (pandas writes nothing for both), and words such as ``NA`` are text; in any other
  column ``NA``, ``N/A``, ``NaN``, ``null``, ``None`` and their like are null too.
- Numbers with leading zeros, such as the zip code ``01067``, are text: as a number they would lose them.
- The separator is the one of ``,`` ``;`` tab and ``|`` that the first line has most of.

JSON lines have types; a member that an object lacks is null there, and text that is all ISO-8601 is a time.
"""

from __future__ import annotations

import glob
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.json
import pyarrow.parquet as pq

from clew.errors import DataError, did_you_mean

PARQUET = (".parquet", ".pq")
CSV = (".csv", ".tsv", ".csv.gz", ".csv.bz2", ".csv.zst")
JSON = (".jsonl", ".ndjson", ".jsonl.gz", ".ndjson.gz")
_SEPARATORS = (",", ";", "\t", "|")
NULL_WORDS = ["", "NA", "N/A", "#N/A", "n/a", "NaN", "nan", "-NaN", "-nan", "NULL", "Null", "null", "None"]
BLOCK_BYTES = 8 << 20


def read_source(source: str, root: Path, text: Collection[str] = ()) -> pa.Table:
    """Read a Parquet, CSV or JSON lines file, or all files a glob names, in the order of their names.

    Parameters
    ----------
    source
        A path or glob, relative to `root` unless absolute: ``"rides.parquet"``, ``"rides/*.csv"``.
    text
        Columns that are text in a CSV or JSON lines whatever they look like, such as those declared
        ``string``.

    Raises
    ------
    DataError
        When nothing is there, a file cannot be read or is empty, or files differ in their columns;
        naming the file and the column.
    """
    files = files_of(source, root)
    tables = [(file, _read(file, text)) for file in files]
    table = joined(tables, root) if len(tables) > 1 else tables[0][1]
    if not table.num_rows:
        raise DataError(f"{source} has columns but no rows. Fill it, or name another source.")
    return table


def files_of(source: str, root: Path) -> list[Path]:
    """The files that a source names, in the order of their names."""
    path = root / source
    if path.is_dir():
        raise DataError(
            f"{source} is a folder; name its files with a glob, such as '{source.rstrip('/')}/*.parquet'."
        )
    if path.is_file():
        return [path]
    if glob.has_magic(source):
        found = sorted(root / name for name in glob.glob(source, root_dir=root, recursive=True))  # noqa: PTH207 - may be absolute
        files = [file for file in found if file.is_file()]
        if files:
            return files
        raise DataError(f"No file matches {source!r} in {root}. {_what_is_there(path.parent, path.name)}")
    raise DataError(f"There is no file {source!r} in {root}. {_what_is_there(path.parent, path.name)}")


def _what_is_there(folder: Path, name: str) -> str:
    if glob.has_magic(str(folder)):
        return "Check the folders in it."
    if not folder.is_dir():
        return f"The folder {folder} does not exist."
    readable = [file.name for file in folder.iterdir() if file.name.endswith(PARQUET + CSV + JSON)]
    return did_you_mean(name, readable) if readable else f"{folder} has no Parquet, CSV or JSON lines file."


def _read(file: Path, text: Collection[str]) -> pa.Table:
    refuse_unreadable(file)
    with explained(file):
        if file.name.lower().endswith(PARQUET):
            return _read_parquet(file)
        return _read_csv(file, text) if file.name.lower().endswith(CSV) else _read_json(file, text)


def refuse_unreadable(file: Path) -> None:
    """Refuse a file that is no table by its name, or empty."""
    if not file.name.lower().endswith(PARQUET + CSV + JSON):
        known = ", ".join(PARQUET + CSV + JSON)
        raise DataError(f"{file} is neither Parquet, CSV nor JSON lines by its name; known are {known}.")
    if not file.stat().st_size:
        raise DataError(f"{file} is empty: it has 0 bytes.")


@contextmanager
def explained(file: Path) -> Iterator[None]:
    """What Arrow says of a file, as a DataError that names it."""
    try:
        yield
    except (pa.ArrowInvalid, pa.ArrowKeyError, pa.ArrowNotImplementedError, OSError) as error:
        name = file.name.lower()
        kind = "Parquet" if name.endswith(PARQUET) else "CSV" if name.endswith(CSV) else "JSON lines"
        raise DataError(
            f"{file} cannot be read as {kind}: {str(error).splitlines()[0].rstrip('.')}."
        ) from error


def _read_parquet(file: Path) -> pa.Table:
    # As one file and not as a dataset, which would add columns from the names of its folders.
    with pq.ParquetFile(file, memory_map=True) as parquet:
        table = parquet.read()
    return table.replace_schema_metadata(None)


def _read_json(file: Path, text: Collection[str]) -> pa.Table:
    read, types = (
        pa.json.ReadOptions(block_size=BLOCK_BYTES),
        pa.schema([(name, pa.string()) for name in text]),
    )
    table = pa.json.read_json(file, read, pa.json.ParseOptions(newlines_in_values=False))
    known = [field for field in types if field.name in table.column_names]
    if not known:
        return table
    options = pa.json.ParseOptions(newlines_in_values=False, explicit_schema=pa.schema(known))
    return pa.json.read_json(file, read, options).select(table.column_names)


# -- CSV -----------------------------------------------------------------------------------------------


def _read_csv(file: Path, text: Collection[str]) -> pa.Table:
    separator, header = header_of(file)
    as_text = {name: pa.string() for name in text if name in header}
    table = _parse(file, separator, pa.csv.ConvertOptions(null_values=NULL_WORDS, column_types=as_text))
    uncertain = [field.name for field in table.schema if _may_be_text(field.type)]
    if not uncertain:
        return table
    words = _parse_text(file, separator, uncertain)
    for position, field in enumerate(table.schema):
        if field.name in uncertain and (not _is_number(field.type) or has_leading_zero(words[field.name])):
            table = table.set_column(position, field.name, words[field.name])
    return table


def header_of(file: Path) -> tuple[str, list[str]]:
    """The separator of a CSV, and its columns."""
    with pa.input_stream(str(file), compression="detect") as stream:
        start = stream.read(1 << 20)
    first = start.removeprefix(b"\xef\xbb\xbf").partition(b"\n")[0]
    line = first.decode("utf-8", "replace")
    if not line.strip():
        raise DataError(f"{file} has an empty first line, where the names of the columns must stand.")
    separator = max(_SEPARATORS, key=line.count)
    header = [name.strip().strip('"') for name in line.split(separator)]
    if len(set(header)) < len(header):
        twice = next(name for name in header if header.count(name) > 1)
        raise DataError(
            f"{file} has two columns named {twice!r} in its first line. Rename one.", column=twice
        )
    return separator, header


def _parse(file: Path, separator: str, options: pa.csv.ConvertOptions) -> pa.Table:
    options.strings_can_be_null = True
    options.quoted_strings_can_be_null = False
    table = pa.csv.read_csv(
        file,
        read_options=pa.csv.ReadOptions(block_size=BLOCK_BYTES),
        parse_options=pa.csv.ParseOptions(delimiter=separator, newlines_in_values=True),
        convert_options=options,
    )
    for field in table.schema:
        if pa.types.is_binary(field.type):
            raise not_utf8(file, field.name)
    return table


def not_utf8(file: Path, column: str) -> DataError:
    return DataError(f"{file} is not UTF-8 in column {column!r}. Save it as UTF-8.", column=column)


def _parse_text(file: Path, separator: str, names: list[str]) -> pa.Table:
    types = dict.fromkeys(names, pa.string())
    options = pa.csv.ConvertOptions(include_columns=names, column_types=types, null_values=[""])
    return _parse(file, separator, options)


def _may_be_text(kind: pa.DataType) -> bool:
    return bool(pa.types.is_string(kind) or pa.types.is_time(kind) or pa.types.is_int64(kind))


def _is_number(kind: pa.DataType) -> bool:
    return bool(pa.types.is_int64(kind))


def has_leading_zero(words: pa.ChunkedArray) -> bool:
    """Whether one of these numbers would lose zeros as a number."""
    return bool(pc.any(pc.match_substring_regex(words, r"^\s*[+-]?0[0-9]")).as_py())


# -- many files ----------------------------------------------------------------------------------------


def joined(tables: list[tuple[Path, pa.Table]], root: Path) -> pa.Table:
    """All rows, once every file is known to have the columns of the first one."""
    first_file, first = tables[0]
    for file, table in tables[1:]:
        _refuse_other_columns(_shown(first_file, root), first.schema, _shown(file, root), table.schema)
    schema = pa.schema([(name, _common_type(name, tables, root)) for name in first.column_names])
    return pa.concat_tables([table.select(first.column_names).cast(schema) for _, table in tables])


def _shown(file: Path, root: Path) -> str:
    return str(file.relative_to(root)) if file.is_relative_to(root) else str(file)


def _refuse_other_columns(first: str, expected: pa.Schema, file: str, schema: pa.Schema) -> None:
    for name in expected.names:
        if name not in schema.names:
            extra = [other for other in schema.names if other not in expected.names]
            raise DataError(
                f"{file} has no column {name!r}, which {first} has. {did_you_mean(name, extra)}"
                " Files of one glob have the same columns.",
                column=name,
            )
    for name in schema.names:
        if name not in expected.names:
            raise DataError(
                f"{file} has the column {name!r}, which {first} has not. Files of one glob have the same"
                " columns.",
                column=name,
            )


def _common_type(name: str, tables: list[tuple[Path, pa.Table]], root: Path) -> pa.DataType:
    """The type that holds the values of all files: numbers widen, and a column without values takes any."""
    common, decider = pa.null(), tables[0][0]
    for file, table in tables:
        kind = table.schema.field(name).type
        wider = _wider(common, kind)
        if wider is None:
            raise DataError(
                f"Column {name!r} is {common} in {_shown(decider, root)} but {kind} in {_shown(file, root)}."
                " Give it one type in all files.",
                column=name,
            )
        if wider != common:
            common, decider = wider, file
    return common


def _wider(one: pa.DataType, other: pa.DataType) -> pa.DataType | None:
    one, other = _undictionaried(one), _undictionaried(other)
    if one == other or pa.types.is_null(other):
        return one
    if pa.types.is_null(one):
        return other
    if pa.types.is_integer(one) and pa.types.is_integer(other):
        return pa.int64()
    numbers = [pa.types.is_integer(kind) or pa.types.is_floating(kind) for kind in (one, other)]
    if all(numbers):
        return pa.float64()
    if _is_text(one) and _is_text(other):
        return pa.string()
    return _wider_time(one, other)


def _wider_time(one: pa.DataType, other: pa.DataType) -> pa.DataType | None:
    times = [kind for kind in (one, other) if pa.types.is_timestamp(kind)]
    dates = [kind for kind in (one, other) if pa.types.is_date(kind)]
    zones = {kind.tz is not None for kind in times}
    if len(times) + len(dates) < 2 or len(zones) != 1:
        return None
    if zones == {True}:
        return pa.timestamp("ns", "UTC") if not dates else None
    return pa.timestamp("ns")


def _is_text(kind: pa.DataType) -> bool:
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind))


def _undictionaried(kind: pa.DataType) -> pa.DataType:
    return kind.value_type if pa.types.is_dictionary(kind) else kind
