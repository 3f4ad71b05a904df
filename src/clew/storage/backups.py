"""Copies of a whole store as of one moment, in a folder that holds many of them, each object once.

Below the folder lie ``objects``, by digest as in a store, and ``generations``, one manifest each. A manifest
is written last and by one rename, so a copy that was broken off is none; what it had copied already, the next
one need not copy again. The database is kept as a SQLite file, whichever kind it is of.
"""

from __future__ import annotations

import json
import os
import secrets
import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing, nullcontext
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, insert, inspect, select

from clew import __version__
from clew.errors import NotFound, StoreError, StoreTooNew
from clew.storage.database import Database
from clew.storage.failures import explained
from clew.storage.folder import FolderObjects, sync_folder
from clew.storage.garbage import named_in_rows, with_their_files
from clew.storage.locks import folder_lock, scratch_folder, sweep
from clew.storage.log_segments import LOG_FOLDER, OpenSegment, list_segments, record_end
from clew.storage.objects import ObjectStore
from clew.storage.rows import Reader
from clew.storage.store import DATABASE_FILE, Store
from clew.storage.tables import STORE_VERSION, metadata, stored_time

FORMAT = 1
GENERATIONS, OBJECTS = "generations", "objects"
RESTORED_FROM = "restored_from"
STATES = "loop"

_ROWS_AT_ONCE = 1000
_TRIES = 5


@dataclass(frozen=True, slots=True)
class Generation:
    """One copy of a store.

    Attributes
    ----------
    name, taken_at
        Names sort by the time at which the copy was taken.
    clew, store_version
        Who wrote it.
    database
        The digest of its database.
    files
        Path below the store, digest and size of segments of the log and states of loops.
    objects
        The digest of the list of its objects.
    n_objects, n_bytes, n_new_bytes
        How many objects it holds, with how many bytes, and how many of these were copied for it.
    erasures
        Everybody who had been forgotten by then, as the rows of the database say it.
    """

    name: str
    taken_at: str
    clew: str
    store_version: int
    database: str
    files: tuple[tuple[str, str, int], ...]
    objects: str
    n_objects: int
    n_bytes: int
    n_new_bytes: int
    erasures: tuple[Mapping[str, Any], ...]
    format: int = FORMAT


class _Moved(Exception):
    """Something was replaced while it was being copied."""


class BackupFolder:
    """A folder of generations.

    Raises
    ------
    StoreError
        When it cannot be written.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.objects = FolderObjects(folder / OBJECTS)

    # -- what there is -----------------------------------------------------------------------------------

    def generations(self) -> list[Generation]:
        """All that are whole, the newest first."""
        paths = sorted((self.folder / GENERATIONS).glob("*.json"), reverse=True)
        return [_read(path) for path in paths]

    def generation(self, name: str | None) -> Generation:
        """The one whose name begins so; the newest by default.

        Raises
        ------
        NotFound
            Naming those that there are.
        """
        known = self.generations()
        found = [each for each in known if name is None or each.name.startswith(name)]
        if not found or (name is not None and len(found) > 1):
            there = ", ".join(each.name for each in known[:5]) or "none"
            raise NotFound(f"{self.folder} has no one backup {name or ''!r}; there are: {there}.")
        return found[0]

    def faults(self, generation: Generation) -> Iterator[str]:
        """What of a generation is damaged or gone; every byte of it is read."""
        listed = self._fault("its database", generation.database)
        yield from listed
        for path, digest, _ in generation.files:
            yield from self._fault(path, digest)
        missing = self._fault("the list of its objects", generation.objects)
        yield from missing
        for digest in [] if missing else self.listed(generation):
            yield from self._fault("an object", digest)

    def _fault(self, what: str, digest: str) -> list[str]:
        try:
            self.objects.path(digest)
        except (StoreError, NotFound) as error:
            return [f"{what}: {error}"]
        return []

    def listed(self, generation: Generation) -> list[str]:
        """The digests of its objects."""
        digests: list[str] = json.loads(self.objects.get(generation.objects))
        return digests

    # -- making one --------------------------------------------------------------------------------------

    def take(self, store: Store, now: datetime) -> Generation:
        """Copy a store as it is now, while others go on using it.

        Raises
        ------
        StoreError
            When the folder cannot be written, or a part that the store names is damaged or gone.
        """
        self.objects.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        (self.folder / GENERATIONS).mkdir(exist_ok=True, mode=0o700)
        self.objects.probe()
        (self.folder / "tmp").mkdir(exist_ok=True, mode=0o700)
        sweep(self.folder / "tmp")
        for left in range(_TRIES, 0, -1):
            try:
                with scratch_folder(self.folder / "tmp", "taking") as scratch:
                    return self._taken(store, scratch, now)
            except _Moved:
                if left == 1:
                    raise StoreError(
                        "The store changed under every copy that was begun. Take the backup when less is"
                        " going on."
                    ) from None
        raise AssertionError("the last try ends it")

    def _taken(self, store: Store, scratch: Path, now: datetime) -> Generation:
        copy = scratch / DATABASE_FILE
        log = store.folder / LOG_FOLDER
        # No compaction and no erasure in between: what the database does not name yet, the segments hold.
        with folder_lock(log) if log.is_dir() else nullcontext():
            copy_database(store.database, copy)
            digest, n_new = self.objects.put_file(copy), copy.stat().st_size
            with closing(_opened(copy)) as database, database.read() as reader:
                states = [Path(STATES, row["deployment"], row["state"]) for row in reader.find("checkpoints")]
            files = [*self._states(store, states), *self._segments(store)]
        with closing(_opened(copy)) as database, database.read() as reader:
            erasures = tuple(_plain(row) for row in reader.find("erasures"))
            needed = self._needed(store, reader, files)
        n_bytes = sum(each[2] for each in files) + copy.stat().st_size
        for place in sorted(needed):
            size, is_new = self._copy_object(store.objects, place)
            n_bytes, n_new = n_bytes + size, n_new + size * is_new
        generation = Generation(
            name=f"{now:%Y%m%dT%H%M%S}Z-{secrets.token_hex(3)}",
            taken_at=stored_time(now),
            clew=__version__,
            store_version=STORE_VERSION,
            database=digest,
            files=tuple(files),
            objects=self.objects.put(json.dumps(sorted(needed)).encode()),
            n_objects=len(needed),
            n_bytes=n_bytes,
            n_new_bytes=n_new,
            erasures=erasures,
        )
        _publish(self.folder / GENERATIONS / f"{generation.name}.json", generation)
        return generation

    def _states(self, store: Store, paths: Iterable[Path]) -> Iterator[tuple[str, str, int]]:
        for path in paths:
            try:
                content = (store.folder / path).read_bytes()
            except FileNotFoundError:  # the loop has moved on since the database was copied
                raise _Moved from None
            yield path.as_posix(), self.objects.put(content), len(content)

    def _segments(self, store: Store) -> Iterator[tuple[str, str, int]]:
        """Segments up to their last whole record."""
        for segment in list_segments(store.folder / LOG_FOLDER):
            with OpenSegment(segment.path) as opened:
                end = max((record_end(*each) for each in opened.contents()), default=segment.n_bytes)
            content = segment.path.read_bytes()[:end]
            name = segment.path.relative_to(store.folder).as_posix()
            yield name, self.objects.put(content), len(content)

    def _needed(self, store: Store, reader: Reader, files: Sequence[tuple[str, str, int]]) -> set[str]:
        from clew.storage.garbage import digests_in

        named = named_in_rows(reader)
        for path, digest, _ in files:
            if path.startswith(f"{STATES}/"):
                named |= digests_in(_uncompressed(self.objects.get(digest)))
        there = {each.digest for aside in (False, True) for each in store.objects.listing(aside=aside)}
        for name in _parts(reader) - there:
            raise (
                _Moved
                if _is_erased(store, name)
                else StoreError(
                    f"{store.objects.name} has no object {name}, which the database names, so no backup of it"
                    " would be whole. Bring it back from an earlier backup, or store its content anew."
                )
            )
        return with_their_files(store.objects, reader, named, there) & there

    def _copy_object(self, source: ObjectStore, digest: str) -> tuple[int, bool]:
        place = self.objects.folder / digest[:2] / digest[2:]
        if place.exists():
            return place.stat().st_size, False
        try:
            path = source.path(digest)
            self.objects.put_file(path)
        except (NotFound, FileNotFoundError):
            raise _Moved from None
        return place.stat().st_size, True


def _uncompressed(state: bytes) -> bytes:
    import zlib

    return zlib.decompress(state[1:])


def _parts(reader: Reader) -> set[str]:
    found = {row["object_digest"] for row in reader.find("log_parts")}
    for row in reader.find("snapshots"):
        found |= {part["object_digest"] for part in row["parts"] or []}
    return found


def _is_erased(store: Store, digest: str) -> bool:
    """Whether nothing names it any more: an erasure has taken its place since the copy was begun."""
    with store.read() as reader:
        return digest not in _parts(reader)


def _opened(path: Path) -> Database:
    return Database(path)


def _plain(row: Mapping[str, Any]) -> dict[str, Any]:
    return {name: stored_time(value) if isinstance(value, datetime) else value for name, value in row.items()}


def _publish(path: Path, generation: Generation) -> None:
    fresh = path.with_suffix(".part")
    with fresh.open("w", encoding="utf-8") as file:
        json.dump(asdict(generation), file)
        file.flush()
        os.fsync(file.fileno())
    fresh.replace(path)
    sync_folder(path.parent)


def _read(path: Path) -> Generation:
    try:
        told = json.loads(path.read_text(encoding="utf-8"))
        if told["format"] > FORMAT:
            raise StoreTooNew(f"The backup {path} is of a newer Clew. Run: pip install --upgrade clew")
        files = tuple((each[0], each[1], each[2]) for each in told["files"])
        return Generation(**told | {"files": files, "erasures": tuple(told["erasures"])})
    except (ValueError, KeyError, TypeError) as error:
        raise StoreError(f"{path} is damaged: {error}. Remove it, if there are other backups.") from error


# -- databases -----------------------------------------------------------------------------------------


def copy_database(database: Database, target: Path) -> None:
    """Write all rows of one moment into a SQLite file, beside any writer."""
    if database.path is not None:
        with (
            explained(database),
            closing(sqlite3.connect(database.path)) as source,
            closing(sqlite3.connect(target)) as copy,
        ):
            source.backup(copy)
        return
    with closing(_opened(target)) as copied:
        with closing(sqlite3.connect(target)) as made:
            made.execute("PRAGMA journal_mode = WAL")
        with database.connection("read") as source_rows, copied.connection("write") as target_rows:
            metadata.create_all(target_rows, checkfirst=False)
            _copy_rows(source_rows, target_rows)


def fill_database(database: Database, source: Path, name: str) -> None:
    """Put all rows of a SQLite file into an empty database, all or none.

    Raises
    ------
    StoreError
        When it is not empty.
    """
    copied = _opened(source)
    with closing(copied), copied.connection("read") as rows, database.connection("write") as target:
        if inspect(target).get_table_names():
            restored = Reader(target).get("meta", key=RESTORED_FROM)
            if restored is not None and restored["value"] == name:
                return  # a restore was killed behind this
            raise StoreError(
                f"{database.name} is not empty. Name an empty one as database in clew.toml, and keep the old"
                " one until you have seen that the restored one is right."
            )
        metadata.create_all(target, checkfirst=False)
        _copy_rows(rows, target)
        target.execute(insert(metadata.tables["meta"]).values(key=RESTORED_FROM, value=name))


def _copy_rows(source: Connection, target: Connection) -> None:
    for table in metadata.sorted_tables:
        found = source.execute(select(table)).yield_per(_ROWS_AT_ONCE)
        for rows in found.mappings().partitions():
            target.execute(insert(table), [dict(row) for row in rows])


def unpacked_into(backup: BackupFolder, generation: Generation, folder: Path, objects: ObjectStore) -> None:
    """Lay a generation's objects into an object store, and its database and files into a folder.

    Raises
    ------
    StoreTooNew
        When a newer Clew wrote it.
    ObjectDamaged, NotFound
        When something of it is damaged or gone.
    """
    if generation.store_version > STORE_VERSION:
        raise StoreTooNew(
            f"The backup {generation.name} has store version {generation.store_version}, written by Clew"
            f" {generation.clew}; this is Clew {__version__}, which knows versions up to {STORE_VERSION}."
            " Run: pip install --upgrade clew"
        )
    objects.probe()
    for digest in backup.listed(generation):
        if not objects.exists(digest):
            objects.put_file(backup.objects.path(digest))
    for path, digest, _ in generation.files:
        _laid(folder / path, backup.objects.get(digest))
    _laid(folder / DATABASE_FILE, backup.objects.get(generation.database))


def _laid(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    with path.open("wb") as file:
        os.fchmod(file.fileno(), 0o600)
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
