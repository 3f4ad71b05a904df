"""How long it takes to follow one answer back among ten million.

The log is that of a deployment that runs for months: answers in Parquet parts as the compaction makes them,
with their rows in the store; a champion that was moved often; a snapshot of 200,000 rows that the key is
looked up in. Answers are drawn at random, each from another part. The value is the median time of the whole
thread: the answer, its version, run, rows, code and environment, who made it champion, and its row.

The floor reads the one row group that holds the answer with pyarrow alone, and finds the row in it. Both
take turns. The first thread of a process, which loads what it needs, stands beside it.
"""

from __future__ import annotations

import json
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
import pyarrow.compute as pc
import pyarrow.parquet as pq

from benchmarks._credit import CLASSES, FEATURES, applications
from clew.config import Settings
from clew.datasets import take_snapshot
from clew.entities import DatasetDeclaration, Duration, Margin, ModelDeclaration, Param, RowRange
from clew.loop.trace import trace
from clew.registry import ensure_deployment, move_alias, register
from clew.storage import Store, open_store
from clew.storage.compaction import ROWS_AT_ONCE, write_parquet
from clew.storage.log import prediction_id
from clew.storage.log_columns import LogRow, table_of
from clew.storage.records import LeanPrediction, Prediction, decode_lean_record, encode_record
from clew.tracking import capture_code, capture_environment, close_run, open_run

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
GOAL_MS = 50.0
STARTED_AT = int(datetime(2025, 9, 1, tzinfo=UTC).timestamp()) * 1_000_000
STEP_MICROSECONDS = 1_500_000
BYTES_A_RECORD = 300
PARTS_A_SEGMENT = 8

LOANS = DatasetDeclaration(
    "loans", "at", "id", "refused", Duration.parse("1d"), "loans.parquet", frame="pyarrow"
)
CREDIT = ModelDeclaration("credit", LOANS, "accuracy", Margin(0.02))


# -- the store -----------------------------------------------------------------------------------------


def lay(store: Store, project: Path, n_known: int, n_moves: int) -> None:
    """Everything behind the answers: a snapshot, a run, versions, and who was champion when."""
    (project / "credit.py").write_text("import clew\n", encoding="utf-8")
    code = capture_code(store, project, now=NOW).id
    environment = capture_environment(store, now=NOW, variables={})
    rows = applications(n_known)
    times = pa.array(STARTED_AT + np.arange(n_known) * STEP_MICROSECONDS).cast(pa.timestamp("us", "UTC"))
    known = {"at": times, "id": keys(0, n_known), "refused": pa.array(np.arange(n_known) % 2)}
    table = pa.table(known | {name: rows[name] for name in rows.column_names})
    snapshot = take_snapshot(store, LOANS, table, source="loans.parquet", code=code, now=NOW).id
    ensure_deployment(store, "credit", "live", "credit", CREDIT, NOW)
    for number in range(1, 4):
        run = trained(store, number, snapshot, code, environment, n_known)
        facts: dict[str, Any] = {
            "deployment": "credit",
            "model": "credit",
            "package": "p",
            "flavor": "lightgbm",
        }
        more: dict[str, Any] = {"metrics": {"accuracy": 0.9}, "gate": None, "now": NOW}
        register(store, run=run, actor="loop", reason="better", **facts, **more)
    champion = None
    for place in range(n_moves):
        # Each version has been champion before the first answer.
        at = datetime.fromtimestamp(STARTED_AT / 1e6, UTC) + (place - 3) * timedelta(hours=1)
        number = place % 3 + 1
        about: dict[str, Any] = {"actor": "loop", "reason": "better", "now": at}
        move_alias(store, "credit", "champion", number, expected=champion, **about)
        champion = number


def trained(store: Store, number: int, snapshot: str, code: str, environment: str, n_rows: int) -> str:
    run, _ = open_run(
        store,
        key=f"fit {number}",
        model="credit",
        purpose="try",
        params={"num_leaves": Param(31, "default")},
        seed=0,
        snapshot=snapshot,
        dataset="loans",
        rows=[RowRange(0, n_rows)],
        code=code,
        environment=environment,
        now=NOW,
    )
    close_run(
        store,
        run.id,
        metrics={"accuracy": 0.9},
        model_digest="m",
        output=b"",
        seconds=1.0,
        peak_memory_bytes=1,
        now=NOW,
    )
    return run.id


def keys(first: int, n_rows: int) -> pa.Array:
    return pa.array([f"A{number:09d}" for number in range(first, first + n_rows)])


def fill(store: Store, n_rows: int) -> None:
    """The log as the compaction leaves it: parts of its own size, and which segments their rows came from."""
    template = one_part(min(n_rows, ROWS_AT_ONCE))
    offsets = 12 + BYTES_A_RECORD * np.arange(template.num_rows * PARTS_A_SEGMENT)
    n_parts = -(-n_rows // template.num_rows)
    for segment, first in enumerate(range(0, n_parts, PARTS_A_SEGMENT), 1):
        parts, moved = [], []
        for place in range(min(PARTS_A_SEGMENT, n_parts - first)):
            own = offsets[place * template.num_rows : (place + 1) * template.num_rows]
            row = keep_part(store, placed(template, segment, own, (first + place) * template.num_rows))
            parts.append(row)
            span = {"first": int(own[0]), "last": int(own[-1])}
            moved.append({"object": row["object_digest"], "kind": "p"} | span)
        publish(store, segment, parts, moved)


def one_part(n_rows: int) -> pa.Table:
    """Rows as the log has them, made of records by the log itself."""
    rows = []
    for number, row in enumerate(applications(n_rows).to_pylist()):
        chance = number % 100 / 100
        answer = (CLASSES[chance > 0.5], (1 - chance, chance), f"1-{number:x}", 25)
        asked = (f"A{number:09d}", None, FEATURES, tuple(row.values()))
        record = Prediction("credit", number % 3 + 1, "champion", STARTED_AT, STARTED_AT, *asked, *answer)
        lean = decode_lean_record(encode_record(record))
        assert isinstance(lean, LeanPrediction)
        rows.append(LogRow(1, 1, 12 + BYTES_A_RECORD * number, lean))
    return table_of("p", rows)


def placed(template: pa.Table, segment: int, offsets: np.ndarray, first: int) -> pa.Table:
    """The same rows at other places, of other keys and times."""
    n_rows = template.num_rows
    moments = STARTED_AT + (first + np.arange(n_rows)) * STEP_MICROSECONDS
    times = pa.array(moments).cast(pa.timestamp("us", "UTC"))
    fresh = {
        "segment": pa.array(np.full(n_rows, segment)),
        "offset": pa.array(offsets),
        "answered_at": times,
        "event_time": times,
        "key": keys(first, n_rows),
    }
    for name, values in fresh.items():
        template = template.set_column(template.column_names.index(name), template.schema.field(name), values)
    return template


def keep_part(store: Store, table: pa.Table) -> dict[str, Any]:
    with store.scratch("part") as scratch:
        path = scratch / "part.parquet"
        write_parquet(table, path)
        n_bytes = path.stat().st_size
        digest = store.objects.put_file(path)
    span = pc.min_max(table.column("event_time")).as_py()
    return {
        "deployment": "credit",
        "kind": "p",
        "day": span["min"].date().isoformat(),
        "object_digest": digest,
        "n_rows": table.num_rows,
        "n_bytes": n_bytes,
        "first_time": span["min"],
        "last_time": span["max"],
    }


def publish(store: Store, segment: int, parts: list[dict[str, Any]], moved: list[dict[str, Any]]) -> None:
    n_records = sum(part["n_rows"] for part in parts)
    about = {"n_bytes": 12 + BYTES_A_RECORD * n_records, "n_records": n_records, "compacted_at": NOW}
    named = {"worker": 1, "segment": segment, "path": f"log/1/{segment:08d}.log"}
    with store.write() as tx:
        tx.insert_many("log_parts", parts)
        tx.insert("log_segments", named | about | {"parts": moved, "erased": []})


# -- threads -------------------------------------------------------------------------------------------


def drawn(store: Store, n: int) -> list[tuple[str, Path, int]]:
    """Answers by chance: the id, the part's file, and the offset."""
    draw = np.random.default_rng(0)
    with store.read() as reader:
        segments = reader.find("log_segments")
    found = []
    for _ in range(n):
        row = segments[draw.integers(len(segments))]
        part = row["parts"][draw.integers(len(row["parts"]))]
        offset = part["first"] + BYTES_A_RECORD * int(
            draw.integers((part["last"] - part["first"]) // BYTES_A_RECORD + 1)
        )
        identity = prediction_id(row["worker"], row["segment"], offset)
        found.append((identity, store.objects.path(part["object"]), offset))
    return found


def floor(path: Path, offset: int) -> None:
    """Read the one row group that holds the row, and the row."""
    with pq.ParquetFile(path) as file:
        place = file.schema_arrow.get_field_index("offset")
        for group in range(file.num_row_groups):
            known = file.metadata.row_group(group).column(place).statistics
            if known.min <= offset <= known.max:
                table = file.read_row_group(group, use_threads=False)
                assert table.filter(pc.equal(table.column("offset"), offset)).num_rows == 1
                return
    raise LookupError(f"{path} has no row at {offset}")


def ms_of(action: Callable[..., Any], *given: Any) -> float:
    began = time.perf_counter()
    action(*given)
    return (time.perf_counter() - began) * 1e3


def check(store: Store, identity: str) -> None:
    """The thread is whole: answer, version, run and all behind it, the move of the champion."""
    told = trace(store, identity)
    kinds = {node.kind for node in told.causes}
    assert {"version", "audit"} <= kinds, kinds
    assert [node.kind for node in told.causes[0].causes] == ["run"]


def main() -> None:
    arguments = [each for each in sys.argv[1:] if each != "--smoke"]
    is_smoke = "--smoke" in sys.argv
    n_rows = int(arguments[0]) if arguments else 2_000 if is_smoke else 10_000_000
    n_drawn = 3 if is_smoke else 60
    with tempfile.TemporaryDirectory() as name:
        project = Path(name)
        with open_store(Settings(root=project, store=project / ".clew"), now=NOW) as store:
            lay(store, project, *((1_000, 6) if is_smoke else (200_000, 3_000)))
            fill(store, n_rows)
            answers = drawn(store, n_drawn + 1)
            first_ms = ms_of(trace, store, answers[0][0])
            ours, theirs = [], []
            for identity, path, offset in answers[1:]:
                check(store, identity)
                ours.append(ms_of(trace, store, identity))
                theirs.append(ms_of(floor, path, offset))
            with store.read() as reader:
                n_parts = reader.count("log_parts")
                n_bytes = sum(row["n_bytes"] for row in reader.find("log_parts"))
    ratio = statistics.median(mine / least for mine, least in zip(ours, theirs, strict=True))
    print(f"a thread {statistics.median(ours):.1f} ms, the row group {statistics.median(theirs):.1f} ms")
    details = {
        "rows": n_rows,
        "parts": n_parts,
        "log_mb": round(n_bytes / 1e6),
        "ratio_to_floor": round(ratio, 2),
        "first_thread_ms": round(first_ms, 1),
        "slowest_ms": round(max(ours), 1),
    }
    result = {
        "name": "the thread of one answer",
        "value": round(statistics.median(ours), 2),
        "unit": "ms",
        "goal": GOAL_MS,
        "better": "lower",
        "floor": {"reading its row group": round(statistics.median(theirs), 2)},
        "details": details,
    }
    print(json.dumps(result, ensure_ascii=False))


if __name__ == "__main__":
    main()
