"""A running system under load while its processes are killed at random moments: nothing is lost or doubled.

``CLEW_TEST_KILLS=300 pytest tests/server/test_kills.py`` kills as often as the design asks for; by default
the test ends earlier, as it runs with every other one.
"""

from __future__ import annotations

import itertools
import json
import os
import queue
import random
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import psutil
import pyarrow as pa
import pytest

from clew.storage import Store, scan
from clew.workspace import open_records
from tests.loop.live.life import BEGIN, DAY, MODEL, before, project
from tests.loop.live.test_living import flipped_at_day

N_KILLS = int(os.environ.get("CLEW_TEST_KILLS", "40"))
PATIENCE_SECONDS = 120.0
START = BEGIN + 50 * DAY
PARTS = ("worker 1", "worker 2", "control", "child", "child")

pytestmark = pytest.mark.timeout(60 + 20 * N_KILLS)

# Parts that die often are started again ever later; here nothing is wrong with them.
PROGRAM = """
import sys
from clew.cli import run
from clew.server import supervisor
supervisor.HEALTHY_SECONDS = 0.0
sys.exit(run(sys.argv[1:]))
"""


class System:
    """``clew up`` with two workers on a replayed clock, which may be killed and started again."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._said = (root / "said.txt").open("a")
        self.start()

    def start(self) -> None:
        words = ["up", "--json", "--clock", "replay", "--at", START.isoformat(), "--workers", "2"]
        self.process = subprocess.Popen(
            [sys.executable, "-c", PROGRAM, *words, "--port", "0", "--control-port", "0"],
            cwd=self.root,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=self._said,
            text=True,
        )
        assert self.process.stdout is not None
        document = ""
        for line in self.process.stdout:
            document += line
            if line == "}\n":
                break
        self.facts: dict[str, Any] = json.loads(document)
        assert "error" not in self.facts, self.said()
        self._token = Path(self.facts["token_file"]).read_text().strip()

    def client(self) -> httpx.Client:
        return httpx.Client(headers={"Authorization": f"Bearer {self._token}"}, timeout=PATIENCE_SECONDS)

    def said(self) -> str:
        return (self.root / "said.txt").read_text()

    def parts(self) -> dict[str, int]:
        found: dict[str, int] = json.loads((self.root / ".clew/run/up.json").read_text())["processes"]
        return found

    def family(self) -> list[psutil.Process]:
        """Every process that works on the project: by its words, as orphans have another parent."""
        found = []
        for each in psutil.process_iter(["cmdline", "status"]):
            words = each.info["cmdline"] or []
            is_ours = any(str(self.root) in word for word in words) or each.pid == self.process.pid
            if is_ours and each.info["status"] != psutil.STATUS_ZOMBIE:
                found.append(each)
        return found

    def kill_everything(self) -> None:
        for each in [psutil.Process(self.process.pid), *self.family()]:
            with suppress(psutil.NoSuchProcess):
                each.kill()
        self._ended()

    def stop(self) -> int:
        self.process.send_signal(signal.SIGTERM)
        return self._ended()

    def _ended(self) -> int:
        code = self.process.wait(PATIENCE_SECONDS)
        assert self.process.stdout is not None
        self.process.stdout.close()
        return code

    def close(self) -> None:
        with suppress(ProcessLookupError):
            self.process.kill()
        for each in self.family():
            with suppress(psutil.NoSuchProcess):
                each.kill()
        self._said.close()


@dataclass
class Load:
    """Days that pass: the clock moves, each hour's rows are asked about, labels follow a day later."""

    system: System
    table: pa.Table
    now: datetime = START
    answers: dict[str, dict[str, Any]] = field(default_factory=dict)
    n_broken: int = 0
    refused: list[str] = field(default_factory=list)

    def live_day(self) -> None:
        moment = self.now + DAY - timedelta(minutes=1)
        with self.system.client() as client:
            self._patiently(client, "control_url", "/clock", {"now": moment.isoformat()})
            questions: queue.Queue[dict[str, Any]] = queue.Queue()
            rows = self._rows_of(self.now)
            for row in rows:
                questions.put({name: value for name, value in row.items() if name != "y"})
            askers = [threading.Thread(target=self._ask, args=[questions]) for _ in range(2)]
            for each in askers:
                each.start()
            for each in askers:
                each.join()
            assert not self.refused, self.refused
            assert all(row["id"] in self.answers for row in rows)
            labels = [{"id": row["id"], "y": row["y"]} for row in self._rows_of(self.now - DAY)]
            self._patiently(client, "url", f"/labels/{MODEL}", labels, f"labels {self.now:%Y%m%d}")
        self.now += DAY

    def _rows_of(self, day: datetime) -> list[dict[str, Any]]:
        rows = before(self.table, day + DAY)
        rows = rows.slice(before(self.table, day).num_rows)
        return [row | {"at": row["at"].isoformat()} for row in rows.to_pylist()]

    def _ask(self, questions: queue.Queue[dict[str, Any]]) -> None:
        with self.system.client() as client:
            while True:
                try:
                    row = questions.get_nowait()
                except queue.Empty:
                    return
                try:
                    self.answers[row["id"]] = self._patiently(
                        client, "url", f"/predict/{MODEL}", row, row["id"]
                    )
                except AssertionError as error:
                    self.refused.append(str(error))

    def _patiently(self, client: httpx.Client, url: str, path: str, content: Any, key: str = "") -> Any:
        """Ask again, as the same request, when the process that was answering is gone."""
        headers = {"Idempotency-Key": key} if key else {}
        give_up = time.monotonic() + PATIENCE_SECONDS
        while True:
            try:
                answer = client.post(self.system.facts[url] + path, json=content, headers=headers)
            except httpx.TransportError:
                self.n_broken += 1
                assert time.monotonic() < give_up, self.system.said()[-3000:]
                continue
            # A control process that has just started says so; a worker never does.
            if url == "control_url" and answer.status_code == 503:
                time.sleep(0.1)
                continue
            assert answer.status_code == 200, f"{path}: {answer.status_code} {answer.text}"
            return answer.json()


class Killer:
    """Kills the workers, the control process and its children, each at a random moment of every day.

    What is killed quicker than it can start gets nowhere, and shows nothing: so once a day.
    """

    def __init__(self, load: Load, n_kills: int) -> None:
        self.killed: Counter[str] = Counter()
        self._load, self._system = load, load.system
        self._n_kills, self._random = n_kills, random.Random(7)
        self._thread = threading.Thread(target=self._go)

    def start(self) -> None:
        self._thread.start()

    @property
    def is_done(self) -> bool:
        return not self._thread.is_alive()

    def _go(self) -> None:
        while True:
            day = self._load.now
            for name in self._random.sample(PARTS, len(PARTS)):
                time.sleep(self._random.expovariate(1 / 0.3))
                self._kill(name)
                if self.killed.total() == self._n_kills:
                    return
            while self._load.now == day:
                time.sleep(0.02)

    def _kill(self, name: str) -> None:
        pid = self._child() if name == "child" else self._system.parts().get(name)
        if pid is not None:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
                self.killed[name.split(maxsplit=1)[0]] += 1

    def _child(self) -> int | None:
        with suppress(psutil.NoSuchProcess, KeyError):
            children = psutil.Process(self._system.parts()["control"]).children(recursive=True)
            return self._random.choice(children).pid if children else None
        return None


@contextmanager
def running(root: Path) -> Iterator[System]:
    system = System(root)
    try:
        yield system
    finally:
        system.close()


def test_kills_lose_nothing_double_nothing_and_leave_nobody(tmp_path: Path) -> None:
    table = flipped_at_day(70, n_days=60 + N_KILLS)
    root = project(tmp_path / "project", before(table, START))
    with running(root) as system:
        load = Load(system, table)
        load.live_day()
        killer = Killer(load, N_KILLS)
        killer.start()
        while not killer.is_done:
            load.live_day()
        assert killer.killed.total() == N_KILLS, killer.killed
        assert set(killer.killed) == {"worker", "control", "child"}
        load.live_day()
        # A worker that dies takes with it what its two callers wait for; every other request is answered.
        assert load.n_broken <= 3 * (killer.killed["worker"] + killer.killed["control"]) + 2
        system.kill_everything()
        gone(system)
        system.start()
        for _ in range(3):
            load.live_day()
        assert system.stop() == 0, system.said()[-3000:]
        gone(system)
        with open_records(root) as records:
            every_answer_is_logged_once(records.store, load, killer)
            every_step_was_done_once(records.store)


def gone(system: System) -> None:
    """Children end with their parents, whoever ended those."""
    give_up = time.monotonic() + 20
    while left := system.family():
        assert time.monotonic() < give_up, [each.cmdline() for each in left]
        time.sleep(0.1)


def every_answer_is_logged_once(store: Store, load: Load, killer: Killer) -> None:
    logged = scan(store, MODEL).to_pylist()
    by_id = {row["id"]: row for row in logged}
    assert len(by_id) == len(logged)
    for key, answer in load.answers.items():
        row = by_id[answer["prediction_id"]]
        told = dict(zip(("0", "1"), row["probabilities"], strict=True))
        assert (row["key"], row["version"], told) == (key, answer["version"], answer["probabilities"])
    n_given = sum(row["role"] != "shadow" for row in logged)
    # A worker may die between the log and the answer, which is then given by another one: two callers wait.
    assert 0 <= n_given - len(load.answers) <= 2 * (killer.killed["worker"] + 2)
    assert scan(store, MODEL, "f").num_rows == 0
    labels = Counter(row["key"] for row in scan(store, MODEL, "l").to_pylist())
    assert set(labels) >= {key for key in load.answers if key_is_older(load, key)}


def key_is_older(load: Load, key: str) -> bool:
    """Whether its label was sent: all but the newest day's were."""
    newest = {row["id"] for row in load._rows_of(load.now - DAY)}
    return key not in newest


def every_step_was_done_once(store: Store) -> None:
    with store.read() as reader:
        decisions = reader.find("decisions", {"deployment": MODEL}, ["sequence"])
        moves = [
            row
            for row in reader.find("audit", {"subject": MODEL}, ["sequence"])
            if row["action"] == "move champion"
        ]
        versions = reader.find("versions", {"deployment": MODEL}, ["number"])
        unfinished = [row["id"] for row in reader.find("runs", {"status": "running"})]
    numbers = [row["sequence"] for row in decisions]
    assert len(set(numbers)) == len(numbers)
    steps = Counter((row["kind"], row["at"], row["sentence"]) for row in decisions)
    assert not [step for step, n_times in steps.items() if n_times > 1]
    assert [row["at"] for row in decisions] == sorted(row["at"] for row in decisions)
    assert [row["number"] for row in versions] == list(range(1, len(versions) + 1))
    assert len({row["package"] for row in versions}) == len(versions)
    # Each move starts where the one before ended.
    path = [(move["evidence"]["from"], move["evidence"]["to"]) for move in moves]
    assert all(left[1] == right[0] for left, right in itertools.pairwise(path)), path
    assert len(moves) == 1 + sum(row["kind"] == "promoted" for row in decisions)
    assert not unfinished
