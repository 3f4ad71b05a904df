from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any, get_args

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from clew.entities import GateCheck, Outcome
from clew.loop.gate import (
    CALIBRATION_LIMIT,
    SMALLEST_SLICE,
    ContractFacts,
    GateFacts,
    LeakageFacts,
    ServingFacts,
    hold_gate,
)
from clew.stats.arrays import FloatArray
from clew.stats.metrics import metric_named

ACCURACY, RMSE, MAE, LOG_LOSS = map(metric_named, ("accuracy", "rmse", "mae", "log_loss"))
DAY = timedelta(days=1)
CONTRACT = ContractFacts(1000, {"warmth": 0.1}, {"warmth": 0.1}, n_classes=2)
LEAKAGE = LeakageFacts(gap=DAY, needed_gap=DAY, n_shared_keys=0)
SERVING = ServingFacts(True, 0.0, 200, 10_000, 8_000)


def wrong(n: int, share: float, seed: int = 0) -> FloatArray:
    """Row losses of `n` answers, exactly this share of them wrong, scattered."""
    losses = np.zeros(n)
    losses[: round(share * n)] = 1.0
    return np.random.default_rng(seed).permutation(losses)


def facts(candidate: FloatArray | None = None, **changes: Any) -> GateFacts:
    """A candidate that errs on 10 % of 2,000 rows, as its champion does; a constant errs on 40 %."""
    losses = wrong(2000, 0.1) if candidate is None else candidate
    n = len(losses)
    healthy: dict[str, Any] = {
        "metric": ACCURACY,
        "margin": 0.02,
        "candidate": losses,
        "champion": wrong(2000, 0.1)[:n],
        "anchor": None,
        "dummy": wrong(2000, 0.4, seed=1)[:n],
        "linear": wrong(2000, 0.15, seed=2)[:n],
        "minimum": {},
        "contract": CONTRACT,
        "leakage": LEAKAGE,
        "serving": SERVING,
    }
    return GateFacts(**{**healthy, **changes})


def check(name: str, given_facts: GateFacts) -> GateCheck:
    (found,) = [each for each in hold_gate(given_facts).checks if each.name == name]
    return found


def outcome(name: str, **changes: Any) -> Outcome:
    return check(name, facts(**changes)).outcome


def test_a_healthy_candidate_passes() -> None:
    report = hold_gate(facts())
    assert report.outcome == "pass"
    assert [each.name for each in report.checks] == [
        "data contract",
        "leakage",
        "minimum",
        "beats a dummy",
        "linear model",
        "loads and answers",
        "paired test",
        "anchor",
        "slices",
        "calibration",
        "size",
        "flips",
    ]


def test_every_check_runs_though_the_first_has_failed() -> None:
    report = hold_gate(facts(contract=replace(CONTRACT, n_classes=1)))
    assert (report.outcome, len(report.checks)) == ("fail", 12)


# -- data contract -------------------------------------------------------------------------------------


def test_labels_of_one_class_break_the_contract() -> None:
    found = check("data contract", facts(contract=replace(CONTRACT, n_classes=1)))
    assert (found.outcome, found.sentence) == ("fail", "all 1,000 training labels are one class")


def test_numbers_have_no_classes_to_count() -> None:
    assert outcome("data contract", contract=replace(CONTRACT, n_classes=None)) == "pass"


@pytest.mark.parametrize(("share", "expected"), [(0.6, "pass"), (0.61, "fail")])
def test_a_column_that_went_missing_breaks_the_contract(share: float, expected: str) -> None:
    found = check("data contract", facts(contract=replace(CONTRACT, missing={"warmth": share, "city": 0.0})))
    assert found.outcome == expected
    if expected == "fail":
        assert found.sentence == "warmth is missing in 61% of the training rows, 10% in the reference"
        assert found.value == pytest.approx(0.51)
        assert (found.limit, found.n) == (0.5, 1000)


def test_a_column_that_the_reference_never_had_may_not_be_mostly_missing() -> None:
    assert outcome("data contract", contract=replace(CONTRACT, missing={"wind": 0.51})) == "fail"


# -- leakage -------------------------------------------------------------------------------------------


def test_keys_in_training_and_evaluation_are_a_leak() -> None:
    found = check("leakage", facts(leakage=replace(LEAKAGE, n_shared_keys=3)))
    assert (found.outcome, found.sentence) == ("fail", "3 keys stand in training and evaluation")


@pytest.mark.parametrize(
    ("gap", "expected"),
    [(DAY, "pass"), (DAY - timedelta(microseconds=1), "fail"), (-DAY, "fail"), (None, "pass")],
)
def test_labels_that_had_not_matured_are_a_leak(gap: timedelta | None, expected: str) -> None:
    assert outcome("leakage", leakage=replace(LEAKAGE, gap=gap)) == expected


def test_entities_in_both_are_told_and_no_leak() -> None:
    found = check("leakage", facts(leakage=replace(LEAKAGE, n_shared_entities=7)))
    assert (found.outcome, found.sentence) == (
        "pass",
        "no key is shared, the label delay is kept; 7 entities appear in both",
    )


def test_a_candidate_that_is_never_wrong_on_many_rows_knows_the_label() -> None:
    found = check("leakage", facts(np.zeros(2000)))
    assert found.outcome == "fail"
    assert "look for a column that knows the label" in found.sentence
    assert found.value is not None
    assert 0 < found.value < 0.02 == found.limit


def test_never_wrong_on_a_few_rows_may_be_luck() -> None:
    assert outcome("leakage", candidate=np.zeros(100)) == "pass"


@pytest.mark.parametrize("metric", [RMSE, MAE, LOG_LOSS])
@pytest.mark.parametrize("unit", [1e-6, 1.0, 1e9])
@pytest.mark.parametrize(("size", "expected"), [(0.0, "fail"), (0.001, "fail"), (0.5, "pass")])
def test_too_good_is_measured_in_the_constant_s_own_unit(
    metric: Any, unit: float, size: float, expected: str
) -> None:
    noise = np.random.default_rng(3).exponential(size=(2, 500))
    candidate, dummy = noise[0] * size * unit, noise[1] * unit
    seen = facts(candidate, metric=metric, dummy=dummy, champion=None)
    assert check("leakage", seen).outcome == expected


def test_where_a_constant_is_always_right_nothing_is_too_good() -> None:
    assert outcome("leakage", candidate=np.zeros(2000), dummy=np.zeros(2000)) == "pass"


# -- minimum -------------------------------------------------------------------------------------------


def minimum(metric: Any, limit: float, losses: FloatArray) -> GateCheck:
    return check(f"minimum {metric.name}", facts(minimum={metric.name: (limit, metric, losses)}))


@pytest.mark.parametrize(("limit", "expected"), [(0.87, "pass"), (0.895, "undecided"), (0.93, "fail")])
def test_an_accuracy_must_certainly_reach_its_minimum(limit: float, expected: str) -> None:
    found = minimum(ACCURACY, limit, wrong(2000, 0.1))
    assert (found.outcome, found.limit, found.n) == (expected, limit, 2000)
    assert found.value == pytest.approx(0.9)
    assert found.lower is not None
    assert found.upper is not None
    assert found.lower < 0.9 < found.upper
    assert (found.lower >= limit) is (expected == "pass")
    assert (found.upper < limit) is (expected == "fail")


@pytest.mark.parametrize(("limit", "expected"), [(1.1, "pass"), (1.0, "undecided"), (0.9, "fail")])
def test_an_error_must_certainly_stay_below_its_maximum(limit: float, expected: str) -> None:
    errors = np.random.default_rng(0).normal(size=2000)
    found = minimum(RMSE, limit, errors**2 / (errors**2).mean())
    assert found.outcome == expected
    assert found.value == pytest.approx(1.0)


def test_the_words_of_a_minimum_hold_its_numbers() -> None:
    found = minimum(ACCURACY, 0.93, wrong(2000, 0.1))
    assert found.sentence == "accuracy 0.9 (0.8884 to 0.9105) certainly misses 0.93"


def test_a_minimum_without_rows_is_undecided() -> None:
    found = minimum(MAE, 3.0, np.empty(0))
    assert (found.outcome, found.limit, found.n) == ("undecided", 3.0, 0)


def test_a_minimum_on_one_row_is_undecided() -> None:
    assert minimum(MAE, 3.0, np.array([2.5])).outcome == "undecided"


def test_every_stated_minimum_is_a_check_of_its_own() -> None:
    both = {"log_loss": (0.7, LOG_LOSS, np.full(50, 0.5)), "accuracy": (0.5, ACCURACY, wrong(50, 0.1))}
    names = [each.name for each in hold_gate(facts(minimum=both)).checks]
    assert names[2:4] == ["minimum accuracy", "minimum log_loss"]


def test_without_a_stated_minimum_there_is_nothing_to_test() -> None:
    assert outcome("minimum") == "not tested"


@given(st.floats(0, 1), st.floats(0, 1), st.integers(0, 300), st.integers(0, 300))
def test_a_lower_minimum_is_never_harder_to_pass(
    one: float, other: float, n_wrong: int, n_right: int
) -> None:
    losses = np.repeat([1.0, 0.0], [n_wrong, n_right])
    rank = {"fail": 0, "undecided": 1, "pass": 2}
    low, high = (minimum(ACCURACY, limit, losses).outcome for limit in sorted((one, other)))
    assert rank[low] >= rank[high]


# -- baselines -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(("share", "expected"), [(0.3, "pass"), (0.4, "undecided"), (0.5, "fail")])
def test_a_candidate_must_beat_the_best_constant(share: float, expected: str) -> None:
    found = check("beats a dummy", facts(wrong(2000, share)))
    assert (found.outcome, found.limit) == (expected, 0.0)
    assert found.value == pytest.approx(0.4 - share)


@pytest.mark.parametrize(
    ("share", "expected"), [(0.05, "pass"), (0.15, "pass"), (0.16, "pass"), (0.25, "fail")]
)
def test_a_linear_model_may_tie_but_not_be_certainly_better(share: float, expected: str) -> None:
    found = check("linear model", facts(wrong(2000, share, seed=2), champion=None))
    assert (found.outcome, found.limit) == (expected, -0.02)


# -- loads and answers ---------------------------------------------------------------------------------


def test_a_package_that_does_not_load_fails() -> None:
    broken = ServingFacts(False, float("inf"), 0, 10_000, error="no module named bikes")
    found = check("loads and answers", facts(serving=broken))
    assert (found.outcome, found.sentence) == ("fail", "the package does not load: no module named bikes")


@pytest.mark.parametrize(("difference", "expected"), [(0.0, "pass"), (1e-6, "pass"), (2e-6, "fail")])
def test_a_package_must_answer_as_it_did_where_it_was_made(difference: float, expected: str) -> None:
    found = check("loads and answers", facts(serving=replace(SERVING, largest_difference=difference)))
    assert (found.outcome, found.value, found.limit, found.n) == (expected, difference, 1e-6, 200)


# -- the paired test -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("n", "share", "expected"),
    [(2000, 0.1, "pass"), (2000, 0.05, "pass"), (100, 0.1, "undecided"), (2000, 0.15, "fail")],
)
def test_a_candidate_is_at_most_half_the_margin_worse_than_the_champion(
    n: int, share: float, expected: str
) -> None:
    candidate = np.zeros(n)
    candidate[: round(share * n)] = 1
    champion = np.zeros(n)
    champion[: round(0.1 * n)] = 1
    found = check("paired test", facts(candidate, champion=champion))
    assert (found.outcome, found.limit, found.n) == (expected, -0.01, n)
    assert found.value == pytest.approx(0.1 - share)


def test_evidence_decides_where_it_is_given() -> None:
    proven = facts(evidence=50.0, evidence_needed=40.0)
    found = check("paired test", proven)
    assert (found.outcome, found.limit) == ("pass", None)
    assert found.sentence.startswith(
        "evidence 1:50 that it is better (1:40 needed): mean loss lower by 0.0000"
    )
    assert check("paired test", replace(proven, evidence=30.0)).outcome == "undecided"


@pytest.mark.parametrize(("share", "expected"), [(0.05, "pass"), (0.1, "undecided"), (0.15, "fail")])
def test_in_an_episode_a_candidate_must_be_better(share: float, expected: str) -> None:
    found = check("paired test", facts(wrong(2000, share, seed=5), must_be_better=True))
    assert (found.outcome, found.limit) == (expected, 0.0)


def test_the_first_version_has_no_champion_to_be_held_against() -> None:
    report = hold_gate(facts(champion=None))
    outcomes = {each.name: each.outcome for each in report.checks}
    assert (outcomes["paired test"], outcomes["slices"]) == ("not tested", "not tested")
    assert report.outcome == "pass"


def test_a_loss_is_told_as_one() -> None:
    found = check("paired test", facts(wrong(2000, 0.2)))
    assert (
        "is certainly not within half the margin of the champion: mean loss higher by 0.1000 (0.0"
        in found.sentence
    )


# -- the anchor ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(("share", "expected"), [(0.1, "pass"), (0.01, "fail")])
def test_small_losses_may_not_add_up_against_the_anchor(share: float, expected: str) -> None:
    found = check("anchor", facts(anchor=wrong(2000, share)))
    assert (found.outcome, found.limit) == (expected, -0.01)


def test_an_anchor_on_too_few_rows_leaves_it_undecided() -> None:
    assert outcome("anchor", candidate=wrong(100, 0.1), anchor=wrong(100, 0.1)) == "undecided"


@pytest.mark.parametrize("changes", [{"evidence": 50.0, "evidence_needed": 40.0}, {"must_be_better": True}])
def test_what_is_better_than_the_champion_is_not_held_against_the_anchor(changes: dict[str, Any]) -> None:
    assert outcome("anchor", anchor=wrong(2000, 0.01), **changes) == "not tested"


def test_a_champion_that_is_the_anchor_is_tested_once() -> None:
    assert outcome("anchor") == "not tested"


def test_an_anchor_that_returns_is_not_held_against_itself() -> None:
    found = check("anchor", facts(is_anchor=True))
    assert (found.outcome, found.sentence) == ("not tested", "the candidate is itself the anchor")


# -- slices --------------------------------------------------------------------------------------------


def sliced(n_slices: int, worse: int, share: float) -> GateFacts:
    """Slices of 200 rows; in slice `worse` the candidate errs on this share, elsewhere as the champion."""
    n = 200 * n_slices
    groups = np.repeat([f"s{i:03d}" for i in range(n_slices)], 200)
    champion = np.tile(wrong(200, 0.1), n_slices)
    candidate = champion.copy()
    candidate[groups == f"s{worse:03d}"] = wrong(200, share, seed=9)
    rest = {"dummy": np.ones(n), "linear": champion}
    return facts(candidate, champion=champion, slices={"city": groups}, **rest)


def test_a_slice_that_is_certainly_served_worse_fails() -> None:
    report = hold_gate(sliced(4, worse=2, share=0.4))
    outcomes = {each.name: each.outcome for each in report.checks if each.name.startswith("slice ")}
    assert outcomes == {
        "slice city=s000": "pass",
        "slice city=s001": "pass",
        "slice city=s002": "fail",
        "slice city=s003": "pass",
    }
    assert report.outcome == "fail"


def test_more_slices_ask_for_more_certainty_of_each() -> None:
    few, many = sliced(2, worse=1, share=0.2), sliced(100, worse=1, share=0.2)
    assert check("slice city=s001", few).outcome == "fail"
    assert check("slice city=s001", many).outcome == "pass"


def test_slices_of_an_equal_candidate_hardly_ever_cry() -> None:
    rng, n_failed = np.random.default_rng(4), 0
    for _ in range(60):
        champion, candidate = (rng.random((2, 1000)) < 0.1).astype(float)
        groups = rng.integers(0, 10, 1000).astype(str)
        seen = facts(candidate, champion=champion, slices={"city": groups})
        n_failed += any(each.outcome == "fail" for each in hold_gate(seen).checks if "slice" in each.name)
    assert n_failed <= 6


@pytest.mark.parametrize(("n", "expected"), [(SMALLEST_SLICE - 1, "not tested"), (SMALLEST_SLICE, "pass")])
def test_a_tiny_slice_is_not_tested(n: int, expected: str) -> None:
    groups = np.array(["Bonn"] * 2000, dtype=object)
    groups[:n] = "Ulm"
    found = check("slice city=Ulm", facts(slices={"city": groups}))
    assert (found.outcome, found.n) == (expected, n)


def test_without_slices_there_is_nothing_to_test() -> None:
    found = check("slices", facts())
    assert (found.outcome, found.sentence) == ("not tested", "the declaration names no slices=")


def test_slices_without_rows_are_not_said_to_be_undeclared() -> None:
    found = check("slices", facts(np.empty(0), slices={"city": np.empty(0, dtype=str)}))
    assert (found.outcome, found.sentence) == ("not tested", "no labelled row to measure them on")


# -- calibration, size, flips --------------------------------------------------------------------------


def said(n: int, truth: float, claimed: float) -> dict[str, Any]:
    """Answers of which a share `truth` is right, each given with the probability `claimed`."""
    return {"correct": 1 - wrong(n, 1 - truth), "confidence": np.full(n, claimed)}


@pytest.mark.parametrize(("claimed", "expected"), [(0.8, "pass"), (0.9, "pass"), (0.99, "fail")])
def test_probabilities_must_mean_what_they_say(claimed: float, expected: str) -> None:
    found = check("calibration", facts(**said(2000, 0.8, claimed)))
    assert (found.outcome, found.limit, found.n) == (expected, CALIBRATION_LIMIT, 2000)
    assert found.value == pytest.approx(abs(claimed - 0.8), abs=0.02)


def test_a_champion_that_boasts_lets_a_candidate_boast_a_little_more() -> None:
    champion = said(2000, 0.7, 0.9)
    boasting = {"champion_correct": champion["correct"], "champion_confidence": champion["confidence"]}
    found = check("calibration", facts(**said(2000, 0.78, 0.99), **boasting))
    assert found.outcome == "pass"
    assert found.limit == pytest.approx(0.25, abs=0.02)


def test_without_probabilities_calibration_is_not_tested() -> None:
    assert outcome("calibration") == "not tested"
    assert outcome("calibration", correct=np.empty(0), confidence=np.empty(0)) == "not tested"


def test_size_is_told_as_a_ratio_to_the_champion_s() -> None:
    found = check("size", facts())
    assert (found.outcome, found.value) == ("pass", 1.25)
    alone = replace(SERVING, champion_package_bytes=None)
    assert check("size", facts(serving=alone)).outcome == "not tested"


def test_flips_are_told_as_a_share() -> None:
    found = check("flips", facts(flip_share=0.044))
    assert (found.outcome, found.value) == ("pass", 0.044)
    assert found.sentence == "4.4% of the newest decisions differ from the champion's"


# -- all of it -----------------------------------------------------------------------------------------


def test_without_rows_the_gate_is_undecided_and_never_passes() -> None:
    report = hold_gate(facts(np.empty(0), minimum={"accuracy": (0.75, ACCURACY, np.empty(0))}))
    outcomes = {each.name: each.outcome for each in report.checks}
    assert report.outcome == "undecided"
    for name in ("minimum accuracy", "beats a dummy", "linear model", "paired test"):
        assert outcomes[name] == "undecided"


def test_a_regression_goes_through_the_same_gate() -> None:
    errors = np.random.default_rng(0).normal(size=(2, 3000))
    candidate = errors[0] ** 2
    seen = facts(
        candidate,
        metric=RMSE,
        margin=0.3,
        champion=(errors[0] + 0.01 * errors[1]) ** 2,
        dummy=4 * errors[1] ** 2,
        linear=1.5 * errors[0] ** 2,
        minimum={"rmse": (1.2, RMSE, candidate), "mae": (0.9, MAE, np.abs(errors[0]))},
        contract=replace(CONTRACT, n_classes=None),
    )
    report = hold_gate(seen)
    assert report.outcome == "pass", [each for each in report.checks if each.outcome != "pass"]
    assert hold_gate(replace(seen, candidate=4 * candidate)).outcome == "fail"


@given(st.integers(0, 200), st.floats(0, 1), st.floats(0, 1), st.booleans(), st.none() | st.floats(0, 100))
def test_every_check_of_any_candidate_has_an_outcome_and_words(
    n: int, share: float, theirs: float, must_be_better: bool, evidence: float | None
) -> None:
    seen = facts(
        wrong(n, share),
        champion=wrong(n, theirs, seed=1),
        anchor=wrong(n, theirs, seed=2),
        dummy=wrong(n, 0.5, seed=3),
        linear=wrong(n, 0.3, seed=4),
        minimum={"accuracy": (0.5, ACCURACY, wrong(n, share))},
        slices={"city": np.array(["Bonn", "Ulm"] * n)[:n]},
        must_be_better=must_be_better,
        evidence=evidence,
        evidence_needed=None if evidence is None else 40.0,
    )
    for found in hold_gate(seen).checks:
        assert found.outcome in get_args(Outcome)
        assert found.sentence
        assert found.outcome != "fail" or n > 0
