"""The native library inside an installed Python package, loaded without importing the package."""

from __future__ import annotations

import ctypes
import platform
from collections.abc import Mapping
from functools import cache
from importlib.util import find_spec
from pathlib import Path

from clew.errors import MissingExtra, PackageError


def native_library(package: str, files: Mapping[str, str], last_error: str) -> ctypes.CDLL:
    """The library of a package whose extra has its name; loaded once in a process.

    Parameters
    ----------
    files
        What the library is called, by operating system; ``"Linux"`` stands for all that are not listed.
    last_error
        The function of the library that says what went wrong last.

    Raises
    ------
    MissingExtra
        When the package is not installed.
    PackageError
        When its library is not there, or cannot be loaded.
    """
    found = find_spec(package)
    if found is None or found.origin is None:
        raise MissingExtra(package, package, "This model")
    folder, file = Path(found.origin).parent, files.get(platform.system(), files["Linux"])
    for path in (folder / "lib" / file, folder / "bin" / file, folder.parent / file):
        if path.is_file():
            return _loaded(path, last_error)
    raise PackageError(
        f"{package} is installed in {folder}, but without its library {file}. Install it again."
    )


@cache
def _loaded(path: Path, last_error: str) -> ctypes.CDLL:
    try:
        library = ctypes.CDLL(str(path))
    except OSError as error:
        raise PackageError(f"The library {path} cannot be loaded: {error}") from None
    getattr(library, last_error).restype = ctypes.c_char_p
    return library
