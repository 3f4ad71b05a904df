from __future__ import annotations

import ast
import json
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import msgspec
import pytest

import clew.loop
from clew.config import NOTICE_LEVELS, NotificationSettings
from clew.entities import Decision, Finding
from clew.notifications import Notice, notice_of
from clew.notifications.notices import TOLD_DECISIONS, UNTOLD_DECISIONS
from tests.notifications.receivers import NOW

DRIFT = Finding(
    monitor="drift",
    level="ticket",
    subject="age",
    window_start=NOW - timedelta(days=7),
    window_end=NOW,
    found_at=NOW,
    value=0.31,
    lower=0.2,
    upper=float("nan"),
    n=5200,
    method="chi-square",
    sentence="age is distributed otherwise",
    evidence={"bins": [1, 2]},
)


def told(decision_or_finding: Decision | Finding) -> Notice | None:
    return notice_of(decision_or_finding, "churn", "churn/00007")


def kinds_of_decisions() -> set[str]:
    """Every kind that the loop's source writes out."""
    found: set[str] = set()
    for path in Path(*clew.loop.__path__).rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and ast.unparse(node.func) == "Decision":
                found |= {str(arg.value) for arg in node.args[:1] if isinstance(arg, ast.Constant)}
    return found


def test_of_every_kind_of_decision_it_is_said_whether_people_are_told() -> None:
    kinds = kinds_of_decisions()
    assert {"page", "promoted", "refit"} <= kinds
    assert kinds <= TOLD_DECISIONS.keys() | UNTOLD_DECISIONS
    assert not TOLD_DECISIONS.keys() & UNTOLD_DECISIONS


@pytest.mark.parametrize(("kind", "level"), TOLD_DECISIONS.items())
def test_a_decision_is_told_at_its_level(kind: str, level: str) -> None:
    notice = told(Decision(kind, NOW, "so it is", {"version": 3}))
    assert notice is not None
    assert (notice.level, notice.kind, notice.ask) == (level, kind, "clew why churn/00007")
    assert level in NOTICE_LEVELS


@pytest.mark.parametrize("kind", sorted(UNTOLD_DECISIONS))
def test_steps_on_the_way_are_not_told(kind: str) -> None:
    assert told(Decision(kind, NOW, "so it is")) is None


def test_by_default_people_hear_of_harm_and_of_what_was_done_about_it() -> None:
    levels = NotificationSettings().levels
    heard = {kind for kind, level in TOLD_DECISIONS.items() if level in levels}
    assert heard >= {"page", "recovered", "promoted", "rolled back"}


def test_a_finding_is_told_with_its_numbers_and_how_to_trace_it() -> None:
    notice = notice_of(DRIFT, "churn", "abcdef")
    assert notice is not None
    assert (notice.level, notice.kind, notice.finding, notice.ask) == (
        *("ticket", "drift", "abcdef"),
        "clew trace abcdef",
    )
    assert notice.evidence["value"] == 0.31
    assert (notice.evidence["n"], notice.evidence["bins"]) == (5200, [1, 2])


def test_a_chart_is_not_told() -> None:
    assert told(replace(DRIFT, level="chart")) is None


@pytest.mark.parametrize("monitor", ["risk", "rollout risk"])
def test_a_finding_that_a_decision_answers_is_told_with_that_alone(monitor: str) -> None:
    assert told(replace(DRIFT, level="page", monitor=monitor)) is None
    assert told(replace(DRIFT, level="page", monitor="broken labels")) is not None


def test_a_payload_is_json_that_says_everything() -> None:
    notice = told(DRIFT)
    assert notice is not None
    sent = json.loads(msgspec.json.encode(notice.payload()))
    assert sent.keys() == {
        *("level", "deployment", "kind", "at", "sentence"),
        *("evidence", "decision", "finding", "ask"),
    }
    assert (sent["at"], sent["evidence"]["upper"]) == (NOW.isoformat(), None)
