"""What a version of a table costs: the time and bytes of snapshots, each beside one plain Parquet file.

A table of a million rows is kept, grows by 2 % four times, and slides along by 2 %; each step takes turns
with writing the whole table as one Parquet file with the same settings, onto the disk as a snapshot is. The
value is the time of a first snapshot to that of the file. The processors' time is told too: a snapshot
hashes and stores on several threads, the file is written and read on one. Bytes are those of all objects in
the store.

The key is text in no order, which is the hardest for the check that keys are unique; the rest are numbers
with nothing to compress in them, and two columns of words.
"""

from __future__ import annotations

import gc
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from clew.config import Settings
from clew.datasets import append_rows, read_rows, take_snapshot
from clew.entities import DatasetDeclaration, Duration
from clew.storage import Store, open_store

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
GOAL = 1.5
GOALS = {
    "append, whole table": 0.2,
    "append, new rows alone": 0.12,
    "bytes after 4 appends": 1.2,
    "bytes of a slid window": 0.1,
    "read of an old version": 1.15,
}
WRITES = ("first snapshot", "append, whole table", "append, new rows alone")
READS = ("read of an old version", "read, parts not checked yet")
WORDS = ["word", "place"]
LOANS = DatasetDeclaration("loans", "at", "id", "y", Duration.parse("1d"), "loans.parquet")


def loans(n_rows: int) -> pa.Table:
    random = np.random.default_rng(0)
    minutes = np.arange(n_rows) * np.timedelta64(1, "m")
    return pa.table(
        {
            "at": pa.array(np.datetime64("2020-01-01", "us") + minutes, pa.timestamp("us", "UTC")),
            "id": pa.array([f"{number:016x}" for number in random.permutation(n_rows) * 2_654_435_761]),
            "y": random.integers(0, 2, n_rows).astype(bool),
            **{f"x{column}": random.normal(size=n_rows) for column in range(6)},
            "n": random.integers(0, 1000, n_rows),
            "word": random.choice(["refuse", "approve", "ask"], n_rows),
            "place": random.choice([f"place {number}" for number in range(300)], n_rows),
        }
    )


class Bench:
    """One round: a store, and the times of what was done in it, in seconds by name."""

    def __init__(self, folder: Path, table: pa.Table) -> None:
        self.folder, self.table = folder, table
        self.n_step = table.num_rows // 54  # 2 % of what is there before the four appends
        self.n_first = table.num_rows - 4 * self.n_step
        self.seconds: dict[str, float] = {}
        self.cpu_seconds: dict[str, float] = {}

    def timed(self, name: str, action: Callable[[], Any]) -> Any:
        gc.collect()
        began, began_cpu = time.perf_counter(), time.process_time()
        done = action()
        self.cpu_seconds[name] = time.process_time() - began_cpu
        self.seconds[name] = time.perf_counter() - began
        return done

    def store(self, name: str) -> Store:
        return open_store(Settings(root=self.folder, store=self.folder / name), now=NOW)

    def rows(self, n_steps: int) -> pa.Table:
        return self.table.slice(0, self.n_first + n_steps * self.n_step)

    def step(self, number: int) -> pa.Table:
        return self.table.slice(self.n_first + (number - 1) * self.n_step, self.n_step)

    def run(self) -> dict[str, float]:
        self.timed("parquet", lambda: write_parquet(self.rows(0), self.folder / "plain.parquet"))
        with self.store("whole") as whole, self.store("alone") as alone:
            first = self.timed("first snapshot", lambda: keep(whole, self.rows(0)))
            keep(alone, self.rows(0))
            bytes_first = n_bytes(self.folder / "whole")
            self.timed("append, whole table", lambda: keep(whole, self.rows(1)))
            self.timed("append, new rows alone", lambda: add(alone, self.step(1)))
            for number in (2, 3, 4):
                keep(whole, self.rows(number))
                add(alone, self.step(number))
            self.timed("plain read", lambda: pq.read_table(self.folder / "plain.parquet", use_threads=False))
            self.timed("read of an old version", lambda: read_rows(whole, first))
            bytes_grown = n_bytes(self.folder / "whole")
            assert n_bytes(self.folder / "alone") == bytes_grown
        with self.store("fresh") as fresh:
            # Read by a process that has not checked the parts yet.
            keep(fresh, self.rows(0))
        with self.store("fresh") as fresh:
            self.timed("read, parts not checked yet", lambda: read_rows(fresh, first))
            keep(fresh, self.table.slice(self.n_step, self.n_first))
            bytes_slid = n_bytes(self.folder / "fresh") - bytes_first
        write_parquet(self.table, self.folder / "grown.parquet")
        return self.bytes_ratios(bytes_first, bytes_grown, bytes_slid)

    def bytes_ratios(self, first: int, grown: int, slid: int) -> dict[str, float]:
        whole = (self.folder / "grown.parquet").stat().st_size
        return {"bytes after 4 appends": grown / whole, "bytes of a slid window": slid / first}


def time_ratios(seconds: dict[str, float]) -> dict[str, float]:
    write = {name: seconds[name] / seconds["parquet"] for name in WRITES}
    return write | {name: seconds[name] / seconds["plain read"] for name in READS}


def keep(store: Store, table: pa.Table) -> Any:
    return take_snapshot(store, LOANS, table, source="loans.parquet", code=None, now=NOW)


def add(store: Store, rows: pa.Table) -> Any:
    later = NOW + timedelta(days=1)
    return append_rows(store, LOANS, rows, source="more.parquet", code=None, now=later)


def write_parquet(table: pa.Table, path: Path) -> None:
    with path.open("wb") as file:
        pq.write_table(table, file, compression="zstd", use_dictionary=WORDS)
        file.flush()
        os.fsync(file.fileno())


def n_bytes(store: Path) -> int:
    return sum(path.stat().st_size for path in (store / "objects").rglob("*") if path.is_file())


def main() -> None:
    is_smoke = "--smoke" in sys.argv
    table = loans(60_000 if is_smoke else 1_080_000)
    ratios, cpu_ratios, plain = [], [], []
    for _ in range(1 if is_smoke else 7):
        with tempfile.TemporaryDirectory() as folder:
            bench = Bench(Path(folder), table)
            n_bytes_ratios = bench.run()
            ratios.append(time_ratios(bench.seconds) | n_bytes_ratios)
            cpu_ratios.append(time_ratios(bench.cpu_seconds))
            plain.append(bench.seconds["parquet"])
    median, cpu = medians(ratios), medians(cpu_ratios)
    for name, ratio in median.items():
        said = f"of the processors {cpu[name]:.3f}" if name in cpu else ""
        print(f"{name:28} {ratio:6.3f}  {said}")
    result = {
        "name": "first snapshot ÷ one Parquet file",
        "value": median.pop("first snapshot"),
        "goal": GOAL,
        "better": "lower",
        "floor": f"a Parquet file of {table.num_rows:,} rows, {statistics.median(plain):.2f} s",
        "details": {
            "ratios": median,
            "goals": GOALS,
            "missed": sorted(name for name, goal in GOALS.items() if median[name] > goal),
            "ratios_of_processor_time": cpu,
            "n_rounds": len(ratios),
        },
    }
    print(json.dumps(result, ensure_ascii=False))


def medians(rounds: list[dict[str, float]]) -> dict[str, float]:
    return {name: round(statistics.median(each[name] for each in rounds), 3) for name in rounds[0]}


if __name__ == "__main__":
    main()
