"""Lance: the dataset overwritten, or rows appended and deleted."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import Any

import pyarrow as pa

from benchmarks._peers.steps import serve


class Lance:
    def __init__(self, folder: Path) -> None:
        self.lance: Any = import_module("lance")
        self.stored = folder / "loans"

    def first(self, table: pa.Table) -> None:
        self.lance.write_dataset(table, str(self.stored))

    def whole(self, table: pa.Table) -> None:
        self.lance.write_dataset(table, str(self.stored), mode="overwrite")

    def append(self, rows: pa.Table) -> None:
        self.lance.write_dataset(rows, str(self.stored), mode="append")

    def slide_whole(self, table: pa.Table) -> None:
        self.whole(table)

    def slide_alone(self, rows: pa.Table) -> None:
        self.append(rows.slice(rows.num_rows // 2))
        last_gone = rows["at"][rows.num_rows // 2 - 1].as_py()
        moment = last_gone.strftime("%Y-%m-%d %H:%M:%S")
        self.lance.dataset(str(self.stored)).delete(f"at <= timestamp '{moment}'")

    def read_old(self) -> None:
        self.lance.dataset(str(self.stored), version=1).to_table()


if __name__ == "__main__":
    serve(Lance)
