from __future__ import annotations

import numpy as np
import pytest
import river.drift
from hypothesis import given
from hypothesis import strategies as st

from clew.stats.arrays import FloatArray
from clew.stats.betting import harm_detector, paired_betting
from clew.stats.intervals import wilson_interval

LABELS_PER_DAY = 100


def errors(rng: np.random.Generator, *levels: tuple[float, int]) -> FloatArray:
    return np.concatenate([(rng.random(n) < rate).astype(float) for rate, n in levels])


@pytest.mark.parametrize("margin", [0.0, 0.01])
def test_errors_growing_from_8_to_13_percent_are_found_within_four_weeks(margin: float) -> None:
    rng = np.random.default_rng(1)
    days = []
    for _ in range(40):
        stream = errors(rng, (0.08, 3000), (0.13, 6000))
        alarm_row = harm_detector(0.08, margin, alpha=0.001, horizon=9000).extended(stream)[0].alarm_row
        assert alarm_row is not None
        assert alarm_row >= 3000
        days.append((alarm_row - 3000) / LABELS_PER_DAY)
    assert np.mean(days) < 28


def test_a_collapse_is_found_within_a_few_rows() -> None:
    stream = errors(np.random.default_rng(2), (0.08, 2000), (0.95, 50))
    alarm_row = harm_detector(0.08, 0.02, alpha=0.001, horizon=9000).extended(stream)[0].alarm_row
    assert alarm_row is not None
    assert 2000 <= alarm_row < 2020


def test_the_promise_holds_where_river_cries_at_a_change_that_harms_nobody() -> None:
    """The error rate improves from 8 % to 3 % for a while and comes back: never above the reference."""
    rng = np.random.default_rng(3)
    n_streams, cries = 20, {"ours": 0, "ADWIN": 0, "PageHinkley": 0}
    for _ in range(n_streams):
        stream = errors(rng, (0.08, 2000), (0.03, 2000), (0.08, 2000))
        ours = harm_detector(0.08, 0.0, alpha=0.01, horizon=6000).extended(stream)[0]
        cries["ours"] += ours.alarm_row is not None
        cries["ADWIN"] += cries_ever(new_adwin(), stream)
        cries["PageHinkley"] += cries_ever(river.drift.PageHinkley(mode="up"), stream)
    # Promised: a hundredth of the streams; more than two of twenty would be a one in a thousand accident.
    assert cries["ours"] <= 2
    assert cries["ADWIN"] == n_streams
    assert cries["PageHinkley"] > 2


def new_adwin() -> river.base.DriftDetector:
    return river.drift.ADWIN()  # type: ignore[no-untyped-call]


def cries_ever(detector: river.base.DriftDetector, stream: FloatArray) -> bool:
    for loss in stream:
        detector.update(loss)
        if detector.drift_detected:
            return True
    return False


def test_the_price_of_the_promise_is_a_delay_within_a_few_times_that_of_adwin() -> None:
    rng = np.random.default_rng(4)
    ours, adwins = [], []
    for _ in range(15):
        stream = errors(rng, (0.08, 3000), (0.18, 2000))
        alarm_row = harm_detector(0.08, 0.01, alpha=0.001, horizon=9000).extended(stream)[0].alarm_row
        assert alarm_row is not None
        ours.append(alarm_row - 3000)
        adwins.append(first_cry(new_adwin(), stream, after=3000) - 3000)
    assert np.median(ours) < 3 * np.median(adwins)


def first_cry(detector: river.base.DriftDetector, stream: FloatArray, after: int) -> int:
    for row, loss in enumerate(stream):
        detector.update(loss)
        if detector.drift_detected and row >= after:
            return row
    return len(stream)


def test_an_estimated_reference_makes_no_more_false_pages_than_its_bound_allows() -> None:
    """The reference rate itself is estimated on 2,000 rows and taken at its upper 99 % limit."""
    rng = np.random.default_rng(5)
    n_alarms = 0
    for _ in range(200):
        upper = wilson_interval(errors(rng, (0.08, 2000)).sum(), 2000, confidence=0.98)[1][0]
        detector = harm_detector(float(upper), 0.0, alpha=0.01, horizon=3000)
        n_alarms += detector.extended(errors(rng, (0.08, 3000)))[0].alarm_row is not None
    # At most .01 for the bound and .01 for the detector.
    assert n_alarms <= 200 * 0.02 + 3 * np.sqrt(200 * 0.02)


def test_losses_between_nought_and_one_are_judged_by_their_mean_alone() -> None:
    rng = np.random.default_rng(6)
    calm, harmful = rng.beta(2, 18, size=5000), rng.beta(3, 17, size=2000)
    detector, _ = harm_detector(0.1, 0.01, alpha=0.001, horizon=9000).extended(calm)
    assert detector.alarm_row is None
    detector, _ = detector.extended(harmful)
    assert detector.alarm_row is not None
    assert detector.onset_row == pytest.approx(5000, abs=100)


@given(losses=st.lists(st.floats(0, 5), min_size=1, max_size=100))
def test_a_loss_above_its_bound_counts_as_the_bound(losses: list[float]) -> None:
    detector = harm_detector(0.2, 0.05, alpha=0.01, horizon=100)
    assert detector.extended(losses)[0] == detector.extended(np.minimum(losses, 1))[0]


@given(
    losses=st.lists(st.booleans(), min_size=1, max_size=200),
    margin=st.floats(0, 0.2),
    more=st.floats(0.001, 0.2),
)
def test_every_bet_of_the_detector_survives_a_row_without_loss(
    losses: list[bool], margin: float, more: float
) -> None:
    for allowed in (margin, margin + more):
        detector, log_evidence = harm_detector(0.1, allowed, alpha=0.01, horizon=100).extended(losses)
        assert max(detector.evidence.bets) * detector.limit < 1
        assert np.isfinite(log_evidence).all()


@pytest.mark.parametrize("n_bets", [1, 2, 8, 20])
def test_the_bets_are_as_many_as_asked_for_and_rise(n_bets: int) -> None:
    bets = harm_detector(0.05, 0.01, 0.01, 1000, n_bets=n_bets).evidence.bets
    assert len(bets) == n_bets
    assert all(np.diff(bets) > 0)


def test_a_better_challenger_is_found_and_a_worse_one_is_not() -> None:
    rng = np.random.default_rng(7)
    champion, challenger = errors(rng, (0.2, 3000)), errors(rng, (0.14, 3000))
    assert paired_betting(horizon=3000).extended(champion - challenger)[0].is_alarm
    assert not paired_betting(horizon=3000).extended(challenger - champion)[0].is_alarm


@pytest.mark.parametrize(
    ("reference_risk_upper", "margin", "message"),
    [
        (0.95, 0.1, "must lie between 0 and 1"),
        (0.0, 0.0, "must lie between 0 and 1"),
        (0.1, -0.01, "margin -0.01 must be at least 0"),
    ],
)
def test_a_limit_that_harm_could_never_cross_is_refused(
    reference_risk_upper: float, margin: float, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        harm_detector(reference_risk_upper, margin, alpha=0.01, horizon=1000)


def test_losses_below_nought_and_bets_of_nothing_are_refused() -> None:
    with pytest.raises(ValueError, match=r"losses: row 1 is -0\.1; a loss is at least 0"):
        harm_detector(0.1, 0.0, 0.01, 1000).extended([0.0, -0.1])
    with pytest.raises(ValueError, match="n_bets is 0"):
        harm_detector(0.1, 0.0, 0.01, 1000, n_bets=0)
