"""Snapshots and datasets as rows, and rows as snapshots and datasets."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import msgspec

from clew.datasets.keeping import Kept
from clew.datasets.parts import FORMAT, n_rows_of
from clew.entities import Column, Cuts, DatasetDeclaration, KnownKeys, Part, Snapshot
from clew.errors import NotFound, StoreTooNew
from clew.storage import Reader, Transaction, link

log = logging.getLogger("clew.datasets")

# Of the name, which is older than the way parts are cut, and stays when that changes.
_ID_FORMAT = 0


@dataclass(frozen=True, slots=True)
class SchemaVersion:
    """Columns that a dataset has or had, and the snapshot and code that they came with.

    `snapshot` is None for the oldest version on record of a dataset older than these records.
    """

    number: int
    columns: tuple[Column, ...]
    since: datetime
    snapshot: str | None = None
    code: str | None = None


@dataclass(frozen=True, slots=True)
class Dataset:
    """What is on record of a dataset.

    `schema_version` counts how often its columns changed; `code` made the newest snapshot; `schemas` are
    the versions on record, the oldest first.
    """

    name: str
    columns: tuple[Column, ...]
    schema_version: int
    created_at: datetime
    code: str | None = None
    schemas: tuple[SchemaVersion, ...] = ()


def recorded(reader: Reader, dataset: str, snapshot_id: str) -> Snapshot:
    row = reader.get("snapshots", dataset=dataset, id=snapshot_id)
    if row is None:
        raise NotFound(f"Dataset {dataset!r} has no snapshot {snapshot_id}.")
    return snapshot_of(row)


def described(
    declaration: DatasetDeclaration,
    columns: tuple[Column, ...],
    kept: Kept,
    *,
    source: str,
    code: str | None,
    now: datetime,
) -> Snapshot:
    return Snapshot(
        dataset=declaration.name,
        id=snapshot_id(declaration, columns, kept.blocks),
        columns=columns,
        parts=kept.parts,
        n_rows=n_rows_of(kept.parts),
        first_time=kept.first_time,
        last_time=kept.last_time,
        taken_at=now,
        source=source,
        code=code,
        declaration=declaration,
        blocks=kept.blocks,
        cuts=kept.cuts,
        keys=kept.keys,
    )


def snapshot_id(declaration: DatasetDeclaration, columns: tuple[Column, ...], blocks: tuple[str, ...]) -> str:
    """Named by what it holds, not by the files that hold it.

    The dataset is in it, so that an id names one snapshot; time and key, because they make the order.
    """
    said = {
        "format": _ID_FORMAT,
        "dataset": [declaration.name, declaration.time, declaration.key],
        "columns": [[column.name, column.type, column.is_categorical] for column in columns],
        "parts": blocks,
    }
    return hashlib.sha256(msgspec.json.encode(said, order="deterministic")).hexdigest()


def record_snapshot(tx: Transaction, snapshot: Snapshot, dataset: Dataset | None) -> bool:
    """Make the snapshot the newest of its dataset; False when the declared schema moved."""
    if find_dataset(tx, snapshot.dataset) != dataset:
        return False
    _declare(tx, snapshot, dataset)
    row = _to_row(snapshot)
    if not tx.insert_if_absent("snapshots", row):
        # These parts are known to be there; one of those on record may have been lost.
        how_kept = {name: row[name] for name in ("parts", "blocks", "cuts", "keys", "format")}
        tx.update("snapshots", {"dataset": snapshot.dataset, "id": snapshot.id}, how_kept)
    last = tx.find("snapshot_log", {"dataset": snapshot.dataset}, ["-sequence"], limit=1)
    if not last or last[0]["snapshot"] != snapshot.id:
        entry = {"dataset": snapshot.dataset, "sequence": last[0]["sequence"] + 1 if last else 1}
        entry |= {"snapshot": snapshot.id, "taken_at": snapshot.taken_at, "source": snapshot.source}
        tx.insert("snapshot_log", entry)
    if snapshot.code is not None:
        link(tx, "snapshot", snapshot.id, "made by", "code", snapshot.code)
    return True


def _declare(tx: Transaction, snapshot: Snapshot, dataset: Dataset | None) -> None:
    said = {
        "columns": msgspec.to_builtins(snapshot.columns),
        "declaration": msgspec.to_builtins(snapshot.declaration),
        "code": snapshot.code,
    }
    if dataset is not None and dataset.columns == snapshot.columns:
        tx.update("datasets", {"name": dataset.name}, said)
        return
    number, before = (dataset.schema_version + 1, dataset.schemas) if dataset is not None else (1, ())
    new = SchemaVersion(number, snapshot.columns, snapshot.taken_at, snapshot.id, snapshot.code)
    said |= {"schema_version": number, "schemas": msgspec.to_builtins((*before, new))}
    if dataset is None:
        tx.insert("datasets", {"name": snapshot.dataset, "created_at": snapshot.taken_at} | said)
        return
    tx.update("datasets", {"name": dataset.name}, said)
    log.info("columns changed", extra={"dataset": dataset.name, "schema_version": number})


def find_dataset(reader: Reader, name: str) -> Dataset | None:
    row = reader.get("datasets", name=name)
    return dataset_of(row) if row else None


def dataset_of(row: Mapping[str, Any]) -> Dataset:
    columns = msgspec.convert(row["columns"], tuple[Column, ...])
    number, code = row["schema_version"], row["code"]
    schemas = msgspec.convert(row["schemas"], tuple[SchemaVersion, ...] | None)
    # Of a dataset older than these records, only the present columns are known.
    schemas = schemas or (SchemaVersion(number, columns, row["created_at"], None, code),)
    return Dataset(row["name"], columns, number, row["created_at"], code, schemas)


def newest_of(reader: Reader, dataset: str) -> Snapshot | None:
    last = reader.find("snapshot_log", {"dataset": dataset}, ["-sequence"], limit=1)
    return recorded(reader, dataset, last[0]["snapshot"]) if last else None


def _to_row(snapshot: Snapshot) -> dict[str, Any]:
    plain = {name: getattr(snapshot, name) for name in Snapshot.__dataclass_fields__}
    for name in ("columns", "parts", "declaration", "blocks", "cuts", "keys"):
        plain[name] = msgspec.to_builtins(plain[name])
    return plain | {"format": FORMAT if snapshot.cuts else 0}


def snapshot_of(row: Mapping[str, Any]) -> Snapshot:
    if row["format"] > FORMAT:
        raise StoreTooNew(
            f"Snapshot {row['id'][:12]} of {row['dataset']} is stored in format {row['format']}; this Clew"
            f" knows formats up to {FORMAT}. Run: pip install --upgrade clew"
        )
    plain = {name: row[name] for name in Snapshot.__dataclass_fields__}
    plain["columns"] = msgspec.convert(row["columns"], tuple[Column, ...])
    plain["parts"] = msgspec.convert(row["parts"], tuple[Part, ...])
    plain["declaration"] = msgspec.convert(row["declaration"], DatasetDeclaration | None)
    plain["cuts"] = msgspec.convert(row["cuts"], Cuts | None)
    plain["keys"] = msgspec.convert(row["keys"], KnownKeys | None)
    # Format 0 had the blocks for parts, and did not list them twice.
    plain["blocks"] = tuple(row["blocks"] or (part.content for part in plain["parts"]))
    return Snapshot(**plain)
