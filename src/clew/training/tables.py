"""A dataset's rows, in the child: read the source, run the user's function, hand over Arrow."""

from __future__ import annotations

from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

import pyarrow as pa

from clew.config import load_settings
from clew.datasets import from_frame, read_source, to_frame
from clew.declare import DatasetSpec, SqlQuery
from clew.errors import DataError, SettingsError, TrainingFailed, did_you_mean
from clew.training.faults import function_fault


def build_table(
    spec: DatasetSpec, project_root: Path, code_folder: Path, text: Collection[str] = ()
) -> pa.Table:
    """What the dataset's function returns for its source as it is now.

    A relative source starts at `project_root`: data stay where they are, only code is captured.

    Raises
    ------
    TrainingFailed
        When the function, or a source that is a function, raises or returns None.
    DataError
        When the source cannot be read or the returned frame cannot be taken.
    """
    source = _source(spec, project_root, code_folder, text)
    frame = to_frame(source, spec.declaration.frame)
    # The source says what a column was before a frame had to make floats of integers with nulls.
    return from_frame(_call(spec.name, project_root, code_folder, spec.function, frame), like=source)


def write_table(table: pa.Table, path: Path) -> None:
    """Keep a table as an Arrow IPC file, which another process can map."""
    with pa.OSFile(str(path), "wb") as file, pa.ipc.new_file(file, table.schema) as writer:
        writer.write_table(table)


def _source(spec: DatasetSpec, project_root: Path, code_folder: Path, text: Collection[str]) -> pa.Table:
    if spec.query is not None:
        return _queried(spec.query, project_root, code_folder)
    if spec.load is None:
        return read_source(spec.declaration.source or "", project_root, text)
    return from_frame(_call(getattr(spec.load, "__name__", "source"), project_root, code_folder, spec.load))


def _queried(query: SqlQuery, project_root: Path, code_folder: Path) -> pa.Table:
    """The rows of a query; its text is read from the captured code, so that what ran is what is recorded."""
    from clew.storage.warehouse import read_query

    connections = load_settings(project_root).connections
    name = query.connection
    if name not in connections:
        hint = did_you_mean(name, connections) if connections else "It has none yet."
        raise SettingsError(
            f'clew.toml has no connection {name!r}. {hint} Write under [connections]: {name} = "$NAME"'
        )
    text = query.text
    if query.file is not None:
        file = code_folder / query.file
        if not file.is_file():
            raise DataError(
                f"There is no file {query.file!r} among the captured code, for the query of {name!r}."
            )
        text = file.read_text(encoding="utf-8")
    return read_query(name, connections[name], text or "", project_root)


def _call(
    name: str, project_root: Path, code_folder: Path, function: Callable[..., Any], *arguments: Any
) -> Any:
    try:
        returned = function(*arguments)
    # The user's code may raise anything, sys.exit() included; the process lives on.
    except BaseException as error:  # noqa: BLE001
        raise function_fault(name, error, code_folder, project_root) from None
    if returned is None:
        raise TrainingFailed(f"{name}() returned None. End it with: return the table.")
    return returned
