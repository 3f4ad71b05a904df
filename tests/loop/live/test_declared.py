"""What is declared otherwise than at the last start of ``clew up``."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from clew.config import load_settings
from clew.entities import Duration, ModelDeclaration, Route
from clew.loop.live.declared import ACTION, note_declarations
from clew.loop.result import Event
from clew.registry import audit_log, ensure_deployment
from clew.registry.routes import move_route
from clew.storage import Store, open_store
from tests.loop.made import BUSY_HOUR, NOW

NAME = BUSY_HOUR.name
LATER = replace(
    BUSY_HOUR, metric="log_loss", dataset=replace(BUSY_HOUR.dataset, label_delay=Duration.parse("9d"))
)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with open_store(load_settings(tmp_path, {}), now=NOW) as store:
        yield store


def start(store: Store, *declared: ModelDeclaration) -> list[str]:
    told: list[tuple[str, Event]] = []
    note_declarations(store, declared, NOW, lambda name, event: told.append((name, event)))
    for each in declared:
        ensure_deployment(store, each.name, "live", each.name, each, NOW)
    return [event.sentence for _, event in told]


def test_a_first_start_and_one_with_nothing_changed_tell_nothing(store: Store) -> None:
    assert start(store, BUSY_HOUR) == []
    assert start(store, BUSY_HOUR) == []
    assert len(audit_log(store, NAME, action=ACTION)) == 1


def test_what_is_declared_otherwise_is_told_once_and_recorded(store: Store) -> None:
    start(store, BUSY_HOUR)
    [sentence] = start(store, LATER)
    assert "metric is log_loss now, after accuracy" in sentence
    assert f"label_delay is 9d now, after {BUSY_HOUR.dataset.label_delay}" in sentence
    assert start(store, LATER) == []
    [newest, _] = audit_log(store, NAME, action=ACTION)
    assert newest.actor == "clew up"
    assert newest.evidence["changes"]["metric"] == ["accuracy", "log_loss"]


def test_what_a_try_declared_in_between_does_not_hide_the_change(store: Store) -> None:
    start(store, BUSY_HOUR)
    ensure_deployment(store, NAME, "live", NAME, LATER, NOW, actor="person")
    assert len(start(store, LATER)) == 1


def test_a_renamed_function_leaves_a_model_that_answers_which_is_told_at_every_start(store: Store) -> None:
    start(store, BUSY_HOUR)
    route(store, Route(NAME, 0, 1))
    renamed = replace(BUSY_HOUR, name="busy_hours")
    for _ in range(2):
        [sentence] = start(store, renamed)
        assert sentence.startswith(f"{NAME} is not declared any more, but its version 1 answers on")
        assert f"clew retire {NAME}" in sentence
    assert [row.evidence["declaration"] is None for row in audit_log(store, NAME, action=ACTION)] == [
        True,
        False,
    ]
    route(store, Route(NAME, 0, 1, stage="retired"))
    assert start(store, renamed) == []
    assert start(store, BUSY_HOUR, renamed) == [], "and declared again it is as new"


def route(store: Store, to: Route) -> None:
    with store.write() as tx:
        move_route(tx, to, NOW, actor="ana", reason="for the test")
