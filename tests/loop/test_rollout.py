from __future__ import annotations

import math
import os
import subprocess
import sys
from collections.abc import Hashable
from datetime import timedelta
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from clew.declare import parse_rollout
from clew.loop.rollout import ROLLBACK_ALPHA, Rollout
from clew.serving.routing import is_in_share
from clew.stats.arrays import FloatArray
from tests.loop.made import DAY, NOW

MARGIN = 0.02
THREE = parse_rollout("shadow 1d, canary 10% 2d, canary 50% 12h")
stages = st.lists(
    st.sampled_from(["shadow 1d", "canary 10% 2d", "canary 50% 36h", "canary 1% 1mo", "shadow 0d"]),
    max_size=5,
)


def begun(text: str = "shadow 1d, canary 10% 2d, canary 50% 12h") -> Rollout:
    return Rollout.begin("fit 7", parse_rollout(text), NOW)


# -- stages --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("passed", "stage", "share"),
    [
        (timedelta(), 0, 0.0),
        (DAY - timedelta(microseconds=1), 0, 0.0),
        (DAY, 1, 0.1),
        (3 * DAY - timedelta(microseconds=1), 1, 0.1),
        (3 * DAY, 2, 0.5),
        (3.5 * DAY, 3, 1.0),
        (100 * DAY, 3, 1.0),
    ],
)
def test_a_stage_gives_way_to_the_next_when_its_time_is_over(
    passed: timedelta, stage: int, share: float
) -> None:
    rollout = begun().advanced(NOW + passed)
    assert (rollout.stage, rollout.share, rollout.is_complete) == (stage, share, stage == 3)


def test_a_rollout_without_stages_is_complete_at_once() -> None:
    rollout = begun("now")
    assert (rollout.is_complete, rollout.share) == (True, 1.0)


def test_a_stage_of_no_length_is_passed_through() -> None:
    assert begun("shadow 0d, canary 10% 1d").advanced(NOW).share == 0.1


def test_a_late_look_does_not_lengthen_the_stages_to_come() -> None:
    assert begun().advanced(NOW + 1.9 * DAY).advanced(NOW + 3 * DAY).stage == 2


@given(stages, st.lists(st.timedeltas(timedelta(), 40 * DAY), min_size=1, max_size=6))
def test_how_often_one_looks_makes_no_difference(words: list[str], looks: list[timedelta]) -> None:
    rollout = begun(", ".join(words) or "now")
    step_by_step = rollout
    for look in sorted(looks):
        step_by_step = step_by_step.advanced(NOW + look)
    assert step_by_step == rollout.advanced(NOW + max(looks))


@given(stages, st.lists(st.timedeltas(timedelta(), 40 * DAY), min_size=2, max_size=6))
def test_a_rollout_never_goes_back_by_itself(words: list[str], looks: list[timedelta]) -> None:
    rollout = begun(", ".join(words) or "now")
    assert all(
        rollout.advanced(NOW + one).stage <= rollout.advanced(NOW + other).stage
        for one, other in pairwise(sorted(looks))
    )


# -- shares --------------------------------------------------------------------------------------------

keys = st.text() | st.integers() | st.dates()


@given(keys, st.floats(0, 1), st.floats(0, 1), st.text())
def test_a_key_within_a_share_is_within_every_larger_one(
    key: Hashable, one: float, other: float, salt: str
) -> None:
    smaller, larger = sorted((one, other))
    assert is_in_share(key, smaller, salt) <= is_in_share(key, larger, salt)


@given(keys, st.text())
def test_nobody_is_in_no_share_and_everybody_in_all(key: Hashable, salt: str) -> None:
    assert not is_in_share(key, 0.0, salt)
    assert is_in_share(key, 1.0, salt)


def test_a_key_keeps_its_place_in_every_process() -> None:
    here = [key for key in range(200) if is_in_share(f"A{key}", 0.1, "fit 7")]
    code = (
        "from clew.serving.routing import is_in_share\n"
        "print([key for key in range(200) if is_in_share(f'A{key}', 0.1, 'fit 7')])"
    )
    there = subprocess.run(
        [sys.executable, "-c", code],
        check=True,
        capture_output=True,
        text=True,
        env=os.environ | {"PYTHONHASHSEED": "7", "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    assert there.stdout.strip() == str(here)


@pytest.mark.parametrize("share", [0.01, 0.1, 0.5])
@pytest.mark.parametrize("salt", ["fit 1", "fit 2"])
def test_a_share_is_near_its_nominal_size(share: float, salt: str) -> None:
    n = 20_000
    n_chosen = sum(is_in_share(f"customer {key}", share, salt) for key in range(n))
    assert abs(n_chosen - share * n) < 4 * math.sqrt(n * share * (1 - share))


def test_two_rollouts_choose_independently() -> None:
    n = 20_000
    n_both = sum(is_in_share(key, 0.1, "fit 1") and is_in_share(key, 0.1, "fit 2") for key in range(n))
    assert abs(n_both - 0.01 * n) < 4 * math.sqrt(n * 0.01 * 0.99)


# -- rolling back --------------------------------------------------------------------------------------


def losses(n: int, harm: float, seed: int) -> tuple[FloatArray, FloatArray]:
    """Champion and candidate err on 10 % of `n` rows each, apart; the candidate on `harm` more."""
    where = np.random.default_rng(seed).random(n)
    champion, candidate = where < 0.1, (where >= 0.1) & (where < 0.2 + harm)
    return champion.astype(float), candidate.astype(float)


def test_a_harmful_candidate_is_rolled_back() -> None:
    assert not begun().must_roll_back
    assert begun().observed(*losses(400, 0.3, seed=0), MARGIN).must_roll_back


def test_once_harm_is_proven_it_stays_proven() -> None:
    harmed = begun().observed(*losses(400, 0.3, seed=0), MARGIN)
    champion, candidate = losses(2000, 0.3, seed=1)
    assert harmed.observed(candidate, champion, MARGIN).must_roll_back


def test_evidence_of_harm_does_not_depend_on_how_rows_arrive() -> None:
    champion, candidate = losses(300, 0.1, seed=2)
    whole, parts = begun().observed(champion, candidate, MARGIN), begun()
    for rows in (slice(0, 7), slice(7, 7), slice(7, 300)):
        parts = parts.observed(champion[rows], candidate[rows], MARGIN)
    assert parts.harm.n_rows == whole.harm.n_rows == 300
    assert parts.harm.log_evidence == pytest.approx(whole.harm.log_evidence)


def test_the_largest_difference_there_can_be_is_taken_in() -> None:
    rollout = begun().observed(np.array([0.0, 1.0]), np.array([1.0, 0.0]), MARGIN)
    assert rollout.harm.n_rows == 2


@pytest.mark.parametrize("n", [300, 5000])
@pytest.mark.parametrize(("margin", "harm"), [(0.02, 0.0), (0.02, 0.02), (0.2, 0.2)])
def test_a_candidate_within_the_margin_is_hardly_ever_rolled_back(n: int, margin: float, harm: float) -> None:
    n_rollouts = 400
    n_back = sum(
        begun().observed(*losses(n, harm, seed=seed), margin).must_roll_back for seed in range(n_rollouts)
    )
    # Four would be expected at the promised rate; ten or more come by chance once in 120 times.
    assert n_back < 2.5 * ROLLBACK_ALPHA * n_rollouts


@pytest.mark.parametrize(("harm", "share_found"), [(0.2, 0.9), (0.4, 0.99)])
def test_harm_is_found_within_four_hundred_rows(harm: float, share_found: float) -> None:
    n_found = sum(begun().observed(*losses(400, harm, seed), MARGIN).must_roll_back for seed in range(200))
    assert n_found >= share_found * 200
