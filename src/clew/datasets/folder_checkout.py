"""A snapshot of a folder laid out as files again: all of it or nothing, and safe on any file system."""

from __future__ import annotations

import errno
import os
import sys
import unicodedata
from collections import defaultdict
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from clew.datasets.folder_index import load_index, save_index
from clew.datasets.folder_scan import listed, scan_folder, shown
from clew.datasets.folders import newest_folders, read_manifest
from clew.datasets.manifests import FileEntry, Manifest
from clew.datasets.packs import PackReader
from clew.entities import FolderSnapshot
from clew.errors import DataError, StoreError, UsageError
from clew.storage import Store
from clew.storage.locks import hold, leftovers, scratch_folder, sweep_named

CHECKOUTS = "checkouts"
"""Below the store, where snapshots lie that trainings read; each can be made again."""


def checkout_folder(store: Store, snapshot: FolderSnapshot, destination: Path) -> None:
    """Lay the files of a snapshot out in a folder that is not there yet, or is empty.

    They are written beside it first, and take their place by one rename.

    Raises
    ------
    UsageError
        When the folder is there and holds something.
    DataError
        When the file system cannot hold the names, naming those that fall together or that it refuses.
    StoreError
        When the disk is full or may not be written; ObjectDamaged when the snapshot is not what it was.
    """
    destination = destination.absolute()
    if destination.is_symlink() or (destination.exists() and not _is_empty_folder(destination)):
        raise UsageError(f"{destination} holds something already; name a folder that is not there yet.")
    with _explained(destination), _laid_out(store, snapshot, destination, is_read_only=False) as laid:
        laid.rename(destination)


@contextmanager
def folder_in_use(store: Store, snapshot: FolderSnapshot) -> Iterator[Path]:
    """The files of a snapshot in a folder of the store, to be read only; kept for the next time.

    If anything was changed in it since it was laid out, it is laid out anew.
    """
    place = store.folder / CHECKOUTS / snapshot.id
    while True:
        if not _is_as_laid_out(store, place):
            _lay_out_for_use(store, snapshot, place)
        with hold(place) as is_held:
            # Between the look and the hold a cleaning may have taken it away.
            if is_held and _is_as_laid_out(store, place):
                yield place
                return


def unneeded_checkouts(store: Store) -> list[Path]:
    """What lies there for trainings, and is neither in use nor of the newest snapshot of a folder."""
    place = store.folder / CHECKOUTS
    newest = newest_folders(store)
    return [path for path in leftovers(place) if path.name not in newest] if place.is_dir() else []


def _lay_out_for_use(store: Store, snapshot: FolderSnapshot, place: Path) -> None:
    place.parent.mkdir(mode=0o700, exist_ok=True)
    with _explained(place), _laid_out(store, snapshot, place, is_read_only=True) as laid:
        if place.exists():
            place.rename(laid.parent / "changed")
        try:
            laid.rename(place)
        except OSError as error:
            if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                raise
            return  # another process was faster
        top = os.fsencode(place)
        # Nobody had it in hands before this: what it looks like now is what it was laid out as.
        save_index(
            store, "", top, snapshot.id, [(each, b"\0" * 32) for each in scan_folder(top)], sys.maxsize
        )


def _is_as_laid_out(store: Store, place: Path) -> bool:
    index = load_index(store, "", os.fsencode(place)) if place.is_dir() else None
    return index is not None and index.is_of(scan_folder(os.fsencode(place)))


def _is_empty_folder(path: Path) -> bool:
    return path.is_dir() and not any(path.iterdir())


@contextmanager
def _laid_out(store: Store, snapshot: FolderSnapshot, place: Path, *, is_read_only: bool) -> Iterator[Path]:
    """The files in a folder beside `place`, removed afterwards unless it was moved away."""
    manifest = read_manifest(store, snapshot)
    if not place.parent.is_dir():
        raise UsageError(f"{place.parent} is no folder; make it first: mkdir -p {place.parent}")
    name = f".{place.name}.laying-out"
    sweep_named(place.parent, name)
    with scratch_folder(place.parent, name) as scratch:
        laid = scratch / "files"
        laid.mkdir()
        _refuse_falling_together(manifest, laid)
        _write(store, manifest, os.fsencode(laid), is_read_only=is_read_only)
        yield laid


def _write(store: Store, manifest: Manifest, top: bytes, *, is_read_only: bool) -> None:
    made = {b""}
    packs = PackReader(store.objects)
    for entry in sorted(manifest.entries, key=manifest.place):
        path = top + b"/" + entry.path
        folder = entry.path if entry.kind == "folder" else entry.path.rpartition(b"/")[0]
        with _named(entry):
            if folder not in made:
                Path(os.fsdecode(top + b"/" + folder)).mkdir(parents=True, exist_ok=True)
                made.add(folder)
            if entry.kind == "link":
                target = packs.read(manifest.place(entry), entry.size)
                os.symlink(target, path)  # noqa: PTH211 - bytes, and as they are
            elif entry.kind != "folder":
                _write_file(packs, manifest, entry, path, is_read_only=is_read_only)


def _write_file(
    packs: PackReader, manifest: Manifest, entry: FileEntry, path: bytes, *, is_read_only: bool
) -> None:
    mode = (0o777 if entry.kind == "executable" else 0o666) & (0o555 if is_read_only else 0o777)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
    with os.fdopen(descriptor, "wb", buffering=0) as file:
        for chunk in packs.chunks(manifest.place(entry), entry.size):
            rest = memoryview(chunk)
            while rest:
                rest = rest[file.write(rest) :]


@contextmanager
def _named(entry: FileEntry) -> Iterator[None]:
    """Name the file whose name the file system refuses."""
    try:
        yield
    except OSError as error:
        if error.errno not in (errno.EILSEQ, errno.EINVAL, errno.ENAMETOOLONG, errno.EEXIST):
            raise
        raise DataError(
            f"{shown(entry.path)} cannot be made on this file system: {error.strerror}. Nothing was laid out;"
            " name a folder on another one."
        ) from error


# -- names that fall together --------------------------------------------------------------------------


def falling_together(paths: Iterable[bytes]) -> list[list[bytes]]:
    """Groups of names, of files or of folders on their way, that a system without case takes for one.

    Examples
    --------
    >>> falling_together([b"A/x", b"a/y", b"b"])
    [[b'A', b'a']]
    """
    groups: defaultdict[str, set[bytes]] = defaultdict(set)
    for path in paths:
        parts = path.split(b"/")
        for depth in range(1, len(parts) + 1):
            name = b"/".join(parts[:depth])
            folded = unicodedata.normalize("NFC", name.decode("utf-8", "surrogateescape")).casefold()
            groups[folded].add(name)
    return [sorted(names) for _, names in sorted(groups.items()) if len(names) > 1]


def _refuse_falling_together(manifest: Manifest, folder: Path) -> None:
    twins = falling_together(entry.path for entry in manifest.entries)
    if twins and tells_no_case(folder):
        told = listed([" and ".join(map(shown, names)) for names in twins])
        raise DataError(
            f"This file system takes names for one that differ only in case or accents: {told}. Nothing was"
            " laid out; name a folder on another one."
        )


def tells_no_case(folder: Path) -> bool:
    """Whether the file system takes ``a`` and ``A`` for one name."""
    (folder / "case").mkdir()
    try:
        return (folder / "CASE").exists()
    finally:
        (folder / "case").rmdir()


@contextmanager
def _explained(place: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise StoreError(
                f"The disk of {place} is full. Nothing was laid out; free some space, then try again."
            ) from error
        raise StoreError(f"{place} cannot be written: {error.strerror}. Check its permissions.") from error
