from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clew.monitoring import page_alpha, ticket_alpha
from clew.monitoring.budget import LARGEST_ALPHA


@given(budget=st.floats(0.01, 20), n_models=st.integers(1, 500), n_monitors=st.integers(1, 50))
def test_all_shares_together_stay_within_the_budget(budget: float, n_models: int, n_monitors: int) -> None:
    alpha = page_alpha(budget, n_models, n_monitors)
    assert alpha * n_models * n_monitors <= budget * (1 + 1e-12)
    assert 0 < alpha <= LARGEST_ALPHA


def test_a_large_fleet_shares_the_whole_budget() -> None:
    assert page_alpha(1, n_models=50, n_monitors=20) * 50 * 20 == pytest.approx(1)
    assert ticket_alpha(4, n_models=1000) == pytest.approx(0.004)


@pytest.mark.parametrize("budget", [0.0, -1.0, float("inf"), float("nan")])
def test_a_budget_must_be_above_zero_and_finite(budget: float) -> None:
    with pytest.raises(ValueError, match="false alarms a quarter; it must be above 0"):
        page_alpha(budget, 1, 1)


def test_a_fleet_has_at_least_one_model_with_one_monitor() -> None:
    with pytest.raises(ValueError, match="0 models with 2 monitors each"):
        page_alpha(1, 0, 2)
