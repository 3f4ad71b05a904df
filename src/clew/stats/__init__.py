"""Pure numbers: values in, values out. Nothing here reads a clock, a file or another room.

Metrics as row losses, intervals, distances between distributions, and evidence that may be looked at at any
time. The modules hold the rest: `clew.stats.calibration`, `clew.stats.evidence`, `clew.stats.special`.
"""

from __future__ import annotations

from clew.stats.betting import harm_detector, paired_betting
from clew.stats.bins import bins_from_dict, category_bins, numeric_bins
from clew.stats.distances import chi_square_test, noise_corrected_total_variation
from clew.stats.intervals import mean_interval, wilson_interval
from clew.stats.metrics import metric_named
from clew.stats.paired import non_inferior, paired_comparison

__all__ = [
    "bins_from_dict",
    "category_bins",
    "chi_square_test",
    "harm_detector",
    "mean_interval",
    "metric_named",
    "noise_corrected_total_variation",
    "non_inferior",
    "numeric_bins",
    "paired_betting",
    "paired_comparison",
    "wilson_interval",
]
