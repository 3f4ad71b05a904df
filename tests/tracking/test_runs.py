from __future__ import annotations

import math
import os
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from clew.entities import Param, RowRange, Run
from clew.errors import NotFound, StoreBusy, StoreError
from clew.storage import Store
from clew.tracking import (
    close_run,
    fail_lost_runs,
    fail_run,
    get_run,
    list_runs,
    log_metrics,
    open_run,
    read_metrics,
    this_owner,
)
from tests.storage import processes
from tests.tracking.conftest import NOW, StartChild

# What a child process does to open the same run as `begin` below.
OPEN_RUN = """
from clew.entities import RowRange
from clew.tracking import *
def begin():
    return open_run(store, key="fit busy_hour", model="busy_hour", purpose="try", params={}, seed=1,
        snapshot="s1", dataset="rides", rows=RowRange(0, 100), code="c1", environment="e1", now=now)
def close(run):
    close_run(store, run.id, metrics={"accuracy": 0.9}, model_digest="d", output=b"hello", seconds=1.0,
        peak_memory_bytes=2, now=now)
store = open_store(settings, now=now)
"""


def begin(store: Store, key: str = "fit busy_hour", **changes: Any) -> tuple[Run, bool]:
    given: dict[str, Any] = {
        "model": "busy_hour",
        "purpose": "try",
        "params": {"num_leaves": Param(31, "default"), "rate": Param(0.5, "clew.toml")},
        "seed": 1,
        "snapshot": "s1",
        "dataset": "rides",
        "rows": RowRange(0, 100),
        "code": "c1",
        "environment": "e1",
        "now": NOW,
    }
    return open_run(store, key=key, **{**given, **changes})


def close(store: Store, run: Run, **changes: Any) -> Run:
    given: dict[str, Any] = {
        "metrics": {"accuracy": 0.9},
        "model_digest": "d1",
        "output": b"fitted\n",
        "seconds": 1.5,
        "peak_memory_bytes": 10**8,
        "now": NOW + timedelta(seconds=2),
    }
    return close_run(store, run.id, **{**given, **changes})


def test_a_closed_run_is_read_back_as_it_was(store: Store) -> None:
    run, is_new = begin(store)
    assert (is_new, run.status, get_run(store, run.id)) == (True, "running", run)
    closed = close(store, run)
    assert get_run(store, run.id) == closed
    assert (closed.status, closed.metrics, closed.params) == ("finished", {"accuracy": 0.9}, run.params)
    assert (closed.rows, closed.ended_at, closed.seconds) == (
        (RowRange(0, 100),),
        NOW + timedelta(seconds=2),
        1.5,
    )
    assert closed.output is not None
    assert store.objects.get(closed.output) == b"fitted\n"


def test_a_finished_run_is_returned_and_not_begun_again(store: Store) -> None:
    closed = close(store, begin(store)[0])
    assert begin(store, now=NOW + timedelta(days=1), code="c2") == (closed, False)


def test_a_failed_run_says_why_and_may_be_begun_again(store: Store) -> None:
    run, _ = begin(store)
    failed = fail_run(store, run.id, error="busy_hour() raised ValueError: no rows", output=b"oh", now=NOW)
    assert (failed.status, failed.error) == ("failed", "busy_hour() raised ValueError: no rows")
    again, is_new = begin(store, seed=2)
    assert (again.id, is_new, again.error, again.output) == (run.id, True, None, None)
    assert get_run(store, run.id) == again


def test_another_attempt_does_not_keep_what_the_first_one_logged(store: Store) -> None:
    run, _ = begin(store)
    log_metrics(store, run.id, [("loss", 1, 0.5)], NOW)
    fail_run(store, run.id, error="killed", output=None, now=NOW)
    begin(store, code="c2")
    assert read_metrics(store, run.id) == []
    with store.read() as reader:
        edges = reader.find("edges", {"from_id": run.id})
    assert {(edge["relation"], edge["to_kind"], edge["to_id"]) for edge in edges} == {
        ("used", "snapshot", "s1"),
        ("ran", "code", "c2"),
        ("ran in", "environment", "e1"),
    }


def test_a_run_is_closed_once(store: Store) -> None:
    run, _ = begin(store)
    close(store, run)
    with pytest.raises(StoreError, match="is finished already"):
        close(store, run)
    with pytest.raises(StoreError, match="is finished already"):
        fail_run(store, run.id, error="late", output=None, now=NOW)
    with pytest.raises(NotFound, match="no run 'nonsense'"):
        fail_run(store, "nonsense", error="late", output=None, now=NOW)


def test_a_run_that_another_process_took_over_is_not_closed_by_the_first(store: Store) -> None:
    run, _ = begin(store, owner="elsewhere:1:2")
    with pytest.raises(StoreError, match=r"was taken over by elsewhere:1:2"):
        close(store, run)


def test_a_metric_that_is_not_a_number_is_read_back_so(store: Store) -> None:
    closed = close(store, begin(store)[0], metrics={"accuracy": math.nan, "log_loss": 0.25})
    assert math.isnan(closed.metrics["accuracy"])
    assert closed.metrics["log_loss"] == 0.25


# -- several processes ---------------------------------------------------------------------------------


def test_of_two_processes_one_works_and_the_other_is_told_who(store: Store, start: StartChild) -> None:
    worker = start(OPEN_RUN + "run, is_new = begin()\nsay(this_owner())\nwait()\nclose(run)\nsay('closed')")
    owner = processes.hear(worker)
    with pytest.raises(StoreBusy, match=f"is being worked on by the process {owner}"):
        begin(store)
    processes.tell(worker)
    assert processes.hear(worker) == "closed"
    run, is_new = begin(store)
    assert (run.status, is_new) == ("finished", False)


def test_many_processes_at_once_begin_one_run(store: Store, start: StartChild) -> None:
    code = """
from clew.errors import StoreBusy
say("ready"); wait()
try:
    run, is_new = begin()
    say("new" if is_new else run.status)
except StoreBusy:
    say("busy")
wait()
"""
    workers = [start(OPEN_RUN + code) for _ in range(4)]
    for worker in workers:
        assert processes.hear(worker) == "ready"
    for worker in workers:
        processes.tell(worker)
    assert sorted(processes.hear(worker) for worker in workers) == ["busy", "busy", "busy", "new"]


def test_a_killed_processs_run_is_taken_over_and_closed_once(store: Store, start: StartChild) -> None:
    worker = start(
        OPEN_RUN
        + "run, _ = begin()\nlog_metrics(store, run.id, [('loss', 1, 0.5)], now)\nsay(run.id)\nwait()"
    )
    run_id = processes.hear(worker)
    with pytest.raises(StoreBusy):
        begin(store)
    processes.kill(worker)
    run, is_new = begin(store)
    assert (run.id, is_new) == (run_id, True)
    assert close(store, run).status == "finished"
    with store.read() as reader:
        row = reader.get("runs", id=run_id)
        assert row is not None
        assert (row["attempt"], row["owner"], reader.count("runs")) == (2, this_owner(), 1)


def test_runs_whose_process_died_are_recorded_as_failed(store: Store, start: StartChild) -> None:
    worker = start(OPEN_RUN + "run, _ = begin()\nsay(run.id)\nwait()")
    lost, mine = processes.hear(worker), begin(store, "fit of a living process")[0].id
    assert fail_lost_runs(store, "fit", NOW) == 0
    processes.kill(worker)
    assert fail_lost_runs(store, "live/", NOW) == 0, "not asked about"
    assert fail_lost_runs(store, "fit", NOW) == 1
    assert get_run(store, lost).status == "failed"
    assert get_run(store, mine).status == "running"
    assert begin(store)[1], "it may be begun again"


@pytest.mark.skipif(not hasattr(os, "waitid"), reason="needs to wait without reaping")
def test_a_killed_process_that_nobody_waited_for_counts_as_dead(store: Store, start: StartChild) -> None:
    worker = start(OPEN_RUN + "begin()\nsay('begun')\nwait()")
    processes.hear(worker)
    worker.kill()
    os.waitid(os.P_PID, worker.pid, os.WEXITED | os.WNOWAIT)  # it is gone, but still a zombie
    assert begin(store)[1]


# -- finding -------------------------------------------------------------------------------------------


def test_runs_are_listed_newest_first_and_by_what_is_asked(store: Store) -> None:
    runs = [
        begin(store, f"{model} {n}", model=model, purpose=purpose, now=NOW + timedelta(hours=n))[0]
        for n, (model, purpose) in enumerate([("a", "try"), ("b", "try"), ("a", "backtest")])
    ]
    close(store, runs[1])

    def ids(**asked: Any) -> list[int]:
        return [int(run.key[-1]) for run in list_runs(store, **asked)]

    assert ids() == [2, 1, 0]
    assert ids(model="a") == [2, 0]
    assert ids(purpose="try") == [1, 0]
    assert ids(status="running") == [2, 0]
    assert ids(since=NOW + timedelta(hours=1)) == [2, 1]
    assert ids(limit=1) == [2]


def test_a_run_is_found_by_the_beginning_of_its_id(store: Store) -> None:
    run, _ = begin(store)
    assert get_run(store, run.id[:8]) == run
    with pytest.raises(NotFound, match=f"no run 'zzz'; the newest are {run.id[:12]}"):
        get_run(store, "zzz")


def test_an_ambiguous_beginning_names_the_runs(store: Store) -> None:
    for n in range(40):
        begin(store, f"key {n}")
    ids = [run.id for run in list_runs(store)]
    several = next(
        first for first in "0123456789abcdef" if sum(run_id.startswith(first) for run_id in ids) > 1
    )
    with pytest.raises(NotFound, match="begins the ids of several runs"):
        get_run(store, several)


# -- metrics -------------------------------------------------------------------------------------------


def test_logged_numbers_keep_their_order_over_batches(store: Store) -> None:
    run, _ = begin(store)
    log_metrics(store, run.id, [("loss", 1, 0.5), ("loss", 2, math.nan)], NOW)
    log_metrics(store, run.id, [], NOW)
    log_metrics(store, run.id, [("accuracy", None, 0.75), ("loss", 3, math.inf)], NOW + timedelta(seconds=1))
    assert [(row.name, row.step) for row in read_metrics(store, run.id)] == [
        ("loss", 1), ("loss", 2), ("accuracy", None), ("loss", 3),
    ]  # fmt: skip
    losses = [row.value for row in read_metrics(store, run.id, "loss")]
    assert losses[0] == 0.5
    assert math.isnan(losses[1])
    assert losses[2] == math.inf


def test_numpy_numbers_are_logged_as_numbers(store: Store, numpy_float: Callable[[float], Any]) -> None:
    run, _ = begin(store)
    log_metrics(store, run.id, [("loss", 1, numpy_float(0.5))], NOW)
    assert read_metrics(store, run.id)[0].value == 0.5


@pytest.fixture
def numpy_float() -> Callable[[float], Any]:
    import numpy as np

    return np.float32
