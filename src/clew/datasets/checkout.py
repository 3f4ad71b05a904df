"""A snapshot's rows as an ordinary file, that any tool reads."""

from __future__ import annotations

import errno
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq

from clew.datasets.casts import KEPT_TYPES
from clew.datasets.parts import read_part
from clew.entities import Snapshot
from clew.errors import Conflict, StoreError, UsageError
from clew.storage import Store

PARQUET, CSV = (".parquet", ".pq"), (".csv", ".csv.gz")
_NO_LINKS = (errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK)


def checkout_snapshot(store: Store, snapshot: Snapshot, destination: Path, *, force: bool = False) -> int:
    """Write the rows of a snapshot, in its order, to a Parquet or CSV file; return its size in bytes.

    The file appears whole or not at all, and is read part by part, so it need not fit into memory. In a CSV
    null is nothing between two separators and an empty text is ``""``, as `read_source` reads it.

    Parameters
    ----------
    destination
        Ends in ``.parquet``, ``.pq``, ``.csv`` or ``.csv.gz``.
    force
        Replace a file that is there.

    Raises
    ------
    UsageError
        When the name says no kind of file that can be written, or there is no such folder.
    Conflict
        When something is there already, and not `force`.
    StoreError
        When a part is damaged, or the file cannot be written.
    """
    if not destination.name.lower().endswith(PARQUET + CSV):
        raise UsageError(
            f"{destination.name!r} says by its end no kind of file that can be written; those are"
            f" {', '.join(PARQUET + CSV)}."
        )
    if not destination.parent.is_dir():
        folder = destination.parent
        raise UsageError(f"The folder {folder} does not exist. Make it: mkdir -p {folder}")
    if destination.is_dir() or (destination.exists() and not force):
        raise _is_there(destination)
    part = destination.with_name(f".{destination.name}.{secrets.token_hex(4)}.part")
    try:
        with pa.OSFile(str(part), "wb") as file:
            _write(store, snapshot, file, destination.name.lower())
        n_bytes = _synced(part)
        _publish(part, destination, force=force)
    except OSError as error:
        raise StoreError(f"{destination} cannot be written: {error.strerror or error}.") from error
    finally:
        part.unlink(missing_ok=True)
    return n_bytes


def _is_there(destination: Path) -> Conflict:
    mend = "Name another file." if destination.is_dir() else "Name another file, or replace it with --force."
    return Conflict(f"{destination} is there already. {mend}")


def _synced(file: Path) -> int:
    """Have the disk hold what was written; how many bytes that is."""
    with file.open("rb") as written:
        os.fsync(written.fileno())
        return written.seek(0, os.SEEK_END)


def _publish(part: Path, destination: Path, *, force: bool) -> None:
    if force:
        part.replace(destination)
        return
    try:
        os.link(part, destination)
    except FileExistsError:
        raise _is_there(destination) from None
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise
        part.replace(destination)  # a file system without links; it was not there a moment ago


def _write(store: Store, snapshot: Snapshot, file: pa.NativeFile, name: str) -> None:
    schema = pa.schema([(column.name, KEPT_TYPES[column.type]) for column in snapshot.columns])
    with _writer(file, schema, name) as writer:
        for part in snapshot.parts:
            writer.write_table(read_part(store.objects, part, schema.names))


@contextmanager
def _writer(
    file: pa.NativeFile, schema: pa.Schema, name: str
) -> Iterator[pq.ParquetWriter | pa.csv.CSVWriter]:
    if name.endswith(PARQUET):
        with pq.ParquetWriter(file, schema, compression="zstd") as parquet:
            yield parquet
    elif name.endswith(".gz"):
        with pa.CompressedOutputStream(file, "gzip") as packed, pa.csv.CSVWriter(packed, schema) as csv:
            yield csv
    else:
        with pa.csv.CSVWriter(file, schema) as csv:
            yield csv
