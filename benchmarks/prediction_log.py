"""CPU that logging an answer costs: its record is appended by itself, and later moved into Parquet.

The floor writes the very bytes of the segments with one ``os.write`` a row. The peer commits each row to
SQLite by itself, in a write-ahead log that is not synced at each commit. Ours syncs behind the answers, and
the CPU of that is counted. All take turns.
"""

from __future__ import annotations

import json
import os
import sqlite3
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import msgspec

from benchmarks._credit import CLASSES, FEATURES, NOW, applications
from clew.config import load_settings
from clew.storage import open_store
from clew.storage.compaction import compact
from clew.storage.log import LogWriter
from clew.storage.log_segments import LOG_FOLDER, list_segments
from clew.storage.records import Prediction

GOAL = 8.0
STARTED_AT = int(NOW.timestamp()) * 1_000_000
DAY_MICROSECONDS = 86_400_000_000


def prediction(number: int, features: tuple[Any, ...]) -> Prediction:
    at = STARTED_AT + number * 1000
    chance = number % 100 / 100
    return Prediction(
        "credit", 3, "champion", at, at, f"A{number:07d}", None, FEATURES, features,
        CLASSES[chance > 0.5], (1 - chance, chance), f"1-{number:x}", 25,
    )  # fmt: skip


def log_and_compact(folder: Path, records: list[Prediction]) -> dict[str, float]:
    """CPU seconds of appending every row by itself, and of moving them all."""
    with open_store(load_settings(folder, {}), now=NOW) as store:
        began = time.process_time()
        writer = LogWriter(store.folder / LOG_FOLDER, 1)
        for record in records:
            writer.append([record])
        writer.close()
        appended = time.process_time()
        moved = compact(store, consumed=[], now=NOW)
        compacted = time.process_time()
    assert moved.n_records == len(records)
    return {"append": appended - began, "compact": compacted - appended}


def bytes_written(folder: Path, records: list[Prediction]) -> list[bytes]:
    """What `log_and_compact` writes for each row, near enough: pieces of the segment, as many as rows."""
    writer = LogWriter(folder, 1)
    for record in records:
        writer.append([record])
    writer.close()
    whole = b"".join(segment.path.read_bytes() for segment in list_segments(folder))
    size = len(whole) // len(records)
    return [whole[at : at + size] for at in range(0, size * len(records), size)]


def write_bare(path: Path, pieces: list[bytes]) -> float:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    began = time.process_time()
    for piece in pieces:
        os.write(descriptor, piece)
    took = time.process_time() - began
    os.close(descriptor)
    return took


def commit_each(path: Path, records: list[Prediction]) -> float:
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = NORMAL")
    connection.execute("CREATE TABLE predictions (id INTEGER PRIMARY KEY, key TEXT, at INTEGER, record BLOB)")
    encode = msgspec.json.Encoder().encode
    began = time.process_time()
    for record in records:
        values = (record.key, record.event_time, encode(record))
        connection.execute("INSERT INTO predictions (key, at, record) VALUES (?, ?, ?)", values)
    took = time.process_time() - began
    connection.close()
    return took


def main() -> None:
    n_rows, n_rounds = (300, 1) if "--smoke" in sys.argv else (50_000, 7)
    records = [prediction(n, tuple(row.values())) for n, row in enumerate(applications(n_rows).to_pylist())]
    took: dict[str, list[float]] = {"append": [], "compact": [], "os.write": [], "commit": []}
    for _ in range(n_rounds):
        with tempfile.TemporaryDirectory() as folder:
            place = Path(folder)
            pieces = bytes_written(place / "pieces", records)
            seconds = log_and_compact(place, records)
            seconds["os.write"] = write_bare(place / "bare", pieces)
            seconds["commit"] = commit_each(place / "peer.db", records)
        for name, of_all in seconds.items():
            took[name].append(of_all / n_rows * 1e6)
    whole = [append + move for append, move in zip(took["append"], took["compact"], strict=True)]
    median = {name: round(statistics.median(each), 2) for name, each in took.items()}
    for name, each in median.items():
        print(f"{name:10} {each:8.2f} us CPU a row")
    details = {
        "append_microseconds": median["append"],
        "compact_microseconds": median["compact"],
        "ratio_to_floor": round(
            statistics.median(a / b for a, b in zip(whole, took["os.write"], strict=True)), 2
        ),
        "rows": n_rows,
    }
    result = {
        "name": "prediction log",
        "value": round(statistics.median(whole), 2),
        "unit": "µs CPU a row",
        "goal": GOAL,
        "better": "lower",
        "floor": {"the same bytes by os.write": median["os.write"]},
        "peers": {"a commit to SQLite each": median["commit"]},
        "details": details,
    }
    print(json.dumps(result, ensure_ascii=False))


if __name__ == "__main__":
    main()
