"""A dataset's rows, in the child: read the source, run the user's function, hand over Arrow."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Collection, Iterable
from pathlib import Path
from typing import Any

import pyarrow as pa

from clew.config import load_settings
from clew.datasets import from_frame, read_source, to_frame
from clew.datasets.batches import can_be_read_in_batches, source_batches
from clew.datasets.sources import files_of
from clew.declare import DatasetSpec, SqlQuery
from clew.errors import DataError, SettingsError, TrainingFailed, did_you_mean
from clew.training.faults import function_fault

_GIVING_BACK = (lambda table: table).__code__
# Files of fewer bytes are read at once.
_STREAMED_BYTES = 256 << 20


def keep_table(
    spec: DatasetSpec,
    project_root: Path,
    code_folder: Path,
    path: Path,
    text: Collection[str] = (),
    source: str | None = None,
) -> None:
    """Write what `build_table` returns as an Arrow IPC file, which another process can map.

    Large files are read and written piece by piece when the dataset's function does nothing but return what
    it is given.
    """
    named = source or (spec.declaration.source if spec.load is None else None)
    if named and gives_back_its_table(spec.function) and _is_large(named, project_root):
        _write(source_batches(named, project_root, text)(), path)
    else:
        _write([build_table(spec, project_root, code_folder, text, source)], path)


def build_table(
    spec: DatasetSpec,
    project_root: Path,
    code_folder: Path,
    text: Collection[str] = (),
    source: str | None = None,
) -> pa.Table:
    """What the dataset's function returns for its source as it is now, or for another one.

    A relative source starts at `project_root`: data stay where they are, only code is captured.

    Raises
    ------
    TrainingFailed
        When the function, or a source that is a function, raises or returns None.
    DataError
        When the source cannot be read or the returned frame cannot be taken.
    """
    given = _source(spec, project_root, code_folder, text, source)
    frame = to_frame(given, spec.declaration.frame)
    # The source says what a column was before a frame had to make floats of integers with nulls.
    return from_frame(_call(spec.name, project_root, code_folder, spec.function, frame), like=given)


def gives_back_its_table(function: Callable[..., Any]) -> bool:
    """Whether all that a function does is to return its only argument.

    Examples
    --------
    >>> gives_back_its_table(lambda table: table), gives_back_its_table(lambda table: table.head())
    (True, False)
    """
    code = getattr(function, "__code__", None)
    if not inspect.iscode(code):
        return False
    told = (code.co_code, code.co_argcount, code.co_kwonlyargcount, code.co_flags & inspect.CO_VARARGS)
    return told == (_GIVING_BACK.co_code, 1, 0, 0)


def _is_large(source: str, root: Path) -> bool:
    if not can_be_read_in_batches(source):
        return False
    return sum(file.stat().st_size for file in files_of(source, root)) > _STREAMED_BYTES


def _write(tables: Iterable[pa.Table], path: Path) -> None:
    writer = None
    with pa.OSFile(str(path), "wb") as file:
        for table in tables:
            writer = writer or pa.ipc.new_file(file, table.schema)
            writer.write_table(table)
        if writer is not None:
            writer.close()


def _source(
    spec: DatasetSpec, project_root: Path, code_folder: Path, text: Collection[str], source: str | None
) -> pa.Table:
    if spec.query is not None and source is None:
        return _queried(spec.query, project_root, code_folder)
    if spec.load is None or source is not None:
        return read_source(source or spec.declaration.source or "", project_root, text)
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
