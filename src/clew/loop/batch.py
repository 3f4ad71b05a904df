"""Batch prediction: a table in, a table with answers out, and a record of which version gave them."""

from __future__ import annotations

import glob
import hashlib
import os
import secrets
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq

from clew.datasets.instants import Misfit, instants_of
from clew.entities import DatasetDeclaration, Json, ModelDeclaration, Version
from clew.errors import ClewError, DataError, UsageError
from clew.registry import Predictions, record_audit
from clew.storage import Store, link

KINDS = (".parquet", ".csv")


@dataclass(frozen=True, slots=True)
class BatchResult:
    """What a batch prediction did: `counts` says how often each class was answered, None for numbers."""

    id: str
    version: str
    n_rows: int
    source: str
    destination: str
    counts: Json | None


def predict_batch(
    store: Store,
    version: Version,
    table: pa.Table,
    answer: Callable[[pa.Table], Predictions],
    *,
    source: str,
    destination: Path,
    inputs: Sequence[tuple[str, Path]],
    actor: str,
    clock: Callable[[], datetime],
) -> BatchResult:
    """Answer for every row of `table` and write the answers to `destination`, whole or not at all.

    The batch is written down before it begins, and closed after it: with an error, when it failed.

    Parameters
    ----------
    inputs
        What must not be written over: paths or globs, each with the folder that it is read from.

    Raises
    ------
    UsageError
        When the destination's name says no kind of file that can be written, or it is one of `inputs`.
    DataError
        When the model cannot answer rows: the message names column, rows and values.
    """
    if destination.suffix not in KINDS:
        raise UsageError(f"--out is {destination.name!r}; a file of answers ends in {' or '.join(KINDS)}.")
    for name, folder in inputs:
        _refuse_input(destination, name, folder)
    identity = secrets.token_hex(8)
    about = {"actor": actor, "subject": version.deployment, "reason": "asked for"}
    _begin(store, identity, version, table, source, destination, about, clock())
    try:
        answers = answer(table)
        digest = _write(_with_answers(store, version, table, answers), destination)
    except (ClewError, OSError, KeyboardInterrupt) as error:
        told = "interrupted" if isinstance(error, KeyboardInterrupt) else str(error)
        _end(store, identity, {"status": "failed", "error": told, "ended_at": clock()}, about)
        raise
    done = {"status": "done", "destination_digest": digest, "ended_at": clock()}
    _end(store, identity, done, about)
    return BatchResult(identity, version.name, table.num_rows, source, str(destination), _counts(answers))


def batch_destinations(store: Store) -> list[str]:
    """Where answers were ever written, or begun to be."""
    with store.read() as reader:
        return sorted({row["destination"] for row in reader.find("batches")})


def _refuse_input(destination: Path, source: str, folder: Path) -> None:
    """A file that is read from must not be written over, nor one be added to the files of a glob."""
    named = [folder / name for name in (source, *glob.glob(source, root_dir=folder, recursive=True))]  # noqa: PTH207 - may be absolute
    is_there = destination.exists() and any(path.exists() and path.samefile(destination) for path in named)
    if is_there or destination.match(str(folder.resolve() / source)):
        raise UsageError(
            f"--out {destination} would overwrite or join what is read from: {source}. Name another file."
        )


def _begin(
    store: Store,
    identity: str,
    version: Version,
    table: pa.Table,
    source: str,
    destination: Path,
    about: Mapping[str, str],
    now: datetime,
) -> None:
    with store.write() as tx:
        row = {
            "id": identity,
            "deployment": version.deployment,
            "version": version.number,
            "source": source,
            "source_digest": _content_digest(table),
            "destination": str(destination),
            "n_rows": table.num_rows,
            "actor": about["actor"],
            "status": "running",
            "started_at": now,
        }
        tx.insert("batches", row)
        told = {"batch": identity} | {
            name: row[name] for name in ("version", "source", "source_digest", "destination", "n_rows")
        }
        record_audit(tx, now=now, action="begin batch", evidence=told, **about)
        link(tx, "batch", identity, "answered by", "version", version.name)


def _end(store: Store, identity: str, values: Json, about: Mapping[str, str]) -> None:
    told = {"batch": identity} | {name: value for name, value in values.items() if name != "ended_at"}
    with store.write() as tx:
        tx.update("batches", {"id": identity}, values)
        record_audit(tx, now=values["ended_at"], action="end batch", evidence=told, **about)


def _content_digest(table: pa.Table) -> str:
    """Names the bytes of the table as it was read: the same file gives the same digest."""
    digest = hashlib.sha256()
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table.combine_chunks())
    digest.update(sink.getvalue())
    return digest.hexdigest()


def _with_answers(store: Store, version: Version, table: pa.Table, answers: Predictions) -> pa.Table:
    """Key, time (as instants, in UTC) and entity as far as they are there, then the answers."""
    with store.read() as reader:
        row = reader.get("deployments", name=version.deployment)
    kept: list[str] = []
    if row is not None and row["declaration"] is not None:
        dataset = msgspec.convert(row["declaration"], ModelDeclaration).dataset
        subject = (dataset.key, dataset.time, dataset.entity)
        kept = [name for name in subject if name is not None and name in table.column_names]
        if dataset.time in kept:
            table = _with_instants(table, dataset)
    columns: dict[str, Any] = {name: table.column(name) for name in kept}
    columns["prediction"] = pa.array(answers.predicted.tolist())
    if answers.probabilities is not None and answers.classes is not None:
        for place, each in enumerate(answers.classes):
            columns[f"probability {_word(each)}"] = pa.array(answers.probabilities[:, place])
    n = table.num_rows
    columns["model"] = pa.array([version.deployment] * n)
    columns["version"] = pa.array(np.full(n, version.number))
    return pa.table(columns)


def _with_instants(table: pa.Table, dataset: DatasetDeclaration) -> pa.Table:
    place = table.column_names.index(dataset.time)
    try:
        instants = instants_of(table.column(place).combine_chunks(), dataset.timezone)
    except Misfit as misfit:
        raise DataError(f"A time in column {dataset.time!r} {misfit}.") from None
    return table.set_column(place, dataset.time, instants)


def _word(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _write(table: pa.Table, destination: Path) -> str:
    """Write beside the destination and move it into place; the digest of the file's bytes."""
    part = destination.with_name(f".{destination.name}.{os.getpid()}.part")
    try:
        if destination.suffix == ".csv":
            pa.csv.write_csv(table, part)
        else:
            pq.write_table(table, part)
        digest = hashlib.sha256(part.read_bytes()).hexdigest()
        part.replace(destination)
    except OSError as error:
        raise UsageError(
            f"{destination} cannot be written: {error.strerror or error}. Nothing of it was kept; name"
            " another place with --out, or make room."
        ) from error
    finally:
        part.unlink(missing_ok=True)
    return digest


def _counts(answers: Predictions) -> Json | None:
    if answers.classes is None:
        return None
    values, counts = np.unique(answers.predicted, return_counts=True)
    return {_word(value): int(n) for value, n in zip(values.tolist(), counts.tolist(), strict=True)}
