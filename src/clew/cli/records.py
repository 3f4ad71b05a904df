"""The records of the project where the command was typed."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from clew.workspace import Workspace, open_existing_records, open_records


@contextmanager
def records_or_new() -> Iterator[Workspace]:
    """Open the records of the project here, and make them where there are none."""
    with open_records(Path.cwd()) as records:
        yield records


@contextmanager
def records_here() -> Iterator[Workspace]:
    """Open the records of the project here, and make none where there are none.

    Raises
    ------
    NotFound
        When nothing was ever recorded here.
    """
    with open_existing_records(Path.cwd()) as records:
        yield records
