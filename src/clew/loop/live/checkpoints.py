"""Where a loop stands, on disk: written whole and renamed into place, with a row that names it."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from clew.errors import StoreError
from clew.loop.checkpoint import packed, unpacked, unwrapped
from clew.storage import Store
from clew.storage.garbage import digests_in

FOLDER = "loop"


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """Where the loop of a deployment stands after tick `tick`, lived at `at`; the next one is due then."""

    deployment: str
    tick: int
    at: datetime
    next_tick: datetime
    status: str
    state: Mapping[str, Any]


def save_checkpoint(store: Store, checkpoint: Checkpoint, positions: Mapping[str, int]) -> None:
    """Keep it in place of the one before.

    A process killed anywhere in this leaves the one before or the new one, never half of one.

    Raises
    ------
    StoreError
        When the disk is full or the folder cannot be written.
    """
    folder = store.folder / FOLDER / checkpoint.deployment
    content = packed(dict(checkpoint.state))
    path = folder / f"{checkpoint.tick:08d}-{hashlib.sha256(content).hexdigest()[:16]}.state"
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        _write_whole(path, content)
    except OSError as error:
        raise StoreError(
            f"Where the loop of {checkpoint.deployment!r} stands cannot be kept in {path}: {error.strerror}."
            " Free some space, or check the folder's permissions, then try again: nothing was lost."
        ) from error
    row = {
        "tick": checkpoint.tick,
        "at": checkpoint.at,
        "next_tick": checkpoint.next_tick,
        "state": path.name,
        "positions": dict(positions),
        "status": checkpoint.status,
    }
    with store.write() as tx:
        if not tx.update("checkpoints", {"deployment": checkpoint.deployment}, row):
            tx.insert("checkpoints", {"deployment": checkpoint.deployment} | row)
    for old in folder.iterdir():
        if old != path:
            old.unlink(missing_ok=True)


def load_checkpoint(store: Store, deployment: str) -> Checkpoint | None:
    """Where the loop stood; None when it never lived.

    Raises
    ------
    StoreError
        When the file is gone or is not what was written.
    """
    with store.read() as reader:
        row = reader.get("checkpoints", deployment=deployment)
    if row is None:
        return None
    path = store.folder / FOLDER / deployment / row["state"]
    try:
        content = path.read_bytes()
    except OSError as error:
        raise StoreError(
            f"The state of {deployment!r} cannot be read: {path}: {error.strerror}. Bring the file back from"
            " a copy of the store's folder."
        ) from error
    if hashlib.sha256(content).hexdigest()[:16] != path.stem.partition("-")[2]:
        raise StoreError(
            f"The state of {deployment!r} in {path} is damaged: its bytes are not what its name says."
        )
    return Checkpoint(deployment, row["tick"], row["at"], row["next_tick"], row["status"], unpacked(content))


def all_positions(store: Store) -> dict[str, dict[str, int]]:
    """By deployment how far each loop has read the log."""
    with store.read() as reader:
        rows = reader.find("checkpoints")
    return {row["deployment"]: row["positions"] or {} for row in rows}


def _write_whole(path: Path, content: bytes) -> None:
    part = path.with_suffix(".part")
    with part.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    part.replace(path)
    descriptor = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


# -- what is kept and what may go ------------------------------------------------------------------------


def digests_in_states(store: Store) -> set[str]:
    """Every object, snapshot and piece of code that the loops' states name.

    Raises
    ------
    StoreError
        When a state is not in this folder, so that nobody here knows what it names.
    """
    with store.read() as reader:
        rows = reader.find("checkpoints")
    found: set[str] = set()
    for row in rows:
        path = store.folder / FOLDER / row["deployment"] / row["state"]
        try:
            found |= digests_in(unwrapped(path.read_bytes()))
        except FileNotFoundError:
            if load_checkpoint(store, row["deployment"]) is not None:  # moved on since it was read
                return digests_in_states(store)
    return found


def superseded_states(store: Store, before: datetime) -> list[Path]:
    """Files of states that a newer one replaced, and unfinished ones written before that moment.

    A file that is newer than the one that the records name may be about to be named.
    """
    with store.read() as reader:
        named = {row["deployment"]: row["state"] for row in reader.find("checkpoints")}
    found = []
    for path in sorted((store.folder / FOLDER).glob("*/*")):
        state = path.parent / named.get(path.parent.name, "")
        with suppress(FileNotFoundError):
            written = path.stat().st_mtime
            is_named = path == state
            is_older = state.is_file() and path.suffix == ".state" and written < state.stat().st_mtime
            if not is_named and (is_older or written < before.timestamp()):
                found.append(path)
    return found
