"""Files that a command is to write: refused before the work, not after it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import click


def refuse_unwritable(file: Path | None, option: str, endings: Sequence[str]) -> None:
    """Refuse a file that could not be written, or whose name says another kind of file than it would get.

    Raises
    ------
    click.BadParameter
        Naming the option, the file, and what to do.
    """
    if file is None:
        return
    if file.suffix.lower() not in endings:
        name = file.with_suffix(endings[0]).name
        raise _refused(option, f"{file.name!r} does not end in {' or '.join(endings)}. Name it {name}.")
    folder = file.resolve().parent
    if not folder.is_dir():
        raise _refused(option, f"the folder {folder} does not exist. Make it: mkdir -p {folder}")
    was_there = file.exists()
    try:
        with file.open("a"):
            pass
    except OSError as error:
        raise _refused(option, f"{file} cannot be written: {error.strerror}. Name another file.") from None
    if not was_there:
        file.unlink()


def _refused(option: str, reason: str) -> click.BadParameter:
    return click.BadParameter(reason, click.get_current_context(), param_hint=f"'{option}'")
