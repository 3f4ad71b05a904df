"""What is around a running model breaks: its data, its training. It answers on, says so once, and goes on."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from clew.errors import StoreError
from clew.loop.commands import ask, outcome
from clew.loop.result import Event
from clew.registry import audit_log, list_versions
from clew.storage.store import DATABASE_FILE
from tests.loop import streams
from tests.loop.live.life import BEGIN, DATASET, DAY, MODEL, Life, before, living, project

START = BEGIN + 50 * DAY

MORTAL = """
@clew.model(stream, metric="accuracy", margin=0.02, rollout="shadow 1d, canary 20% 1d", retrain="rows 100000")
def learner(train):
    if Path({switch!r}).exists():
        exec(Path({switch!r}).read_text())
    return LGBMClassifier(n_estimators=30, num_leaves=7, verbose=-1).fit(train.X, train.y)
"""
"""Trains when it is ordered to, after it did what the file ``switch`` says."""


@pytest.fixture
def life(tmp_path: Path) -> Iterator[Life]:
    """Two days old; its training function obeys the file ``switch``. Each day it lives, it answers."""
    table = streams.calm(110 * streams.ROWS_A_DAY, 3).table()
    code = MORTAL.format(switch=str(tmp_path / "switch"))
    dataset = f"import os, signal\nfrom pathlib import Path\n{DATASET}"
    root = project(tmp_path / "project", before(table, START), code, dataset)
    with living(root, table, START) as life:
        life.days(2)
        yield life


def runs(life: Life) -> list[str]:
    """How the fits ended, the oldest first."""
    with life.store.read() as reader:
        return [row["status"] for row in reader.find("runs", {}, ["started_at"])]


def test_a_training_function_that_ends_its_process_costs_its_candidate_and_nothing_else(
    life: Life, tmp_path: Path
) -> None:
    switch = tmp_path / "switch"
    for code, words in (
        ("os.kill(os.getpid(), signal.SIGKILL)", "learner() was killed by SIGKILL"),
        ("os._exit(3)", "learner() ended its own process with exit code 3"),
    ):
        switch.write_text(code)
        assert life.tell("retrain").status == "done"
        life.days(2)
        *_, failed = life.of_kind("fit failed")
        assert words in failed.sentence
    assert len(life.of_kind("fit failed")) == 2
    assert runs(life) == ["finished", "failed", "failed"]
    assert (life.status().status, life.status().version) == ("running", 1)
    switch.unlink()
    life.tell("retrain")
    life.days(1)
    assert runs(life) == ["finished", "failed", "failed", "finished"]
    assert len(life.of_kind("fit failed")) == 2


def without_x3(table: pa.Table) -> pa.Table:
    return table.drop_columns(["x3"])


def with_text_in_x3(table: pa.Table) -> pa.Table:
    place = table.column_names.index("x3")
    return table.set_column(place, "x3", pa.array(["much"] * table.num_rows))


def test_a_source_that_breaks_is_told_once_and_what_it_held_is_learned_when_it_is_back(life: Life) -> None:
    source = life.root / "stream.parquet"
    life.label_days = 100 * 365  # nobody sends labels: only the table has them

    def write(change: Callable[[pa.Table], pa.Table] = lambda table: table) -> None:
        pq.write_table(change(before(life.table, life.now)), source)

    n_known = life.status().n
    for break_it, words in (
        (source.unlink, "There is no file 'stream.parquet'"),
        (lambda: write(without_x3), "Column 'x3' of stream is missing from the table"),
        (lambda: write(with_text_in_x3), "Column 'x3' is declared double, but row 0 ('much')"),
        (lambda: source.write_bytes(b"half a file"), "stream.parquet cannot be read as Parquet"),
    ):
        break_it()
        life.days(2)
        *_, told = life.of_kind("source failed")
        assert words in told.sentence
    assert len(life.of_kind("source failed")) == 4
    assert life.of_kind("source back") == []
    life.tell("retrain")
    life.days(1)
    assert "stream.parquet cannot be read as Parquet" in life.of_kind("fit failed")[0].sentence
    assert life.status().n <= n_known + streams.ROWS_A_DAY
    write()
    life.days(1)
    [back] = life.of_kind("source back")
    assert back.sentence == "the table of stream can be read again"
    # All days but the newest, whose labels are not complete.
    assert life.status().n >= n_known + 8 * streams.ROWS_A_DAY
    assert life.status().status == "running"
    assert {answer["version"] for answer in life.answers.values()} == {1}
    life.tell("retrain")
    life.days(1)
    assert runs(life) == ["finished", "finished"]


# ---------------------------------------------------------------- a database that cannot be written

LOCKED = ""
BROKEN_OFF = (
    ("page", LOCKED),
    ("release", LOCKED),
    ("rollout", "jobs"),
    ("promoted", LOCKED),
    ("promoted", "routes"),
    ("promoted", "checkpoints"),
    ("rolled back", LOCKED),
    ("rolled back", "routes"),
    ("rolled back", "checkpoints"),
)
"""The event in whose moment the database fails, and the table from whose next change on; none can be changed
while another program holds a lock."""
N_DAYS = 12


class Saboteur:
    """Another program, which makes the database fail in the very moment in which an event is told."""

    def __init__(self, faults: Sequence[tuple[str, str]]) -> None:
        self.faults, self.database = list(faults), Path()
        self._mending = ExitStack()

    def hear(self, event: Event) -> None:
        fault = next((fault for fault in self.faults if fault[0] == event.kind), None)
        if fault is not None:
            self.faults.remove(fault)
            self._break(fault[1])

    def _break(self, table: str) -> None:
        connection = sqlite3.connect(self.database, isolation_level=None, check_same_thread=False)
        self._mending.callback(connection.close)
        if not table:
            connection.execute("BEGIN IMMEDIATE")
            return
        raising = "BEGIN SELECT RAISE(ABORT, 'sabotage'); END"
        connection.execute(f"CREATE TRIGGER sabotage BEFORE UPDATE ON {table} {raising}")
        self._mending.callback(connection.execute, "DROP TRIGGER sabotage")

    def let_finish(self, work: Callable[[], object]) -> None:
        """Do it again, and let the database be whole again, as often as it fails."""
        while True:
            with self._mending:
                try:
                    work()
                except StoreError:
                    continue
                return

    def is_obeyed(self, life: Life) -> bool:
        """Whether a rollback is done; one that is refused because of a fault has changed nothing."""
        command = ask(life.store, "rollback", MODEL, {}, "ana", "complaints", life.now)
        self.let_finish(lambda: life.live.run_commands(life.now))
        return outcome(life.store, command).status == "done"


def records_of_a_life(folder: Path, faults: Sequence[tuple[str, str]]) -> dict[str, list[Any]]:
    """What is on record of a life whose labels turn round on its second day."""
    stream = streams.calm(110 * streams.ROWS_A_DAY, 3)
    turned = np.arange(len(stream)) >= 52 * streams.ROWS_A_DAY
    table = replace(stream, y=np.where(turned, 1 - stream.y, stream.y)).table()
    saboteur = Saboteur(faults)
    with living(project(folder, before(table, START)), table, START, on_event=saboteur.hear) as life:
        saboteur.database = life.store.folder / DATABASE_FILE
        life.store.database.busy_timeout_seconds = 0.2
        life.store.database.close()  # the next connection waits that long
        while life.now < START + N_DAYS * DAY:
            saboteur.let_finish(lambda: life.days(1))
        while not saboteur.is_obeyed(life):
            assert saboteur.faults, "refused without a fault"
        saboteur.let_finish(lambda: life.days(1))
        assert saboteur.faults == []
        assert life.status().version == 1
        assert {answer["version"] for answer in life.ask(life.rows_of(life.now - DAY))} == {1}
        with life.store.read() as reader:
            decisions = reader.find("decisions", {}, ["id"])
            findings = reader.find("findings", {}, ["id"])
        return {
            "decisions": [(row["id"], row["kind"], row["at"], row["sentence"]) for row in decisions],
            "findings": [(row["id"], row["found_at"], row["sentence"]) for row in findings],
            "audit": [(entry.actor, entry.action, entry.reason) for entry in audit_log(life.store)],
            "versions": [version.number for version in list_versions(life.store, MODEL)],
        }


def test_a_moment_that_a_broken_database_breaks_off_is_lived_again_as_if_nothing_had_been(
    tmp_path: Path,
) -> None:
    undisturbed = records_of_a_life(tmp_path / "undisturbed", [])
    assert {kind for _, kind, _, _ in undisturbed["decisions"]} >= {kind for kind, _ in BROKEN_OFF}
    assert records_of_a_life(tmp_path / "disturbed", BROKEN_OFF) == undisturbed
