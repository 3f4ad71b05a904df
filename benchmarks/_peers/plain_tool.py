"""The floor: one Parquet file, and ``cp -r`` of a folder."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks._peers.steps import serve, write_parquet


class Plain:
    def __init__(self, folder: Path) -> None:
        self.folder, self.stored = folder, folder / "kept"
        self.stored.mkdir()

    def first(self, table: pa.Table) -> None:
        path = self.stored / "loans.parquet"
        write_parquet(table, path)
        with path.open("rb") as file:
            os.fsync(file.fileno())

    def read_old(self) -> None:
        pq.read_table(self.stored / "loans.parquet", use_threads=False)

    def keep_files(self, path: Path) -> None:
        subprocess.run(["cp", "-r", str(path), str(self.folder / "copy")], check=True)


if __name__ == "__main__":
    serve(Plain)
