"""The live demo in short: seven weeks through real servers, one worker of which is killed on the way."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from clew.loop.trace import trace
from clew.storage import LOG_FOLDER
from clew.storage.log_reading import read_since
from clew.storage.records import Prediction
from clew.tracking import get_run
from clew.workspace import open_records
from tests.test_house import ROOT

CLEW = [sys.executable, "-P", "-c", "import sys; from clew.cli import run; sys.exit(run())"]


@dataclass(frozen=True)
class Lived:
    """A short life: its folder, what the feeder wrote and said, and who was killed on the way."""

    folder: Path
    result: dict[str, Any]
    killed: int
    replaced_by: int


def worker_of(folder: Path) -> int | None:
    try:
        facts = json.loads((folder / ".clew" / "run" / "up.json").read_text())
    except (FileNotFoundError, json.JSONDecodeError):
        return None
    pid: int | None = facts["processes"].get("worker 1")
    return pid


@pytest.fixture(scope="module")
def lived(tmp_path_factory: pytest.TempPathFactory) -> Lived:
    folder = tmp_path_factory.mktemp("bikes") / "live"
    shutil.copytree(
        ROOT / "examples" / "bikes" / "live", folder, ignore=shutil.ignore_patterns(".clew", "*.csv", "__*")
    )
    result = folder / "result.json"
    with (folder / "said.txt").open("w") as said:
        feeder = subprocess.Popen(
            [
                sys.executable,
                "feeder.py",
                "--until",
                "2011-08-18",
                "--result",
                "result.json",
                "--report",
                "life.html",
            ],
            cwd=folder,
            stdout=said,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
        )
        try:
            killed = killed_in_the_middle(folder)
            code = feeder.wait(150)
        finally:
            feeder.kill()
    assert code == 0, (folder / "said.txt").read_text()
    replaced_by = (folder / "said.txt").read_text().count("it is started again")
    return Lived(folder, json.loads(result.read_text()), killed, replaced_by)


def killed_in_the_middle(folder: Path) -> int:
    """Kill the prediction worker once a few hundred answers are logged."""
    give_up = time.monotonic() + 100
    log = folder / ".clew" / LOG_FOLDER
    while time.monotonic() < give_up:
        worker = worker_of(folder)
        if worker is not None and sum(f.stat().st_size for f in log.rglob("*.log")) > 60_000:
            os.kill(worker, signal.SIGKILL)
            return worker
        time.sleep(0.02)
    raise AssertionError("the feeder never got so far")


def logged(lived: Lived) -> list[tuple[str, Prediction]]:
    records, _ = read_since(lived.folder / ".clew" / LOG_FOLDER, {})
    return [(identity, record) for identity, record in records if isinstance(record, Prediction)]


def test_a_killed_worker_is_replaced_and_the_life_goes_on(lived: Lived) -> None:
    assert lived.replaced_by >= 1
    assert worker_of(lived.folder) != lived.killed
    assert len(lived.result["answers"]) == 49 * 24


def test_every_answer_stands_in_the_log_once(lived: Lived) -> None:
    given = [record for _, record in logged(lived) if record.role != "shadow"]
    identities = Counter(identity for identity, _ in logged(lived))
    assert all(identities[answer["id"]] == 1 for answer in lived.result["answers"])
    # One answer may have been logged and not have reached its caller when the worker was killed.
    assert 0 <= len(given) - len(lived.result["answers"]) <= 1


def test_the_metric_told_is_what_callers_saw(lived: Lived) -> None:
    right = [answer["right"] for answer in lived.result["answers"]]
    assert lived.result["summary"]["clew"] == pytest.approx(sum(right) / len(right), abs=1e-6)
    windows = lived.result["windows"]
    assert [window["n"] for window in windows] == [31 * 24, 18 * 24]
    for window in windows:
        of_window = [
            answer["right"]
            for answer in lived.result["answers"]
            if window["start"][:10] <= answer["day"] < window["end"][:10]
        ]
        assert window["clew"] == pytest.approx(sum(of_window) / len(of_window), abs=1e-6)


def test_the_counts_told_are_those_of_callers_and_of_the_log(lived: Lived) -> None:
    by_id = dict(logged(lived))
    heard = [answer["id"] for answer in lived.result["answers"]]
    assert Counter(str(by_id[identity].version) for identity in heard) == lived.result["counts"]
    assert Counter(str(answer["version"]) for answer in lived.result["answers"]) == lived.result["counts"]
    assert len(lived.result["counts"]) >= 2  # the first champion was succeeded


def test_frozen_is_version_1_on_the_logged_rows(lived: Lived) -> None:
    given = {record.key: record for _, record in logged(lived) if record.role != "shadow"}
    truth = {
        answer["hour_id"]: answer["right"] == given[answer["hour_id"]].predicted
        for answer in lived.result["answers"]
    }
    with open_records(lived.folder) as records:
        rows = pd.DataFrame([dict(zip(each.names, each.features, strict=True)) for each in given.values()])
        predicted = records.load_model("busy_hour@1").predict(rows).predicted
    right = [bool(said) == truth[key] for key, said in zip(given, predicted, strict=True)]
    assert lived.result["summary"]["frozen"] == pytest.approx(sum(right) / len(right), abs=1e-6)


def test_the_page_tells_the_same_and_nothing_that_was_not_lived(lived: Lived) -> None:
    page = (lived.folder / "life.html").read_text(encoding="utf-8")
    summary = lived.result["summary"]
    assert f"With Clew {summary['clew']:.3f}; frozen {summary['frozen']:.3f}</title>" in page
    assert "refitted blindly" not in page
    assert (summary["blind"], summary["blind_fits"]) == (None, None)
    assert all(window["blind"] is None for window in lived.result["windows"])


def test_when_nothing_runs_the_records_tell_the_same(lived: Lived) -> None:
    done = subprocess.run(
        [*CLEW, "status", "busy_hour", "--until", "2011-08-19", "--window", "1mo", "--json"],
        cwd=lived.folder, stdout=subprocess.PIPE, text=True, check=True,
    )  # fmt: skip
    told = json.loads(done.stdout)
    timeless = {name: value for name, value in lived.result["summary"].items() if name != "seconds"}
    assert {name: told["summary"][name] for name in timeless} == timeless
    assert [told[name] for name in ("windows", "counts")] == [
        lived.result[name] for name in ("windows", "counts")
    ]
    assert {event["kind"] for event in told["events"]} >= {"first champion", "release", "promoted"}
    assert [gate["report"]["outcome"] for gate in told["gates"]][:2] == ["pass", "pass"]


def test_answers_lead_back_to_versions_and_runs(lived: Lived) -> None:
    with open_records(lived.folder) as records:
        for version in lived.result["counts"]:
            thread = trace(records.store, f"busy_hour@{version}")
            runs = [cause.id for cause in thread.causes if cause.kind == "run"]
            assert get_run(records.store, runs[0]).status == "finished"


def test_the_life_is_good(lived: Lived) -> None:
    assert lived.result["summary"]["clew"] >= 0.885
    assert lived.result["summary"]["pages"] == 0  # July and the first weeks of August were healthy


def test_any_answer_is_traced_to_version_run_snapshot_and_row(lived: Lived) -> None:
    answers = lived.result["answers"]
    with open_records(lived.folder) as records:
        for answer in answers[:: len(answers) // 20]:
            node = trace(records.store, answer["id"])
            assert (node.kind, node.id) == ("prediction", answer["id"])
            by_kind = {cause.kind: cause for cause in node.causes}
            assert by_kind["version"].id == f"busy_hour@{answer['version']}"
            (run,) = (cause for cause in by_kind["version"].causes if cause.kind == "run")
            assert {"snapshot", "code", "environment"} <= {cause.kind for cause in run.causes}
            # The champion's place was given by the loop, with its reason; a canary had none.
            assert "audit" in by_kind or answer["version"] > 1
