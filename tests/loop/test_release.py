from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any

import numpy as np
import pytest

from clew.declare import parse_rollout
from clew.entities import Decision, GateReport
from clew.loop.fitter import Fitter
from clew.loop.history import as_moment
from clew.loop.jobs import open_job
from clew.loop.release import (
    Judged,
    ReleaseDesk,
    contract_facts,
    judge,
    judged_baselines,
    leakage_facts,
    minimum_losses,
    slice_values,
)
from clew.loop.simulation import HistoryTraffic
from clew.loop.standing import FittedModel, Segment
from clew.loop.world import Candidate
from clew.registry import ensure_deployment, get_gate, list_versions
from clew.stats.metrics import metric_named
from clew.storage import Store
from clew.tracking import get_run
from tests.loop.bikes import Bench
from tests.loop.made import DAY, START, policy

TURNED_NOW = START + timedelta(hours=1136)
"""Cold hours have been busy for two weeks, and will be for another."""

BACK_NOW = START + timedelta(hours=1310)
"""Since ten hours warm hours are busy again, which no matured label shows yet."""


@dataclass
class Scene:
    """A champion who learned that warm hours are busy, and a challenger who learned the opposite later."""

    fitter: Fitter
    desk: ReleaseDesk
    champion: FittedModel
    challenger: FittedModel
    said: list[tuple[Decision, GateReport | None]] = field(default_factory=list)

    @property
    def kinds(self) -> list[str]:
        return [decision.kind for decision, _ in self.said]

    @property
    def canary_share(self) -> float:
        return 0.0 if self.desk.canary is None else self.desk.canary[1]

    @property
    def store(self) -> Store:
        return self.fitter.store

    def candidate(self, **changes: Any) -> Candidate:
        """The challenger's recipe, proven better on rows after its fit."""
        facts: dict[str, Any] = {
            "name": "newest 1W",
            "why": "better",
            "pieces": ((750, 1000),),
            "model": None,
            "judged": (Segment(880, 1000, self.challenger),),
            "evidence": 1e5,
            "evidence_needed": 40.0,
            "must_be_better": False,
        }
        return Candidate(**{**facts, **changes})

    def begin(self, now: datetime = TURNED_NOW, **changes: Any) -> None:
        self.desk.begin(self.candidate(**changes), self.champion, self.champion, now)


def scene(shared: Bench, name: str, number: int, rollout: str = "shadow 1d, canary 20% 1d") -> Scene:
    declaration = replace(shared.described.model, rollout=parse_rollout(rollout), min_requests=0)
    ensure_deployment(shared.store, name, "backtest", "busy_hour", declaration, START)
    fitter, said = shared.fitter(name, number), list[tuple[Decision, GateReport | None]]()
    by = policy(declaration=declaration)
    desk = ReleaseDesk(
        fitter,
        by,
        name,
        lambda: shared.checker,
        HistoryTraffic(fitter),
        lambda *announced: said.append(announced),
    )
    champion = fitter.fit("first champion", ((0, 600),), 640)
    challenger = fitter.fit("newest 1W", ((740, 850),), 880)
    return Scene(fitter, desk, champion, challenger, said)


# -- from a verdict to every request -------------------------------------------------------------------


def test_a_better_candidate_goes_through_every_stage_to_all_requests(shared: Bench) -> None:
    seen = scene(shared, "promoted", 1000)
    seen.begin()
    assert seen.desk.advance(TURNED_NOW) is None
    assert (seen.kinds, seen.canary_share) == (["gate passed"], 0.0)
    assert seen.desk.advance(TURNED_NOW + DAY) is None
    assert seen.said[-1][0].sentence.startswith("version 1 goes on to canary 20% 1d; rows compared so far:")
    assert seen.desk.canary == (seen.desk.model, 0.2)
    outcome = seen.desk.advance(TURNED_NOW + 2 * DAY)
    assert outcome is not None
    assert (outcome.kind, outcome.candidate, outcome.model) == ("promoted", "newest 1W", seen.desk.model)
    assert (seen.kinds, seen.canary_share) == (["gate passed", "rollout", "promoted"], 0.0)


def test_a_promoted_version_is_its_recipe_refitted_on_everything_matured(shared: Bench) -> None:
    seen = scene(shared, "refitted", 1020, rollout="now")
    seen.begin()
    outcome = seen.desk.advance(TURNED_NOW)
    assert outcome is not None
    assert outcome.model is not None
    assert (outcome.model.pieces, outcome.model.first_row) == (
        ((750, 1000),),
        seen.fitter.history.matured(TURNED_NOW),
    )
    assert get_run(seen.store, outcome.model.run).purpose == "release of newest 1W"
    (version,) = list_versions(seen.store, "refitted")
    assert (version.run, version.flavor) == (outcome.model.run, "skops")
    gate = get_gate(seen.store, "refitted", 1)
    assert gate is not None
    assert gate == seen.said[0][1]
    assert {check.name: check.outcome for check in gate.checks} == {
        "data contract": "pass",
        "leakage": "pass",
        "minimum log_loss": "pass",
        "beats a dummy": "pass",
        "linear model": "pass",
        "loads and answers": "pass",
        "paired test": "pass",
        "anchor": "not tested",
        "slice city=Bonn": "pass",
        "slice city=Kiel": "pass",
        "calibration": "pass",
        "size": "not tested",
        "flips": "pass",
    }


def test_a_version_of_old_is_released_as_it_is(shared: Bench) -> None:
    seen = scene(shared, "as it is", 1040, rollout="now")
    n_fits = seen.fitter.n_fits
    seen.begin(model=seen.challenger, pieces=seen.challenger.pieces)
    outcome = seen.desk.advance(TURNED_NOW)
    assert outcome is not None
    assert (outcome.kind, outcome.model, seen.fitter.n_fits) == ("promoted", seen.challenger, n_fits)


def test_an_anchor_that_returns_is_held_against_the_champion_alone(shared: Bench) -> None:
    seen = scene(shared, "anchor returns", 1480, rollout="now")
    old = seen.challenger
    proof: dict[str, Any] = {"evidence": None, "evidence_needed": None, "why": "returned"}
    seen.desk.begin(seen.candidate(model=old, pieces=old.pieces, **proof), seen.champion, old, TURNED_NOW)
    assert seen.desk.advance(TURNED_NOW) is not None
    report = seen.said[0][1]
    assert report is not None
    checks = {check.name: check for check in report.checks}
    assert checks["paired test"].outcome == "pass"
    assert checks["anchor"].sentence == "the candidate is itself the anchor"
    assert seen.said[-1][0].sentence == "champion is version 1: newest 1W, better on the newest rows"


# -- held back -----------------------------------------------------------------------------------------


def test_a_worse_candidate_is_refused_at_the_gate_with_the_check_that_failed(shared: Bench) -> None:
    seen = scene(shared, "refused", 1060)
    old = seen.fitter.fit("all history", ((0, 300),), 340)
    seen.desk.begin(
        seen.candidate(judged=(Segment(880, 1000, old),), evidence=None, pieces=((0, 300),)),
        seen.challenger,
        seen.challenger,
        TURNED_NOW,
    )
    outcome = seen.desk.advance(TURNED_NOW)
    assert outcome is not None
    assert (outcome.kind, seen.kinds) == ("refused", ["refused"])
    decision, report = seen.said[0]
    assert decision.sentence.startswith("newest 1W is refused at the gate: minimum log_loss: log_loss ")
    assert report is not None
    failed = {check.name for check in report.checks if check.outcome == "fail"}
    assert failed >= {"minimum log_loss", "beats a dummy", "paired test"}
    assert list_versions(seen.store, "refused") == []


def test_a_tie_on_too_few_rows_waits_at_the_gate(shared: Bench) -> None:
    seen = scene(shared, "undecided", 1080)
    seen.begin(judged=(Segment(980, 1000, seen.challenger),), evidence=None)
    outcome = seen.desk.advance(TURNED_NOW)
    assert outcome is not None
    assert (outcome.kind, seen.kinds) == ("undecided", ["undecided"])
    assert "newest 1W waits at the gate: minimum log_loss" in seen.said[0][0].sentence


def test_a_candidate_judged_on_no_row_waits_at_the_gate(shared: Bench) -> None:
    seen = scene(shared, "no rows", 1100)
    seen.begin(judged=(), evidence=None)
    outcome = seen.desk.advance(TURNED_NOW)
    assert outcome is not None
    assert outcome.kind == "undecided"


def test_a_refit_that_fails_is_a_refusal_in_one_line(shared: Bench) -> None:
    seen = scene(shared, "failing", 1120)
    seen.begin(pieces=((0, 20),))
    outcome = seen.desk.advance(TURNED_NOW)
    assert outcome is not None
    assert (outcome.kind, outcome.model) == ("refused", None)
    sentence = seen.said[0][0].sentence
    assert sentence.startswith(
        "newest 1W is refused: the refit failed: busy_hour() raised ValueError: only 20 rows"
    )
    assert "\n" not in sentence


def test_a_candidate_that_turns_out_worse_is_rolled_back(shared: Bench) -> None:
    seen = scene(shared, "rolled back", 1140, rollout="shadow 1d, canary 20% 9d")
    seen.begin(BACK_NOW, pieces=((800, 1140),), judged=(Segment(880, 1150, seen.challenger),))
    outcome, now = seen.desk.advance(BACK_NOW), BACK_NOW
    while outcome is None:
        now += DAY
        outcome = seen.desk.advance(now)
    assert (outcome.kind, now < BACK_NOW + 10 * DAY) == ("rolled back", True)
    assert seen.kinds == ["gate passed", "rollout", "rolled back"]
    assert "worse than the champion by more than the margin" in seen.said[-1][0].sentence


def test_rows_are_compared_only_after_the_release_and_once_their_labels_matured(shared: Bench) -> None:
    seen = scene(shared, "compared", 1160)
    seen.begin()
    for days in (0, 1, 2):
        seen.desk.advance(TURNED_NOW + days * DAY)
    history = seen.fitter.history
    expected = history.matured(TURNED_NOW + 2 * DAY) - history.matured(TURNED_NOW)
    assert seen.said[-1][0].evidence["compared"] == expected > 15


# -- done again ----------------------------------------------------------------------------------------


def test_a_release_that_is_lived_through_again_makes_nothing_new(shared: Bench) -> None:
    first, second = (scene(shared, "replayed", 1180, rollout="now") for _ in range(2))
    for seen in (first, second):
        seen.begin()
        outcome = seen.desk.advance(TURNED_NOW)
        assert outcome is not None
        assert outcome.kind == "promoted"
    assert first.said == second.said
    assert len(list_versions(shared.store, "replayed")) == 1
    assert second.fitter.nondeterministic == []


def test_every_step_of_a_release_is_on_record(shared: Bench) -> None:
    seen = scene(shared, "recorded", 1200)
    seen.begin()
    seen.desk.advance(TURNED_NOW + DAY)
    job = open_job(
        shared.store,
        key="recorded/release/1",
        kind="release",
        deployment="recorded",
        step="fit",
        owner=shared.thread.owner,
        now=TURNED_NOW,
    )
    assert (job.step, job.status) == ("roll out", "running")
    assert job.state["candidate"] == "newest 1W"
    assert job.state["version"] == 1


def test_fits_that_a_release_still_needs_are_known(shared: Bench) -> None:
    seen = scene(shared, "needed", 1220, rollout="now")
    assert not seen.desk.is_about(seen.champion)
    seen.begin()
    seen.desk.advance(TURNED_NOW)
    released = seen.desk.model
    assert released is not None
    assert all(map(seen.desk.is_about, (seen.champion, seen.challenger, released)))
    assert not seen.desk.is_about(replace(seen.champion, name="another"))


# -- what is judged, and facts about it ----------------------------------------------------------------


def test_only_rows_that_champion_and_anchor_have_answered_too_are_judged(shared: Bench) -> None:
    seen = scene(shared, "judged", 1240)
    late = replace(seen.challenger, first_row=950)
    candidate = seen.candidate(judged=(Segment(880, 920, seen.challenger), Segment(920, 1000, seen.champion)))
    judged = judge(seen.fitter, candidate, seen.champion, late)
    assert judged.rows.tolist() == list(range(950, 1000))
    assert [(s.start, s.end) for s in judged.segments] == [(950, 1000)]
    assert judged.raw.tolist() == seen.fitter.scored(seen.champion, 950, 1000).raw.tolist()


def test_with_no_row_in_common_nothing_is_judged(shared: Bench) -> None:
    seen = scene(shared, "nothing judged", 1260)
    judged = judge(seen.fitter, seen.candidate(), replace(seen.champion, first_row=1000), seen.champion)
    assert (len(judged.rows), judged.segments) == (0, ())
    dummy, linear = judged_baselines(seen.fitter, judged)
    assert (len(dummy), len(linear)) == (0, 0)
    assert leakage_facts(seen.fitter, judged).gap is None
    assert [
        len(losses) for _, _, losses in minimum_losses(seen.fitter, seen.desk.policy, judged).values()
    ] == [0]
    assert [len(words) for words in slice_values(seen.fitter, seen.desk.policy, judged.rows).values()] == [0]


def judged_by(seen: Scene, *segments: Segment) -> Judged:
    return judge(seen.fitter, seen.candidate(judged=segments), seen.champion, seen.champion)


def test_a_minimum_of_another_metric_is_measured_on_the_same_answers(shared: Bench) -> None:
    seen = scene(shared, "minimum", 1280)
    judged = judged_by(seen, Segment(880, 930, seen.challenger), Segment(930, 1000, seen.champion))
    limit, metric, losses = minimum_losses(seen.fitter, seen.desk.policy, judged)["log_loss"]
    answers = seen.fitter.predictions(seen.champion, 930, 1000)
    expected = metric_named("log_loss").row_losses(
        shared.history.y[930:1000], None, answers.probabilities, answers.classes or ()
    )
    assert (limit, metric.name, len(losses)) == (0.69, "log_loss", 120)
    assert losses[50:] == pytest.approx(expected)


def test_the_gap_is_that_of_the_fit_with_the_least(shared: Bench) -> None:
    seen = scene(shared, "gap", 1300)
    judged = judged_by(seen, Segment(880, 930, seen.champion), Segment(930, 1000, seen.challenger))
    facts, times = leakage_facts(seen.fitter, judged), shared.history.times
    assert facts.gap == as_moment(times[930]) - as_moment(times[849])
    assert (facts.needed_gap, facts.n_shared_keys) == (timedelta(), 0)


def test_a_split_of_matured_rows_must_leave_out_the_label_delay(shared: Bench) -> None:
    seen = scene(shared, "split", 1310)
    judged = judged_by(seen, Segment(880, 930, seen.champion))
    assert leakage_facts(seen.fitter, judged, is_split=True).needed_gap == DAY


def test_rows_that_were_learned_from_and_judged_are_counted(shared: Bench) -> None:
    seen = scene(shared, "shared keys", 1320)
    facts = leakage_facts(seen.fitter, judged_by(seen, Segment(840, 900, seen.challenger)))
    assert facts.n_shared_keys == 10
    assert facts.gap is not None
    assert facts.gap < timedelta()


def test_an_entity_in_several_segments_is_counted_once(shared: Bench) -> None:
    seen = scene(shared, "entities", 1340)
    judged = judged_by(seen, Segment(880, 940, seen.challenger), Segment(940, 1000, seen.challenger))
    assert leakage_facts(seen.fitter, judged).n_shared_entities == 36  # of 40 stations, four have no label


def test_the_contract_counts_missing_values_and_classes(shared: Bench) -> None:
    seen = scene(shared, "contract", 1360)
    facts = contract_facts(seen.fitter, ((0, 630),), ((630, 900),))
    assert (facts.n_rows, facts.n_classes, sorted(facts.missing)) == (630, 2, ["warmth", "wind"])
    assert facts.missing["wind"] == pytest.approx(1 / 7, abs=0.01)
    assert facts.reference_missing["warmth"] == 0


def test_baselines_learn_only_from_what_the_first_judged_fit_learned_from(shared: Bench) -> None:
    seen = scene(shared, "baselines", 1380)
    dummy, before = judged_baselines(seen.fitter, judged_by(seen, Segment(880, 1000, seen.champion)))
    _, after = judged_baselines(seen.fitter, judged_by(seen, Segment(880, 1000, seen.challenger)))
    assert len(dummy) == 120
    assert before.mean() > 0.75
    assert after.mean() < 0.25


def test_slices_are_read_as_words(shared: Bench) -> None:
    seen = scene(shared, "slices", 1400)
    words = slice_values(seen.fitter, seen.desk.policy, np.array([3, 4, 10]))["city"]
    assert words.tolist() == ["Kiel", "Bonn", "Kiel"]
