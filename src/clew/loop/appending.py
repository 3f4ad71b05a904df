"""New rows for a dataset from a file of their own: checked, kept, and put on the audit log."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import pyarrow as pa

from clew.datasets import append_rows, latest_snapshot, list_datasets
from clew.datasets.snapshots import check_new_rows
from clew.datasets.spill import Batches
from clew.entities import Column, Snapshot
from clew.errors import NotFound, did_you_mean
from clew.registry import record_audit
from clew.storage import Store, Transaction
from clew.tracking.sources import names
from clew.training import Child, Described

# A table of more bytes is looked at piece by piece.
_IN_MEMORY_BYTES = 256 << 20
_ROWS_A_PIECE = 65_536


@dataclass(frozen=True, slots=True)
class Appended:
    """What new rows made, or would make, of a dataset.

    Attributes
    ----------
    snapshot
        None when it was only tried.
    new_columns
        Columns that the dataset did not have, or had as another type.
    is_in_source
        Whether the dataset's source names the file too, so that reading it gives these rows again.
    """

    dataset: str
    n_rows: int
    n_before: int
    before: str | None
    snapshot: str | None
    schema_version: int
    new_columns: tuple[Column, ...]
    is_in_source: bool
    source: str | None


def append_file(
    store: Store,
    child: Child,
    models: Sequence[Described],
    dataset: str,
    path: Path,
    *,
    named: str,
    root: Path,
    code: str,
    actor: str,
    now: datetime,
    is_dry: bool = False,
) -> Appended:
    """Add the rows of a file to the newest snapshot of their dataset.

    Parameters
    ----------
    child, models
        The project's code, whose function of the dataset gets the rows, and what it declares.
    named
        The file as the person called it.
    is_dry
        Only check them.

    Raises
    ------
    NotFound
        When the project declares no such dataset.
    DataError
        When the rows contradict what is there; nothing is stored then.
    """
    by_dataset = {described.model.dataset.name: described for described in models}
    if dataset not in by_dataset:
        hint = did_you_mean(dataset, by_dataset)
        raise NotFound(f"The project here declares no dataset {dataset!r}. {hint}")
    described = by_dataset[dataset]
    declaration = described.model.dataset
    known = _columns(store, dataset)
    text = [column.name for column in known if column.type == "string"]
    table = child.table(described.file, dataset, text, source=str(path))
    rows = table if table.nbytes <= _IN_MEMORY_BYTES else _pieces(table)
    newest = latest_snapshot(store, dataset)
    made: Snapshot | None = None
    if is_dry:
        n_rows, columns = check_new_rows(store, declaration, rows)
    else:
        n_rows = table.num_rows

        def note(tx: Transaction, snapshot: Snapshot) -> None:
            evidence = {"snapshot": snapshot.id, "rows": n_rows, "file": named, "code": code}
            subject, why = f"dataset/{snapshot.dataset}", f"{n_rows:,} rows of {named}"
            record_audit(
                tx, now=now, actor=actor, action="append", subject=subject, reason=why, evidence=evidence
            )

        made = append_rows(store, declaration, rows, source=named, code=code, now=now, on_record=note)
        columns = made.columns
    new_columns = tuple(column for column in columns if column not in known)
    return Appended(
        dataset=declaration.name,
        n_rows=n_rows,
        n_before=newest.n_rows if newest else 0,
        before=newest.id if newest else None,
        snapshot=made.id if made else None,
        schema_version=_schema_version(store, declaration.name, will_change=is_dry and bool(new_columns)),
        new_columns=new_columns,
        is_in_source=names(declaration.source, root, path),
        source=declaration.source,
    )


def _pieces(table: pa.Table) -> Batches:
    def read() -> Iterator[pa.Table]:
        return (table.slice(start, _ROWS_A_PIECE) for start in range(0, table.num_rows, _ROWS_A_PIECE))

    return read


def _columns(store: Store, dataset: str) -> tuple[Column, ...]:
    return next((each.columns for each in list_datasets(store) if each.name == dataset), ())


def _schema_version(store: Store, dataset: str, *, will_change: bool) -> int:
    now = next((each.schema_version for each in list_datasets(store) if each.name == dataset), 0)
    return now + will_change
