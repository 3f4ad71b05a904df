"""The store of a running system is locked, full, or cannot be written: ``clew up`` as it is installed."""

from __future__ import annotations

import json
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import httpx
import pyarrow as pa
import pytest

from clew.storage import LOG_FOLDER
from clew.storage.log_reading import read_since
from tests.disks import full, read_only, small_disk
from tests.loop import streams
from tests.loop.live.life import BEGIN, DAY, MODEL, before, project
from tests.server.running import FOR_REAL, Up, ended, eventually, kill, make_project, start, up

pytestmark = pytest.mark.timeout(300)

START = BEGIN + 50 * DAY


@pytest.fixture(scope="module")
def table() -> pa.Table:
    return streams.calm(80 * streams.ROWS_A_DAY, 3).table()


@pytest.fixture(scope="module")
def running(table: pa.Table, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Up]:
    """One system in replay, its store on a disk of 64 MB where that may be mounted."""
    root = project(tmp_path_factory.mktemp("store faults") / "project", before(table, START))
    words = ("--clock", "replay", "--at", START.isoformat())
    with small_disk(root / ".clew", "64m", is_needed=False), up(root, *words, program=FOR_REAL) as running:
        yield running


class Caller:
    """Asks for predictions; `ids` are those of all that were answered."""

    def __init__(self, running: Up, table: pa.Table) -> None:
        self._url = f"{running.facts['url']}/predict/{MODEL}"
        self._headers = {"Authorization": f"Bearer {running.token}"}
        row = table.slice(before(table, START).num_rows, 1).drop_columns(["y"]).to_pylist()[0]
        self.row = row | {"at": row["at"].isoformat()}
        self.ids: list[str] = []

    def ask(self, n_rows: int = 1) -> httpx.Response:
        answer = httpx.post(self._url, json=[self.row] * n_rows, headers=self._headers, timeout=30)
        if answer.status_code == 200:
            self.ids += [each["prediction_id"] for each in answer.json()]
        return answer

    def ask_until(self, is_over: threading.Event) -> list[int]:
        """The status of every answer."""
        statuses = []
        while not is_over.wait(0.01):
            statuses.append(self.ask().status_code)
        return statuses


LOCK = """
import sqlite3, sys
connection = sqlite3.connect(sys.argv[1], isolation_level=None)
connection.execute("BEGIN IMMEDIATE")
print("locked", flush=True)
sys.stdin.read()
"""


@contextmanager
def locked(database: Path) -> Iterator[int]:
    """Another program holds the database for the time of the block; its process number."""
    command = [sys.executable, "-c", LOCK, str(database)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as program:
        assert program.stdout is not None
        assert program.stdout.readline() == "locked\n"
        yield program.pid


def error(response: httpx.Response) -> tuple[int, str, str]:
    found = response.json()["error"]
    return response.status_code, found["code"], found["message"]


def order(running: Up, verb: str) -> httpx.Response:
    return running.ask("POST", f"/models/{MODEL}/{verb}", json={"reason": "a test"}, timeout=120)


def move(running: Up, n_days: int) -> httpx.Response:
    """Move the clock to so many days after the start."""
    to = (START + n_days * DAY).isoformat()
    return running.ask("POST", "/clock", json={"now": to}, timeout=120)


def ticks(running: Up) -> int:
    """How many days the loop has lived."""
    with sqlite3.connect(f"file:{running.folder}/.clew/clew.sqlite?mode=ro", uri=True) as connection:
        [[tick]] = connection.execute("SELECT tick FROM checkpoints")
    connection.close()
    return int(tick)


def is_well(running: Up) -> bool:
    return bool(running.ask("GET", "/health").json()["status"] == "ok")


def logged(running: Up) -> set[str]:
    records, _ = read_since(running.folder / ".clew" / LOG_FOLDER, {})
    return {name for name, _ in records}


def test_while_another_program_locks_the_database_predictions_go_on_and_afterwards_the_loop(
    running: Up, table: pa.Table
) -> None:
    caller, is_over = Caller(running, table), threading.Event()
    assert move(running, 1).status_code == 200
    assert ticks(running) == 1
    with ThreadPoolExecutor(3) as threads:
        with locked(running.folder / ".clew/clew.sqlite") as program:
            asking = threads.submit(caller.ask_until, is_over)
            # Both wait as long as a writer waits, and are then told whom for.
            waiting = [threads.submit(order, running, "pause"), threads.submit(move, running, 2)]
            refusals = [error(each.result()) for each in waiting]
            assert running.ask("GET", "/status").status_code == 200
            is_over.set()
            statuses = asking.result()
        assert {refusal[:2] for refusal in refusals} == {(503, "TEMPORARILY_UNAVAILABLE")}
        assert any(f"process {program} (" in message for _, _, message in refusals)
    assert set(statuses) == {200}
    assert len(statuses) > 100
    assert ticks(running) == 1
    assert move(running, 2).status_code == 200
    assert ticks(running) == 2
    assert [order(running, verb).status_code for verb in ("pause", "resume")] == [200, 200]
    eventually(lambda: is_well(running))
    assert logged(running) >= set(caller.ids)
    # What was refused left nothing behind: one pause, not two.
    entries = running.ask("GET", f"/audit?subject={MODEL}").json()["entries"]
    assert [entry["action"] for entry in entries[:2]] == ["resume", "pause"]
    assert [entry["action"] for entry in entries].count("pause") == 1


def test_on_a_full_disk_everything_says_so_and_with_room_again_it_goes_on_by_itself(
    running: Up, table: pa.Table
) -> None:
    disk = running.folder / ".clew"
    if not disk.is_mount():
        pytest.skip("no small disk can be mounted here")
    caller, lived, before_it = Caller(running, table), ticks(running), running.processes
    assert caller.ask().status_code == 200
    with full(disk):
        refused = eventually(lambda: (answer := caller.ask(50)).status_code != 200 and answer)
        assert error(refused)[:2] == (503, "LOG_FAILED")
        for answer in (order(running, "pause"), move(running, lived + 1)):
            status, _, message = error(answer)
            assert status == 500
            assert "Free some space" in message
        assert ticks(running) == lived
        # Who dies now cannot come back, and takes nobody along.
        kill(before_it["control"])
        eventually(lambda: running.log.read_text().count("control (process") >= 2)
        assert running.process.poll() is None
        assert caller.ask(50).status_code == 503
    eventually(lambda: running.process.poll() is None and caller.ask().status_code == 200)
    eventually(lambda: answers(running) and is_well(running))
    assert move(running, lived + 1).status_code == 200
    assert ticks(running) == lived + 1
    assert order(running, "pause").status_code == 200
    assert logged(running) >= set(caller.ids)


def answers(running: Up) -> bool:
    try:
        return running.ask("GET", "/health").status_code == 200
    except httpx.HTTPError:
        return False


def test_a_start_on_a_store_that_cannot_be_written_says_why(tmp_path: Path) -> None:
    root = make_project(tmp_path / "project")
    with small_disk(root / ".clew", "8m") as disk:
        with up(root) as running:
            running.process.terminate()
            assert ended(running.process)[0] == 0
        for fault, words in (
            (read_only, "Read-only file system"),
            (full, "No space left on device. Free some"),
        ):
            with fault(disk):
                process, log = start(root)
                code, said = ended(process)
            assert code == 1
            assert words in json.loads(said)["error"]["message"]
            assert "Traceback" not in log.read_text()
