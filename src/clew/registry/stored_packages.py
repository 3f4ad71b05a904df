"""Packages in the store: each file an object, and one object that names them all."""

from __future__ import annotations

import json
import shutil
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from clew.errors import PackageError
from clew.registry.package_files import manifest, package_digest

if TYPE_CHECKING:
    from clew.storage import Store


def store_package(store: Store, folder: Path) -> str:
    """Keep a package; returns its digest. Files that are already there are not stored again."""
    listing = manifest(folder)
    for name in json.loads(listing)["files"]:
        store.objects.put_file(folder / name)
    # Last, so that a package that can be named is complete.
    return store.objects.put(listing)


def fetch_package(store: Store, digest: str, folder: Path) -> None:
    """Lay a package out in `folder`, every byte verified. A complete one that lies there stays.

    Raises
    ------
    NotFound
        When the store has no such package.
    ObjectDamaged
        When stored bytes are not what their name says.
    PackageError
        When other files lie in `folder`.
    """
    if folder.exists() and any(folder.iterdir()):
        if package_digest(folder) == digest:
            return
        raise PackageError(f"{folder} holds something else than package {digest[:12]}; name an empty folder.")
    files = _files(store, digest)
    # Beside the folder and moved at the end, so that a process killed here leaves no half package behind
    # that looks like a whole one.
    unfinished = folder.with_name(f"{folder.name}.unfinished")
    shutil.rmtree(unfinished, ignore_errors=True)
    for name, content in files.items():
        path = unfinished / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(store.objects.get(content))
    if folder.exists():
        folder.rmdir()
    unfinished.rename(folder)


def _files(store: Store, digest: str) -> dict[str, str]:
    try:
        listing: Any = json.loads(store.objects.get(digest))
        files: dict[str, str] = dict(listing["files"])
    except (ValueError, KeyError, TypeError):
        raise PackageError(f"The object {digest[:12]} is no package.") from None
    for name in files:
        if PurePosixPath(name).is_absolute() or ".." in PurePosixPath(name).parts:
            raise PackageError(
                f"The package {digest[:12]} names the file {name!r}, which lies outside of it."
            )
    return files
