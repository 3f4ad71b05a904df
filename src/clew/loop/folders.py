"""Folders of files: kept at somebody's wish, with a row in the audit log, and laid out for fits."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from datetime import datetime
from pathlib import Path

from clew.datasets.folder_checkout import folder_in_use
from clew.datasets.folders import TakenFolder, take_folder
from clew.entities import FolderSnapshot, ModelDeclaration
from clew.registry import record_audit
from clew.storage import Store, Transaction


@contextmanager
def folders_of_model(
    store: Store, declaration: ModelDeclaration, root: Path, now: datetime
) -> Iterator[dict[FolderSnapshot, Path]]:
    """The folders that a model declares, as they are now, laid out for its fits."""
    taken = [
        take_folder(store, name, root / path, now=now, source=path).snapshot
        for name, path in declaration.files.items()
    ]
    with folders_laid_out(store, taken) as laid:
        yield laid


@contextmanager
def folders_laid_out(
    store: Store, snapshots: Iterable[FolderSnapshot]
) -> Iterator[dict[FolderSnapshot, Path]]:
    """Versions of folders, laid out for fits."""
    with ExitStack() as stack:
        yield {each: stack.enter_context(folder_in_use(store, each)) for each in snapshots}


def by_name(laid: Mapping[FolderSnapshot, Path]) -> dict[str, Path]:
    """Where each folder lies, as a fit is told it."""
    return {snapshot.dataset: path for snapshot, path in laid.items()}


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
