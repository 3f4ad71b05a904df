"""Where a deployment's user code is at work: its children, its table as it is now, what fits learn from."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

import pyarrow as pa

from clew.datasets import list_datasets, prepare, read_rows, take_snapshot
from clew.entities import FolderSnapshot, ModelDeclaration, RowRange, Snapshot
from clew.loop.folders import by_name, folders_of_model
from clew.loop.live.rows import positions_of
from clew.registry import fetch_package
from clew.storage import Store
from clew.training import ArtifactLimits, Child, Described


@dataclass(frozen=True, slots=True)
class CapturedProject:
    """The code that a system runs: captured once, laid out in a folder, and what it declares."""

    root: Path
    tree: str
    folder: Path
    described: tuple[Described, ...]
    artifact_limits: ArtifactLimits = field(default_factory=ArtifactLimits)


class Workshop:
    """Children and snapshots of one model; children start when they are needed, and end when they idle.

    Parameters
    ----------
    complete
        Adds to the table, in the types and order of a snapshot, what only the log knows.
    """

    def __init__(
        self,
        store: Store,
        project: CapturedProject,
        described: Described,
        complete: Callable[[pa.Table], pa.Table],
    ) -> None:
        self.store, self.described, self._project, self._complete = store, described, project, complete
        self.snapshot: Snapshot | None = None
        self.rows: pa.Table | None = None
        self._places: dict[Any, int] = {}
        self._read: tuple[Any, datetime] | None = None
        self._children, self._held = ExitStack(), ExitStack()
        self._laid: Mapping[FolderSnapshot, Path] = {}
        self._packages: Path | None = None
        self._child: Child | None = None
        self._checker: Child | None = None
        self._used_at = time.monotonic()

    @property
    def declaration(self) -> ModelDeclaration:
        return self.described.model

    # -- children ----------------------------------------------------------------------------------------

    @property
    def child(self) -> Child:
        """The child that fits; `is_new` models have to be loaded into another one."""
        self._used_at = time.monotonic()
        if self._child is None:
            self._child = self._start("fits")
            self._use(self._child)
        return self._child

    @property
    def checker(self) -> Child:
        """The child in which packages are loaded to see whether they answer."""
        self._used_at = time.monotonic()
        if self._checker is None:
            self._checker = self._start("checker")
            self._use(self._checker)
        return self._checker

    def load(self, name: str, digest: str) -> None:
        """Have the child that fits hold a packaged model.

        The package lies there as long as the children live: a process that is lost is replaced by another,
        which reads it again.
        """
        child = self.child
        if self._packages is None:
            self._packages = self._children.enter_context(self.store.scratch("packages"))
        fetch_package(self.store, digest, self._packages / digest)
        child.load(self._packages / digest, name, expected_digest=digest)

    def _start(self, name: str) -> Child:
        scratch = self._children.enter_context(self.store.scratch(name))
        project = self._project
        return self._children.enter_context(
            Child.start(project.folder, project.root, scratch, artifact_limits=project.artifact_limits)
        )

    def _use(self, child: Child) -> None:
        if self.rows is not None and self.snapshot is not None:
            child.use(
                self.rows, self.declaration, self.described.file, self.snapshot.columns, by_name(self._laid)
            )

    @property
    def variables(self) -> dict[str, str]:
        return self.child.variables

    def rest(self, idle_seconds: float) -> bool:
        """End the children when nobody has needed them for so long; whether they are gone."""
        if self._child is None and self._checker is None:
            return True
        if time.monotonic() - self._used_at < idle_seconds:
            return False
        self._end_children()
        return True

    def close(self) -> None:
        """End the children, and let go of the folders that lie there for them."""
        self._end_children()
        self._held.close()
        self._laid = {}

    def _end_children(self) -> None:
        """They start again when they are needed."""
        self._child = self._checker = self._packages = None
        self._children.close()

    # -- the table ---------------------------------------------------------------------------------------

    def refresh(self, now: datetime) -> bool:
        """Have a snapshot of the table as it is now in use; whether it is another one than before.

        Raises
        ------
        DataError
            When the source cannot be read, or contradicts what was declared.
        TrainingFailed
            When the dataset's function fails.
        """
        stamp = self._stamp()
        if self._read == (stamp, now):
            return False
        dataset = self.declaration.dataset
        text = [
            column.name
            for each in list_datasets(self.store)
            if each.name == dataset.name
            for column in each.columns
            if column.type == "string"
        ]
        table = self.child.table(self.described.file, dataset.name, text)
        snapshot = self._snapshot(table, now)
        self._read = (stamp, now)
        before = self.folders
        self._lay_out(now)
        if self.snapshot is not None and self.snapshot.id == snapshot.id and self.folders == before:
            return False
        self.use(snapshot, now)
        return True

    @property
    def folders(self) -> tuple[FolderSnapshot, ...]:
        """The versions of folders that fits learn from."""
        return tuple(self._laid)

    def _lay_out(self, now: datetime) -> None:
        """Have the folders that the model declares as they are now."""
        held = ExitStack()
        laid = held.enter_context(folders_of_model(self.store, self.declaration, self._project.root, now))
        self._held.close()
        self._held, self._laid = held, laid

    def use(self, snapshot: Snapshot, now: datetime) -> None:
        """Let the fits to come learn from this snapshot."""
        if not self._laid:
            self._lay_out(now)
        self.snapshot, self.rows = snapshot, read_rows(self.store, snapshot)
        keys = self.rows.column(self.declaration.dataset.key).to_pylist()
        self._places = {key: place for place, key in enumerate(keys)}
        for child in (self._child, self._checker):
            if child is not None:
                self._use(child)

    def has_changed(self) -> bool:
        """Whether the source may hold something else than when it was read."""
        stamp = self._stamp()
        return self._read is None or stamp is None or stamp != self._read[0]

    def _snapshot(self, table: pa.Table, now: datetime) -> Snapshot:
        dataset, code = self.declaration.dataset, self._project.tree
        known = {each.name: each for each in list_datasets(self.store)}.get(dataset.name)
        if known is not None:
            rows, _ = prepare(table, dataset, known.columns, may_change=known.code != code)
            completed = self._complete(rows)
            table = table if completed is rows else completed
        source = dataset.source or "a function"
        at_hand = (self.snapshot, self.rows) if self.snapshot is not None and self.rows is not None else None
        return take_snapshot(self.store, dataset, table, source=source, code=code, now=now, at_hand=at_hand)

    def _stamp(self) -> Any:
        """What changes when the source's files do; None where only reading it can tell."""
        source = self.declaration.dataset.source
        if source is None or "://" in source:
            return None
        root = self._project.root
        files = sorted(root.glob(source)) if not Path(source).is_absolute() else [Path(source)]
        return tuple(
            (str(file), file.stat().st_size, file.stat().st_mtime_ns) for file in files if file.exists()
        )

    # -- rows of the snapshot ----------------------------------------------------------------------------

    def positions(self, keys: Sequence[Any]) -> tuple[RowRange, ...]:
        """Where rows with these keys lie in the snapshot in use."""
        return tuple(RowRange(*run) for run in positions_of(keys, self._places))
