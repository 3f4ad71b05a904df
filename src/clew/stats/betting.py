"""The two questions answered by betting: has the risk grown, and is the challenger better?

Both rest on `clew.stats.evidence`, may be asked after every row, and keep their promised rate of false
alarms.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from clew.stats.arrays import FloatArray, finite_rows, open_fraction
from clew.stats.evidence import Evidence, new_evidence

PAIRED_BETS = (0.05, 0.1, 0.2, 0.4, 0.8)
"""From differences of a hundredth of the range, found in some thousand rows, to a broken champion."""


@dataclass(frozen=True, slots=True)
class RiskDetector:
    """Says when the mean loss has certainly risen above the reference by more than the margin.

    A value: `extended` returns the next one. See `harm_detector` for how to make one.

    Attributes
    ----------
    reference_risk_upper, margin
        Their sum is `limit`, the mean loss that is still fine.
    evidence
        The betting state; its gains are ``loss - limit``.
    """

    reference_risk_upper: float
    margin: float
    evidence: Evidence

    @property
    def limit(self) -> float:
        """The largest mean loss, as a share of the loss bound, that is not harm."""
        return self.reference_risk_upper + self.margin

    @property
    def alarm_row(self) -> int | None:
        """The first row (0 is the first ever fed) at which harm was certain, or None."""
        return self.evidence.alarm_row

    @property
    def onset_row(self) -> int | None:
        """The row since when harm is most likely, of use once there is an alarm; None before any row."""
        return self.evidence.onset_row

    def extended(self, losses: npt.ArrayLike) -> tuple[RiskDetector, FloatArray]:
        """The detector after these rows and the log evidence of harm after each of them, shape ``(n,)``.

        Parameters
        ----------
        losses
            Row losses divided by the metric's loss bound, shape ``(n,)``, in event order; above 1 counts as
            1.

        Raises
        ------
        ValueError
            If a loss is NaN, infinite or below 0; the row is named.
        """
        rows = finite_rows("losses", losses)
        if (rows < 0).any():
            i = int(np.argmax(rows < 0))
            raise ValueError(f"losses: row {i} is {rows[i]:g}; a loss is at least 0")
        evidence, log_evidence = self.evidence.extended(np.minimum(rows, 1) - self.limit)
        return RiskDetector(self.reference_risk_upper, self.margin, evidence), log_evidence

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {
            "reference_risk_upper": self.reference_risk_upper,
            "margin": self.margin,
            "evidence": self.evidence.to_dict(),
        }

    @classmethod
    def from_dict(cls, stored: Mapping[str, Any]) -> RiskDetector:
        """The detector that `to_dict` wrote."""
        return cls(stored["reference_risk_upper"], stored["margin"], Evidence.from_dict(stored["evidence"]))


def harm_detector(
    reference_risk_upper: float,
    margin: float,
    alpha: float,
    horizon: int,
    n_bets: int = 8,
    restart: bool = True,
) -> RiskDetector:
    """A detector of harm, before its first row.

    Parameters
    ----------
    reference_risk_upper
        Upper confidence bound of the reference's mean loss, as a share of the loss bound and winsorised
        like the rows to come: 0 to 1. The promise holds as far as this bound does.
    margin
        How much more is still fine, in the same unit. Larger: fewer pages, later.
    alpha
        False alarms promised: at most this chance within one horizon.
    horizon
        Rows over which the starts are spread, such as those of a quarter.
    n_bets
        Bets between the smallest shift that the horizon lets one find and a collapse.
    restart
        Go on with a fresh unit of stake after each horizon, or stop: see `Evidence`.

    Raises
    ------
    ValueError
        If the limit, their sum, does not lie strictly between 0 and 1: harm could then not be seen, or any
        error at all would be harm.

    References
    ----------
    Podkopaev and Ramdas (2022), Tracking the risk of a deployed model and detecting harmful distribution
    shifts, ICLR, arXiv 2110.06177.

    Examples
    --------
    An error rate of 8 % grows to 30 % at row 1,000:

    >>> rng = np.random.default_rng(0)
    >>> wrong = rng.random(2000) < np.where(np.arange(2000) < 1000, 0.08, 0.30)
    >>> detector, log_evidence = harm_detector(0.08, 0.01, alpha=0.001, horizon=9000).extended(wrong)
    >>> 1000 < detector.alarm_row < 1150
    True
    >>> abs(detector.onset_row - 1000) < 30
    True
    """
    if margin < 0 or reference_risk_upper < 0:
        raise ValueError(
            f"reference_risk_upper {reference_risk_upper} and margin {margin} must be at least 0"
        )
    limit = reference_risk_upper + margin
    open_fraction("reference_risk_upper + margin", limit)
    bets = _bets_against_harm(limit, open_fraction("alpha", alpha), horizon, n_bets)
    evidence = new_evidence(bets, horizon, alpha, lowest_gain=-limit, highest_gain=1 - limit, restart=restart)
    return RiskDetector(float(reference_risk_upper), float(margin), evidence)


def paired_betting(
    horizon: int, bets: tuple[float, ...] = PAIRED_BETS, alpha: float = 0.05, restart: bool = True
) -> Evidence:
    """Evidence, before its first row, that a challenger's mean loss is lower than the champion's.

    Feed it ``(champion_loss - challenger_loss) / range``, -1 to 1, over rows that both answered and neither
    was fitted on. The hypothesis it gathers evidence against is that the mean of these is at most 0.

    Parameters
    ----------
    horizon
        Rows over which the starts are spread.
    bets
        Stakes per unit of gain, above 0 and below 1.
    alpha
        The chance, within one horizon, that `alarm_row` names a challenger that is not better.
    restart
        Go on with a fresh unit of stake after each horizon, or stop: see `Evidence`.

    Examples
    --------
    The champion errs in 20 % of rows, the challenger in 10 %:

    >>> rng = np.random.default_rng(0)
    >>> champion, challenger = rng.random(2000) < 0.2, rng.random(2000) < 0.1
    >>> evidence, _ = paired_betting(horizon=2000).extended(champion.astype(float) - challenger)
    >>> evidence.is_alarm
    True
    """
    return new_evidence(bets, horizon, alpha, lowest_gain=-1, highest_gain=1, restart=restart)


def _bets_against_harm(limit: float, alpha: float, horizon: int, n_bets: int) -> tuple[float, ...]:
    """Evenly spaced on a logarithmic scale between two ends.

    The best bet on a rise by d is d / variance, and it needs 2 variance log(1/alpha') / d² rows, where
    alpha' is what a single start is worth. So the smallest rise found within the horizon fixes the smallest
    bet. Half of ``1 / limit``, at which one row without loss would take half the stake, is plenty against a
    collapse.
    """
    if n_bets < 1 or horizon < 1:
        raise ValueError(f"n_bets is {n_bets} and horizon {horizon} rows; at least 1 of each is needed")
    largest = 0.5 / limit
    evidence_needed = math.log(max(horizon, 2) / alpha)
    smallest = math.sqrt(2 * evidence_needed / (horizon * limit * (1 - limit)))
    return tuple(np.geomspace(min(smallest, largest / 2), largest, n_bets).tolist())
