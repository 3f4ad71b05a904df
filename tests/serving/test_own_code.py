"""Versions with the project's own code: each in a process of its own, which may fail in any way."""

from __future__ import annotations

import os
import signal
import textwrap
from pathlib import Path

import psutil
import pytest

from clew.entities import RowRange
from clew.registry import register, store_package
from clew.serving import own_code
from clew.serving.answering import ModelFailed
from clew.serving.own_code import OwnCode, OwnCodeRows
from clew.tracking import capture_code, open_run
from tests.registry.elsewhere import run_python
from tests.serving.workers import NOW, ROW, Place, error_of, wait_for

ENDS, HANGS, RAISES = 77.0, 78.0, 79.0

PROJECT = '''
import os
import time

from habits import VERDICT


class Verdict:
    """Says the same about every row, and has its weaknesses."""

    def fit(self, X, y):
        self.classes_ = sorted(set(y))
        return self

    def predict(self, X):
        warmest = X.warmth.max()
        if warmest == 77:
            os._exit(3)
        if warmest == 78:
            time.sleep(600)
        if warmest == 79:
            raise ValueError("Miller")
        print("printed by user code")
        return [VERDICT] * len(X)
'''

SAVE = """
import sys
sys.path[:0] = [sys.argv[1], sys.argv[3]]
from pathlib import Path
from verdict import Verdict
from clew.registry import save_package
from tests.registry.rides import busy, rides, signature_of
classes, table = ("busy", "calm"), rides(40)
signature = signature_of(table, classes)
model = Verdict().fit(signature.to_frame(table), busy(table, classes))
package = Path(sys.argv[2])
print(save_package(model, package, signature=signature, example=table, allow_code=True, code="c").digest)
"""


def packaged(folder: Path, verdict: str) -> OwnCode:
    """A package whose answer lies in a module of its own code, laid out."""
    code, package = folder / "code", folder / "package"
    code.mkdir(parents=True)
    (code / "verdict.py").write_text(PROJECT)
    (code / "habits.py").write_text(f"VERDICT = {verdict!r}\n")
    digest = run_python(textwrap.dedent(SAVE), code, package, Path.cwd()).split()[-1]
    return OwnCode(package, digest, code, project_root=folder)


def registered(place: Place, verdict: str) -> int:
    own = packaged(place.root / verdict, verdict)
    run, _ = open_run(
        place.store,
        key=f"fit {verdict}",
        model="credit",
        purpose="live",
        params={},
        seed=0,
        snapshot="s1",
        dataset="credit_rides",
        rows=RowRange(0, 40),
        code=capture_code(place.store, own.code, now=NOW).id,
        environment="e1",
        now=NOW,
    )
    return register(
        place.store,
        deployment="credit",
        model="credit",
        run=run.id,
        package=store_package(place.store, own.package),
        flavor="sklearn",
        metrics={},
        now=NOW,
        actor="tests",
        reason="for a test",
    ).number


def processes_of_code(pid: int) -> list[psutil.Process]:
    return [each for each in psutil.Process(pid).children() if "own_code_child" in " ".join(each.cmdline())]


def test_two_versions_answer_from_modules_of_the_same_name(place: Place) -> None:
    place.deploy()
    first, second = registered(place, "calm"), registered(place, "busy")
    place.route(first)
    worker = place.start()
    assert worker.predict().json()["prediction"] == "calm"
    place.settle(place.route(first, candidate=second, stage="shadow", salt="s"))
    assert worker.predict().json()["prediction"] == "calm"
    beside = wait_for(
        lambda: [p for _, p in place.predictions() if p.role == "shadow"], "the shadow's answer"
    )
    assert [each.predicted for each in beside] == ["busy"]
    assert len(processes_of_code(worker.process.pid)) == 2
    place.settle(place.route(second))
    assert worker.predict([ROW, ROW]).json()[1]["prediction"] == "busy"
    assert "printed by user code" in place.errors()


def test_user_code_that_ends_its_process_costs_one_request(place: Place) -> None:
    place.deploy()
    place.route(registered(place, "calm"))
    worker = place.start()
    [before] = processes_of_code(worker.process.pid)
    os.kill(before.pid, signal.SIGKILL)
    assert worker.predict().json()["prediction"] == "calm", "the question is asked again of a new process"
    assert error_of(worker.predict(ROW | {"warmth": ENDS}))[:2] == (500, "MODEL_FAILED")
    assert worker.predict().status_code == 200
    refused = worker.predict(ROW | {"warmth": RAISES})
    assert error_of(refused)[:2] == (500, "MODEL_FAILED")
    assert "ValueError in predict (verdict.py:" in refused.text
    assert "Miller" not in refused.text
    assert worker.predict({"ride": "r2"}).status_code == 422
    assert [failure.error.split()[0] for failure in place.failures()] == ["its", "ValueError"]


def test_the_process_ends_with_its_worker_and_with_its_version(place: Place) -> None:
    place.deploy()
    first, second = registered(place, "calm"), registered(place, "busy")
    place.route(first)
    worker = place.start()
    children = processes_of_code(worker.process.pid)
    place.settle(place.route(second))
    children = processes_of_code(worker.process.pid)
    assert len(children) == 2, "the version before is kept for a rollback"
    worker.kill()
    psutil.wait_procs(children, timeout=20)
    assert not [each for each in children if each.is_running()]


def test_code_that_hangs_is_ended_and_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(own_code, "ANSWER_SECONDS", 1.0)
    model = OwnCodeRows(packaged(tmp_path, "calm"))
    encoded, _ = model.encode(ROW)
    assert model.answer([encoded]) == (["calm"], None)
    hanging, _ = model.encode(ROW | {"warmth": HANGS})
    with pytest.raises(ModelFailed, match="did not answer within 1 s"):
        model.answer([hanging])
    assert model.answer([encoded, encoded])[0] == ["calm", "calm"]
    [child] = processes_of_code(os.getpid())
    del model
    wait_for(lambda: not child.is_running(), "the end of a process that nobody needs")


def test_code_that_cannot_be_imported_keeps_the_champion(place: Place) -> None:
    place.deploy()
    first, second = registered(place, "calm"), registered(place, "busy")
    place.route(first)
    worker = place.start()
    with place.store.write() as tx:
        tx.update("versions", {"deployment": "credit", "number": second}, {"run": "run of nobody"})
    place.settle(place.route(second))
    assert worker.predict().json()["version"] == first
