from __future__ import annotations

import numpy as np
import pytest
import scipy.spatial.distance
import scipy.stats
from hypothesis import assume, given
from hypothesis import strategies as st

from clew.stats.distances import (
    chi_square_test,
    noise_corrected_total_variation,
    noise_in_total_variation,
    total_variation,
)

counts = st.lists(st.integers(0, 1000), min_size=1, max_size=12)
pairs = st.integers(1, 12).flatmap(
    lambda n: st.tuples(*[st.lists(st.integers(0, 1000), min_size=n, max_size=n) for _ in range(2)])
)


@given(pair=pairs)
def test_total_variation_is_symmetric_and_between_nought_and_one(pair: tuple[list[int], list[int]]) -> None:
    a, b = pair
    assert total_variation(a, b) == pytest.approx(total_variation(b, a))
    assert 0 <= total_variation(a, b) <= 1 + 1e-12
    assert 0 <= noise_corrected_total_variation(a, b) <= total_variation(a, b)


@given(pair=pairs)
def test_total_variation_is_half_of_scipys_city_block_distance(pair: tuple[list[int], list[int]]) -> None:
    a, b = pair
    assume(sum(a) and sum(b))
    expected = scipy.spatial.distance.cityblock(np.array(a) / sum(a), np.array(b) / sum(b)) / 2
    assert total_variation(a, b) == pytest.approx(expected)


@given(a=counts, times=st.integers(1, 9))
def test_the_same_shares_are_no_distance_apart(a: list[int], times: int) -> None:
    assert total_variation(a, [times * count for count in a]) == pytest.approx(0, abs=1e-12)


@given(pair=pairs, seed=st.integers(0, 99))
def test_the_order_of_bins_changes_nothing(pair: tuple[list[int], list[int]], seed: int) -> None:
    order = np.random.default_rng(seed).permutation(len(pair[0]))
    a, b = np.array(pair[0]), np.array(pair[1])
    here, there = chi_square_test(a, b), chi_square_test(a[order], b[order])
    assert noise_corrected_total_variation(a, b) == pytest.approx(
        noise_corrected_total_variation(a[order], b[order])
    )
    # Bins equally rare may be pooled in another order, so only what is never pooled must agree to the digit.
    if len(set((a + b).tolist())) == len(a):
        assert here.p_value == pytest.approx(there.p_value)


@pytest.mark.parametrize(
    ("shares", "n_reference", "n"),
    [
        (np.full(16, 1 / 16), 100_000, 200),
        (np.full(16, 1 / 16), 500, 2000),
        (np.array([0.9, 0.05, 0.03, 0.015, 0.004, 0.001]), 1000, 300),
        (np.array([0.999, 0.0009, 0.0001]), 3000, 100),
    ],
)
def test_the_noise_subtracted_is_what_a_simulation_without_drift_shows(
    shares: np.ndarray, n_reference: int, n: int
) -> None:
    rng = np.random.default_rng(1)
    simulated = rng.multinomial(n_reference, shares, size=2000), rng.multinomial(n, shares, size=2000)
    seen = np.mean([total_variation(a, b) for a, b in zip(*simulated, strict=True)])
    promised = np.mean([noise_in_total_variation(a, b) for a, b in zip(*simulated, strict=True)])
    # Near for ordinary bins; with bins of less than a row it may promise more than there is, never much less.
    assert promised == pytest.approx(seen, rel=0.1) or (shares.min() * n < 1 and promised > 0.95 * seen)


def test_correction_hardly_shortens_a_real_distance_in_a_large_window() -> None:
    rng = np.random.default_rng(2)
    moved = np.full(16, 1 / 16) + np.repeat([0.02, -0.02], 8)
    window = rng.multinomial(20_000, moved)
    assert noise_corrected_total_variation(np.full(16, 100_000), window) == pytest.approx(0.16, abs=0.02)


def test_chi_square_agrees_with_scipy_where_nothing_needs_pooling() -> None:
    rng = np.random.default_rng(3)
    for n in (50, 300, 10_000):
        a, b = rng.integers(100, 400, size=17), rng.integers(1, 4, size=17) * n // 10
        expected = scipy.stats.chi2_contingency(np.array([a, b]), correction=False)
        found = chi_square_test(a, b)
        assert found.statistic == pytest.approx(expected.statistic)
        assert found.p_value == pytest.approx(expected.pvalue, rel=1e-9)
        assert (found.degrees_of_freedom, found.n) == (expected.dof, b.sum())


def test_chi_square_pools_rare_bins_as_a_person_would() -> None:
    # All rare ones together expect 1.5 rows in the window, so they join the next rarest: two groups are left.
    a, b = [500, 300, 4, 3, 2, 0], [50, 30, 3, 1, 2, 0]
    pooled = scipy.stats.chi2_contingency([[500, 309], [50, 36]], correction=False)
    assert chi_square_test(a, b).p_value == pytest.approx(pooled.pvalue)
    # Ten bins of 2 expected rows each make groups of three, and the tenth joins the frequent one.
    many = chi_square_test([400] + [20] * 10, [40] + [2] * 9 + [3])
    assert many.degrees_of_freedom == 3


def test_pooling_keeps_a_crowd_of_new_levels_visible() -> None:
    assert chi_square_test([5000, 5000, 0, 0], [450, 450, 50, 50]).p_value < 1e-100


@pytest.mark.parametrize(("n_reference", "n"), [(100_000, 500), (2000, 2000), (1000, 60)])
def test_chi_square_cries_no_more_often_than_it_says(n_reference: int, n: int) -> None:
    rng = np.random.default_rng(4)
    shares = np.append(np.full(15, 0.065), np.full(5, 0.005))
    p_values = np.array(
        [
            chi_square_test(rng.multinomial(n_reference, shares), rng.multinomial(n, shares)).p_value
            for _ in range(2000)
        ]
    )
    for level in (0.01, 0.05, 0.2):
        assert abs((p_values <= level).mean() - level) < 4 * np.sqrt(level / 2000) + 0.1 * level


@pytest.mark.parametrize(
    ("a", "b"), [([0, 0], [3, 4]), ([3, 4], [0, 0]), ([0], [0]), ([9], [9]), ([2, 1], [1, 1])]
)
def test_too_few_rows_or_bins_say_nothing(a: list[int], b: list[int]) -> None:
    found = chi_square_test(a, b)
    assert (found.statistic, found.degrees_of_freedom, found.p_value) == (0, 0, 1)


def test_counts_over_different_bins_cannot_be_compared() -> None:
    with pytest.raises(ValueError, match="reference_counts has 2, counts has 3"):
        total_variation([1, 2], [1, 2, 3])
    with pytest.raises(ValueError, match="counts: bin 1 is -2"):
        chi_square_test([1, 2], [1, -2])
    with pytest.raises(ValueError, match="reference_counts: bin 0 is nan"):
        chi_square_test([float("nan"), 2], [1, 2])
