"""Which files user code reads outside of the captured code, as Python itself reports them.

What a library opens without Python, as some read tables, is not seen.
"""

from __future__ import annotations

import hashlib
import os
import stat
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

MOST_FILES = 100
MOST_BYTES = 2_000_000_000
"""Larger files are named without their hash: reading them again would take longer than many a fit."""

_SYSTEM = ("/dev", "/etc", "/lib", "/lib64", "/proc", "/sys", "/usr")
_PACKAGES = (
    f"{os.sep}site-packages{os.sep}",
    f"{os.sep}dist-packages{os.sep}",
    f"{os.sep}__pycache__{os.sep}",
)


class OpenedFiles:
    """What was read while somebody watched, from the start of the process on.

    Parameters
    ----------
    own
        Folders whose files are known anyway: the captured code, and what Clew itself passes around.
    """

    def __init__(self, *own: Path) -> None:
        prefixes = {sys.prefix, sys.base_prefix, sys.exec_prefix, *map(str, own), *_SYSTEM}
        self._known = tuple(f"{os.path.realpath(prefix)}{os.sep}" for prefix in prefixes)
        self._read: dict[str, None] = {}
        self._written: set[str] = set()
        self._is_watching = False
        # For good: a hook cannot be taken away.
        sys.addaudithook(self._heard)

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Take note of what is opened meanwhile."""
        self._is_watching = True
        try:
            yield
        finally:
            self._is_watching = False

    def report(self) -> list[list[str | None]]:
        """Path and SHA-256 of each file that was read, by path."""
        return [[path, digest] for path, digest in sorted(self._hashed().items())]

    def _heard(self, event: str, arguments: tuple[Any, ...]) -> None:
        if event != "open" or not self._is_watching:
            return
        path, mode, flags = arguments
        if not isinstance(path, str | bytes | os.PathLike) or len(self._read) >= MOST_FILES:
            return
        full = os.path.abspath(os.fsdecode(path))  # noqa: PTH100 - Path() is slow, and this hears every open
        if _is_written(mode, flags):
            self._written.add(full)
        elif full not in self._written and not self._is_known(full):
            self._read[full] = None

    def _is_known(self, full: str) -> bool:
        # Compiled code lies where PYTHONPYCACHEPREFIX says, and is that of a file that is known itself.
        is_code = full.endswith(".pyc") or any(part in full for part in _PACKAGES)
        return is_code or full.startswith(self._known)

    def _hashed(self) -> dict[str, str | None]:
        found: dict[str, str | None] = {}
        for path in self._read:
            # Once more by its real path: a link may lead to what is known.
            real = os.path.realpath(path)
            if not self._is_known(real):
                found |= _digest_of(path)
        return found


def _is_written(mode: str | None, flags: int) -> bool:
    return bool(flags & (os.O_WRONLY | os.O_RDWR)) if mode is None else any(each in mode for each in "wax+")


def _digest_of(path: str) -> dict[str, str | None]:
    """The file's hash; nothing for what is no file, such as a pipe or a folder, or never was there."""
    try:
        status = os.stat(path)  # noqa: PTH116 - see above
        if not stat.S_ISREG(status.st_mode):
            return {}
        if status.st_size > MOST_BYTES:
            return {path: None}
        with open(path, "rb") as file:  # noqa: PTH123 - see above
            return {path: hashlib.file_digest(file, "sha256").hexdigest()}
    except OSError:
        return {}
