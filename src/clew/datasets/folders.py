"""Immutable versions of a folder of files: taking, finding, listing and verifying them."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, fields
from datetime import datetime
from pathlib import Path
from typing import Any, TypeAlias

from clew.datasets.folder_index import clock_of_files_ns, load_index, save_index
from clew.datasets.folder_reading import read_files
from clew.datasets.folder_scan import Seen, listed, resolved, scan_folder, shown, unreadable
from clew.datasets.manifests import (
    FORMAT,
    FileEntry,
    Manifest,
    decode_manifest,
    encode_manifest,
    folder_id,
)
from clew.datasets.packs import MAGIC, PIECE_BYTES, Place
from clew.entities import FolderSnapshot
from clew.errors import DataError, NotFound, ObjectDamaged, StoreTooNew, UsageError, did_you_mean
from clew.storage import ObjectStore, Reader, Store, Transaction, Where

Witness: TypeAlias = Callable[[Transaction, FolderSnapshot], None]

_ROUNDS = 3
_EMPTY = hashlib.sha256(b"").digest()


@dataclass(frozen=True, slots=True)
class TakenFolder:
    """What came of looking at a folder.

    Attributes
    ----------
    before
        The snapshot that was the newest until then: the same one when nothing changed.
    n_read
        How many files had to be read.
    """

    snapshot: FolderSnapshot
    before: FolderSnapshot | None
    n_read: int

    @property
    def is_new(self) -> bool:
        return self.before is None or self.before.id != self.snapshot.id


def take_folder(
    store: Store,
    name: str,
    folder: Path,
    *,
    now: datetime,
    source: str | None = None,
    is_verified: bool = False,
    witness: Witness | None = None,
) -> TakenFolder:
    """Keep the files of a folder as a version of the dataset `name`.

    Kept are paths, contents, where links point, whether the owner may execute a file, and empty folders; not
    times, owners and other permissions. Files that look as they did last time, by size, times and number, are
    not read again. Repeating it is harmless, and a process that dies on the way leaves nothing visible.

    Parameters
    ----------
    source
        What to say of where the files lie; by default the folder's path.
    is_verified
        Read every file, whatever it looks like, and check every pack; what is damaged is stored again.
    witness
        Called in the transaction that makes a snapshot the newest one.

    Raises
    ------
    DataError
        When something in the folder cannot be read, naming all of it, or changes while it is read.
    UsageError
        When the folder holds the store, or the name is none or that of a table.
    """
    _refuse_name(store, name)
    top = resolved(folder)
    _refuse_store(store, top, folder)
    before = latest_folder(store, name)
    looked_at = clock_of_files_ns(store)
    index = None if is_verified else load_index(store, name, top)
    seen = scan_folder(top)
    if index and before and index.snapshot == before.id and index.is_of(seen) and _is_there(store, before):
        return TakenFolder(before, before, 0)
    work = _Work(store, top, _kept_contents(store, before, top if is_verified else None))
    seen = work.read(seen, index.known() if index else {})
    where = source or str(folder)
    snapshot = _kept(store, name, work.manifest(seen), now=now, source=where, is_verified=is_verified)
    with store.write() as tx:
        if _record(tx, snapshot) and witness:
            witness(tx, snapshot)
    save_index(store, name, top, snapshot.id, [(each, work.digest(each)) for each in seen], looked_at)
    return TakenFolder(snapshot, before, work.n_read)


class _Work:
    """The contents of a folder as they become known."""

    def __init__(self, store: Store, top: bytes, places: Mapping[bytes, Place]) -> None:
        self._store, self._top = store, top
        self._places = dict(places)
        self._digests: dict[Seen, bytes] = {}
        self.n_read = 0

    def read(self, seen: list[Seen], known: Mapping[Seen, bytes]) -> list[Seen]:
        """Read what is not known, again where it changed meanwhile; the folder as it was then."""
        self._digests.update((each, known[each]) for each in seen if self._is_kept(known.get(each)))
        changed: list[bytes] = []
        for _ in range(_ROUNDS):
            todo = [each for each in seen if each.kind != "folder" and each not in self._digests]
            reading = read_files(self._store.objects, self._top, todo, self._places)
            if reading.failed:
                raise unreadable(self._top, reading.failed)
            self.n_read += len(reading.digests)
            self._digests |= reading.digests
            self._places |= reading.places
            if not reading.changed:
                return seen
            seen, changed = scan_folder(self._top), reading.changed
        told = listed(sorted(map(shown, changed)))
        raise DataError(
            f"{shown(self._top)} changes while it is read: {told}. Nothing was kept; repeat it when no"
            " program writes there."
        )

    def _is_kept(self, digest: bytes | None) -> bool:
        return digest is not None and (digest == _EMPTY or digest in self._places)

    def digest(self, seen: Seen) -> bytes:
        return self._digests.get(seen, _EMPTY)

    def manifest(self, seen: Iterable[Seen]) -> Manifest:
        entries = tuple(FileEntry(each.path, each.kind, each.size, self.digest(each)) for each in seen)
        return Manifest(entries, self._places)


def _kept(
    store: Store, name: str, manifest: Manifest, *, now: datetime, source: str, is_verified: bool
) -> FolderSnapshot:
    """The snapshot of these files; the one on record, if nothing of it was lost."""
    identity = folder_id(name, manifest.entries)
    with store.read() as reader:
        row = reader.get("folder_snapshots", dataset=name, id=identity)
    there = _from_row(row) if row else None
    if there is not None and not is_verified and _is_there(store, there):
        return there
    digest = store.objects.put(encode_manifest(manifest))
    sizes = (manifest.n_files, manifest.n_bytes)
    return FolderSnapshot(name, identity, digest, manifest.packs, *sizes, taken_at=now, source=source)


def _refuse_name(store: Store, name: str) -> None:
    if not re.fullmatch(r"[A-Za-z_][\w.-]*", name):
        raise UsageError(
            f"{name!r} cannot name a folder; a name begins with a letter and goes on with letters, digits,"
            " '_', '-' or '.', such as images."
        )
    with store.read() as reader:
        if reader.get("datasets", name=name) is not None:
            raise UsageError(
                f"{name!r} is a table already; give the folder another name: --name {name}_files"
            )


def _refuse_store(store: Store, top: bytes, folder: Path) -> None:
    inside, within = Path(os.fsdecode(top)), store.folder.resolve()
    if within.is_relative_to(inside) or inside.is_relative_to(within):
        raise UsageError(
            f"{folder} and the store {store.folder} lie in each other; name a folder that holds data alone."
        )


# -- what is there, and what is damaged ----------------------------------------------------------------


def _is_there(store: Store, snapshot: FolderSnapshot) -> bool:
    return all(store.objects.exists(digest) for digest in (snapshot.manifest, *snapshot.packs))


def _kept_contents(store: Store, newest: FolderSnapshot | None, source: bytes | None) -> dict[bytes, Place]:
    """The contents that need not be stored again.

    Parameters
    ----------
    source
        A folder out of which packs that are damaged can be made again; without it they are not checked.
    """
    if newest is None:
        return {}
    try:
        manifest = read_manifest(store, newest)
    except (NotFound, ObjectDamaged):
        return {}  # then all files are read again, and what they hold is stored where it is not
    lost = {pack for pack in set(newest.packs) if not _is_whole(store.objects, pack, manifest, source)}
    return {digest: place for digest, place in manifest.places.items() if lost.isdisjoint(place.packs)}


def _is_whole(objects: ObjectStore, pack: str, manifest: Manifest, source: bytes | None) -> bool:
    if source is None:
        return objects.exists(pack)
    try:
        objects.path(pack)
    except (NotFound, ObjectDamaged):
        return _mend(objects, pack, manifest, source)
    return True


def _mend(objects: ObjectStore, pack: str, manifest: Manifest, source: bytes) -> bool:
    """Make a pack again out of the files it was made of, for all snapshots that name it."""
    pieces: dict[bytes, tuple[int, bytes]] = {}
    for entry in manifest.entries:
        place = manifest.place(entry)
        if pack in place.packs and entry.digest not in pieces:
            skip = place.packs.index(pack) * PIECE_BYTES
            length = entry.size if len(place.packs) == 1 else min(PIECE_BYTES, entry.size - skip)
            try:
                pieces[entry.digest] = (place.offset, _slice(source + b"/" + entry.path, entry, skip, length))
            except OSError:
                return False
    content = MAGIC + b"".join(piece for _, piece in sorted(pieces.values()))
    if hashlib.sha256(content).hexdigest() != pack:
        return False  # the files changed since, or some are no more: their contents get another pack
    objects.put(content)
    return True


def _slice(path: bytes, entry: FileEntry, skip: int, length: int) -> bytes:
    if entry.kind == "link":
        return os.readlink(path)  # noqa: PTH115 - pathlib would tidy it up
    with open(path, "rb") as file:  # noqa: PTH123 - a path of bytes
        file.seek(skip)
        return file.read(length)


@dataclass(frozen=True, slots=True)
class FolderCheck:
    """What checking a snapshot against its hashes found.

    Attributes
    ----------
    damaged
        Files whose content is not what it was, or was lost.
    unread
        Files that are whole, but share a pack with damaged bytes, so that they are not given out.
    """

    n_files: int
    damaged: tuple[str, ...]
    unread: tuple[str, ...]

    @property
    def is_whole(self) -> bool:
        return not self.damaged and not self.unread


def verify_folder(store: Store, snapshot: FolderSnapshot) -> FolderCheck:
    """Check every byte of a snapshot.

    Raises
    ------
    ObjectDamaged, NotFound
        When the list of its files is damaged or lost: then nobody can say which files are.
    """
    manifest = read_manifest(store, snapshot)
    bad = {
        pack: content
        for pack in dict.fromkeys(snapshot.packs)
        if (content := _damaged(store, pack)) is not None
    }
    damaged: list[str] = []
    unread: list[str] = []
    for entry in manifest.entries:
        place = manifest.place(entry)
        if not bad.keys() & set(place.packs):
            continue
        (unread if _survives(entry, place, bad) else damaged).append(shown(entry.path))
    return FolderCheck(manifest.n_files, tuple(damaged), tuple(unread))


def _damaged(store: Store, pack: str) -> bytes | None:
    """What is there of a pack that is not what it was; None for one that is."""
    try:
        content = store.objects.get_unchecked(pack)
    except NotFound:
        return b""
    return None if hashlib.sha256(content).hexdigest() == pack else content


def _survives(entry: FileEntry, place: Place, bad: Mapping[str, bytes]) -> bool:
    if len(place.packs) > 1:
        return False
    content = bad[place.packs[0]][place.offset : place.offset + entry.size]
    return hashlib.sha256(content).digest() == entry.digest


# -- records -------------------------------------------------------------------------------------------


def read_manifest(store: Store, snapshot: FolderSnapshot) -> Manifest:
    """What a snapshot lists.

    Raises
    ------
    ObjectDamaged, NotFound
        When the list is not what it was.
    """
    return decode_manifest(store.objects.get(snapshot.manifest), snapshot.packs)


def find_folder(store: Store, reference: str, dataset: str | None = None) -> FolderSnapshot:
    """The snapshot with this id, or whose id alone begins so; or the newest of the folder of this name.

    Raises
    ------
    NotFound
        When there is none, or several; the message names what exists.
    """
    newest = latest_folder(store, reference) if dataset in (None, reference) else None
    if newest is not None:
        return newest
    where: dict[str, Any] = {"id": Where("prefix", reference)} | (
        {} if dataset is None else {"dataset": dataset}
    )
    with store.read() as reader:
        found = reader.find("folder_snapshots", where, limit=4) if reference else []
        names = sorted({str(row["dataset"]) for row in reader.find("folder_log")})
    if len(found) == 1:
        return _from_row(found[0])
    if found:
        told = ", ".join(f"{row['id'][:12]} ({row['dataset']})" for row in found)
        raise NotFound(
            f"Several snapshots of folders begin with {reference!r}: {told}. Write more of the id."
        )
    raise NotFound(
        f"No folder and no snapshot of one is named {reference!r}. {did_you_mean(reference, names)}"
    )


def folder_or_none(store: Store, reference: str, dataset: str | None = None) -> FolderSnapshot | None:
    """As `find_folder`, where it may well name a table."""
    try:
        return find_folder(store, reference, dataset)
    except NotFound:
        return None


def latest_folder(store: Store, name: str) -> FolderSnapshot | None:
    """The newest snapshot of a folder, or None."""
    with store.read() as reader:
        last = _last(reader, name)
        row = reader.get("folder_snapshots", dataset=name, id=last["snapshot"]) if last else None
    return _from_row(row) if row else None


def list_folders(store: Store, name: str | None = None) -> list[FolderSnapshot]:
    """All snapshots of folders, or of one, the newest first."""
    where = {"dataset": name} if name else None
    with store.read() as reader:
        return [_from_row(row) for row in reader.find("folder_snapshots", where, ["-taken_at", "id"])]


def newest_folders(store: Store) -> set[str]:
    """The newest snapshot of each folder, by id."""
    with store.read() as reader:
        rows = reader.find("folder_log", order_by=["dataset", "sequence"])
    return set({row["dataset"]: row["snapshot"] for row in rows}.values())


def folder_history(store: Store, name: str) -> list[tuple[datetime, str, str]]:
    """When which snapshot became the newest of a folder, and from where; the newest first."""
    with store.read() as reader:
        rows = reader.find("folder_log", {"dataset": name}, ["-sequence"])
    return [(row["taken_at"], row["snapshot"], row["source"]) for row in rows]


def _last(reader: Reader, name: str) -> Mapping[str, Any] | None:
    rows = reader.find("folder_log", {"dataset": name}, ["-sequence"], limit=1)
    return rows[0] if rows else None


def _record(tx: Transaction, snapshot: FolderSnapshot) -> bool:
    """Make the snapshot the newest of its folder; whether it was not."""
    plain = {field.name: getattr(snapshot, field.name) for field in fields(snapshot)}
    row = plain | {"packs": list(snapshot.packs), "format": FORMAT}
    if not tx.insert_if_absent("folder_snapshots", row):
        # These packs are known to be there; one of those on record may have been lost.
        how_kept = {name: row[name] for name in ("manifest", "packs", "format")}
        tx.update("folder_snapshots", {"dataset": snapshot.dataset, "id": snapshot.id}, how_kept)
    last = _last(tx, snapshot.dataset)
    if last is not None and last["snapshot"] == snapshot.id:
        return False
    entry = {"dataset": snapshot.dataset, "sequence": last["sequence"] + 1 if last else 1}
    entry |= {"snapshot": snapshot.id, "taken_at": snapshot.taken_at, "source": snapshot.source}
    tx.insert("folder_log", entry)
    return True


def _from_row(row: Mapping[str, Any]) -> FolderSnapshot:
    if row["format"] > FORMAT:
        raise StoreTooNew(
            f"Snapshot {row['id'][:12]} of {row['dataset']} is stored in format {row['format']}; this Clew"
            f" knows formats up to {FORMAT}. Run: pip install --upgrade clew"
        )
    plain = {field.name: row[field.name] for field in fields(FolderSnapshot)}
    return FolderSnapshot(**plain | {"packs": tuple(row["packs"])})
