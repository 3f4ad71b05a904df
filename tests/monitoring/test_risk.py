from __future__ import annotations

import json
import math
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clew.monitoring import LossScale, RiskMonitor
from clew.monitoring.cohorts import TimeArray, to_datetime64
from clew.stats import metric_named
from clew.stats.arrays import FloatArray

START = datetime(2026, 1, 1, tzinfo=UTC)
ACCURACY = LossScale(metric_named("accuracy"), 1.0)
PER_DAY = 100
HORIZON = 91 * PER_DAY


def days(n: int, per_day: int = PER_DAY) -> TimeArray:
    return to_datetime64(START) + np.repeat(np.arange(n), per_day) * np.timedelta64(1, "D")


def monitor(alpha: float = 0.001, upper: float = 0.08, margin: float = 0.01) -> RiskMonitor:
    return RiskMonitor.start(upper, margin, alpha, HORIZON, START)


def errors(rng: np.random.Generator, *levels: tuple[float, int]) -> FloatArray:
    return np.concatenate([(rng.random(n * PER_DAY) < rate).astype(float) for rate, n in levels])


def test_8_to_13_percent_error_pages_within_28_days() -> None:
    """The goal: 100 labels a day, alpha .001, the reference known. The benchmark prints the days."""
    rng, found = np.random.default_rng(1), []
    for _ in range(40):
        losses = errors(rng, (0.08, 30), (0.13, 60))
        alarm_row = monitor().observe(losses, days(90)).detector.alarm_row
        assert alarm_row is not None
        found.append(alarm_row / PER_DAY - 30)
    assert np.median(found) < 28
    assert min(found) > 0


def test_false_pages_stay_within_alpha_at_the_very_limit() -> None:
    """A thousand quarters at the highest risk that is still fine; 99.9 % limit of 10 expected pages."""
    rng = np.random.default_rng(2)
    n_pages = sum(
        monitor(alpha=0.01).observe(rng.random(HORIZON) < 0.09, days(91)).is_alarm for _ in range(1000)
    )
    assert n_pages <= 21


def test_false_pages_stay_within_alpha_when_losses_depend_on_the_day() -> None:
    """Bad days and good days with a mean at the reference: the promise needs no independent rows.

    The error rate of a day is .16 or 0, unforeseeably, so the mean given the past is .08.
    """
    rng = np.random.default_rng(3)
    n_pages = 0
    for _ in range(200):
        rate = np.repeat(rng.choice([0.0, 0.16], size=91), PER_DAY)
        watched = monitor(alpha=0.01, upper=0.16)
        n_pages += watched.observe(rng.random(HORIZON) < rate, days(91)).is_alarm
    assert n_pages <= 8


def test_the_page_says_how_far_it_fell_since_when_and_how_sure() -> None:
    watched = monitor().observe(errors(np.random.default_rng(4), (0.08, 40), (0.2, 10)), days(50))
    found = watched.finding("churn", ACCURACY, now=START + timedelta(days=51))
    assert found is not None
    assert (found.level, found.monitor, found.subject) == ("page", "risk", "churn")
    assert found.onset is not None
    assert abs((found.onset - (START + timedelta(days=40))).days) <= 2
    assert found.lower < found.value < found.upper
    assert found.lower < 0.8 < found.upper
    assert found.n == PER_DAY * (START + timedelta(days=50) - found.onset).days
    assert found.found_at == START + timedelta(days=51)
    assert found.sentence.startswith(f"accuracy fell to {found.value:.3f} (95 % {found.lower:.3f} to ")
    assert (
        f"{found.n:,} rows since {found.onset:%Y-%m-%d}); the limit was 0.910; evidence 1:" in found.sentence
    )
    assert found.evidence["log_evidence"] >= found.evidence["log_evidence_needed"]
    json.dumps(found.evidence)


def test_an_error_metric_rises_and_is_told_in_its_own_unit() -> None:
    rng = np.random.default_rng(5)
    scale = LossScale(metric_named("rmse"), loss_bound=400.0)
    errors_then = np.concatenate([rng.normal(0, 5, 3000), rng.normal(0, 9, 1000)])
    reference, margin = 25 / 400, 5 / 400
    watched = RiskMonitor.start(reference, margin, 0.001, HORIZON, START)
    found = watched.observe(scale.scaled(errors_then**2), days(40)).finding("rent", scale)
    assert found is not None
    assert "rmse rose to " in found.sentence
    assert found.lower < 9 < found.upper
    assert found.evidence["limit"] == pytest.approx(math.sqrt(30))


def test_nothing_is_found_before_the_evidence_is_there() -> None:
    assert monitor().finding("churn", ACCURACY) is None
    quiet = monitor().observe(errors(np.random.default_rng(6), (0.08, 30)), days(30))
    assert quiet.finding("churn", ACCURACY) is None
    assert quiet.n_rows == 3000


@settings(max_examples=25)
@given(cuts=st.lists(st.integers(0, 4000), max_size=12), seed=st.integers(0, 100))
def test_feeding_rows_in_pieces_gives_the_same_as_at_once(cuts: list[int], seed: int) -> None:
    losses, times = errors(np.random.default_rng(seed), (0.08, 30), (0.2, 10)), days(40)
    whole = monitor().observe(losses, times)
    pieces = monitor()
    for part in np.split(np.arange(4000), sorted(cuts)):
        pieces = pieces.observe(losses[part], times[part])
    assert pieces.days == whole.days
    assert pieces.detector.alarm_row == whole.detector.alarm_row
    assert pieces.peak_log_evidence == pytest.approx(whole.peak_log_evidence)
    expected, found = (each.finding("churn", ACCURACY) for each in (whole, pieces))
    assert found == expected or (found and expected and found.sentence == expected.sentence)


def test_the_monitor_goes_through_json_and_on_as_if_nothing_had_happened() -> None:
    losses, times = errors(np.random.default_rng(7), (0.08, 20), (0.2, 10)), days(30)
    assert RiskMonitor.from_dict(json.loads(json.dumps(monitor().to_dict()))) == monitor()
    half = monitor().observe(losses[:1500], times[:1500])
    read = RiskMonitor.from_dict(json.loads(json.dumps(half.to_dict())))
    assert read == half
    rest = losses[1500:], times[1500:]
    assert read.observe(*rest) == half.observe(*rest)


def test_days_before_any_possible_onset_are_forgotten() -> None:
    watched = monitor().observe(np.zeros(40 * PER_DAY), days(40))
    assert len(watched.days) <= 2


def test_no_rows_change_nothing() -> None:
    assert monitor().observe([], days(0)) == monitor()


def test_an_unknown_loss_is_refused_by_row() -> None:
    with pytest.raises(ValueError, match="losses: row 1 is nan"):
        monitor().observe([0.0, math.nan], days(2, per_day=1))


def test_rows_older_than_the_monitor_are_refused_by_row() -> None:
    old = days(2, per_day=1) - np.timedelta64(1, "D")
    with pytest.raises(ValueError, match=r"row 0 is 2025-12-31.*when this monitor started"):
        monitor().observe([0.0, 1.0], old)


def test_times_must_belong_to_the_losses() -> None:
    with pytest.raises(ValueError, match=r"losses have shape \(3,\), times \(2,\)"):
        monitor().observe([0.0, 1.0, 0.0], days(2, per_day=1))
