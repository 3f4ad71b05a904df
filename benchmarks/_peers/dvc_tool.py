"""DVC: the table is written as one Parquet file, which is then added; folders are added as they are.

Git is left out: a version is the small ``.dvc`` file, which is put aside and put back. So DVC is measured
without the time that commits take.
"""

from __future__ import annotations

import os
import shutil
from importlib import import_module
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks._peers.steps import serve, write_parquet


class Dvc:
    def __init__(self, folder: Path) -> None:
        os.chdir(folder)
        repo: Any = import_module("dvc.repo").Repo
        repo.init(no_scm=True)
        with (folder / ".dvc" / "config").open("a") as file:
            # The file ends in its section [core].
            file.write(f"    analytics = false\n    site_cache_dir = {folder / 'site'}\n")
        self.repo = repo(str(folder))
        self.folder, self.stored = folder, folder / ".dvc" / "cache"
        self.first_version = b""

    def first(self, table: pa.Table) -> None:
        self.whole(table)
        self.first_version = (self.folder / "loans.parquet.dvc").read_bytes()

    def whole(self, table: pa.Table) -> None:
        write_parquet(table, self.folder / "loans.parquet")
        self.repo.add("loans.parquet")

    def slide_whole(self, table: pa.Table) -> None:
        self.whole(table)

    def read_old(self) -> None:
        (self.folder / "loans.parquet.dvc").write_bytes(self.first_version)
        self.repo.checkout(["loans.parquet"], force=True)
        pq.read_table(self.folder / "loans.parquet", use_threads=False)

    def bring_files(self, path: Path) -> None:
        """Not measured: DVC keeps only what lies in its own folder."""
        shutil.copytree(path, self.folder / path.name)

    def keep_files(self, path: Path) -> None:
        self.repo.add(path.name)


if __name__ == "__main__":
    serve(Dvc)
