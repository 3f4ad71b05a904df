"""Keeps a table several times the memory that this process may use, and tells how much that was.

Arguments: the store's folder, how many rows, how many bytes of memory beyond what the start takes, and the
source: ``order``, ``disorder``, ``whole`` for a table in memory, or a Parquet or CSV file.
"""

from __future__ import annotations

import resource
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa

from clew.config import Settings
from clew.datasets import append_rows, take_snapshot
from clew.datasets.batches import source_batches
from clew.datasets.spill import Batches
from clew.storage import open_store
from tests.datasets.conftest import NOW
from tests.datasets.rides import declare, many_rides

ROWS_A_PIECE = 50_000


def rides(start: int, n_rows: int) -> pa.Table:
    """Rows of about a hundred bytes, of which the keys are in no order."""
    random = np.random.default_rng(start)
    numbers = np.arange(start, start + n_rows)
    more = {f"x{column}": random.normal(size=n_rows) for column in range(7)}
    return pa.table(
        {
            "ts": np.datetime64("2025-01-01", "us") + numbers * np.timedelta64(1, "s"),
            # One to one, as the factor is odd.
            "id": pa.array([f"{number * 2_654_435_761 % 2**48:016x}" for number in numbers.tolist()]),
            "y": random.integers(0, 2, n_rows),
            **more,
            "word": random.choice(["refuse", "approve", "ask"], n_rows),
        }
    )


def pieces(n_rows: int, *, is_in_order: bool) -> Batches:
    def read() -> Iterator[pa.Table]:
        starts = np.arange(0, n_rows, ROWS_A_PIECE)
        if not is_in_order:
            np.random.default_rng(1).shuffle(starts)
        for start in starts.tolist():
            table = rides(start, min(ROWS_A_PIECE, n_rows - start))
            yield table if is_in_order else table.take(pa.array(np.arange(table.num_rows)[::-1]))

    return read


def main(folder: str, n_rows: int, n_bytes: int, source: str) -> None:
    root = Path(folder)
    with open_store(Settings(root=root, store=root / ".clew"), now=NOW) as store:
        warm = declare("warm")
        take_snapshot(store, warm, many_rides(9), source="warm", code=None, now=NOW)
        table: pa.Table | Batches
        if source in ("order", "disorder", "whole"):
            table = pieces(n_rows, is_in_order=source != "disorder")
        else:
            table = source_batches(source, root)
        limit = _n_bytes_of_data() + n_bytes
        resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))
        if source == "whole":
            table = pa.concat_tables(table())
        taken = take_snapshot(store, declare(), table, source=source, code=None, now=NOW)
        later = rides(10 * n_rows, 1000)
        grown = append_rows(store, declare(), lambda: [later], source=source, code=None, now=NOW)
        sys.stdout.write(f"{taken.id} {taken.n_rows} {grown.n_rows}")


def _n_bytes_of_data() -> int:
    [line] = [
        line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmData")
    ]
    return int(line.split()[1]) * 1024


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), sys.argv[4])
