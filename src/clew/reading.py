"""What a program of the user's own reads from a project: ``clew.load`` and ``clew.snapshot``."""

from __future__ import annotations

from datetime import date
from pathlib import Path
from typing import Any, Literal, TypeAlias, get_args

from clew.datasets import find_snapshot, part_relation, read_rows, to_frame
from clew.errors import UsageError, did_you_mean
from clew.loop.served_model import ServedModel
from clew.workspace import open_existing_records

SnapshotFrame: TypeAlias = Literal["pandas", "polars", "pyarrow", "duckdb", "paths"]


def load(name: str, *, project: str | Path = ".", allow_code: bool = False) -> ServedModel:
    """Load a registered version into this process: ``clew.load("busy_hour@champion").predict(frame)``.

    Parameters
    ----------
    name
        ``"busy_hour@7"``, ``"busy_hour@champion"``, or ``"busy_hour"`` for its champion.
    project
        The project's folder, or one inside it.
    allow_code
        Let a model that needs the project's own code bring the code that it was made with.

    Raises
    ------
    NotFound
        When there is no such version, naming those that exist, or nothing was recorded there at all.
    PackageError
        When it needs code and may not bring it, or was damaged.
    """
    with open_existing_records(Path(project)) as records:
        version = records._version(name)
        model = records.load_model(version.name, allow_code=allow_code)
        return ServedModel(version.deployment, version.number, model, records.cut(version.deployment))


def snapshot(
    dataset: str,
    *,
    at: str | date | None = None,
    frame: SnapshotFrame = "pandas",
    project: str | Path = ".",
) -> Any:
    """The rows of a dataset's snapshot: ``clew.snapshot("rides", at="2026-03-01")``.

    Every part that is read is checked against its hash.

    Parameters
    ----------
    dataset
        Its name.
    at
        An id or its first letters; a time, or a day (UTC) for the newest snapshot of its end; by default the
        newest snapshot.
    frame
        ``"pandas"``, ``"polars"``, ``"pyarrow"``; ``"duckdb"`` for a relation that reads the parts when it is
        asked; ``"paths"`` for the Parquet files of the parts, in order and only to be read.
    project
        The project's folder, or one inside it.

    Raises
    ------
    NotFound
        When nothing was recorded there, or there is no such snapshot; naming those that exist.
    MissingExtra
        When the library of `frame` is not installed.
    StoreError
        When a part is damaged.
    """
    if frame not in get_args(SnapshotFrame):
        raise UsageError(f"frame is {frame!r}. {did_you_mean(str(frame), get_args(SnapshotFrame))}")
    words = at.isoformat() if isinstance(at, date) else at or ""
    with open_existing_records(Path(project)) as records:
        found = find_snapshot(records.store, words, dataset)
        if frame == "duckdb" or frame == "paths":
            paths = [records.store.objects.path(part.object_digest) for part in found.parts]
            return paths if frame == "paths" else part_relation(paths)
        return to_frame(read_rows(records.store, found), frame)
