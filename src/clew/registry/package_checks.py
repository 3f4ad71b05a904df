"""What has to hold before a package comes to life; asked by everything that loads one.

Light on purpose: a process that predicts imports this and not what packages are written with.
"""

from __future__ import annotations

import json
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from clew.entities import Json
from clew.errors import PackageError
from clew.registry.flavors.trust import check_loadable, own_types
from clew.registry.package_files import MLMODEL_FILE, package_digest

FORMAT = 0


def check_package(folder: Path, code_folder: Path | None, expected_digest: str | None) -> Json:
    """Clew's part of the package's MLmodel file, once its content and its types are known to be right.

    Raises
    ------
    PackageError
        When there is no package, it was changed, or it needs types that cannot be trusted.
    """
    own = read_own(folder)
    if expected_digest is not None and package_digest(folder) != expected_digest:
        raise PackageError(
            f"The package in {folder} is {package_digest(folder)[:12]}, but the registry has"
            f" {expected_digest[:12]}: it was changed or is not complete. Fetch it again."
        )
    trusted: dict[str, str] = own["trusted_types"]
    if trusted and expected_digest is None:
        raise PackageError(
            f"The model needs {', '.join(trusted)}, which are trusted only in a package whose digest the"
            " registry knows. Load it with expected_digest=…, the package of its version."
        )
    check_loadable(trusted, own["requirements"], code_folder)
    return own


def needs_code(own: Json) -> bool:
    """Whether the model brings classes or functions of the project to life."""
    return bool(own_types(own["trusted_types"]))


def read_own(folder: Path) -> Json:
    """Clew's part of a package's MLmodel file.

    Raises
    ------
    PackageError
        When there is none, or a newer Clew wrote it.
    """
    path = folder / MLMODEL_FILE
    if not path.is_file():
        raise PackageError(f"{folder} holds no model: it has no file {MLMODEL_FILE}.")
    try:
        own: Any = json.loads(path.read_text(encoding="utf-8"))["clew"]
    except (ValueError, KeyError, TypeError):
        raise PackageError(f"{path} was not written by Clew: it is not JSON with an entry 'clew'.") from None
    if own["format"] > FORMAT:
        raise PackageError(
            f"{path} has the format {own['format']}, but this Clew reads formats up to {FORMAT}. Install a"
            " newer Clew."
        )
    return dict(own)


def version_changes(folder: Path) -> dict[str, tuple[str, str | None]]:
    """Distributions whose version differs from the one the package was made with: (then, now)."""
    recorded: dict[str, str] = read_own(folder)["requirements"]
    now = {name: _installed(name) for name in recorded}
    return {name: (then, now[name]) for name, then in recorded.items() if now[name] != then}


def _installed(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None
