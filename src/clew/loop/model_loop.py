"""The loop of one model: score what matured, look, decide, act.

`ModelLoop.tick(now)` is the whole of it. What it acts on is a `World`: history in a backtest, running
servers in life. The decisions themselves are made by `clew.loop.decide.decide`, which is pure.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import datetime
from typing import Any

import numpy as np

from clew.entities import Decision, Finding
from clew.errors import TrainingFailed
from clew.loop.decide import Episode, Situation, Standing, decide, evidence_needed
from clew.loop.orders import Orders
from clew.loop.policy import (
    BACK_OFF,
    EPISODE_PATIENCE,
    ONSET_FIRST_FIT,
    ORDERED_LOOKS,
    RECIPES,
    REFIT_EVERY,
    REFIT_NEW_SHARE,
    RETIRED_KEPT,
    SMALLEST_SCORED,
    SMALLEST_WINDOW,
    TIE_AFTER,
    TIE_CONFIDENCE,
    Policy,
)
from clew.loop.standing import (
    Contestant,
    FittedModel,
    Origin,
    Pieces,
    evidence_ratio,
    fresh_evidence,
    n_new_rows,
    newest_pieces,
    upper_level,
)
from clew.loop.watch import BROKEN_LABELS
from clew.loop.world import Candidate, World
from clew.monitoring.risk import LossScale, RiskMonitor
from clew.stats.arrays import FloatArray
from clew.stats.paired import PairedComparison, paired_comparison

ANCHOR = "the anchor"
SINCE_ONSET = "challenger on rows since the onset"


class ModelLoop:
    """The loop of one model.

    Parameters
    ----------
    policy
        What it holds to.
    world
        What it acts on.
    champion
        The first champion.
    reference
        Upper bound of the champion's healthy mean loss, as a share of the loss bound.
    n_rows
        Labelled rows to make room for; more room is made when more come.
    now
        When life begins.
    """

    def __init__(
        self,
        policy: Policy,
        world: World,
        champion: FittedModel,
        reference: float,
        n_rows: int,
        now: datetime,
    ) -> None:
        self.policy, self.world, self.n_rows = policy, world, n_rows
        self.champion, self.reference = champion, reference
        self.losses: FloatArray = np.full(n_rows, np.nan)
        self.first = self.anchor = champion
        self.seen = self.champion_since = world.matured(now)
        self.contestants: dict[str, Contestant] = {}
        self.challenger_fits: dict[str, FittedModel] = {}
        self.retired: list[str] = []
        self.episode: Episode | None = None
        self.quarantined: list[tuple[int, int]] = []
        self.n_onset_tried = 0
        self.releasing: Contestant | None = None
        self.is_paused = False
        self.orders = Orders.begin(policy.declaration.retrain, now, self.seen)
        self.fits_today: tuple[object, int] = (None, 0)
        if policy.is_auto:
            for length in RECIPES:
                self._add(_recipe_name(length, policy), "recipe", length=length)
        self.next_refit = self.next_tie = self.seen
        self.anchor_evidence = fresh_evidence(policy)
        self.risk = self._fresh_monitor()
        self._take_office(champion, np.full(n_rows, np.nan))

    # -- a tick --------------------------------------------------------------------------------------

    def tick(self, now: datetime) -> None:
        """Take in what matured since the last tick, look, decide, act."""
        matured = self.world.matured(now)
        if matured > self.seen:
            self._make_room(matured)
            self._score(self.seen, matured)
            self.seen = matured
        watched = self.world.watch(now)
        for finding in watched:
            identity = self.world.found(finding)
            if finding.monitor == BROKEN_LABELS:
                self._quarantine_window(finding, identity, now)
        has_drifted = any(finding.monitor == "drift" for finding in watched)
        page = self._page(now)
        for decision in decide(self._situation(now, page, has_drifted), self.policy):
            self._act(decision, page, now)
        if self.episode is not None and not self.is_paused:
            self._refit_onset(now)
        if self.releasing is not None:
            self._follow_release(now)

    def _make_room(self, n_rows: int) -> None:
        if n_rows <= self.n_rows:
            return
        self.n_rows = max(n_rows, 2 * self.n_rows)
        self.losses = _lengthened(self.losses, self.n_rows)
        for contestant in self.contestants.values():
            contestant.losses = _lengthened(contestant.losses, self.n_rows)

    def _score(self, start: int, end: int) -> None:
        first = max(start, self.champion.first_row)
        if first < end:
            self.losses[first:end] = self.world.scored(self.champion, first, end).losses
        for contestant in self.contestants.values():
            contestant.score(start, end, self.world)
            contestant.bet_against(self.losses, start, end)
        known = ~np.isnan(self.losses[start:end])
        self.risk = self.risk.observe(self.losses[start:end][known], self.world.times(start, end)[known])
        self._compare_with_anchor(start, end)

    def _compare_with_anchor(self, start: int, end: int) -> None:
        anchor = self.contestants.get(ANCHOR)
        if anchor is None:
            return
        gains = anchor.losses[start:end] - self.losses[start:end]
        self.anchor_evidence = self.anchor_evidence.extended(gains[~np.isnan(gains)])[0]

    def _page(self, now: datetime) -> Finding | None:
        if self.episode is not None:
            return None
        scale = LossScale(self.policy.metric, self.policy.bound)
        return self.risk.finding(self.policy.declaration.name, scale, now)

    # -- life beyond a process -------------------------------------------------------------------------

    def state(self) -> dict[str, Any]:
        """All that it knows, as values; `restore` takes it back."""
        return {name: value for name, value in vars(self).items() if name not in ("policy", "world")}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Be where the loop was that gave this state."""
        vars(self).update(state)
        if self.releasing is not None:
            # The same object as among the contestants, unless it is no longer one of them.
            self.releasing = self.contestants.get(self.releasing.name, self.releasing)

    # -- people --------------------------------------------------------------------------------------

    def put_in_office(self, champion: FittedModel) -> None:
        """A person chose this version: it answers from now on, and is held to the level that there was."""
        contestant = self._contestant_of(champion)
        losses = contestant.losses.copy() if contestant else np.full(self.n_rows, np.nan)
        if contestant is not None and contestant.origin == "retired":
            del self.contestants[contestant.name]
        self.releasing = None
        self._retire(self.champion)
        self.contestants.pop(SINCE_ONSET, None)
        self.episode = None
        self._take_office(champion, losses)

    def judge_anew(self) -> None:
        """A person changed the decision threshold: answers seen so far are judged by it, and set the level.

        What the same model now answers worse than before is what the person chose, and no harm to page for.
        """
        first = max(self.champion.first_row, self._recent_start())
        self.losses = np.full(self.n_rows, np.nan)
        for contestant in self.contestants.values():
            contestant.losses = np.full(self.n_rows, np.nan)
        if first < self.seen:
            self.losses[first : self.seen] = self.world.scored(self.champion, first, self.seen).losses
        recent = _known(self.losses[first : self.seen])
        if len(recent) >= SMALLEST_SCORED:
            self.reference = upper_level(recent)
        self.contestants.pop(SINCE_ONSET, None)
        self.episode = None
        self._take_office(self.champion, self.losses)

    def banish(self, model: FittedModel) -> None:
        """A person rolled this version back: it does not come back by itself, nor do fits on its rows."""
        contestant = self._contestant_of(model)
        if contestant is not None and contestant.origin == "retired":
            del self.contestants[contestant.name]
        for contestant in self.contestants.values():
            is_fitted = contestant.origin in ("recipe", "onset", "ordered") and contestant.fits
            if is_fitted and model.pieces in (self._pieces_of(contestant), contestant.model.pieces):
                contestant.fits.clear()
                contestant.begin_again(self.policy)
                contestant.waits_until = self.seen + self.policy.rows(BACK_OFF)

    def _contestant_of(self, model: FittedModel) -> Contestant | None:
        fixed = (c for c in self.contestants.values() if c.origin in ("retired", "anchor") and c.fits)
        return next((c for c in fixed if c.model.name == model.name), None)

    # -- what is seen ----------------------------------------------------------------------------------

    def _situation(self, now: datetime, page: Finding | None, has_drifted: bool) -> Situation:
        start = self._recent_start()
        recent = _known(self.losses[start : self.seen])
        tie_due = self.seen >= self.next_tie
        standings = tuple(self._standing(c, start, tie_due) for c in self._rivals())
        if tie_due:
            self.next_tie = self.seen + self.policy.rows(TIE_AFTER)
        may_order = self._may_fit(now) and not self.is_paused
        return Situation(
            now=now,
            n_matured=self.seen,
            n_since_promotion=self.seen - self.champion_since,
            harm=evidence_ratio(self.risk.detector.evidence),
            page=page,
            recent_loss=float(recent.mean()) if len(recent) else math.nan,
            n_recent=len(recent),
            reference=self.reference,
            standings=standings,
            episode=self.episode,
            is_releasing=self.releasing is not None,
            tie_due=tie_due,
            anchor_evidence=evidence_ratio(self.anchor_evidence),
            due_recipes=self._due_recipes(now),
            best_skill=self._skill_in_episode(),
            is_asked=bool(self.orders.asked),
            orders=self.orders.due(now, self.seen, has_drifted) if may_order else (),
            is_paused=self.is_paused,
        )

    def _recent_start(self) -> int:
        """First of the rows of late: the newest W/2, and in an episode none before its onset."""
        recent = max(0, self.seen - self.policy.rows(TIE_AFTER))
        return recent if self.episode is None else max(recent, self.episode.onset_row)

    def _rivals(self) -> list[Contestant]:
        return [c for c in self.contestants.values() if c.fits and c.model.name != self.champion.name]

    def _standing(self, contestant: Contestant, start: int, tie_due: bool) -> Standing:
        if contestant.origin == "ordered":
            return self._ordered_standing(contestant)
        theirs, ours = contestant.losses[start : self.seen], self.losses[start : self.seen]
        both = ~np.isnan(theirs) & ~np.isnan(ours)
        answered = np.flatnonzero(~np.isnan(theirs))
        compared = tie_due and contestant.origin != "onset"
        evidence = evidence_ratio(contestant.evidence)
        # The skill is asked for only of those who could be released now, and is the dearest to know.
        may_win = compared or evidence >= evidence_needed(1)
        return Standing(
            name=contestant.name,
            origin=contestant.origin,
            evidence=evidence,
            n_scored=contestant.n_scored,
            gain=float((ours[both] - theirs[both]).mean()) if both.any() else math.nan,
            skill=self._skill(theirs[answered], start + answered) if may_win else math.nan,
            mean_loss=float(theirs[answered].mean()) if len(answered) else math.inf,
            n_recent=len(answered),
            n_rows=contestant.model.n_rows,
            waits=self.seen < contestant.waits_until,
            champion=paired_comparison(ours[both], theirs[both], TIE_CONFIDENCE) if compared else None,
            anchor=self._against_anchor(contestant, start, TIE_CONFIDENCE) if compared else None,
        )

    def _ordered_standing(self, contestant: Contestant) -> Standing:
        """An ordered candidate is judged on all rows since its fit, at its next look."""
        start, looks = contestant.model.first_row, ORDERED_LOOKS
        theirs, ours = contestant.losses[start : self.seen], self.losses[start : self.seen]
        both = ~np.isnan(theirs) & ~np.isnan(ours)
        n = int(both.sum())
        due = contestant.n_looks < len(looks) and n >= looks[contestant.n_looks]
        confidence = 1 - (1 - TIE_CONFIDENCE) / len(looks)
        rows = start + np.flatnonzero(both)
        return Standing(
            name=contestant.name,
            origin="ordered",
            evidence=evidence_ratio(contestant.evidence),
            n_scored=contestant.n_scored,
            gain=float((ours[both] - theirs[both]).mean()) if n else math.nan,
            skill=self._skill(theirs[both], rows),
            mean_loss=float(theirs[both].mean()) if n else math.inf,
            n_recent=n,
            n_rows=contestant.model.n_rows,
            waits=self.seen < contestant.waits_until,
            champion=paired_comparison(ours[both], theirs[both], confidence) if due else None,
            anchor=self._against_anchor(contestant, start, confidence) if due else None,
            n_looks=contestant.n_looks,
        )

    def _against_anchor(
        self, contestant: Contestant, start: int, confidence: float
    ) -> PairedComparison | None:
        anchor = self.contestants.get(ANCHOR)
        if anchor is None or anchor is contestant:
            return None
        theirs, anchors = contestant.losses[start : self.seen], anchor.losses[start : self.seen]
        both = ~np.isnan(theirs) & ~np.isnan(anchors)
        return paired_comparison(anchors[both], theirs[both], confidence)

    def _skill_in_episode(self) -> float:
        """The best skill since the onset of an episode whose patience is over; else nobody asks."""
        if self.episode is None or self.seen - self.episode.onset_row < self.policy.rows(EPISODE_PATIENCE):
            return 1.0
        return self._best_skill(self.episode.onset_row, self.seen)

    def _best_skill(self, start: int, end: int) -> float:
        """Over champion and contestants, on rows ``start`` to ``end``."""
        tracks = [self.losses, *(contestant.losses for contestant in self.contestants.values())]
        answered = [start + np.flatnonzero(~np.isnan(track[start:end])) for track in tracks]
        return max(self._skill(track[rows], rows) for track, rows in zip(tracks, answered, strict=True))

    def _skill(self, losses: FloatArray, rows: np.ndarray) -> float:
        if len(losses) < SMALLEST_SCORED:
            return 0.0
        constant = self.world.constant_loss(int(rows[0]), int(rows[-1]) + 1)
        # Where a constant is always right there is nothing to be skilled at: labels that all broke to one
        # class must not look like perfection.
        return 1 - float(losses.mean()) / constant if constant > 0 else 0.0

    # -- acting ----------------------------------------------------------------------------------------

    def _act(self, decision: Decision, page: Finding | None, now: datetime) -> None:
        if decision.kind == "page" and page is not None:
            decision = replace(decision, findings=(self.world.found(page),))
        contestant = self.contestants.get(decision.evidence.get("candidate", ""))
        self.world.decided(decision, contestant.model if contestant else None)
        actions: dict[str, Callable[[], None]] = {
            "page": lambda: self._open_episode(page),
            "recovered": lambda: self._recover(now),
            "accepted": self._accept,
            "unlearnable": lambda: self._disbelieve(now),
            "release": lambda: self._release(decision, now),
            "refused": lambda: self._hold_back(
                *decision.evidence.get("all", [decision.evidence["candidate"]])
            ),
            "undecided": lambda: self._look_again(decision.evidence["candidate"]),
            "anchor": lambda: self._set_anchor(self.champion),
            "order": lambda: self._order(now),
            "refit": lambda: self._refit(decision.evidence["recipes"], now),
        }
        actions[decision.kind]()

    def _open_episode(self, page: Finding | None) -> None:
        assert page is not None  # noqa: S101 - a page decision comes from a page
        assert page.onset is not None  # noqa: S101 - a page says since when
        onset_row = max(self.champion_since, int(np.searchsorted(self._all_times(), _as_time(page.onset))))
        self.episode = Episode(onset_row, self.seen, page.onset, self.reference)
        self._add(SINCE_ONSET, "onset")
        self.n_onset_tried = 0

    def _all_times(self) -> np.ndarray:
        return self.world.times(0, self.seen)

    def _recover(self, now: datetime) -> None:
        """If nothing could be learned from the rows between, they were the fault, and nothing may."""
        assert self.episode is not None  # noqa: S101 - decide() saw it open
        onset = self.episode.onset_row
        losses = np.nan_to_num(self.losses[onset : self.seen], nan=self.reference)
        excess = np.cumsum(losses - self.reference - self.policy.margin)
        end = onset + int(np.argmax(excess)) + 1
        can_be_learned = self._best_skill(onset, end) >= self.policy.skill_floor
        self._close_episode()
        if not can_be_learned:
            self._quarantine(onset, end, (), now)

    def _quarantine_window(self, finding: Finding, identity: str, now: datetime) -> None:
        """Labels that are certainly broken are no truth: nothing learns from them or is judged by them."""
        edges = [_as_time(finding.window_start), _as_time(finding.window_end)]
        start, end = np.searchsorted(self._all_times(), edges).tolist()
        if start >= end:
            return
        self.losses[start:end] = np.nan
        for contestant in self.contestants.values():
            contestant.losses[start:end] = np.nan
            contestant.begin_again(self.policy)
        self.anchor_evidence = fresh_evidence(self.policy)
        if self.episode is not None and self.episode.onset_row >= start:
            self._close_episode()
        self._watch_anew()
        self._quarantine(start, end, (identity,), now)

    def _quarantine(self, start: int, end: int, findings: tuple[str, ...], now: datetime) -> None:
        self.quarantined.append((start, end))
        first, last = self.world.time_of(start), self.world.time_of(end - 1)
        sentence = (
            f"{end - start:,} rows from {first:%Y-%m-%d} to {last:%Y-%m-%d} are quarantined: no recipe learns"
            " from them"
        )
        decision = Decision("quarantined", now, sentence, {"rows": end - start}, findings)
        self.world.decided(decision, None)
        for contestant in self.contestants.values():
            if contestant.origin == "recipe" and contestant.fits and self._learned_from_fault(contestant):
                contestant.fits.clear()
                contestant.begin_again(self.policy)
        self.next_refit = self.seen

    def _learned_from_fault(self, contestant: Contestant) -> bool:
        start, end = self.quarantined[-1]
        return any(a < end and b > start for a, b in contestant.model.pieces)

    def _disbelieve(self, now: datetime) -> None:
        """What no model can learn is taken for broken: the level stays, nothing learns from these rows."""
        assert self.episode is not None  # noqa: S101 - decide() saw it open
        onset = self.episode.onset_row
        self._close_episode()
        self._quarantine(onset, self.seen, (), now)

    def _accept(self) -> None:
        recent = _known(self.losses[self._recent_start() : self.seen])
        self.reference = upper_level(recent)
        self._close_episode()

    def _close_episode(self) -> None:
        self.episode = None
        self.contestants.pop(SINCE_ONSET, None)
        self._watch_anew()

    def _hold_back(self, *names: str) -> None:
        for contestant in [self.contestants[name] for name in names if name in self.contestants]:
            if contestant.origin == "ordered":
                del self.contestants[contestant.name]
                continue
            contestant.n_refusals += 1
            wait = BACK_OFF * 2 ** (contestant.n_refusals - 1)
            contestant.waits_until = self.seen + self.policy.rows(wait)

    def _look_again(self, name: str) -> None:
        self.contestants[name].n_looks += 1

    # -- fits --------------------------------------------------------------------------------------------

    def _due_recipes(self, now: datetime) -> tuple[str, ...]:
        if self.seen < self.next_refit or not self._may_fit(now):
            return ()
        due = [c.name for c in self.contestants.values() if c.origin == "recipe" and self._is_stale(c)]
        if not due:
            self.next_refit = self.seen + self.policy.rows(REFIT_EVERY)
        return tuple(due)

    def _is_stale(self, contestant: Contestant) -> bool:
        pieces = self._pieces_of(contestant)
        n = sum(b - a for a, b in pieces)
        if n < SMALLEST_WINDOW:
            return False
        return not contestant.fits or n_new_rows(pieces, contestant.model.pieces) >= REFIT_NEW_SHARE * n

    def _pieces_of(self, contestant: Contestant) -> Pieces:
        if contestant.origin == "onset":
            assert self.episode is not None  # noqa: S101 - it exists only within an episode
            known = newest_pieces(self.seen, math.inf, self.quarantined)
            onset = self.episode.onset_row
            return tuple((max(start, onset), end) for start, end in known if end > onset)
        length = math.inf if contestant.length is None else contestant.length * self.policy.window
        return newest_pieces(self.seen, length, self.quarantined)

    def _refit(self, names: list[str], now: datetime) -> None:
        self.next_refit = self.seen + self.policy.rows(REFIT_EVERY)
        for name in names:
            self._fit(self.contestants[name], now)
        self._forget_old_fits()

    def _forget_old_fits(self) -> None:
        """Let go of challengers' fits that no gate can ask about any more."""
        oldest = self.seen - 2 * self.policy.window
        kept: set[str] = set()
        for contestant in self.contestants.values():
            if contestant.origin == "recipe":
                contestant.segments = [s for s in contestant.segments if s.end > oldest]
            kept |= {fit.name for fit in contestant.fits} | {s.model.name for s in contestant.segments}
        for name in [name for name in self.challenger_fits if name not in kept]:
            self.world.forget(self.challenger_fits.pop(name))

    def _refit_onset(self, now: datetime) -> None:
        contestant = self.contestants.get(SINCE_ONSET)
        if contestant is None or self.episode is None or not self._may_fit(now):
            return
        n_rows = sum(end - start for start, end in self._pieces_of(contestant))
        if n_rows >= max(ONSET_FIRST_FIT, 2 * self.n_onset_tried):
            self.n_onset_tried = n_rows
            self._fit(contestant, now)

    def _fit(self, contestant: Contestant, now: datetime) -> None:
        pieces = self._pieces_of(contestant)
        if not pieces or not self._may_fit(now):
            return
        self.fits_today = (now.date(), self.fits_today[1] + 1 if self.fits_today[0] == now.date() else 1)
        try:
            model = self.world.fit(contestant.name, pieces, now)
        except TrainingFailed as error:
            # A challenger that cannot be fitted harms nobody: the champion goes on answering.
            first_line = str(error).partition("\n")[0]
            sentence = f"{contestant.name} could not be fitted: {first_line}"
            self.world.decided(Decision("fit failed", now, sentence, {"candidate": contestant.name}), None)
            self._hold_back(contestant.name)
            return
        contestant.fits.append(model)
        self.challenger_fits[model.name] = model

    def _may_fit(self, now: datetime) -> bool:
        limit, (day, n) = self.policy.fits_per_day, self.fits_today
        return limit is None or day != now.date() or n < limit

    def _order(self, now: datetime) -> None:
        for name in [c.name for c in self.contestants.values() if c.origin == "ordered"]:
            del self.contestants[name]
        contestant = self._add(f"candidate ordered {now:%Y-%m-%d}", "ordered", length=self._ordered_length())
        self._fit(contestant, now)
        if not contestant.fits:
            self.contestants.pop(contestant.name, None)

    def _ordered_length(self) -> float:
        return math.inf if self.policy.declaration.train_window is None else 1.0

    # -- releases ----------------------------------------------------------------------------------------

    def _release(self, decision: Decision, now: datetime) -> None:
        contestant = self.contestants[decision.evidence["candidate"]]
        why = decision.evidence["why"]
        proven = why in ("better", "repair")
        is_recipe = contestant.origin in ("recipe", "onset", "ordered")
        start = contestant.model.first_row if contestant.origin == "ordered" else self._recent_start()
        candidate = Candidate(
            name=contestant.name,
            why=why,
            pieces=self._pieces_of(contestant) if is_recipe else contestant.model.pieces,
            model=None if is_recipe else contestant.model,
            judged=contestant.answered(start, self.seen),
            evidence=evidence_ratio(contestant.evidence) if proven else None,
            evidence_needed=evidence_needed(len(self._rivals())) if proven else None,
            must_be_better=why == "repair",
        )
        self.releasing = contestant
        self.world.begin_release(candidate, self.champion, self.anchor, now)

    def _follow_release(self, now: datetime) -> None:
        outcome = self.world.advance_release(now)
        if outcome is None:
            return
        contestant, self.releasing = self.releasing, None
        assert contestant is not None  # noqa: S101 - it was set when the release began
        if outcome.kind == "promoted" and outcome.model is not None:
            self._promote(contestant, outcome.model)
        elif outcome.kind == "undecided":
            # A few more labels may settle it, so it comes back soon, and is not punished.
            contestant.waits_until = self.seen + SMALLEST_SCORED
        else:
            self._hold_back(contestant.name)

    def _promote(self, contestant: Contestant, model: FittedModel) -> None:
        if self.episode is None:
            # What it showed on rows after its fit; rows of an open episode never set the level.
            recent = _known(contestant.losses[self._recent_start() : self.seen])
            self.reference = upper_level(recent) if len(recent) >= SMALLEST_SCORED else self.reference
        self._retire(self.champion)
        is_fixed = contestant.origin in ("retired", "anchor")
        losses = contestant.losses.copy() if is_fixed else np.full(self.n_rows, np.nan)
        if contestant.origin == "ordered":
            self.contestants.pop(contestant.name, None)
        self.contestants.pop(SINCE_ONSET, None)
        self.episode = None
        self._take_office(model, losses)

    def _take_office(self, champion: FittedModel, losses: FloatArray) -> None:
        self.champion, self.losses, self.champion_since = champion, losses, self.seen
        self.next_tie = self.seen + self.policy.rows(TIE_AFTER)
        self.anchor_evidence = fresh_evidence(self.policy)
        for contestant in self.contestants.values():
            contestant.begin_again(self.policy)
        self._watch_anew()

    def _watch_anew(self) -> None:
        self.risk = self._fresh_monitor()

    def _fresh_monitor(self) -> RiskMonitor:
        policy = self.policy
        # A limit of one or more could never be crossed: the monitor then watches for total collapse.
        reference = min(self.reference, 0.98 - policy.margin)
        since = self.world.time_of(self.seen)
        return RiskMonitor.start(reference, policy.margin, policy.page_alpha, policy.quarter_rows, since)

    def _retire(self, champion: FittedModel) -> None:
        """It goes on competing; only the newest few, the anchor and the first champion are kept."""
        name = self._version_name(champion)
        if champion.name != self.anchor.name and name not in self.contestants:
            self._add(name, "retired", model=champion, losses=self.losses)
            self.retired.append(name)
        if champion.name == self.anchor.name and ANCHOR not in self.contestants:
            self._add(ANCHOR, "anchor", model=champion, losses=self.losses)
        kept = [n for n in self.retired if n in self.contestants]
        for old in kept[:-RETIRED_KEPT]:
            if self.contestants[old].model.name != self.first.name:
                del self.contestants[old]
        self.retired = [n for n in kept if n in self.contestants]

    def _set_anchor(self, model: FittedModel) -> None:
        old = self.contestants.pop(ANCHOR, None)
        self.anchor = model
        self.anchor_evidence = fresh_evidence(self.policy)
        if old is not None:
            name = self._version_name(old.model)
            self._add(name, "retired", model=old.model, losses=old.losses)
            self.retired.append(name)
        self.contestants.pop(self._version_name(model), None)

    def _version_name(self, model: FittedModel) -> str:
        return f"version {self.world.version_number(model)}"

    def _add(
        self,
        name: str,
        origin: Origin,
        *,
        length: float | None = None,
        model: FittedModel | None = None,
        losses: FloatArray | None = None,
    ) -> Contestant:
        track = np.full(self.n_rows, np.nan) if losses is None else losses.copy()
        contestant = Contestant(name, origin, fresh_evidence(self.policy), track, length)
        if model is not None:
            # It was scored up to now as champion; from here on as a contestant.
            contestant.fits.append(replace(model, first_row=min(model.first_row, self.seen)))
        self.contestants[name] = contestant
        return contestant


def _lengthened(losses: FloatArray, n_rows: int) -> FloatArray:
    return np.concatenate([losses, np.full(n_rows - len(losses), np.nan)])


def _known(losses: FloatArray) -> FloatArray:
    known: FloatArray = losses[~np.isnan(losses)]
    return known


def _as_time(moment: datetime) -> np.datetime64:
    return np.datetime64(moment.replace(tzinfo=None), "us")


def _recipe_name(length: float, policy: Policy) -> str:
    if math.isinf(length):
        return "challenger on all history"
    return f"challenger on the newest {policy.rows(length):,} rows"
