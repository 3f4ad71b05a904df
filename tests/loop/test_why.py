from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from itertools import pairwise
from pathlib import Path

import pytest

from clew.config import Settings
from clew.errors import NotFound
from clew.loop.why import NEWEST, why
from clew.registry import ensure_deployment, move_alias
from clew.storage import Store, open_store
from tests.loop.made import BUSY_HOUR, DAY, NOW
from tests.loop.threads import decide, lay


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    root = tmp_path_factory.mktemp("bikes")
    with open_store(Settings(root=root, store=root / ".clew"), now=NOW) as store:
        lay(store, root)
        yield store


def refusal(store: Store, reference: str) -> str:
    with pytest.raises(NotFound) as caught:
        why(store, reference)
    return str(caught.value)


def test_a_backtest_tells_its_decisions_in_order_and_leaves_mere_refits_out(store: Store) -> None:
    reasons = why(store, "backtest-1f")
    assert [(reason.decision, reason.kind) for reason in reasons] == [
        ("backtest-1f/00001", "page"),
        ("backtest-1f/00003", "promoted"),
    ]
    assert (reasons[0].at, reasons[0].sentence) == (NOW + DAY, "page number 1")


def test_a_decision_gives_its_findings_and_evidence_as_reasons(store: Store) -> None:
    (reason,) = why(store, "backtest-1f/00001")
    assert reason.because == ("risk: accuracy fell to 0.700 (e-detector)", "n: 120", "value: 0.7")


def test_even_a_refit_is_told_when_it_is_asked_for_by_its_id(store: Store) -> None:
    (reason,) = why(store, "backtest-1f/00002")
    assert (reason.kind, reason.because) == ("refit", ("recipes: all history",))


def test_a_version_tells_only_what_was_decided_about_it(store: Store) -> None:
    assert [reason.kind for reason in why(store, "backtest-1f@1")] == ["promoted"]


def test_a_version_that_a_person_tried_tells_its_gate(store: Store) -> None:
    (reason,) = why(store, "busy_hour@1")
    assert (reason.decision, reason.kind, reason.at) == ("busy_hour@1", "version", NOW)
    assert reason.sentence == "version 1 was trained and left undecided by the gate"
    assert reason.because == (
        "leakage: pass: no key is shared",
        "minimum accuracy: undecided: accuracy 0.9 may miss 0.89",
    )


def test_a_version_without_a_gate_says_so(store: Store) -> None:
    (reason,) = why(store, "busy_hour@2")
    assert (reason.sentence, reason.because) == ("version 2 was trained and did not meet the gate", ())


def test_a_live_model_tells_all_its_versions(store: Store) -> None:
    assert [reason.decision for reason in why(store, "busy_hour")] == ["busy_hour@1", "busy_hour@2"]


def test_an_alias_means_the_version_it_points_to(store: Store) -> None:
    move_alias(store, "busy_hour", "champion", 2, expected=None, actor="person", reason="best", now=NOW)
    assert [reason.decision for reason in why(store, "busy_hour@champion")] == ["busy_hour@2"]


def test_what_nothing_was_decided_about_is_answered_with_what_there_is(store: Store) -> None:
    said = refusal(store, "busy_day")
    assert said.startswith(
        "There is nothing to say of 'busy_day'; decisions were taken for backtest-1f, busy_hour"
    )
    assert "'busy_hour' has no version '7'; it has versions 1, 2" in refusal(store, "busy_hour@7")


def test_in_an_empty_store_nothing_was_decided_yet(tmp_path: Path) -> None:
    with open_store(Settings(root=tmp_path, store=tmp_path / ".clew"), now=NOW) as store:
        assert "nothing was decided yet" in refusal(store, "busy_hour")


def test_numbers_lists_and_tables_of_evidence_are_told_in_words(store: Store) -> None:
    evidence = {
        "gate": {"leakage": "pass", "size": "pass"},
        "all": ["a", "b"],
        "n": 12_345,
        "share": 0.123456,
    }
    ensure_deployment(store, "backtest-2", "backtest", "busy_hour", BUSY_HOUR, NOW)
    identity = decide(store, "backtest-2", 1, "refused", evidence=evidence)
    (reason,) = why(store, identity)
    assert reason.because == ("gate: leakage pass, size pass", "all: a, b", "n: 12345", "share: 0.1235")


def test_of_very_many_decisions_the_newest_are_told_and_old_ones_of_a_version_are_found(store: Store) -> None:
    ensure_deployment(store, "backtest-3", "backtest", "busy_hour", BUSY_HOUR, NOW)
    for sequence in range(1, 2 * NEWEST + 2):
        kind = "refit" if sequence % 2 == 0 else "release"
        decide(store, "backtest-3", sequence, kind, at=NOW + timedelta(hours=sequence))
    decide(store, "backtest-3", 2 * NEWEST + 2, "promoted", evidence={"version": 1})
    reasons = why(store, "backtest-3")
    assert (len(reasons), reasons[-1].kind) == (NEWEST, "promoted")
    assert all(one.at < other.at for one, other in pairwise(reasons))
