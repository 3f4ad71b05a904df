"""Evidence that grows with each row and may be looked at at any time: betting with spread starts.

If the mean of the gains is at most 0, nobody can grow a stake by betting on them: for a bet b, the product of
``1 + b * gain`` over rows has mean at most 1. When the change will come is unknown, so the stake of 1 is
spread: a share w of it starts at each row, ``M = (M + w) * (1 + b * gain)``, and M is averaged over several
bets, as the best bet is unknown too. Large M is evidence against "the mean gain is at most 0".

With w = 1 / horizon the chance that M ever reaches 1/alpha within the horizon is at most alpha (Ville's
inequality), whatever the distribution of the gains and however often one looks.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from clew.stats.arrays import FloatArray, IntArray, open_fraction, rows_between

_CHUNK_ROWS = 8192  # a chunk's arrays stay in the processor's cache
_BLOCK_ROWS = 64
_LARGEST_EXPONENT = 500.0  # exp(500) is far from overflow


@dataclass(frozen=True, slots=True)
class Evidence:
    """State of spread-start betting: a value; `extended` returns the next one.

    Attributes
    ----------
    bets
        Stakes per unit of gain, all above 0, with ``bet * lowest_gain > -1`` so that no row can ruin.
        Higher bets find large shifts sooner and small shifts later or never.
    horizon
        Rows over which one unit of stake is spread. Longer: later detection, fewer false alarms.
    alpha
        The alarm is raised when evidence reaches ``1 / alpha``.
    lowest_gain, highest_gain
        The range that gains must keep to.
    restart
        What happens after `horizon` rows. True: the next horizon brings a fresh unit of stake beside the
        evidence there is, so at most alpha false alarms are expected per horizon, for ever (and by the end
        of the k-th horizon the chance of any is at most ``k * alpha``). False: no new stake, so the chance
        of a false alarm is at most alpha for ever; a change long after the horizon is then found late or
        never.
    n_rows
        Rows seen so far.
    log_evidence
        Logarithm of M after the last row; minus infinity before the first.
    alarm_row
        The first row (0 is the first row ever fed) at which evidence reached ``1 / alpha``, or None.
    log_wealth
        Logarithm of M, one for each bet.
    start_rows, log_start_wealth
        For each bet the start that has grown most, and the logarithm of its share of M.

    References
    ----------
    Shin, Ramdas, Rinaldo (2024), E-detectors: a nonparametric framework for sequential change detection,
    New England Journal of Statistics in Data Science 2(2), 229-260.

    Examples
    --------
    >>> first = new_evidence((0.2, 0.5), horizon=100, alpha=0.05, lowest_gain=-1, highest_gain=1)
    >>> later, log_evidence = first.extended(np.concatenate([np.full(30, -0.5), np.full(40, 0.5)]))
    >>> later.is_alarm, later.onset_row, log_evidence.shape
    (True, 30, (70,))
    """

    bets: tuple[float, ...]
    horizon: int
    alpha: float
    lowest_gain: float
    highest_gain: float
    restart: bool
    n_rows: int
    log_evidence: float
    alarm_row: int | None
    log_wealth: tuple[float, ...]
    start_rows: tuple[int, ...]
    log_start_wealth: tuple[float, ...]

    def __post_init__(self) -> None:
        open_fraction("alpha", self.alpha)
        if self.horizon < 1:
            raise ValueError(f"horizon is {self.horizon} rows; at least 1 is needed")
        if not self.bets or min(self.bets) <= 0 or 1 + max(self.bets) * self.lowest_gain <= 0:
            raise ValueError(
                f"bets are {self.bets}; where gains may be {self.lowest_gain:g} they must lie between 0 and"
                f" {-1 / self.lowest_gain:g}, both excluded"
            )

    @property
    def is_alarm(self) -> bool:
        """True once evidence has reached ``1 / alpha``, even if it fell again."""
        return self.alarm_row is not None

    @property
    def onset_row(self) -> int | None:
        """The most likely first row of the change: the start whose stake has grown most. None before any row.

        It always names some row; whether there was a change is for `is_alarm` to say.
        """
        if not self.n_rows:
            return None
        return self.start_rows[int(np.argmax(self.log_start_wealth))]

    def extended(self, gains: npt.ArrayLike) -> tuple[Evidence, FloatArray]:
        """The state after these rows, and the logarithm of the evidence after each of them, shape ``(n,)``.

        Feeding rows in pieces gives the same as feeding them at once.

        Raises
        ------
        ValueError
            If a gain is NaN or outside ``[lowest_gain, highest_gain]``; the row is named.
        """
        rows = rows_between("gains", gains, self.lowest_gain, self.highest_gain)
        state, evidence = self, np.empty(len(rows))
        first = 0
        while first < len(rows):
            last = min(first + _CHUNK_ROWS, len(rows), first + state._rows_at_this_weight())
            state, evidence[first:last] = state._extended_by_chunk(rows[first:last])
            first = last
        return state, evidence

    def _rows_at_this_weight(self) -> int:
        return _CHUNK_ROWS if self.restart or self.n_rows >= self.horizon else self.horizon - self.n_rows

    def _extended_by_chunk(self, gains: FloatArray) -> tuple[Evidence, FloatArray]:
        ended = not self.restart and self.n_rows >= self.horizon
        log_weight = -math.inf if ended else -math.log(self.horizon)
        n_block_rows = _block_rows(self.bets, self.lowest_gain, self.highest_gain)
        growth = _growth(np.array(self.bets), gains, n_block_rows)
        log_wealth, log_evidence = _wealth(growth, np.array(self.log_wealth), log_weight, len(gains))
        start_rows, log_start_wealth = self._best_starts(growth, log_weight)
        next_state = replace(
            self,
            n_rows=self.n_rows + len(gains),
            log_evidence=float(log_evidence[-1]),
            alarm_row=self._first_alarm(log_evidence),
            log_wealth=tuple(log_wealth.tolist()),
            start_rows=tuple(start_rows.tolist()),
            log_start_wealth=tuple(log_start_wealth.tolist()),
        )
        return next_state, log_evidence

    def _first_alarm(self, log_evidence: FloatArray) -> int | None:
        if self.alarm_row is not None:
            return self.alarm_row
        reached = log_evidence >= -math.log(self.alpha)
        return self.n_rows + int(np.argmax(reached)) if reached.any() else None

    def _best_starts(self, growth: _Growth, log_weight: float) -> tuple[IntArray, FloatArray]:
        """For each bet the start whose stake has grown most: one in this chunk, or the one known before."""
        row, log_growth_before = growth.row_before_which_least()
        here = log_weight - log_growth_before
        # An earlier start wins ties (rows without gain or loss), up to rounding.
        is_newer = here > np.array(self.log_start_wealth) + 1e-9
        best_row = np.where(is_newer, self.n_rows + row, self.start_rows).astype(np.int64)
        return best_row, np.where(is_newer, here, self.log_start_wealth) + growth.log_total

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON, which has no minus infinity: it becomes None."""
        plain = {field.name: getattr(self, field.name) for field in fields(self)}
        return {name: _without_infinity(value) for name, value in plain.items()}

    @classmethod
    def from_dict(cls, stored: Mapping[str, Any]) -> Evidence:
        """The state that `to_dict` wrote."""
        logs = ("log_wealth", "log_start_wealth")
        listed = {name: tuple(stored[name]) for name in ("bets", "start_rows")}
        listed |= {name: tuple(_with_infinity(value) for value in stored[name]) for name in logs}
        return cls(**{**stored, **listed, "log_evidence": _with_infinity(stored["log_evidence"])})


def new_evidence(
    bets: tuple[float, ...],
    horizon: int,
    alpha: float,
    lowest_gain: float,
    highest_gain: float,
    restart: bool = True,
) -> Evidence:
    """Evidence before its first row; see `Evidence` for the parameters."""
    nothing = (-math.inf,) * len(bets)
    return Evidence(
        bets=tuple(float(bet) for bet in bets),
        horizon=int(horizon),
        alpha=float(alpha),
        lowest_gain=float(lowest_gain),
        highest_gain=float(highest_gain),
        restart=restart,
        n_rows=0,
        log_evidence=-math.inf,
        alarm_row=None,
        log_wealth=nothing,
        start_rows=(0,) * len(bets),
        log_start_wealth=nothing,
    )


@dataclass(frozen=True, slots=True)
class _Growth:
    """What stakes become within a chunk, cut into blocks short enough to multiply without overflow.

    Attributes
    ----------
    product
        Growth from the block's first row up to and with each row, shape ``(n_bets, n_blocks, n_rows)``.
    inverse_before
        1 over the growth before each row; 0 behind the chunk's last row, where nothing can start.
    log_at_block, log_total
        Log growth before each block, shape ``(n_bets, n_blocks)``, and over the chunk, shape ``(n_bets,)``.
    """

    product: FloatArray
    inverse_before: FloatArray
    log_at_block: FloatArray
    log_total: FloatArray

    def row_before_which_least(self) -> tuple[IntArray, FloatArray]:
        """For each bet the row whose start gained most, growth before it being least, and that log growth."""
        in_block = self.inverse_before.argmax(axis=2)
        largest = np.take_along_axis(self.inverse_before, in_block[:, :, None], axis=2)[:, :, 0]
        log_before = np.round(self.log_at_block - np.log(largest), 9)
        block = log_before.argmin(axis=1)
        which = np.arange(len(block))
        row = block * self.product.shape[2] + in_block[which, block]
        return row.astype(np.int64), log_before[which, block]


def _growth(bets: FloatArray, gains: FloatArray, n_block_rows: int) -> _Growth:
    n, n_blocks = len(gains), -(-len(gains) // n_block_rows)
    padded = np.zeros(n_blocks * n_block_rows)
    padded[:n] = gains
    product = bets[:, None, None] * padded.reshape(n_blocks, n_block_rows)
    product += 1
    np.cumprod(product, axis=2, out=product)
    inverse_before = np.empty_like(product)
    inverse_before[:, :, 0] = 1
    np.divide(1, product[:, :, :-1], out=inverse_before[:, :, 1:])
    inverse_before[:, -1, n - (n_blocks - 1) * n_block_rows :] = 0
    log_after_block = np.log(product[:, :, -1]).cumsum(axis=1)
    log_at_block = np.concatenate([np.zeros((len(bets), 1)), log_after_block[:, :-1]], axis=1)
    return _Growth(product, inverse_before, log_at_block, log_after_block[:, -1])


def _wealth(
    growth: _Growth, log_wealth: FloatArray, log_weight: float, n: int
) -> tuple[FloatArray, FloatArray]:
    """Log M of each bet after the chunk, and log of the average over bets after each row.

    Written out, the recursion is ``M = growth * (M before + w * sum of 1 / growth before each start)``:
    products and sums within a block, and logarithms only from block to block, so speed costs no range.
    """
    starts = growth.inverse_before.cumsum(axis=2)
    brought_in = log_weight + np.log(starts[:, :-1, -1]) - growth.log_at_block[:, :-1]
    at_block = (
        np.logaddexp.accumulate(np.column_stack([log_wealth, brought_in]), axis=1) + growth.log_at_block
    )
    since_block = np.logaddexp(at_block[:, -1], log_weight + np.log(starts[:, -1, -1]))
    log_wealth_after = since_block + growth.log_total - growth.log_at_block[:, -1]
    scale = np.maximum(at_block.max(axis=0), log_weight)
    np.multiply(starts, np.exp(log_weight - scale)[:, None], out=starts)
    starts += np.exp(at_block - scale)[:, :, None]
    starts *= growth.product
    average = np.log(starts.mean(axis=0)) + scale[:, None]
    return log_wealth_after, average.ravel()[:n]


def _block_rows(bets: tuple[float, ...], lowest_gain: float, highest_gain: float) -> int:
    # A block may multiply a stake by no more than exp(500), up or down, so that no product overflows.
    steepest = max(abs(math.log1p(bet * gain)) for bet in bets for gain in (lowest_gain, highest_gain))
    return max(1, min(_BLOCK_ROWS, int(_LARGEST_EXPONENT / max(steepest, 1e-9))))


def _without_infinity(value: Any) -> Any:
    if isinstance(value, tuple):
        return [_without_infinity(item) for item in value]
    return None if value == -math.inf else value


def _with_infinity(value: float | None) -> float:
    return -math.inf if value is None else float(value)
