from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import numpy as np
import pytest

from clew.entities import Margin
from clew.errors import UsageError
from clew.loop.first import FEWEST_ROWS, FirstChampion, first_champion, first_decision
from clew.loop.fitter import Fitter
from clew.tracking import get_run
from tests.loop.bikes import Bench
from tests.loop.made import START

NOW = START + timedelta(hours=700)


def champion(
    shared: Bench, name: str, number: int, now: Any = NOW, **changes: Any
) -> tuple[Fitter, FirstChampion]:
    declaration = replace(shared.described.model, **changes)
    fitter = shared.fitter(name, number)
    fitter.history = replace(shared.history, declaration=declaration)
    first = first_champion(fitter, shared.checker, now, n_models=1, budget=1.0, fits_per_day=None)
    return fitter, first


def test_the_first_champion_learns_from_everything_that_has_matured(shared: Bench) -> None:
    fitter, first = champion(shared, "everything", 3000)
    n = fitter.history.matured(NOW)
    assert first.model.pieces == ((0, n),)
    assert first.model.first_row == fitter.history.arrived(NOW)
    assert get_run(shared.store, first.model.run).purpose == "first champion"


def test_its_level_is_shown_by_a_twin_on_the_newest_third_it_had_not_seen(shared: Bench) -> None:
    fitter, first = champion(shared, "level", 3020)
    n, judged = fitter.history.matured(NOW), first.judged
    (segment,) = judged.segments
    assert judged.rows.tolist() == list(range(n - n // 3, n))
    assert segment.model.pieces[-1][1] <= fitter.history.matured(fitter.history.time_of(n - n // 3))
    assert get_run(shared.store, first.model.run).metrics["accuracy"] == 1 - judged.raw.mean()
    assert judged.raw.mean() < first.reference < judged.raw.mean() + 0.1


def test_the_gate_is_held_without_a_champion_to_compare(shared: Bench) -> None:
    _, first = champion(shared, "gate", 3040)
    outcomes = {check.name: check.outcome for check in first.report.checks}
    assert first.report.outcome == "pass"
    assert (outcomes["paired test"], outcomes["slices"]) == ("not tested", "not tested")
    assert outcomes["loads and answers"] == "pass"


def test_the_policy_follows_from_its_rows_and_skill(shared: Bench) -> None:
    fitter, first = champion(shared, "policy", 3060)
    n, by = fitter.history.matured(NOW), first.policy
    assert (by.window, by.bound) == (n // 3, 1.0)
    assert by.margin == pytest.approx(0.02)
    labels = fitter.history.y[first.judged.rows]
    constant = 1 - max(float((labels == 0).mean()), float((labels == 1).mean()))
    assert by.skill == pytest.approx(1 - first.judged.raw.mean() / constant)
    assert first.judged.raw.tolist() == np.asarray(first.judged.correct == 0, float).tolist()


def test_what_is_said_of_it_holds_its_numbers(shared: Bench) -> None:
    _, first = champion(shared, "said", 3080)
    decision = first_decision(first, NOW)
    assert decision.evidence["rows"] == first.model.n_rows
    assert decision.sentence.startswith(f"first champion: {first.model.n_rows} rows, accuracy 0.")
    assert decision.sentence.endswith("by a twin that had not seen them; gate: pass")


def test_too_few_matured_labels_are_refused_with_their_number(shared: Bench) -> None:
    early = START + timedelta(hours=24 + 64)
    with pytest.raises(UsageError, match=f"Only 59 labels have matured.*a model needs {FEWEST_ROWS}"):
        champion(shared, "early", 3100, early)


def test_labels_that_come_too_late_to_judge_a_first_model_are_told(shared: Bench) -> None:
    """Labels are a day late, and the newest third of the rows begins on the second day."""
    early = START + timedelta(hours=24 + 65)
    words = r"Of the 60 labels that have matured by .*, 19 were known when the newest third .* it needs 20"
    with pytest.raises(UsageError, match=words):
        champion(shared, "late", 3110, early)


def test_a_margin_as_large_as_the_errors_is_refused(shared: Bench) -> None:
    with pytest.raises(UsageError, match="margin=60% is as large as nearly all errors of busy_hour"):
        champion(shared, "wide", 3120, margin=Margin(0.6, is_relative=True))
