"""Keeping a folder of files at somebody's wish, with a row in the audit log."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

from clew.datasets.folders import TakenFolder, take_folder
from clew.entities import FolderSnapshot
from clew.registry import record_audit
from clew.storage import Store, Transaction


def keep_folder(
    store: Store, name: str, folder: Path, *, actor: str, now: datetime, is_verified: bool = False
) -> TakenFolder:
    """Keep the files of a folder as a version of `name`: see `clew.datasets.folders.take_folder`."""

    def tell(tx: Transaction, snapshot: FolderSnapshot) -> None:
        evidence = {"snapshot": snapshot.id, "n_files": snapshot.n_files, "n_bytes": snapshot.n_bytes}
        evidence |= {"source": snapshot.source}
        about = {"actor": actor, "action": "keep folder", "subject": name, "reason": "asked for"}
        record_audit(tx, now=now, evidence=evidence, **about)

    return take_folder(store, name, folder, now=now, is_verified=is_verified, witness=tell)
