from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
import scipy.stats
from hypothesis import given
from hypothesis import strategies as st

from clew.stats.arrays import FloatArray
from clew.stats.paired import PairedComparison, better, non_inferior, paired_comparison

Pair = tuple[FloatArray, FloatArray]
loss_pairs = st.lists(st.tuples(st.floats(0, 10), st.floats(0, 10)), min_size=2, max_size=50)


def misses(
    draw: Callable[[int], Pair], true_difference: float, n: int, block: int | None = None
) -> tuple[float, float]:
    """Shares of 1,500 simulated comparisons whose interval lies above the truth, and below it."""
    found = [paired_comparison(*draw(n), block=block) for _ in range(1500)]
    above = np.mean([comparison.lower > true_difference for comparison in found])
    below = np.mean([comparison.upper < true_difference for comparison in found])
    return float(above), float(below)


def errors(rng: np.random.Generator, reference_alone: float, candidate_alone: float) -> Callable[[int], Pair]:
    def draw(n: int) -> Pair:
        cell = rng.random(n)
        both = (rng.random(n) < 0.1) & (cell >= reference_alone + candidate_alone)
        of_reference = both | (cell < reference_alone)
        of_candidate = both | ((cell >= reference_alone) & (cell < reference_alone + candidate_alone))
        return of_reference.astype(float), of_candidate.astype(float)

    return draw


@pytest.mark.parametrize("n", [200, 1000])
@pytest.mark.parametrize(
    ("reference_alone", "candidate_alone"), [(0.05, 0.05), (0.02, 0.01), (0.2, 0.1), (0.001, 0)]
)
def test_each_limit_of_differing_errors_holds_as_often_as_it_says(
    n: int, reference_alone: float, candidate_alone: float
) -> None:
    draw = errors(np.random.default_rng(1), reference_alone, candidate_alone)
    # Nominal .025 a side; five standard errors of the simulation are .02.
    assert max(misses(draw, reference_alone - candidate_alone, n)) < 0.045


@pytest.mark.parametrize("n", [200, 1000])
def test_each_limit_of_squared_errors_holds_as_often_as_it_says(n: int) -> None:
    rng = np.random.default_rng(2)

    def draw(n: int) -> Pair:
        noise = rng.standard_t(5, size=n)
        return (noise + 0.3 * rng.normal(size=n)) ** 2, (noise + 0.2 * rng.normal(size=n)) ** 2

    assert max(misses(draw, 0.3**2 - 0.2**2, n)) < 0.045


def test_blocks_keep_the_promise_where_rows_of_a_day_share_their_luck() -> None:
    rng = np.random.default_rng(3)

    def draw(n: int) -> Pair:
        difference = np.repeat(rng.normal(0, 0.3, n // 20), 20) + rng.normal(size=n)
        return np.abs(difference), np.abs(difference) - difference

    assert sum(misses(draw, 0.0, 1000, block=20)) < 0.07
    assert sum(misses(draw, 0.0, 1000)) > 0.15


def test_errors_give_the_interval_of_agresti_and_min() -> None:
    # Their formula written out for b = 12, c = 5 of n = 80, as in their appendix.
    b, c, n = 12, 5, 80
    reference, candidate = (
        np.repeat([1.0, 0, 1, 0], [b, c, 10, 53]),
        np.repeat([0.0, 1, 1, 0], [b, c, 10, 53]),
    )
    centre = (b - c) / (n + 2)
    reach = 1.959964 * math.sqrt((b + c + 1) - (b - c) ** 2 / (n + 2)) / (n + 2)
    found = paired_comparison(reference, candidate)
    assert (found.lower, found.upper) == pytest.approx((centre - reach, centre + reach), abs=1e-6)
    assert found.mean_difference == pytest.approx(7 / 80)
    assert found.n == 80


def test_many_rows_of_any_loss_give_the_interval_of_scipys_paired_t_test() -> None:
    rng = np.random.default_rng(4)
    reference, candidate = rng.exponential(size=5000), rng.exponential(0.9, size=5000)
    expected = scipy.stats.ttest_rel(reference, candidate).confidence_interval()
    found = paired_comparison(reference, candidate)
    assert (found.lower, found.upper) == pytest.approx((expected.low, expected.high), abs=0.001)


@given(pairs=loss_pairs, seed=st.integers(0, 99))
def test_the_order_of_rows_changes_nothing(pairs: list[tuple[float, float]], seed: int) -> None:
    rows = np.array(pairs)
    shuffled = np.random.default_rng(seed).permutation(rows)
    here, there = paired_comparison(*rows.T), paired_comparison(*shuffled.T)
    assert (here.lower, here.upper) == pytest.approx((there.lower, there.upper))


@given(pairs=loss_pairs)
def test_exchanging_the_models_turns_the_interval_round(pairs: list[tuple[float, float]]) -> None:
    a, b = np.array(pairs).T
    there, back = paired_comparison(a, b), paired_comparison(b, a)
    assert (there.lower, there.upper) == pytest.approx((-back.upper, -back.lower))
    assert there.lower <= there.mean_difference <= there.upper


@given(pairs=loss_pairs, margin=st.floats(0, 1), more=st.floats(0, 1))
def test_a_greater_margin_never_turns_a_pass_into_anything_else(
    pairs: list[tuple[float, float]], margin: float, more: float
) -> None:
    order = ["fail", "undecided", "pass"]
    comparison = paired_comparison(*np.array(pairs).T)
    assert order.index(non_inferior(comparison, margin)) <= order.index(
        non_inferior(comparison, margin + more)
    )


@pytest.mark.parametrize(
    "losses", [np.zeros(200), np.repeat([1.0, 0.0], [30, 170]), np.linspace(0.1, 0.9, 200)]
)
def test_an_equal_candidate_on_few_rows_is_undecided_and_not_waved_through(losses: FloatArray) -> None:
    comparison = paired_comparison(losses, losses)
    assert comparison.mean_difference == 0
    assert non_inferior(comparison, margin=0.005) == "undecided"
    assert better(comparison) == "undecided"


def test_an_equal_candidate_on_many_rows_passes() -> None:
    losses = np.repeat([1.0, 0.0], [300, 1700])
    assert non_inferior(paired_comparison(losses, losses), margin=0.005) == "pass"


@pytest.mark.parametrize("block", [None, 10])
def test_no_rows_leave_everything_undecided(block: int | None) -> None:
    comparison = paired_comparison([], [], block=block)
    assert (comparison.lower, comparison.upper, comparison.n) == (-math.inf, math.inf, 0)
    assert non_inferior(comparison, 0.5) == better(comparison) == "undecided"


def test_one_block_leaves_everything_undecided() -> None:
    comparison = paired_comparison(np.ones(19), np.zeros(19), block=10)
    assert (comparison.mean_difference, comparison.lower, comparison.upper) == (1, -math.inf, math.inf)


@pytest.mark.parametrize(
    ("lower", "upper", "not_worse", "is_better"),
    [
        (0.01, 0.03, "pass", "pass"),
        (-0.004, 0.02, "pass", "undecided"),
        (-0.02, 0.02, "undecided", "undecided"),
        (-0.009, -0.001, "undecided", "fail"),
        (-0.03, -0.006, "fail", "fail"),
    ],
)
def test_verdicts_follow_the_interval(lower: float, upper: float, not_worse: str, is_better: str) -> None:
    comparison = PairedComparison((lower + upper) / 2, lower, upper, 500, 0.95)
    assert non_inferior(comparison, margin=0.005) == not_worse
    assert better(comparison) == is_better


def test_rows_that_do_not_match_are_refused() -> None:
    with pytest.raises(ValueError, match="reference_losses has 2, candidate_losses has 1"):
        paired_comparison([0.0, 1.0], [0.0])
    with pytest.raises(ValueError, match="candidate_losses: row 0 is nan"):
        paired_comparison([0.0], [float("nan")])
    with pytest.raises(ValueError, match="block is 0 rows"):
        paired_comparison([0.0, 1.0], [1.0, 0.0], block=0)
    with pytest.raises(ValueError, match="margin is -1"):
        non_inferior(paired_comparison([0.0], [0.0]), margin=-1)
