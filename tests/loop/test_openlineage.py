"""Threads of a small store as events, held against what the specification of OpenLineage 2-0-2 requires."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from clew.config import Settings
from clew.loop.openlineage import lineage_events, run_uuid, thread_records
from clew.loop.result import ThreadNode
from clew.loop.trace import touched, trace
from clew.registry import move_alias
from clew.storage import LOG_FOLDER, LogWriter, Store, open_store
from clew.storage.records import Prediction
from clew.tracking import fail_run, open_run
from tests.loop.made import NOW
from tests.loop.threads import Laid, lay

ANSWERED = NOW + timedelta(days=1)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Store, Laid, str]]:
    """A store with a thread in it, and the id of an answer that its champion gave."""
    root = tmp_path_factory.mktemp("bikes")
    with open_store(Settings(root=root, store=root / ".clew"), now=NOW) as store:
        laid = lay(store, root)
        move_alias(store, "busy_hour", "champion", 1, expected=None, actor="ada", reason="better", now=NOW)
        writer = LogWriter(store.folder / LOG_FOLDER, 1)
        at = int(ANSWERED.timestamp() * 1e6)
        answer = Prediction(
            "busy_hour", 1, "champion", at, at, "h00007", None, ("warmth",), (0.5,), 1, (0.2, 0.8), "r1", 30
        )
        [identity] = writer.append([answer])
        writer.close()
        yield store, laid, identity


def events_of(store: Store, thread: ThreadNode) -> list[dict[str, Any]]:
    """As JSON has them."""
    told = lineage_events(thread, thread_records(store, thread), NOW + timedelta(days=2))
    read: list[dict[str, Any]] = json.loads(json.dumps(told, allow_nan=False))
    return read


def ended(events: list[dict[str, Any]], job: str) -> dict[str, Any]:
    [event] = [each for each in events if each["job"]["name"] == job and each["eventType"] != "START"]
    return event


def nodes(thread: ThreadNode) -> Iterator[ThreadNode]:
    yield thread
    for other in (*thread.causes, *thread.effects):
        yield from nodes(other)


def check_event(event: dict[str, Any]) -> None:
    """What the schema of a RunEvent requires of each part."""
    assert {"eventTime", "producer", "schemaURL", "run", "job"} <= event.keys()
    assert event["eventType"] in {"START", "RUNNING", "COMPLETE", "ABORT", "FAIL", "OTHER"}
    assert datetime.fromisoformat(event["eventTime"]).tzinfo is not None
    assert event["schemaURL"] == "https://openlineage.io/spec/2-0-2/OpenLineage.json#/$defs/RunEvent"
    assert event["producer"].startswith("urn:clew:")
    assert str(UUID(event["run"]["runId"])) == event["run"]["runId"]
    facets = [event["run"]["facets"]]
    assert all(isinstance(event["job"][part], str) and event["job"][part] for part in ("namespace", "name"))
    for dataset in (*event["inputs"], *event["outputs"]):
        assert all(isinstance(dataset[part], str) and dataset[part] for part in ("namespace", "name"))
        facets.append(dataset["facets"])
    for name, facet in ((name, facet) for each in facets for name, facet in each.items()):
        assert facet["_producer"].startswith("urn:clew:"), name
        assert facet["_schemaURL"].startswith("https://openlineage.io/spec/"), name
        if name == "version":
            assert isinstance(facet["datasetVersion"], str)
        if name == "schema":
            assert all(field["name"] for field in facet["fields"])


def threads_of(store: Store, laid: Laid, answer: str) -> list[ThreadNode]:
    backwards = [
        answer,
        "busy_hour@1",
        "backtest-1f@1",
        laid.runs[0],
        laid.snapshot,
        laid.code,
        laid.environment,
    ]
    backwards += [laid.decision, laid.finding]
    forward = [laid.snapshot, laid.code, laid.environment, laid.runs[2], "busy_hour@1", laid.finding]
    return [*(trace(store, each) for each in backwards), *(touched(store, each) for each in forward)]


def test_every_event_has_what_the_specification_requires(made: tuple[Store, Laid, str]) -> None:
    for thread in threads_of(*made):
        events = events_of(made[0], thread)
        assert events, thread.kind
        for event in events:
            check_event(event)


def test_every_run_starts_once_and_ends_once(made: tuple[Store, Laid, str]) -> None:
    for thread in threads_of(*made):
        kinds: dict[str, list[str]] = {}
        for event in events_of(made[0], thread):
            kinds.setdefault(event["run"]["runId"], []).append(event["eventType"])
        assert {tuple(each) for each in kinds.values()} == {("START", "COMPLETE")}


def test_every_record_of_a_thread_is_in_its_events(made: tuple[Store, Laid, str]) -> None:
    def names(value: Any) -> Iterator[str]:
        if isinstance(value, dict):
            yield from (name for inner in value.values() for name in names(inner))
            if {"namespace", "version"} <= value.keys() | value.get("facets", {}).keys():
                yield f"{value['name'].partition('/')[2]}@{value['facets']['version']['datasetVersion']}"
        elif isinstance(value, list):
            yield from (name for inner in value for name in names(inner))
        elif isinstance(value, str):
            yield value

    for thread in threads_of(*made):
        told = set(names(events_of(made[0], thread)))
        missing = [(node.kind, node.id) for node in nodes(thread) if node.id not in told]
        assert not missing, (thread.kind, missing)


def test_a_training_takes_rows_and_gives_a_model(made: tuple[Store, Laid, str]) -> None:
    store, laid, _ = made
    trained = ended(events_of(store, trace(store, "busy_hour@1")), "busy_hour.try")
    [rows], [model] = trained["inputs"], trained["outputs"]
    assert (rows["namespace"], rows["name"]) == ("clew", "data/rides")
    assert rows["facets"]["version"]["datasetVersion"] == laid.snapshot
    assert {"name": "warmth", "type": "double"} in rows["facets"]["schema"]["fields"]
    assert (model["name"], model["facets"]["version"]["datasetVersion"]) == ("models/busy_hour", "1")
    facets = trained["run"]["facets"]
    assert trained["run"]["runId"] == run_uuid("run", laid.runs[0])
    assert facets["clew"]["id"] == laid.runs[0]
    assert facets["clew_metrics"]["metrics"] == {"accuracy": 0.9}
    assert facets["clew_code"]["id"] == laid.code
    assert facets["clew_environment"]["id"] == laid.environment
    assert facets["clew_run"]["params"]["num_leaves"] == {"value": 63, "source": "clew.toml"}
    assert [each["id"] for each in facets["clew_model"]["versions"]] == ["busy_hour@1"]
    assert trained["eventTime"] == "2026-03-01T12:00:02.000000Z"


def test_an_answer_takes_a_model_and_says_what_it_was(made: tuple[Store, Laid, str]) -> None:
    store, _, answer = made
    events = events_of(store, trace(store, answer))
    given = ended(events, "busy_hour.predict")
    assert [(each["name"], each["facets"]["version"]["datasetVersion"]) for each in given["inputs"]] == [
        ("models/busy_hour", "1")
    ]
    assert given["outputs"][0]["facets"]["version"]["datasetVersion"] == answer
    assert given["eventTime"] == "2026-03-02T12:00:00.000000Z"
    said = given["run"]["facets"]["clew_predictions"]
    assert said["features"] == {"warmth": 0.5}
    assert said["rows"][0]["key"] == "h00007"
    moved = ended(events, "busy_hour.move champion")
    assert moved["run"]["facets"]["clew_audit"]["actor"] == "ada"
    assert {"rides.snapshot", "busy_hour.try"} <= {event["job"]["name"] for event in events}


def test_forward_from_rows_leads_to_models_deployments_and_answers(made: tuple[Store, Laid, str]) -> None:
    store, laid, _ = made
    events = events_of(store, touched(store, laid.snapshot))
    assert {event["job"]["name"] for event in events} == {
        "rides.snapshot", "busy_hour.try", "busy_hour.deploy", "backtest-1f.deploy", "busy_hour.predict",
    }  # fmt: skip
    asked = ended(events, "busy_hour.predict")
    assert asked["run"]["facets"]["clew_predictions"]["by role"] == {"champion": 1}
    assert ended(events, "busy_hour.deploy")["outputs"] == asked["outputs"]


def test_a_training_that_failed_says_why(made: tuple[Store, Laid, str]) -> None:
    store, laid, _ = made
    run, _ = open_run(
        store, key="broken", model="busy_hour", purpose="blind", params={}, seed=0, snapshot=laid.snapshot,
        dataset="rides", rows=[], code=laid.code, environment=laid.environment, now=NOW,
    )  # fmt: skip
    going_on = events_of(store, trace(store, run.id))
    assert [each["eventType"] for each in going_on if each["job"]["name"] == "busy_hour.blind"] == ["START"]
    fail_run(store, run.id, error="ValueError: no", output=b"", now=NOW)
    failed = ended(events_of(store, trace(store, run.id)), "busy_hour.blind")
    assert (failed["eventType"], failed["outputs"]) == ("FAIL", [])
    error = failed["run"]["facets"]["errorMessage"]
    assert (error["message"], error["programmingLanguage"]) == ("ValueError: no", "Python")


def test_the_same_thread_gives_the_same_events(made: tuple[Store, Laid, str]) -> None:
    store, laid, _ = made
    thread = touched(store, laid.snapshot)
    assert events_of(store, thread) == events_of(store, thread)


def test_deployments_are_said_to_answer_with_whom(made: tuple[Store, Laid, str], tmp_path: Path) -> None:
    store, _, _ = made
    told = {node.id: node for node in nodes(touched(store, made[1].snapshot)) if node.kind == "deployment"}
    assert told["busy_hour"].sentence == "answers callers with version 1 since 2026-03-01 12:00"
    assert told["backtest-1f"].sentence == "backtest of busy_hour, which answered no caller"
    with open_store(Settings(root=tmp_path, store=tmp_path / ".clew"), now=NOW) as fresh:
        lay(fresh, tmp_path)
        [version] = [each for each in nodes(touched(fresh, "busy_hour@1")) if each.kind == "deployment"]
    assert version.sentence == "answers no caller: it has no champion"
