"""Versions, aliases and the audit log in a real store."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from clew.config import Settings
from clew.declare import dataset, model
from clew.entities import GateCheck, GateReport, Route, Version
from clew.errors import AliasMoved, NotFound, ObjectDamaged, PackageError, UsageError
from clew.registry import (
    aliases,
    audit_log,
    ensure_deployment,
    fetch_package,
    get_gate,
    get_profile,
    get_version,
    list_models,
    list_versions,
    move_alias,
    package_digest,
    register,
    store_package,
)
from clew.registry.audit_check import verify_audit
from clew.registry.routes import move_route
from clew.storage import Store, open_store

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(root=tmp_path, store=tmp_path / ".clew")


@pytest.fixture
def store(settings: Settings) -> Iterator[Store]:
    with open_store(settings, now=NOW) as store:
        ensure_deployment(store, "busy_hour", "live", "busy_hour", None, NOW)
        yield store


def make(store: Store, run: str = "r1", deployment: str = "busy_hour", **more: Any) -> Version:
    given: dict[str, Any] = {"model": "busy_hour", "package": "a" * 64, "flavor": "lightgbm", "metrics": {}}
    who: dict[str, Any] = {"now": NOW, "actor": "loop", "reason": "first fit"}
    return register(store, deployment=deployment, run=run, **(given | who | more))


def move(store: Store, to: int | None, expected: int | None, alias: str = "champion") -> int:
    return move_alias(
        store,
        "busy_hour",
        alias,
        to,
        expected=expected,
        actor="ann",
        reason="won",
        evidence={"by": 0.02},
        now=NOW,
    )


# -- versions ------------------------------------------------------------------------------------------


def test_versions_are_numbered_from_one_within_a_deployment(store: Store) -> None:
    ensure_deployment(store, "backtest-1", "backtest", "busy_hour", None, NOW)
    assert [make(store, run).number for run in ("r1", "r2")] == [1, 2]
    assert make(store, "r1", "backtest-1").name == "backtest-1@1"
    assert [version.run for version in list_versions(store, "busy_hour")] == ["r1", "r2"]


def test_a_run_that_has_a_version_gets_the_same_again(store: Store) -> None:
    first = make(store, "r1", metrics={"accuracy": 0.9})
    assert make(store, "r1", metrics={"accuracy": 0.1}) == first
    assert get_version(store, "busy_hour", 1) == first
    assert [entry.action for entry in audit_log(store)] == ["register version", "declare model"]


def test_gate_and_profile_are_kept_with_the_version(store: Store) -> None:
    gate = GateReport((GateCheck("minimum accuracy", "pass", "0.91 is above 0.75", 0.91, 0.88, limit=0.75),))
    profile = store.objects.put(b'{"n_rows": 100}')
    make(store, gate=gate, profile_digest=profile)
    make(store, "r2")
    assert get_gate(store, "busy_hour", 1) == gate
    assert get_profile(store, "busy_hour", 1) == {"n_rows": 100}
    assert get_gate(store, "busy_hour", 2) is None
    assert get_profile(store, "busy_hour", 2) is None


def test_registering_leaves_an_audit_row_and_a_step_of_the_thread(store: Store) -> None:
    make(store)
    entry = audit_log(store, "busy_hour")[0]
    assert (entry.actor, entry.action, entry.reason, entry.at) == (
        "loop",
        "register version",
        "first fit",
        NOW,
    )
    assert entry.evidence == {"version": 1, "run": "r1", "package": "a" * 64}
    with store.read() as reader:
        steps = reader.find("edges", {"from_kind": "version"})
    assert [(step["from_id"], step["relation"], step["to_id"]) for step in steps] == [
        ("busy_hour@1", "made by", "r1")
    ]


def test_a_version_that_is_not_there_is_answered_with_those_that_are(store: Store) -> None:
    with pytest.raises(NotFound, match=r"no version 7; it has none yet\. .*clew models show busy_hour"):
        get_version(store, "busy_hour", 7)
    for n in range(3):
        make(store, f"r{n}")
    with pytest.raises(NotFound, match="no version 7; versions 1 to 3 exist"):
        get_version(store, "busy_hour", 7)


def test_a_model_that_is_not_there_is_answered_with_the_nearest(store: Store) -> None:
    with pytest.raises(
        NotFound, match=r"no model 'busy_hours'\. Did you mean 'busy_hour'\? .*clew models list"
    ):
        get_version(store, "busy_hours", 1)
    with pytest.raises(NotFound, match="no model 'other'"):
        make(store, deployment="other")
    with store.read() as reader:
        assert reader.count("versions") == 0


def test_a_deployment_keeps_its_model_and_takes_the_newest_declaration(store: Store) -> None:
    @dataset("rides.parquet", time="ts", key="hour_id", label="busy", label_delay="1d")
    def rides(table: Any) -> Any:
        return table

    @model(rides, metric="accuracy", margin=0.01)
    def busy_hour(train: Any) -> Any:
        return train

    ensure_deployment(store, "busy_hour", "live", "busy_hour", busy_hour.declaration, NOW)
    with store.read() as reader:
        row = reader.get("deployments", name="busy_hour")
    assert row is not None
    assert row["declaration"]["dataset"]["key"] == "hour_id"
    with pytest.raises(UsageError, match="belongs to a live deployment of model 'busy_hour'"):
        ensure_deployment(store, "busy_hour", "backtest", "busy_hour", None, NOW)


def test_models_are_listed_with_their_newest_version_and_aliases(store: Store) -> None:
    ensure_deployment(store, "backtest-1", "backtest", "busy_hour", None, NOW)
    make(store, "r1")
    make(store, "r2")
    move(store, 1, None)
    (summary,) = list_models(store)
    assert (summary.n_versions, summary.newest, summary.aliases) == (2, 2, {"champion": 1})
    assert [summary.newest for summary in list_models(store, kind=None)] == [None, 2]


# -- aliases -------------------------------------------------------------------------------------------


def test_an_alias_moves_and_says_who_moved_it_and_why(store: Store) -> None:
    make(store, "r1")
    make(store, "r2")
    assert [move(store, 1, None), move(store, 2, 1)] == [1, 2]
    assert aliases(store, "busy_hour") == {"champion": 2}
    entry = audit_log(store)[0]
    assert (entry.actor, entry.action, entry.reason) == ("ann", "move champion", "won")
    assert entry.evidence == {"by": 0.02, "from": 1, "to": 2}


def test_an_alias_that_somebody_else_moved_stays_where_it_is(store: Store) -> None:
    for n in range(3):
        make(store, f"r{n}")
    move(store, 1, None)
    move(store, 2, 1)
    with pytest.raises(
        AliasMoved, match="champion of 'busy_hour' is version 2, not version 1 as expected"
    ) as caught:
        move(store, 3, 1)
    assert (caught.value.found, caught.value.http_status) == (2, 409)
    assert aliases(store, "busy_hour") == {"champion": 2}
    assert len(audit_log(store)) == 6


def test_a_move_that_was_made_already_is_not_made_again(store: Store) -> None:
    make(store)
    assert move(store, 1, None) == move(store, 1, None) == 1
    assert [entry.action for entry in audit_log(store)] == [
        "move champion",
        "register version",
        "declare model",
    ]


def test_an_alias_can_be_taken_away(store: Store) -> None:
    make(store)
    move(store, 1, None, "challenger")
    assert move(store, None, 1, "challenger") == 2
    assert aliases(store, "busy_hour") == {}
    assert move(store, 1, None, "challenger") == 3


def test_an_alias_cannot_point_to_nothing(store: Store) -> None:
    with pytest.raises(NotFound, match="no version 1"):
        move(store, 1, None)
    with pytest.raises(UsageError, match="no name for an alias"):
        move(store, 1, None, "Champion!")
    assert [entry.action for entry in audit_log(store)] == ["declare model"]


def test_the_audit_log_gives_the_newest_entries_first(store: Store) -> None:
    for n in range(5):
        make(store, f"r{n}")
    assert [entry.evidence["version"] for entry in audit_log(store, limit=2)] == [5, 4]
    assert audit_log(store, "another") == []


def test_a_declaration_that_changes_leaves_what_was_and_what_is(store: Store) -> None:
    ensure_deployment(store, "busy_hour", "live", "busy_hour", {"margin": 0.01, "metric": "accuracy"}, NOW)
    ensure_deployment(
        store, "busy_hour", "live", "busy_hour", {"margin": 0.5, "metric": "accuracy"}, NOW, actor="ann"
    )
    entry = audit_log(store)[0]
    assert (entry.actor, entry.action, entry.evidence) == (
        "ann",
        "change declaration",
        {"margin": [0.01, 0.5]},
    )


def test_a_route_that_moves_leaves_where_it_led_and_leads(store: Store) -> None:
    for _ in range(2):
        with store.write() as tx:
            move_route(
                tx, Route("busy_hour", 0, 1, 2, "canary", 0.1), NOW, actor="loop", reason="shadow done"
            )
    entry, before = audit_log(store)[:2]
    assert (entry.action, entry.subject, entry.reason) == ("move route", "busy_hour", "shadow done")
    assert (entry.evidence["from"], entry.evidence["generation"]) == (None, 1)
    assert (entry.evidence["to"]["stage"], entry.evidence["to"]["share"]) == ("canary", 0.1)
    assert before.action == "declare model"


# -- many processes ------------------------------------------------------------------------------------

REGISTER = """
import sys
from datetime import UTC, datetime
from pathlib import Path
from clew.config import Settings
from clew.registry import aliases, move_alias, register
from clew.storage import open_store

root, who, n_versions = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
now = datetime(2026, 3, 1, 12, tzinfo=UTC)
with open_store(Settings(root=root, store=root / ".clew"), now=now) as store:
    print("ready", flush=True)
    sys.stdin.readline()
    for n in range(n_versions):
        version = register(
            store, deployment="busy_hour", model="busy_hour", run=f"{who}-{n}", package="p", flavor="skops",
            metrics={}, now=now, actor=who, reason="",
        )
        if who.startswith("mover"):
            there = aliases(store, "busy_hour").get("champion")
            move_alias(
                store, "busy_hour", "champion", version.number, expected=there, actor=who, reason="", now=now
            )
        print(version.number, flush=True)
"""


def start(root: Path, who: str, n_versions: int) -> subprocess.Popen[str]:
    child = subprocess.Popen(
        [sys.executable, "-c", REGISTER, str(root), who, str(n_versions)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
    )
    assert child.stdout is not None
    assert child.stdout.readline() == "ready\n"
    return child


def test_two_processes_at_once_never_get_the_same_number(store: Store, tmp_path: Path) -> None:
    children = [start(tmp_path, who, 15) for who in ("left", "right")]
    said = [child.communicate("go\n", timeout=60)[0].split() for child in children]
    numbers = sorted(int(number) for words in said for number in words)
    assert numbers == list(range(1, 31))
    assert [version.number for version in list_versions(store, "busy_hour")] == numbers


def test_a_killed_process_leaves_nothing_half_done(store: Store, tmp_path: Path) -> None:
    for n in range(4):
        child = start(tmp_path, f"mover{n}", 10**6)
        assert child.stdin is not None
        child.stdin.write("go\n")
        child.stdin.flush()
        time.sleep(0.05 + 0.013 * n)
        child.send_signal(signal.SIGKILL)
        child.communicate()
    entries = audit_log(store, limit=None)
    moves = [entry for entry in entries if entry.action == "move champion"]
    versions = list_versions(store, "busy_hour")
    assert [version.number for version in versions] == list(range(1, len(versions) + 1))
    assert len(entries) - len(moves) - 1 == len(versions) > 0
    assert verify_audit(store).faults == ()
    with store.read() as reader:
        row = reader.get("aliases", deployment="busy_hour", alias="champion")
        assert reader.count("edges") == len(versions)
    assert row is not None
    assert (row["generation"], row["number"]) == (len(moves), moves[0].evidence["to"])


# -- packages in the store -----------------------------------------------------------------------------


@pytest.fixture
def package(tmp_path: Path) -> Path:
    folder = tmp_path / "package"
    (folder / "extra").mkdir(parents=True)
    (folder / "MLmodel").write_text("{}")
    (folder / "extra" / "words.txt").write_text("many words")
    return folder


def test_a_package_comes_back_byte_for_byte(store: Store, package: Path, tmp_path: Path) -> None:
    digest = store_package(store, package)
    assert digest == package_digest(package) == store_package(store, package)
    fetch_package(store, digest, tmp_path / "a" / "back")
    assert (tmp_path / "a" / "back" / "extra" / "words.txt").read_text() == "many words"
    assert package_digest(tmp_path / "a" / "back") == digest
    fetch_package(store, digest, tmp_path / "a" / "back")


def test_a_damaged_object_is_not_laid_out(store: Store, package: Path, tmp_path: Path) -> None:
    digest = store_package(store, package)
    words = store.objects.path(store.objects.put(b"many words"))
    words.chmod(0o600)
    words.write_bytes(b"many w0rds")
    with pytest.raises(ObjectDamaged):
        fetch_package(store, digest, tmp_path / "back")
    assert not (tmp_path / "back").exists()
    store_package(store, package)
    fetch_package(store, digest, tmp_path / "back")
    assert package_digest(tmp_path / "back") == digest


def test_a_package_is_not_laid_over_other_files(store: Store, package: Path, tmp_path: Path) -> None:
    digest = store_package(store, package)
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(PackageError, match="holds something else"):
        fetch_package(store, digest, tmp_path)


@pytest.mark.parametrize(
    "listing", [b"words", b"[]", b'{"files": {"../out": "aa"}}', b'{"files": {"/out": "aa"}}']
)
def test_an_object_that_is_no_package_is_refused(listing: bytes, store: Store, tmp_path: Path) -> None:
    with pytest.raises(PackageError, match=r"is no package|lies outside of it"):
        fetch_package(store, store.objects.put(listing), tmp_path / "back")


def test_a_package_that_is_not_there_is_not_found(store: Store, tmp_path: Path) -> None:
    with pytest.raises(NotFound):
        fetch_package(store, "f" * 64, tmp_path / "back")
