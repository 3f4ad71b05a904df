"""Clew, measured as the others are."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pyarrow as pa

from benchmarks._peers.steps import serve
from clew.config import Settings
from clew.datasets import append_rows, read_rows, take_snapshot
from clew.datasets.folders import take_folder
from clew.entities import DatasetDeclaration, Duration, Snapshot
from clew.storage import open_store

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
LOANS = DatasetDeclaration("loans", "at", "id", "y", Duration.parse("1d"), "loans.parquet")


class Clew:
    def __init__(self, folder: Path) -> None:
        self.store = open_store(Settings(root=folder, store=folder / "store"), now=NOW)
        self.stored = folder / "store" / "objects"

    def first(self, table: pa.Table) -> None:
        self.first_version = self._keep(table)

    def _keep(self, table: pa.Table) -> Snapshot:
        return take_snapshot(self.store, LOANS, table, source="loans.parquet", code=None, now=NOW)

    def whole(self, table: pa.Table) -> None:
        self._keep(table)

    def append(self, rows: pa.Table) -> None:
        later = NOW + timedelta(days=1)
        append_rows(self.store, LOANS, rows, source="more.parquet", code=None, now=later)

    def slide_whole(self, table: pa.Table) -> None:
        self._keep(table)

    def read_old(self) -> None:
        read_rows(self.store, self.first_version)

    def keep_files(self, path: Path) -> None:
        take_folder(self.store, "images", path, now=NOW)


if __name__ == "__main__":
    serve(Clew)
