"""The constants of the loop, in one place, each with its reason.

None is fitted to a dataset of ours: they were compared on generated streams (no drift, covariate shift,
abrupt flips, slow drift, a yearly season, broken labels), and nearly all of them lie on a plateau, where
halving or doubling moves the mean accuracy by less than half a point.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import timedelta

from clew.entities import Duration, ModelDeclaration
from clew.stats.metrics import Metric, metric_named

SMALLEST_WINDOW = 100
"""Rows: below this no recipe could be told from another within a lifetime."""

WINDOW_SHARE = 3
"""W is a third of the rows of the first champion: its author thought that many rows enough to begin with,
so a third still makes a usable model, and one that is three times as fresh."""

RECIPES: tuple[float, ...] = (float("inf"), 3.0, 1.0)
"""Standing challengers learn from all history, the newest 3W and the newest W rows."""

REFIT_EVERY = 0.5
"""Of W: rows between refits of the standing challengers. Each refit costs one fit a recipe."""

REFIT_NEW_SHARE = 0.25
"""A recipe is refitted only if at least this share of its rows would be new."""

ALPHA_BETTER = 0.05
"""Chance, shared by the contestants, that one that is not better is called proven better."""

EVIDENCE_SPREAD = 3.0
"""Of W: rows over which the starts of the evidence for a challenger are spread."""

SMALLEST_SCORED = 50
"""Rows a candidate must have answered, whatever the evidence says: a guard against a single bad day."""

TIE_AFTER = 0.5
"""Of W: rows without a promotion before a fresher model may take a tie or an old one return, and rows it is
judged on."""

TIE_MARGIN = 0.5
"""Of the margin: how much worse a fresher model may certainly not be."""

TIE_CONFIDENCE = 0.9
"""Two-sided, so that its lower limit holds with 95 %."""

CALM_EVIDENCE = 10.0
"""With evidence of harm above 1:10 the rows of late are no measure of a tie."""

ONSET_FIRST_FIT = 100
"""After a page, a model is fitted on the rows since the onset at 100, 200, 400, … of them."""

EPISODE_PATIENCE = 1.0
"""Of W: rows since the onset after which, if nothing better was found, the new level is accepted."""

SKILL_FLOOR = 0.5
"""Of the skill (loss saved against the best constant answer) that the first champion showed. Labels that
are broken at random cannot be predicted, so what was learned from them keeps none of it."""

RETIRED_KEPT = 3
"""Retired champions that go on competing, because old concepts return."""

REFERENCE_CONFIDENCE = 0.98
"""Two-sided: the champion's level is bounded by the 99 % upper limit of its loss."""

ORDERED_LOOKS = (100, 200, 400, 800, 1600, 3200)
"""Rows after which an ordered candidate is looked at; each look gets an equal part of the error."""

BACK_OFF = 0.25
"""Of W: rows that a refused or rolled back recipe waits before its next turn, doubled at each refusal."""

TICKS_PER_WINDOW = 16
"""The loop looks at least this often while W rows mature, and at least once a day."""

LONGEST_TICK = timedelta(days=1)
SHORTEST_TICK = timedelta(minutes=1)


@dataclass(frozen=True, slots=True)
class Policy:
    """What the loop of one model holds to; all row counts are counts of matured rows.

    Attributes
    ----------
    window
        W.
    bound
        The row loss at which losses are winsorised and by which they are divided.
    margin
        The declared margin, as a share of `bound`.
    skill
        The share of a constant answer's loss that the first champion saved.
    quarter_rows
        Rows that mature in a quarter: the horizon of the page budget.
    page_alpha
        Chance of a false page in a quarter.
    """

    declaration: ModelDeclaration
    metric: Metric
    window: int
    bound: float
    margin: float
    skill: float
    quarter_rows: int
    page_alpha: float
    tick: timedelta
    fits_per_day: int | None = None

    @property
    def is_auto(self) -> bool:
        return any(trigger.kind == "auto" for trigger in self.declaration.retrain)

    @property
    def skill_floor(self) -> float:
        """What a candidate's skill must reach; nothing where the first champion itself had none to lose."""
        return SKILL_FLOOR * self.skill if self.skill > 0 else -math.inf

    @property
    def is_left_to_people(self) -> bool:
        return all(trigger.kind == "never" for trigger in self.declaration.retrain)

    def rows(self, share: float) -> int:
        """A share of W in rows, at least one."""
        return max(1, round(share * self.window))


def window_rows(declaration: ModelDeclaration, n_first: int, span: timedelta) -> int:
    """W: what ``train_window=`` says, else a third of the first champion's rows.

    A duration is turned into rows at the pace of the first champion's rows, `n_first` in `span`.
    """
    window = declaration.train_window
    if window is None:
        return max(SMALLEST_WINDOW, n_first // WINDOW_SHARE)
    if isinstance(window, Duration):
        days = window.exact / timedelta(days=1) + 30.44 * window.months
        window = round(n_first * days / max(span / timedelta(days=1), 1e-9))
    return max(SMALLEST_WINDOW, min(window, n_first))


def tick_length(window: int, n_first: int, span: timedelta) -> timedelta:
    """How often the loop looks: a day, or less when W rows mature faster than sixteen days."""
    pace = span / max(n_first, 1)
    return max(SHORTEST_TICK, min(LONGEST_TICK, pace * window / TICKS_PER_WINDOW))


def quarter_rows(n_first: int, span: timedelta) -> int:
    """Rows that mature in a quarter (91 days), at the pace of the first champion's rows."""
    return max(SMALLEST_WINDOW, round(n_first * timedelta(days=91) / max(span, timedelta(seconds=1))))


def metric_of(declaration: ModelDeclaration) -> Metric:
    return metric_named(declaration.metric)
