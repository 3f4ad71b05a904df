"""What finding runs and logging numbers costs, beside bare SQLite.

A batch of 1,000 numbers is added to a run, taking turns with ``executemany`` of the module ``sqlite3`` into a
table of the same columns and key, as durable, with the values ready to be stored. The value is how many
batches a second go through, to those of SQLite alone. How long a training waits for ``train.log`` is told
too, beside appending to a list.

Then a store of 100,000 runs, each with eight hyperparameters, five metrics and a tag, is searched in several
ways: for conditions that few meet, that many meet, that many meet but none together, and sorted.
Searches are timed by the processor's clock, which other work on the machine does not hold up; the wall's
stands beside it.
"""

from __future__ import annotations

import json
import random
import sqlite3
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from clew.config import Settings
from clew.storage import Store, open_store
from clew.storage.run_values import value_rows
from clew.tracking import find_runs, log_metrics, parse_order, parse_search
from clew.training import ArtifactLimits
from clew.training.journal import JournalWriter

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
GOAL = 0.5
SEARCH_GOAL_MS = 100
N_NUMBERS = 1_000
SEARCHES = {
    "the newest": ("", ""),
    "three conditions": ("metric.accuracy > 0.9 and param.num_leaves = 31 and tag.team = 'x'", ""),
    "three, sorted": (
        "metric.accuracy > 0.9 and param.num_leaves = 31 and tag.team = 'x'",
        "metric.accuracy",
    ),
    "one in ten thousand": ("metric.accuracy > 0.9999", ""),
    "a rare tag": ("tag.rare = 'yes'", ""),
    "none at all": ("metric.accuracy > 2", ""),
    "many each, few together": ("metric.accuracy < 0.05 and metric.m1 > 0.95 and metric.m2 > 0.5", ""),
    "many each, none together": ("metric.accuracy < 0.5 and param.boosting = 'none'", "metric.loss asc"),
    "words like": ("param.boosting like '%art' and metric.loss < 0.1", ""),
    "sorted by a metric": ("", "metric.accuracy"),
    "those that failed": ("status = 'failed' and metric.accuracy > 0.5", ""),
}


# -- logging -------------------------------------------------------------------------------------------


def numbers() -> list[tuple[str, int | None, float]]:
    draw = random.Random(0)
    return [("loss" if step % 2 else "accuracy", step, draw.random()) for step in range(N_NUMBERS)]


class Bare:
    """SQLite alone, with a table as Clew's and as durable."""

    def __init__(self, path: Path) -> None:
        self._connection = sqlite3.connect(path, isolation_level=None)
        self._connection.execute("PRAGMA journal_mode = WAL")
        self._connection.execute("PRAGMA synchronous = FULL")
        self._connection.execute(
            "CREATE TABLE run_metrics (run TEXT NOT NULL, sequence BIGINT NOT NULL, name TEXT NOT NULL, step"
            " BIGINT, value FLOAT, at TEXT, PRIMARY KEY (run, sequence))"
        )

    def add(self, rows: list[tuple[Any, ...]]) -> None:
        self._connection.execute("BEGIN IMMEDIATE")
        self._connection.executemany("INSERT INTO run_metrics VALUES (?, ?, ?, ?, ?, ?)", rows)
        self._connection.execute("COMMIT")

    def close(self) -> None:
        self._connection.close()


def batches(folder: Path, n_rounds: int) -> tuple[list[float], list[float]]:
    """Seconds of each batch: Clew's, and of SQLite alone."""
    given, ours, theirs = numbers(), list[float](), list[float]()
    settings = Settings(root=folder, store=folder / "log")
    with open_store(settings, now=NOW) as store, closing(Bare(folder / "bare.sqlite")) as bare:
        for number in range(n_rounds + 2):
            run, at = f"run {number:030}", "2026-03-01T12:00:00.000000Z"
            rows = [(run, place, *row, at) for place, row in enumerate(given)]
            ours.append(seconds(log_metrics, store, run, given, NOW))
            theirs.append(seconds(bare.add, rows))
    return ours[2:], theirs[2:]  # the first two warm up


def nanoseconds_of_log(folder: Path, n: int) -> tuple[float, float]:
    """What one number costs the training, and one tuple appended to a list."""
    writer, listed = JournalWriter(folder, ArtifactLimits()), list[tuple[str, int, float]]()

    def log() -> None:
        for step in range(n):
            writer.log("loss", step, 0.5)

    def append() -> None:
        for step in range(n):
            listed.append(("loss", step, 0.5))

    taken = [(seconds(log), seconds(append)) for _ in range(5)]
    writer.close()
    ours, theirs = (statistics.median(each) / n * 1e9 for each in zip(*taken, strict=True))
    return ours, theirs


def seconds(action: Callable[..., Any], *given: Any) -> float:
    began = time.perf_counter()
    action(*given)
    return time.perf_counter() - began


# -- searching -----------------------------------------------------------------------------------------


def made_runs(n_runs: int) -> Iterator[tuple[dict[str, Any], list[dict[str, Any]]]]:
    """Each run's row, and the rows of its values."""
    draw = random.Random(0)
    for number in range(n_runs):
        run = f"{draw.getrandbits(128):032x}"
        params = {
            "num_leaves": draw.choice([15, 31, 63, 127]),
            "learning_rate": 10 ** draw.uniform(-3, 0),
            "boosting": draw.choice(["dart", "gbdt"]),
            **{f"p{place}": draw.random() for place in range(5)},
        }
        metrics = {
            "accuracy": draw.random(),
            "loss": draw.expovariate(1),
            **{f"m{place}": draw.random() for place in range(3)},
        }
        tags = {"team": draw.choice("xyz"), **({"rare": "yes"} if number % 5_000 == 7 else {})}
        row = {
            "id": run,
            "key": f"try/{number:06}/fit 1",
            "model": f"model{number % 20}",
            "purpose": "try",
            "status": "finished" if number % 1_000 else "failed",
            "params": {name: {"value": value, "source": "default"} for name, value in params.items()},
            "metrics": metrics,
            "intervals": {"accuracy": [0.1, 0.9]},
            "seed": 0,
            "started_at": NOW + timedelta(seconds=number),
            "dataset": "rides",
            "snapshot": "a" * 64,
            "rows": [[0, 100]],
            "code": "b" * 64,
            "environment": "c" * 64,
            "output": "d" * 64,
            "model_digest": "e" * 64,
        }
        yield (
            row,
            [
                *value_rows(run, "param", params),
                *value_rows(run, "metric", metrics),
                *value_rows(run, "tag", tags),
            ],
        )


def fill(store: Store, n_runs: int) -> None:
    made = list(made_runs(n_runs))
    with store.write() as tx:
        tx.insert_many("runs", [row for row, _ in made])
        tx.insert_many("run_values", [value for _, values in made for value in values])


def search_ms(store: Store, n_rounds: int) -> tuple[dict[str, float], dict[str, float]]:
    """The median times of each search, in milliseconds, taking turns: the processor's and the wall's."""
    cpu: dict[str, list[float]] = {name: [] for name in SEARCHES}
    wall: dict[str, list[float]] = {name: [] for name in SEARCHES}
    for _ in range(n_rounds):
        for name, (where, sort) in SEARCHES.items():
            began = time.process_time()
            wall[name].append(seconds(search, store, where, sort) * 1e3)
            cpu[name].append((time.process_time() - began) * 1e3)
    return medians(cpu), medians(wall)


def medians(taken: dict[str, list[float]]) -> dict[str, float]:
    return {name: round(statistics.median(each), 2) for name, each in taken.items()}


def search(store: Store, where: str, sort: str) -> None:
    conditions = parse_search(where) if where else ()
    order = parse_order(sort) if sort else None
    find_runs(store, conditions, order=order, key_prefix="try/", limit=20)


def main() -> None:
    is_smoke = "--smoke" in sys.argv
    n_runs, n_rounds = (2_000, 3) if is_smoke else (100_000, 41)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        ours, theirs = batches(folder, n_rounds)
        log_ns, list_ns = nanoseconds_of_log(folder, 2_000 if is_smoke else 100_000)
        with open_store(Settings(root=folder, store=folder / "runs"), now=NOW) as store:
            fill(store, n_runs)
            found, wall = search_ms(store, 3 if is_smoke else 9)
    ratio = statistics.median(second / first for first, second in zip(ours, theirs, strict=True))
    for title, ms in found.items():
        print(f"{title:28} {ms:7.1f} ms")
    print(f"train.log {log_ns:.0f} ns a number, list.append {list_ns:.0f} ns")
    result = {
        "name": "batches of 1,000 numbers a second ÷ SQLite alone",
        "value": round(ratio, 3),
        "goal": GOAL,
        "better": "higher",
        "floor": f"executemany of sqlite3, {statistics.median(theirs) * 1e3:.2f} ms a batch",
        "details": {
            "search_processor_ms": found,
            "search_wall_ms": wall,
            "search_goal_ms": SEARCH_GOAL_MS,
            "missed": sorted(name for name, ms in found.items() if ms > SEARCH_GOAL_MS),
            "n_runs": n_runs,
            "train_log_ns": round(log_ns),
            "list_append_ns": round(list_ns),
        },
    }
    print(json.dumps(result, ensure_ascii=False))


if __name__ == "__main__":
    main()
