from __future__ import annotations

import math

import pytest
import scipy.stats
from hypothesis import given
from hypothesis import strategies as st

from clew.stats.special import chi_square_tail, normal_quantile, student_quantile, student_tail


@pytest.mark.parametrize("degrees_of_freedom", [1, 2, 5, 15, 22, 40, 500, 10_000])
@pytest.mark.parametrize("times", [0.01, 0.5, 1.0, 1.1, 2.0, 5.0, 30.0])
def test_chi_square_tail_agrees_with_scipy_far_into_the_tail(degrees_of_freedom: int, times: float) -> None:
    statistic = times * degrees_of_freedom
    expected = scipy.stats.chi2.sf(statistic, degrees_of_freedom)
    assert chi_square_tail(statistic, degrees_of_freedom) == pytest.approx(expected, rel=1e-10, abs=1e-300)


def test_chi_square_tail_of_two_degrees_is_the_exponential_one_even_at_1e_minus_200() -> None:
    assert chi_square_tail(921.034, 2) == pytest.approx(math.exp(-460.517), rel=1e-12)


@given(x=st.floats(0, 500), more=st.floats(0, 100), degrees_of_freedom=st.integers(1, 100))
def test_chi_square_tail_never_grows_with_the_statistic(
    x: float, more: float, degrees_of_freedom: int
) -> None:
    here, there = chi_square_tail(x, degrees_of_freedom), chi_square_tail(x + more, degrees_of_freedom)
    assert 0 <= there <= here * (1 + 1e-12) <= 1 + 1e-12


@pytest.mark.parametrize("degrees_of_freedom", [1, 2, 3, 4.5, 29, 199, 10_000, 1_000_000])
@pytest.mark.parametrize("probability", [0.025, 0.5, 0.6, 0.9, 0.975, 0.995, 0.9999])
def test_student_quantile_agrees_with_scipy(degrees_of_freedom: float, probability: float) -> None:
    expected = scipy.stats.t.ppf(probability, degrees_of_freedom)
    assert student_quantile(probability, degrees_of_freedom) == pytest.approx(expected, rel=1e-9, abs=1e-9)


def test_student_tail_agrees_with_scipy() -> None:
    assert student_tail(3.3, 12) == pytest.approx(scipy.stats.t.sf(3.3, 12), rel=1e-12)


def test_quantiles_refuse_a_certainty() -> None:
    with pytest.raises(ValueError, match="probability is 1; it must lie between 0 and 1"):
        normal_quantile(1)


def test_degrees_of_freedom_must_be_above_zero() -> None:
    with pytest.raises(ValueError, match="degrees_of_freedom is 0"):
        chi_square_tail(1.0, 0)
