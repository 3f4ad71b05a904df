"""Backups of a store, and what is restored from them: whole, on record, without people forgotten since."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, closing, suppress
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any

from clew.config import Settings
from clew.errors import StoreError
from clew.loop.cleaning import alone_in_store
from clew.loop.forgetting import Alone, go_on, nothing_found
from clew.registry import record_audit
from clew.storage import Database, Store, open_objects, open_store
from clew.storage.backups import BackupFolder, Generation, fill_database, unpacked_into
from clew.storage.erasures import erasure_of
from clew.storage.folder import FolderObjects, sync_folder
from clew.storage.locks import folder_lock
from clew.storage.store import DATABASE_FILE


@dataclass(frozen=True, slots=True)
class Restored:
    """A store that came out of a backup.

    Attributes
    ----------
    before
        Where the store lies that was there before; None when there was none.
    forgotten
        How many erasures were done again, of people who were forgotten after the backup was taken.
    """

    generation: Generation
    store: Path
    before: Path | None
    forgotten: int


def take_backup(store: Store, destination: Path, *, actor: str, now: datetime, wall: datetime) -> Generation:
    """Copy the store into a folder of backups: see `BackupFolder.take`."""
    generation = BackupFolder(destination).take(store, wall)
    evidence = {"backup": generation.name, "to": str(destination), "n_objects": generation.n_objects}
    with store.write() as tx:
        record_audit(
            tx, now=now, actor=actor, action="backup", subject="store", reason="asked for", evidence=evidence
        )
    return generation


def restore_backup(
    source: Path,
    name: str | None,
    settings: Settings,
    *,
    force: bool,
    actor: str,
    clock: Callable[[], datetime],
    alone: Callable[[Path], AbstractContextManager[object]],
) -> Restored:
    """Make the project's store what it was when a backup was taken.

    It is laid out beside the place and moved there at last, so a restore that is killed leaves the place as
    it was. Whoever was forgotten since, by later backups in the folder or by the store that was there, is
    forgotten again.

    Parameters
    ----------
    name
        Of the generation; the newest by default.
    force
        Move a store that is there aside.

    Raises
    ------
    StoreError
        When a store is there, or the backup is damaged.
    StoreBusy
        When a system runs on the store.
    """
    backup = BackupFolder(source)
    generation, place = backup.generation(name), settings.store
    before: Path | None = None
    erasures = list(_erasures_of(backup))
    place.parent.mkdir(parents=True, exist_ok=True)
    with ExitStack() as stack:
        stack.enter_context(folder_lock(place.parent, f".{place.name}.restore.lock"))
        if _is_used(place):
            stack.enter_context(alone(place))
            if not force:
                raise StoreError(
                    f"There is a store in {place}. To move it aside, from where it can be moved back: clew"
                    " restore … --force; or name another folder: CLEW_STORE."
                )
            erasures += _erasures_in(settings)
            before = place.with_name(f"{place.name}.before-{clock():%Y%m%dT%H%M%S}Z")
        stage = place.with_name(f"{place.name}.restoring")
        shutil.rmtree(stage, ignore_errors=True)  # of a restore that was killed
        stage.mkdir(mode=0o700)
        objects = FolderObjects(stage / "objects") if settings.objects.url is None else open_objects(settings)
        unpacked_into(backup, generation, stage, objects)
        if settings.database is not None:
            with closing(Database(settings.database)) as database:
                fill_database(database, stage / DATABASE_FILE, generation.name)
            (stage / DATABASE_FILE).unlink()
        _into_place(stage, place, before)
    with open_store(settings, now=clock()) as store:
        _tell(store, generation, source, before, actor, clock())
        n_forgotten = _forget_again(store, erasures, clock, lambda: alone(place))
    return Restored(generation, place, before, n_forgotten)


def _is_used(place: Path) -> bool:
    """Whether a store is there; a folder that a command made to see that nothing runs counts as none."""
    return place.is_dir() and any(each.name != "run" for each in place.iterdir())


def _into_place(stage: Path, place: Path, before: Path | None) -> None:
    if before is not None:
        place.rename(before)
    elif place.is_dir():
        shutil.rmtree(place)
    stage.rename(place)
    sync_folder(place.parent)


def _erasures_of(backup: BackupFolder) -> Iterator[Mapping[str, Any]]:
    for generation in reversed(backup.generations()):
        yield from generation.erasures


def _erasures_in(settings: Settings) -> list[Mapping[str, Any]]:
    """Of the store that is moved aside; a damaged one, for whose sake one restores, may not tell."""
    if settings.database is not None or not (settings.store / DATABASE_FILE).is_file():
        return []
    there = Database(settings.store / DATABASE_FILE)
    with suppress(StoreError), closing(there), there.read() as reader:
        return list(reader.find("erasures"))
    return []


def _tell(
    store: Store, generation: Generation, source: Path, before: Path | None, actor: str, now: datetime
) -> None:
    evidence = {"backup": generation.name, "taken at": generation.taken_at, "from": str(source)}
    evidence |= {"store before": str(before)} if before else {}
    with store.write() as tx:
        record_audit(
            tx, now=now, actor=actor, action="restore", subject="store", reason="asked for", evidence=evidence
        )


def _forget_again(
    store: Store, erasures: list[Mapping[str, Any]], clock: Callable[[], datetime], alone: Alone
) -> int:
    """Erase whom the restored store knows and somebody has forgotten since."""
    n_done = 0
    with store.read() as reader:
        known = {row["fingerprint"] for row in reader.find("erasures")}
    for row in erasures:
        if row["fingerprint"] in known:
            continue
        known.add(row["fingerprint"])
        now = clock()
        with store.write() as tx:
            newest = tx.find("erasures", order_by=["-number"], limit=1)
            number = newest[0]["number"] + 1 if newest else 1
            reason = f"{row['reason']} (again, after a restore)"
            kept = {
                name: row[name]
                for name in ("subject", "salt", "fingerprint", "datasets", "deployments", "keys")
            }
            again = kept | {"number": number, "status": "begun", "actor": row["actor"], "reason": reason}
            tx.insert("erasures", again | {"at": now, "changes": [], "leaving": []})
            record_audit(
                tx, now=now, actor=row["actor"], action="begin forget", subject=f"erasure {number}",
                reason=reason, evidence={"salted hash": row["fingerprint"]},
            )  # fmt: skip
            erasure = erasure_of(tx, number)
        with alone_in_store(store, now):
            go_on(store, replace(erasure), nothing_found(), now=now, alone=alone, wait_seconds=0.0)
        n_done += 1
    return n_done
