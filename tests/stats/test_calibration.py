from __future__ import annotations

import numpy as np
import pytest
import sklearn.calibration
from hypothesis import given
from hypothesis import strategies as st

from clew.stats.arrays import FloatArray
from clew.stats.calibration import expected_calibration_error


def honest(rng: np.random.Generator, n: int, rare: bool = False) -> tuple[FloatArray, FloatArray]:
    p = rng.beta(0.3, 20, size=n) if rare else rng.beta(0.8, 0.8, size=n)
    return (rng.random(n) < p).astype(float), p


@pytest.mark.parametrize("rare", [False, True])
@pytest.mark.parametrize("n", [200, 3000])
def test_noise_and_its_limit_are_what_an_honest_model_shows(n: int, rare: bool) -> None:
    rng = np.random.default_rng(1)
    found = [expected_calibration_error(*honest(rng, n, rare)) for _ in range(400)]
    seen, promised = np.mean([f.error for f in found]), np.mean([f.noise for f in found])
    assert promised == pytest.approx(seen, rel=0.12)
    above_limit = np.mean([f.error > f.noise_limit for f in found])
    assert above_limit < 0.05 + 5 * np.sqrt(0.05 * 0.95 / 400)


def test_a_known_miscalibration_is_measured_and_certain() -> None:
    rng = np.random.default_rng(2)
    p = rng.uniform(0.2, 0.8, size=20_000)
    found = expected_calibration_error(rng.random(20_000) < p + 0.1, p)
    assert found.corrected == pytest.approx(0.1, abs=0.02)
    assert found.error > found.noise_limit


def test_bins_agree_with_scikit_learns_calibration_curve() -> None:
    y, p = honest(np.random.default_rng(3), 3000)
    share_true, mean_probability = sklearn.calibration.calibration_curve(y, p, n_bins=10, strategy="quantile")
    bins = expected_calibration_error(y, p, n_bins=10).bins
    assert [b.share_true for b in bins] == pytest.approx(share_true, abs=0.005)
    assert [b.mean_probability for b in bins] == pytest.approx(mean_probability, abs=0.005)


@given(
    rows=st.lists(
        st.tuples(st.booleans(), st.sampled_from([0.0, 0.1, 0.5, 0.9, 1.0])), min_size=1, max_size=60
    ),
    n_bins=st.integers(1, 20),
    seed=st.integers(0, 99),
)
def test_bins_hold_every_row_once_and_the_order_of_rows_changes_nothing(
    rows: list[tuple[bool, float]], n_bins: int, seed: int
) -> None:
    y, p = np.array(rows, dtype=float).T
    order = np.random.default_rng(seed).permutation(len(y))
    found, shuffled = (expected_calibration_error(a, b, n_bins) for a, b in ((y, p), (y[order], p[order])))
    assert sum(b.n for b in found.bins) == len(rows)
    assert len(found.bins) <= n_bins
    assert 0 <= found.corrected <= found.error <= 1
    assert found.error == pytest.approx(shuffled.error)
    assert all(b.lower <= b.share_true <= b.upper for b in found.bins)


def test_certain_and_right_is_perfect() -> None:
    found = expected_calibration_error([0, 1, 1], [0.0, 1.0, 1.0])
    assert (found.error, found.noise, found.noise_limit) == (0, 0, 0)


def test_what_is_no_probability_is_named() -> None:
    with pytest.raises(ValueError, match=r"probability: row 1 is 1\.2, outside 0 to 1"):
        expected_calibration_error([0, 1], [0.1, 1.2])
    with pytest.raises(ValueError, match="y_true_is_class: row 0 is nan"):
        expected_calibration_error([float("nan")], [0.1])
    with pytest.raises(ValueError, match="0 rows in 15 bins"):
        expected_calibration_error([], [])
