"""Decision thresholds: which class is answered, and how a change is kept."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from clew.config import load_settings
from clew.entities import DatasetDeclaration, Duration, Margin, ModelDeclaration, checked_threshold
from clew.errors import DeclarationError, NotFound, UsageError
from clew.registry import Predictions, audit_log, ensure_deployment
from clew.registry.routes import routing_generation
from clew.registry.thresholds import Cut, change_threshold, get_threshold, threshold_to_begin_with
from clew.storage import Store, open_store

NOW = datetime(2026, 3, 1, tzinfo=UTC)
DATASET = DatasetDeclaration("loans", "at", "id", "missed", Duration.parse("1d"), "loans.parquet")
DECLARED = ModelDeclaration("credit", DATASET, "log_loss", Margin.parse(0.01), threshold=0.08)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with open_store(load_settings(tmp_path, {}), now=NOW) as opened:
        yield opened


def in_force(store: Store) -> float | None:
    with store.read() as reader:
        return get_threshold(reader, "credit")


@given(
    chances=st.lists(st.floats(0, 1), min_size=1, max_size=20),
    threshold=st.floats(0.001, 0.999),
    positive=st.sampled_from([None, False, True]),
)
def test_the_positive_class_is_answered_from_the_threshold_on(
    chances: list[float], threshold: float, positive: bool | None
) -> None:
    chance = np.array(chances)
    answers = Predictions(np.zeros(len(chance), bool), np.column_stack((1 - chance, chance)), (False, True))
    decided = Cut(threshold, positive).applied(answers)
    of_positive = 1 - chance if positive is False else chance
    expected = (of_positive >= threshold) == (positive is not False)
    assert decided.predicted.tolist() == expected.tolist()
    assert decided.probabilities is answers.probabilities


def test_what_cannot_be_decided_is_said() -> None:
    with pytest.raises(UsageError, match="two classes; this one has 3"):
        Cut(0.1).places(("a", "b", "c"))
    with pytest.raises(UsageError, match="positive class is 'c', but the label's values are 'a' and 'b'"):
        Cut(0.1, "c").places(("a", "b"))
    with pytest.raises(UsageError, match="no predict_proba"):
        Cut(0.1).applied(Predictions(np.array(["a"]), None, ("a", "b")))


def test_a_deployment_begins_with_the_declared_one_and_keeps_what_a_person_says(store: Store) -> None:
    ensure_deployment(store, "credit", "live", "credit", DECLARED, NOW)
    assert in_force(store) == 0.08
    with store.write() as tx:
        generation = change_threshold(tx, "credit", 0.2, NOW, actor="ana", reason="too many alarms")
        again = change_threshold(tx, "credit", 0.2, NOW, actor="ana", reason="once more")
    assert generation == again
    ensure_deployment(store, "credit", "live", "credit", replace(DECLARED, min_requests=5), NOW)
    assert in_force(store) == 0.2, "the code says of it what it said before"
    with store.read() as reader:
        assert threshold_to_begin_with(reader, "credit", DECLARED) == 0.2
        assert threshold_to_begin_with(reader, "credit", replace(DECLARED, threshold=0.1)) == 0.1
    ensure_deployment(store, "credit", "live", "credit", replace(DECLARED, threshold=0.1), NOW)
    assert in_force(store) == 0.1
    changes = audit_log(store, "credit", action="change threshold")
    told = [(entry.actor, entry.evidence["from"], entry.evidence["to"]) for entry in changes]
    assert told == [("loop", 0.2, 0.1), ("ana", 0.08, 0.2)]
    with store.read() as reader:
        assert changes[0].evidence["generation"] == routing_generation(reader)


def test_a_declaration_of_an_older_clew_is_no_change(store: Store) -> None:
    ensure_deployment(store, "credit", "live", "credit", replace(DECLARED, threshold=None), NOW)
    with store.write() as tx:
        old = tx.find("deployments", {"name": "credit"})[0]["declaration"]
        del old["threshold"], old["positive"]
        tx.update("deployments", {"name": "credit"}, {"declaration": old})
    ensure_deployment(store, "credit", "live", "credit", replace(DECLARED, threshold=None), NOW)
    assert [entry.action for entry in audit_log(store, "credit")] == ["declare model"]


def test_a_deployment_that_is_not_there_has_none(store: Store) -> None:
    with store.read() as reader, pytest.raises(NotFound, match="no model 'credit'"):
        get_threshold(reader, "credit")


@pytest.mark.parametrize("wrong", [0, 1, -0.1, 1.5, True, "half", float("nan")])
def test_only_a_probability_between_is_declared(wrong: object) -> None:
    with pytest.raises(DeclarationError, match="threshold is"):
        checked_threshold(wrong)
