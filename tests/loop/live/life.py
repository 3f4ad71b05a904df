"""A project lived through for real: its loop in this process, a prediction worker beside it, days that pass.

Rows are those of `tests.loop.streams`, or others of that shape. The table of the project ends where life
begins and never grows: what follows is asked for over HTTP, and labels are sent when their delay is over.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from hashlib import sha256
from pathlib import Path
from typing import Any

import httpx
import pyarrow as pa
import pyarrow.parquet as pq

from clew.loop.commands import Command, ask, outcome
from clew.loop.live.surroundings import LiveStatus
from clew.loop.live.system import Live
from clew.loop.result import Event
from clew.registry.routes import get_route, next_generation
from clew.serving.doorbell import RUN_FOLDER, Doorbell
from clew.storage import LOG_FOLDER, Store
from clew.storage.log_reading import read_since
from clew.storage.records import Failure, Prediction
from clew.workspace import open_workspace

BEGIN = datetime.fromisoformat("2024-01-01T00:00:00+00:00")
DAY = timedelta(days=1)
TOKEN = "token of the tests"
MODEL = "learner"

DATASET = """
import time

import clew
from lightgbm import LGBMClassifier
from sklearn.compose import make_column_transformer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder

@clew.dataset("stream.parquet", time="at", key="id", label="y", label_delay="1d")
def stream(table):
    return table
"""
LEARNER = """
@clew.model(stream, metric="accuracy", margin=0.02, rollout="shadow 1d, canary 20% 1d")
def learner(train):
    return LGBMClassifier(n_estimators=30, num_leaves=7, verbose=-1).fit(train.X, train.y)
"""


def project(folder: Path, table: pa.Table, model: str = LEARNER, dataset: str = DATASET) -> Path:
    """Make `folder` a project whose table holds these rows."""
    folder.mkdir(parents=True, exist_ok=True)
    pq.write_table(table, folder / "stream.parquet")
    (folder / "clew.toml").write_text('models = ["project.py"]\n', encoding="utf-8")
    code = textwrap.dedent(dataset) + textwrap.dedent(model)
    (folder / "project.py").write_text(code, encoding="utf-8")
    return folder


def before(table: pa.Table, moment: datetime, column: str = "at") -> pa.Table:
    """The rows of `table` up to a moment."""
    import pyarrow.compute as pc

    return table.filter(pc.less(table.column(column), pa.scalar(moment, table.schema.field(column).type)))


@dataclass
class Life:
    """Lives day by day; `now` is the midnight that the next day begins with."""

    root: Path
    store: Store
    live: Live
    doorbell: Doorbell
    table: pa.Table
    now: datetime
    events: list[Event]
    client: httpx.Client
    label_days: int = 1
    answers: dict[str, Any] = field(default_factory=dict)

    def days(self, n: int, *, each_alone: bool = False) -> None:
        """Live through so many days."""
        for _ in range(n):
            # The last minute, so that no row is of the future; what is due is done at its own moment.
            moment = self.now + DAY - timedelta(minutes=1)
            self.doorbell.set_clock(moment)
            self.live.advance(moment)
            rows = self.rows_of(self.now)
            for asked in [[row] for row in rows] if each_alone else [rows]:
                self.ask(asked)
            self.await_second_answers(rows)
            self.label(self.rows_of(self.now - self.label_days * DAY))
            self.now += DAY

    def rows_of(self, day: datetime) -> list[dict[str, Any]]:
        rows = before(self.table, day + DAY)
        n_older = before(self.table, day).num_rows
        return [row | {"at": row["at"].isoformat()} for row in rows.slice(n_older).to_pylist()]

    def ask(self, rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
        questions = [{name: value for name, value in row.items() if name != "y"} for row in rows]
        answered = self.client.post(f"/predict/{MODEL}", json=questions)
        assert answered.status_code == 200, answered.text
        answers: list[dict[str, Any]] = answered.json()
        for row, answer in zip(rows, answers, strict=True):
            self.answers[row["id"]] = answer
        return answers

    def await_second_answers(self, rows: list[dict[str, Any]]) -> None:
        """Days pass in moments here: let a slow candidate answer what it was asked in them."""
        with self.store.read() as reader:
            route = get_route(reader, MODEL)
        if route is None or route.candidate is None:
            return
        keys, give_up = {row["id"] for row in rows}, time.monotonic() + 60
        while keys - {record.key for record in self.logged() if record.version == route.candidate}:
            assert time.monotonic() < give_up, "the candidate still has not answered everything"
            time.sleep(0.05)

    def label(self, rows: list[dict[str, Any]]) -> None:
        sent = [{"id": row["id"], "y": row["y"]} for row in rows if row["id"] in self.answers]
        if sent:
            answered = self.client.post(f"/labels/{MODEL}", json=sent)
            assert answered.status_code == 200, answered.text

    def accuracy(self, since: datetime) -> float:
        rows = [row for row in self.table.to_pylist() if row["id"] in self.answers and row["at"] >= since]
        right = [bool(self.answers[row["id"]]["prediction"] == row["y"]) for row in rows]
        return sum(right) / len(rows)

    def tell(self, verb: str, reason: str = "a test says so", **arguments: Any) -> Command:
        """A person's command, carried out at once."""
        identity = ask(self.store, verb, MODEL, arguments, "ana", reason, self.now)
        self.live.run_commands(self.now)
        return outcome(self.store, identity)

    def kinds(self) -> list[str]:
        return [event.kind for event in self.events]

    def of_kind(self, *kinds: str) -> list[Event]:
        return [event for event in self.events if event.kind in kinds]

    def logged(self) -> list[Prediction | Failure]:
        records, _ = read_since(self.store.folder / LOG_FOLDER, {})
        return [record for _, record in records if isinstance(record, Prediction | Failure)]

    def status(self) -> LiveStatus:
        [status] = self.live.status(self.now)
        return status


@contextmanager
def living(
    root: Path,
    table: pa.Table,
    start: datetime,
    now: datetime | None = None,
    on_event: Callable[[Event], None] = lambda _: None,
) -> Iterator[Life]:
    """Go live, or go on with, the project in `root`; a worker answers meanwhile.

    Parameters
    ----------
    start
        When life begins, where it has not begun yet.
    now
        Where to go on.
    on_event
        Hears of each event in the moment in which the loop tells it.
    """
    events: list[Event] = []

    def hear(_: str, event: Event) -> None:
        events.append(event)
        on_event(event)

    with ExitStack() as stack:
        workspace = stack.enter_context(open_workspace(None, root))
        live = stack.enter_context(workspace.live(on_event=hear))
        doorbell = Doorbell(workspace.store.folder / RUN_FOLDER)
        stack.callback(doorbell.close)
        _allow(workspace.store, doorbell, start)
        begins = now or start
        doorbell.set_clock(begins)
        live.start(begins)
        client = stack.enter_context(_worker(root))
        yield Life(root, workspace.store, live, doorbell, table, begins, events, client)


def _allow(store: Store, doorbell: Doorbell, now: datetime) -> None:
    digest = sha256(TOKEN.encode()).hexdigest()
    with store.write() as tx:
        tx.insert_if_absent("tokens", {"name": "tests", "digest": digest, "created_at": now})
        generation = next_generation(tx)
    doorbell.ring(generation)


@contextmanager
def _worker(root: Path) -> Iterator[httpx.Client]:
    reading, writing = os.pipe()
    with ExitStack() as stack:
        stack.callback(os.close, writing)
        listening = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
        worker = subprocess.Popen(
            [sys.executable, "-P", "-m", "clew.serving.worker", root, str(listening.fileno()), str(reading)],
            pass_fds=[listening.fileno(), reading],
            stdin=subprocess.DEVNULL,
        )
        os.close(reading)
        stack.callback(worker.wait, 30)
        stack.callback(worker.terminate)
        url = f"http://127.0.0.1:{listening.getsockname()[1]}"
        authorised = {"Authorization": f"Bearer {TOKEN}"}
        client = stack.enter_context(httpx.Client(base_url=url, headers=authorised, timeout=60))
        give_up = time.monotonic() + 60
        while client.get("/health").status_code != 200:
            assert time.monotonic() < give_up, "the worker is not ready"
            time.sleep(0.05)
        yield client
