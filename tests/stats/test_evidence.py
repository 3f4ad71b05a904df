from __future__ import annotations

import math
import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from clew.stats.arrays import FloatArray
from clew.stats.evidence import Evidence, new_evidence

gains = hnp.arrays(np.float64, st.integers(1, 300), elements=st.floats(-1, 1, width=32))


def small_evidence(restart: bool = True, horizon: int = 120) -> Evidence:
    return new_evidence((0.1, 0.5, 0.9), horizon, alpha=0.05, lowest_gain=-1, highest_gain=1, restart=restart)


def row_by_row(evidence: Evidence, rows: FloatArray) -> FloatArray:
    """The recursion as it is written in the papers, in plain numbers."""
    wealth, found = np.zeros(len(evidence.bets)), np.empty(len(rows))
    for t, gain in enumerate(rows):
        weight = 1 / evidence.horizon if evidence.restart or t < evidence.horizon else 0.0
        wealth = (wealth + weight) * (1 + np.array(evidence.bets) * gain)
        found[t] = np.log(wealth.mean())
    return found


@given(rows=gains, restart=st.booleans())
def test_evidence_is_that_of_the_recursion_taken_row_by_row(rows: FloatArray, restart: bool) -> None:
    evidence = small_evidence(restart)
    assert evidence.extended(rows)[1] == pytest.approx(row_by_row(evidence, rows), abs=1e-9)


@given(rows=gains, cuts=st.lists(st.integers(0, 300), max_size=6), restart=st.booleans())
def test_rows_in_pieces_give_the_same_as_rows_at_once(
    rows: FloatArray, cuts: list[int], restart: bool
) -> None:
    whole, at_once = small_evidence(restart).extended(rows)
    state, parts = small_evidence(restart), []
    for piece in np.split(rows, sorted(cuts)):
        state, log_evidence = state.extended(piece)
        parts.append(log_evidence)
    assert np.concatenate(parts) == pytest.approx(at_once, abs=1e-9)
    assert (state.n_rows, state.alarm_row) == (whole.n_rows, whole.alarm_row)
    assert state.log_wealth == pytest.approx(whole.log_wealth, abs=1e-9)
    assert state.log_start_wealth == pytest.approx(whole.log_start_wealth, abs=1e-7)


def test_a_long_stream_in_pieces_names_the_same_onset_and_alarm() -> None:
    rng = np.random.default_rng(1)
    rows = np.clip(rng.normal(np.repeat([-0.05, 0.1], [20_000, 1500]), 0.4), -1, 1)
    whole, _ = small_evidence(horizon=10_000).extended(rows)
    state = small_evidence(horizon=10_000)
    for piece in np.array_split(rows, 77):
        state, _ = state.extended(piece)
    assert (state.onset_row, state.alarm_row) == (whole.onset_row, whole.alarm_row)
    assert whole.onset_row == pytest.approx(20_000, abs=150)


def test_the_onset_is_the_start_with_the_greatest_share_of_the_evidence() -> None:
    rng = np.random.default_rng(2)
    rows = np.clip(rng.normal(np.repeat([-0.2, 0.2], [150, 100]), 0.5), -1, 1)
    evidence = small_evidence(horizon=500)
    logs = np.log1p(np.array(evidence.bets)[:, None] * rows)
    # The share of the start at row s, for one bet: its stake times the growth from s to the end.
    shares = logs[:, ::-1].cumsum(axis=1)[:, ::-1] - math.log(500)
    found, _ = evidence.extended(rows)
    assert found.onset_row == np.unravel_index(shares.argmax(), shares.shape)[1]
    assert found.log_start_wealth == pytest.approx(tuple(shares.max(axis=1)), abs=1e-8)


@given(rows=gains, at=st.integers(0, 299), more=st.floats(0, 2))
def test_a_greater_gain_never_lowers_the_evidence(rows: FloatArray, at: int, more: float) -> None:
    raised = rows.copy()
    raised[at % len(rows)] = min(1.0, raised[at % len(rows)] + more)
    before, after = small_evidence().extended(rows)[1], small_evidence().extended(raised)[1]
    assert (after >= before - 1e-9).all()


@pytest.mark.parametrize("gain", [-1.0, 1.0])
def test_a_hundred_thousand_rows_of_one_kind_neither_overflow_nor_vanish(gain: float) -> None:
    evidence = new_evidence((0.001, 0.9999), horizon=1000, alpha=0.01, lowest_gain=-1, highest_gain=1)
    found, log_evidence = evidence.extended(np.full(100_000, gain))
    assert np.isfinite(log_evidence).all()
    # All one: the bolder bet's first start dominates. All minus one: the last fresh stake is still there.
    floor = 100_000 * math.log1p(0.9999) - math.log(2000) if gain > 0 else math.log(0.999 / 1000 / 2)
    assert found.log_evidence >= floor - 1e-6


def test_stakes_that_can_multiply_ten_thousandfold_do_not_overflow() -> None:
    evidence = new_evidence((1e-3, 50_000.0), 1000, alpha=0.01, lowest_gain=-1e-5, highest_gain=1.0)
    log_evidence = evidence.extended(np.ones(5000))[1]
    steps = np.diff(log_evidence[100:])
    assert steps == pytest.approx(np.full(len(steps), math.log(50_001)), rel=1e-9)


def test_with_restart_stakes_keep_coming_and_without_it_they_end() -> None:
    rows = np.concatenate([np.full(5000, -0.5), np.full(60, 1.0)])
    fresh, _ = small_evidence(restart=True).extended(rows)
    ended, _ = small_evidence(restart=False).extended(rows)
    assert fresh.is_alarm
    assert not ended.is_alarm
    assert fresh.onset_row == 5000


def test_false_alarms_over_many_horizons_stay_within_the_budget_of_each() -> None:
    """With restart at most alpha alarms are expected per horizon, a new detector taking over after each."""
    rng = np.random.default_rng(3)
    horizon, n_horizons, n_streams, alpha = 100, 10, 100, 0.1
    n_alarms = 0
    for _ in range(n_streams):
        rows, first = rng.choice([-1.0, 1.0], size=horizon * n_horizons), 0
        while first < len(rows):
            fresh = new_evidence((0.1, 0.3), horizon, alpha, lowest_gain=-1, highest_gain=1)
            alarm_row = fresh.extended(rows[first:])[0].alarm_row
            n_alarms += alarm_row is not None
            first += len(rows) if alarm_row is None else alarm_row + 1
    expected_at_most = alpha * n_horizons * n_streams
    assert n_alarms <= expected_at_most + 3 * math.sqrt(expected_at_most)


def test_an_alarm_stays_at_its_first_row_even_if_the_evidence_falls_again() -> None:
    first, _ = small_evidence().extended(np.full(60, 0.8))
    later, log_evidence = first.extended(np.full(300, -0.8))
    assert first.alarm_row == later.alarm_row is not None
    assert log_evidence[-1] < -math.log(0.05)


def test_a_million_rows_times_eight_bets_take_well_under_a_second() -> None:
    evidence = new_evidence(tuple(np.geomspace(0.1, 5, 8)), 9000, 0.001, lowest_gain=-0.1, highest_gain=0.9)
    rows = (np.random.default_rng(4).random(1_000_000) < 0.1) - 0.1
    started = time.process_time()
    evidence.extended(rows)
    assert time.process_time() - started < 0.7


def test_bets_that_one_row_could_ruin_are_refused() -> None:
    with pytest.raises(
        ValueError, match=r"where gains may be -1 they must lie between 0 and 1, both excluded"
    ):
        new_evidence((0.5, 1.0), 100, 0.05, lowest_gain=-1, highest_gain=1)
    with pytest.raises(ValueError, match="bets are"):
        new_evidence((), 100, 0.05, lowest_gain=-1, highest_gain=1)
    with pytest.raises(ValueError, match="horizon is 0 rows"):
        small_evidence(horizon=0)
    with pytest.raises(ValueError, match="alpha is 1"):
        new_evidence((0.5,), 100, 1.0, lowest_gain=-1, highest_gain=1)


def test_gains_outside_their_range_are_refused_by_row() -> None:
    with pytest.raises(ValueError, match=r"gains: row 1 is 1\.5, outside -1 to 1"):
        small_evidence().extended([0.0, 1.5])
