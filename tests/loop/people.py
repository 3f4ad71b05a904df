"""A store in which people stand everywhere: in snapshots, in the log as it is written and as it is moved, in
the state of a loop, in a batch of answers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from clew.config import Settings
from clew.datasets import take_snapshot
from clew.entities import DatasetDeclaration, RowRange, Snapshot
from clew.loop.checkpoint import unpacked
from clew.loop.history import History
from clew.loop.live.checkpoints import Checkpoint, save_checkpoint
from clew.loop.live.rows import LiveRows, matured_history
from clew.registry import ensure_deployment
from clew.storage import LOG_FOLDER, LogWriter, Store, compact, open_store
from clew.storage.log_segments import OpenSegment, erasure_in, list_segments
from clew.storage.records import Failure, Label, Prediction, Record, decode_record
from clew.tracking import open_run
from tests.loop import threads
from tests.loop.made import DAY, NOW, RIDES, declared, hours, table

PEOPLE = replace(RIDES, entity="rider")
MODEL = declared(entity="rider")
WHO = "ada-of-the-hill"
N_ROWS, N_PEOPLE = 2000, 40
THEIRS = [f"h{place:05d}" for place in range(7, N_ROWS, N_PEOPLE)]


def rows(n: int = N_ROWS, **more: Any) -> pa.Table:
    """Every fortieth row, from the eighth on, is of the one who is forgotten."""
    riders = [WHO if place % N_PEOPLE == 7 else f"rider {place % N_PEOPLE}" for place in range(n)]
    return table(hours(n), rider=riders, **more)


def taken(store: Store, rides: pa.Table, declaration: DatasetDeclaration = PEOPLE) -> Snapshot:
    return take_snapshot(store, declaration, rides, source="rides.parquet", code=None, now=NOW)


def asked(place: int, who: str | None = None) -> Prediction:
    rider = who or (WHO if place % N_PEOPLE == 7 else f"rider {place % N_PEOPLE}")
    at = int(NOW.timestamp() * 1e6) + place * 3_600_000_000
    return Prediction(
        "busy_hour", 1, "champion", at, at, f"h{place:05d}", rider, ("warmth",), (place / 8,), 1, (0.2, 0.8),
        f"r{place}", 30,
    )  # fmt: skip


def failed(place: int) -> Failure:
    at = int(NOW.timestamp() * 1e6)
    return Failure("busy_hour", 1, "champion", at, at, f"h{place:05d}", f"r{place}", "ValueError")


def told(place: int, answer: str = "") -> Label:
    at = int(NOW.timestamp() * 1e6) + place
    key = None if answer else f"h{place:05d}"
    return Label("busy_hour", at, key, 1, "http", "ana", answer)


def logged(store: Store, worker: int, places: Sequence[int]) -> list[str]:
    """Answers, a failure and labels about rows of these places; the ids of the answers."""
    writer = LogWriter(store.folder / LOG_FOLDER, worker)
    ids = writer.append([asked(place) for place in places])
    more: list[Record] = [failed(places[7]), *(told(place) for place in places[5:9])]
    writer.append([*more, told(0, ids[7]), told(0, ids[3])])
    writer.close()
    return ids


def checkpoint(store: Store, snapshot: Snapshot) -> None:
    """A loop that knows labelled rows, waits for others, and has requests in hand."""
    past = rows(N_ROWS)
    live = LiveRows(matured_history(History.of(MODEL, past, ("warmth",)), hours(N_ROWS)[-1]))
    for place in range(N_ROWS, N_ROWS + 60):
        live.take_prediction(f"9-1-{place:x}", asked(place))
    live.take_label(told(N_ROWS + 7))
    world = {"asked": [asked(place) for place in range(N_ROWS, N_ROWS + 60)], "trial": None}
    state = {"snapshot": snapshot.id, "rows": live.state(), "world": world}
    save_checkpoint(store, Checkpoint("busy_hour", 3, NOW, NOW + DAY, "running", state), {"9/1": 500})


def batch(store: Store, folder: Path) -> Path:
    path = folder / "answers.parquet"
    pq.write_table(rows(100).select(["hour_id", "rider"]), path)
    with store.write() as tx:
        row = {"id": "b", "deployment": "busy_hour", "version": 1, "destination": str(path)}
        tx.insert("batches", row | {"status": "done", "started_at": NOW})
    return path


def furnish(store: Store, folder: Path) -> tuple[Snapshot, Snapshot, list[str]]:
    """Two snapshots, a version trained on the first, moved and unmoved log, a loop, a batch."""
    first = taken(store, rows())
    second = taken(store, rows(N_ROWS + 500))
    ensure_deployment(store, "busy_hour", "live", "busy_hour", MODEL, NOW)
    run, _ = open_run(
        store, key="k", model="busy_hour", purpose="try", params={}, seed=0, dataset="rides",
        snapshot=first.id, rows=[RowRange(0, 1000)], code="c", environment="e", now=NOW,
    )  # fmt: skip
    threads.version(store, run.id)
    ids = logged(store, 1, range(80))
    compact(store, consumed=[], now=NOW)
    ids += logged(store, 2, range(80, 160))
    checkpoint(store, first)
    batch(store, folder)
    return first, second, ids


def settings(root: Path) -> Settings:
    return Settings(root=root, store=root / ".clew")


def opened(root: Path) -> Store:
    return open_store(settings(root), now=NOW)


def everything(store: Store) -> Iterator[tuple[str, str]]:
    """All that a store holds, as text, with where it is."""
    for aside in (False, True):
        for each in list(store.objects.listing(aside=aside)):
            content = store.objects.get(each.digest)
            is_table = content.startswith(b"PAR1")
            yield each.digest, str(pq.read_table(pa.py_buffer(content)).to_pydict() if is_table else content)
    for segment in list_segments(store.folder / LOG_FOLDER):
        with OpenSegment(segment.path) as opened_segment:
            for _, record in opened_segment.contents():
                if erasure_in(record) is None:
                    yield segment.name, str(decode_record(record))
    for path in store.folder.rglob("*"):
        if path.is_file() and not path.is_relative_to(store.folder / "objects"):
            state = path.suffix == ".state"
            yield str(path), str(plain(unpacked(path.read_bytes())) if state else path.read_bytes())
    with store.read() as reader:
        for name in ("erasures", "audit", "snapshots", "commands", "jobs", "meta", "checkpoints"):
            yield name, str(reader.find(name))


def plain(value: Any) -> Any:
    if isinstance(value, pa.Table):
        return value.to_pydict()
    if isinstance(value, dict):
        return {str(key): plain(each) for key, each in value.items()}
    if isinstance(value, np.ndarray):
        return value.tolist()
    return value


def traces_of(store: Store, *words: str) -> list[str]:
    """Where one of these words still stands."""
    return [place for place, text in everything(store) if any(word in text for word in words)]
