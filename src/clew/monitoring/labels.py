"""The labels' own contract: a broken label feed looks exactly like a broken model.

A join that lost its key gives every row the same class, a changed code gives a class nobody has heard of.
Measured against such labels every model is bad and every retrain learns nonsense. So the loop asks
here before it believes a decline.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta

import numpy as np
import numpy.typing as npt

from clew.entities import Finding, Level
from clew.monitoring.distances import IntArray
from clew.monitoring.reference import MERGE_DAYS, ColumnReference
from clew.monitoring.words import distance_interval
from clew.stats import chi_square_test, noise_corrected_total_variation, wilson_interval
from clew.stats.distances import total_variation

SMALLEST_SHIFT = 0.25
"""A quarter of the labels in other classes than usual: worth a look, and possible in a bad season."""

IMPOSSIBLE_SHIFT = 0.5
"""Beyond it most of a window's labels would have to have changed: more than a world does in a few weeks."""

MONITOR = "labels"


@dataclass(frozen=True, slots=True)
class _Fault:
    """What is wrong with the labels: the share of rows it concerns, its interval, and what would be fine."""

    kind: str
    level: Level
    value: float
    lower: float
    upper: float
    n: int
    words: str


def label_finding(
    reference: ColumnReference,
    counts: npt.ArrayLike,
    window_start: datetime,
    window_end: datetime,
    now: datetime,
    alpha: float,
) -> Finding | None:
    """The worst that is wrong with the labels of a window, or None.

    Tested are, each at a quarter of alpha: all labels are one class although the reference's are not (page);
    most are classes the reference does not know (page); the shares have shifted by more than a quarter of the
    rows (ticket) or by more than half (page), beyond what such windows of the reference did; most matured
    rows have no label although they used to (ticket).

    Parameters
    ----------
    reference
        The label column of the reference, by `reference_of`.
    counts
        Labels of matured rows of the window in the reference's bins, the missing ones last.
    window_start, window_end
        The window's event times: which of the reference's days, weeks or months it is compared with.
    alpha
        The chance that this look finds fault with sound labels, rows being independent. Divide a monitor's
        alpha by its looks in a quarter.

    Examples
    --------
    >>> from datetime import UTC
    >>> from clew.monitoring.reference import reference_of
    >>> rng = np.random.default_rng(0)
    >>> before = np.datetime64("2026-01-01") + np.repeat(np.arange(50), 100)
    >>> reference = reference_of({"paid": rng.choice(["no", "yes"], 5000)}, before).columns[0]
    >>> start = datetime(2026, 3, 1, tzinfo=UTC)
    >>> found = label_finding(reference, [80, 0, 0, 0], start, start + timedelta(days=1), start, alpha=1e-4)
    >>> found.level, found.sentence
    ('page', 'all 80 labels of 2026-03-01 are yes; in the reference 50 % are')
    """
    labels = np.asarray(counts, dtype=np.int64)
    if labels.shape != (len(reference.counts),):
        raise ValueError(f"counts have shape {labels.shape}, the reference has {len(reference.counts)} bins")
    if not labels.sum():
        return None
    look = _Look(reference, labels, alpha / 4, _scale(window_end - window_start))
    faults = [*look.one_class(), *look.unknown_class(), *look.shift(), *look.missing()]
    if not faults:
        return None
    worst = min(faults, key=lambda fault: fault.level != "page")
    return Finding(
        monitor=MONITOR,
        level=worst.level,
        subject=reference.name,
        window_start=window_start,
        window_end=window_end,
        found_at=now,
        value=worst.value,
        lower=worst.lower,
        upper=worst.upper,
        n=worst.n,
        method=f"{worst.kind} at {look.level:.1e}; beyond the reference's own windows",
        sentence=worst.words.replace("WINDOW", _window(window_start, window_end)),
        evidence={
            "fault": worst.kind,
            "faults": [fault.kind for fault in faults],
            "counts": labels.tolist(),
            "labels": list(reference.bins.labels),
        },
    )


@dataclass(frozen=True, slots=True)
class _Look:
    """One window against the reference and its own windows at this merge scale."""

    reference: ColumnReference
    labels: IntArray
    level: float
    scale: int

    @property
    def known(self) -> IntArray:
        """Labels that are not missing, by bin."""
        return self.labels[:-1]

    def one_class(self) -> Iterator[_Fault]:
        place, n = int(self.known.argmax()), int(self.known.sum())
        # Labels in the last bin may be of several classes; `unknown_class` is for them.
        is_one_class = n > 0 and self.known[place] == n and place < len(self.known) - 1
        if not (is_one_class and self.reference.is_category):
            return
        before = np.array(self.reference.counts[:-1])
        share = before[place] / max(before.sum(), 1)
        # As likely as that class could be, given the reference.
        at_most = float(wilson_interval([before[place]], [before.sum()], 1 - 2 * self.level)[1][0])
        is_chance = n * math.log(at_most) > math.log(self.level)
        is_usual = self.scale == 0 and self.reference.has_constant_days
        distance = noise_corrected_total_variation(before, self.known)
        if not (is_chance or is_usual) and distance > self.reference.farthest_distance[self.scale]:
            name = self.reference.bins.labels[place]
            words = f"all {n:,} labels of WINDOW are {name}; in the reference {share * 100:.0f} % are"
            yield self._share_fault("one class", "page", n, n, words)

    def unknown_class(self) -> Iterator[_Fault]:
        if not self.reference.is_category:
            return
        n, n_unknown = int(self.known.sum()), int(self.known[-1])
        before = np.array(self.reference.counts[:-1])
        usual = max(before[-1] / max(before.sum(), 1), self.reference.usual_unseen)
        words = f"{n_unknown:,} of {n:,} labels of WINDOW are classes that the reference does not know"
        if self._is_most(n_unknown, n, usual):
            yield self._share_fault("unknown class", "page", n_unknown, n, words)

    def missing(self) -> Iterator[_Fault]:
        n, n_missing = int(self.labels.sum()), int(self.labels[-1])
        usual = max(self.reference.counts[-1] / max(self.reference.n_rows, 1), self.reference.usual_missing)
        words = f"{n_missing:,} of {n:,} matured rows of WINDOW have no label; usual is {usual * 100:.0f} %"
        if self._is_most(n_missing, n, usual):
            yield self._share_fault("missing labels", "ticket", n_missing, n, words)

    def _is_most(self, n_with: int, n: int, usual: float) -> bool:
        lower = wilson_interval([n_with], [n], 1 - 2 * self.level)[0]
        return bool(lower[0] > max(0.5, usual))

    def shift(self) -> Iterator[_Fault]:
        before, n = self.reference.counts[:-1], int(self.known.sum())
        distance = noise_corrected_total_variation(before, self.known)
        usual = self.reference.usual_distance[self.scale]
        if distance <= max(usual, SMALLEST_SHIFT):
            return
        if chi_square_test(before, self.known).p_value > self.level:
            return
        lower, upper = distance_interval(
            total_variation(before, self.known), distance, self.reference.n_values, n
        )
        words = (
            f"{distance * 100:.0f} % of {n:,} labels of WINDOW are in other classes than in the reference"
            f" (95 % {lower * 100:.0f} to {upper * 100:.0f} %)"
        )
        level: Level = "page" if lower > max(usual, IMPOSSIBLE_SHIFT) else "ticket"
        yield _Fault("label shift", level, distance, lower, upper, n, words)

    def _share_fault(self, kind: str, level: Level, n_with: int, n: int, words: str) -> _Fault:
        lower, upper = wilson_interval([n_with], [n])
        return _Fault(kind, level, n_with / n, float(lower[0]), float(upper[0]), n, words)


def _scale(length: timedelta) -> int:
    # Shorter windows stray further, so the longest scale that fits errs towards silence.
    fitting = [scale for scale, n_days in enumerate(MERGE_DAYS) if length >= timedelta(days=n_days)]
    return fitting[-1] if fitting else 0


def _window(start: datetime, end: datetime) -> str:
    last = end - timedelta(microseconds=1)
    return f"{start:%Y-%m-%d}" if last.date() == start.date() else f"{start:%Y-%m-%d} to {last:%Y-%m-%d}"
