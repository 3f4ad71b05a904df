"""Delta Lake: the table overwritten, or rows appended and deleted."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import Any

import pyarrow as pa

from benchmarks._peers.steps import serve


class Delta:
    def __init__(self, folder: Path) -> None:
        self.delta: Any = import_module("deltalake")
        self.stored = folder / "loans"

    def first(self, table: pa.Table) -> None:
        self.delta.write_deltalake(str(self.stored), table)

    def whole(self, table: pa.Table) -> None:
        self.delta.write_deltalake(str(self.stored), table, mode="overwrite")

    def append(self, rows: pa.Table) -> None:
        self.delta.write_deltalake(str(self.stored), rows, mode="append")

    def slide_whole(self, table: pa.Table) -> None:
        self.whole(table)

    def slide_alone(self, rows: pa.Table) -> None:
        self.append(rows.slice(rows.num_rows // 2))
        last_gone = rows["at"][rows.num_rows // 2 - 1].as_py()
        self.delta.DeltaTable(str(self.stored)).delete(f"at <= '{last_gone.isoformat()}'")

    def read_old(self) -> None:
        self.delta.DeltaTable(str(self.stored), version=0).to_pyarrow_table()


if __name__ == "__main__":
    serve(Delta)
