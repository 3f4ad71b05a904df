from __future__ import annotations

import math

import numpy as np
import pytest
import scipy.stats
from hypothesis import given
from hypothesis import strategies as st

from clew.stats.intervals import bootstrap_interval, mean_interval, wilson_interval


def test_wilson_interval_gives_the_published_values() -> None:
    # Newcombe (1998), Statistics in Medicine 17, 857-872, table I, method 3.
    lower, upper = wilson_interval([81, 15, 0, 1], [263, 148, 20, 29])
    assert lower == pytest.approx([0.2553, 0.0624, 0.0, 0.0061], abs=5e-5)
    assert upper == pytest.approx([0.3662, 0.1605, 0.1611, 0.1718], abs=5e-5)


@given(n=st.integers(1, 10**6), share=st.floats(0, 1), confidence=st.floats(0.5, 0.9999))
def test_wilson_interval_agrees_with_scipy(n: int, share: float, confidence: float) -> None:
    k = round(n * share)
    expected = scipy.stats.binomtest(k, n).proportion_ci(confidence, method="wilson")
    lower, upper = wilson_interval(k, n, confidence)
    assert (lower[0], upper[0]) == pytest.approx((expected.low, expected.high), abs=1e-9)
    assert lower[0] <= k / n <= upper[0]


@given(k=st.integers(0, 1000), n=st.integers(1000, 5000))
def test_ten_times_the_rows_gives_a_narrower_interval(k: int, n: int) -> None:
    lower, upper = wilson_interval([k, 10 * k], [n, 10 * n])
    assert upper[1] - lower[1] < upper[0] - lower[0]


def test_a_window_without_rows_may_have_any_share() -> None:
    lower, upper = wilson_interval([0], [0])
    assert (lower[0], upper[0]) == (0, 1)


def test_more_correct_answers_than_answers_are_refused() -> None:
    with pytest.raises(ValueError, match="window 1 has 6 correct answers of 5"):
        wilson_interval([3, 6], [5, 5])
    with pytest.raises(ValueError, match="window 0 has -1 correct answers"):
        wilson_interval([-1], [5])
    with pytest.raises(ValueError, match="confidence is 95"):
        wilson_interval([1], [5], confidence=95)


def test_bootstrap_of_a_mean_agrees_with_scipys_bca() -> None:
    rows = np.random.default_rng(5).exponential(size=80)
    expected = scipy.stats.bootstrap(
        (rows,), np.mean, n_resamples=20_000, method="BCa", rng=np.random.default_rng(6)
    ).confidence_interval
    assert bootstrap_interval(rows, n_resamples=20_000) == pytest.approx(
        (expected.low, expected.high), abs=0.01
    )


def test_bootstrap_of_a_median_agrees_with_scipys_percentiles() -> None:
    rows = np.random.default_rng(7).exponential(size=101)
    expected = scipy.stats.bootstrap(
        (rows,), np.median, n_resamples=5000, method="percentile", rng=np.random.default_rng(8)
    ).confidence_interval
    found = bootstrap_interval(rows, "median", n_resamples=5000)
    assert found == pytest.approx((expected.low, expected.high), abs=0.03)


def test_the_same_seed_gives_the_same_bootstrap() -> None:
    rows = np.random.default_rng(9).normal(size=3000)
    assert (
        bootstrap_interval(rows, seed=4)
        == bootstrap_interval(rows, seed=4)
        != bootstrap_interval(rows, seed=5)
    )


def test_bootstrap_of_rows_that_never_vary_is_their_value() -> None:
    assert bootstrap_interval([2.0, 2.0, 2.0]) == (2.0, 2.0)
    assert bootstrap_interval([2.0]) == (-math.inf, math.inf)


@pytest.mark.parametrize("n", [100, 400])
def test_bootstrap_covers_a_skewed_mean_about_as_often_as_it_says(n: int) -> None:
    rng = np.random.default_rng(10)
    covered = 0
    for i in range(300):
        lower, upper = bootstrap_interval(rng.exponential(size=n), n_resamples=400, seed=i)
        covered += lower <= 1 <= upper
    # A few hundredths below .95 are known of the bootstrap at n = 100.
    assert covered / 300 > 0.95 - 0.025 - 2 * math.sqrt(0.05 * 0.95 / 300)


def test_mean_interval_names_the_method_that_suits_the_rows() -> None:
    rng = np.random.default_rng(12)
    losses = rng.exponential(size=6000)
    assert mean_interval((losses > 2).astype(float)).method == "wilson"
    assert mean_interval(losses[:500]).method == "bootstrap"
    assert mean_interval(losses).method == "normal"
    assert mean_interval([]).method == mean_interval([0.3]).method == "none"


def test_normal_and_bootstrap_agree_where_one_takes_over_from_the_other() -> None:
    losses = np.random.default_rng(13).exponential(size=5001)
    normal, bootstrap = mean_interval(losses), mean_interval(losses[:5000])
    assert (normal.method, bootstrap.method) == ("normal", "bootstrap")
    assert (normal.lower, normal.upper) == pytest.approx((bootstrap.lower, bootstrap.upper), abs=0.004)


@given(losses=st.lists(st.floats(0, 1), max_size=40))
def test_mean_interval_holds_the_mean(losses: list[float]) -> None:
    found = mean_interval(losses)
    assert found.n == len(losses)
    assert not losses or found.lower - 1e-9 <= found.mean <= found.upper + 1e-9


def test_mean_interval_of_nothing_knows_nothing() -> None:
    found = mean_interval([])
    assert math.isnan(found.mean)
    assert (found.lower, found.upper, found.n) == (-math.inf, math.inf, 0)


def test_rows_without_a_value_are_named() -> None:
    with pytest.raises(ValueError, match="losses: row 1 is nan"):
        mean_interval([0.1, float("nan")])
    with pytest.raises(ValueError, match="values: row 0 is inf"):
        bootstrap_interval([float("inf")])
    with pytest.raises(ValueError, match=r"losses has shape \(1, 2\)"):
        mean_interval([[0.1, 0.2]])
