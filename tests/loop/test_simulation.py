from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Any

import numpy as np
import pytest

from clew.declare import parse_rollout
from clew.entities import Decision, GateCheck, GateReport
from clew.loop.fitter import Fitter
from clew.loop.release import ReleaseDesk
from clew.loop.result import Event
from clew.loop.simulation import Canary, HistoryTraffic, Simulation
from clew.loop.standing import FittedModel, Segment
from clew.loop.trace import trace
from clew.loop.why import why
from clew.loop.world import Candidate
from clew.registry import ensure_deployment
from clew.serving.routing import is_in_share
from tests.loop.bikes import Bench
from tests.loop.made import DAY, START, policy
from tests.loop.threads import PAGE

BEGIN = START + timedelta(hours=711)
"""When the first champion takes office: 640 labelled rows have arrived."""

TURNED_NOW = START + timedelta(hours=1136)


@dataclass
class Life:
    world: Simulation
    fitter: Fitter
    champion: FittedModel
    challenger: FittedModel
    heard: list[Event] = field(default_factory=list)


def life(shared: Bench, name: str, number: int) -> Life:
    """A world with version 1 in office since `BEGIN`, and a challenger who learned after things turned."""
    declaration = replace(
        shared.described.model, rollout=parse_rollout("shadow 1d, canary 20% 1d"), min_requests=0
    )
    ensure_deployment(shared.store, name, "backtest", "busy_hour", declaration, START)
    fitter, heard = shared.fitter(name, number), list[Event]()
    by = policy(declaration=declaration)

    def announce(decided: Decision, report: GateReport | None) -> None:
        world.announced(decided, report)

    desk = ReleaseDesk(fitter, by, name, shared.checker, HistoryTraffic(fitter), announce)
    world = Simulation(fitter, by, desk, 1, heard.append)
    champion = fitter.fit("first champion", ((0, 600),), 640)
    challenger = fitter.fit("newest 1W", ((740, 850),), 880)
    desk.enter(champion, fitter.package(champion, {}), None, {}, BEGIN, reason="first champion")
    world.take_office(champion, 1, "first champion", BEGIN)
    return Life(world, fitter, champion, challenger, heard)


def decision(kind: str, **changes: Any) -> Decision:
    return Decision(kind, TURNED_NOW, f"something {kind}", **changes)


def live_through(seen: Life, days: int = 2) -> None:
    """Release the challenger's recipe and look at it daily."""
    candidate = Candidate(
        "newest 1W", "better", ((750, 1000),), None, (Segment(880, 1000, seen.challenger),), 1e5, 40.0, False
    )
    seen.world.begin_release(candidate, seen.champion, seen.champion, TURNED_NOW)
    for day in range(days + 1):
        seen.world.advance_release(TURNED_NOW + day * DAY)


# -- what the loop asks --------------------------------------------------------------------------------


def test_the_world_shows_only_what_had_arrived_and_matured(shared: Bench) -> None:
    seen = life(shared, "asks", 2000)
    assert seen.world.arrived(BEGIN) == shared.history.arrived(BEGIN) == 640
    assert seen.world.matured(BEGIN) == shared.history.matured(BEGIN) < 640
    assert seen.world.time_of(640) == shared.history.time_of(640)
    assert seen.world.times(5, 8).tolist() == shared.history.times[5:8].tolist()


def test_a_fit_is_judged_only_by_labels_that_mature_after_it(shared: Bench) -> None:
    fit = life(shared, "fits", 2020).world.fit("newest 1W", ((600, 700),), TURNED_NOW)
    assert fit.first_row == shared.history.matured(TURNED_NOW) < shared.history.arrived(TURNED_NOW)


def test_a_constant_s_loss_is_a_share_of_the_bound_and_at_most_all_of_it(shared: Bench) -> None:
    seen = life(shared, "constant", 2040)
    labels = shared.history.y[100:200]
    expected = 1 - max((labels == 0).mean(), (labels == 1).mean())
    assert seen.world.constant_loss(100, 200) == pytest.approx(expected)
    tight = Simulation(
        seen.fitter, replace(seen.world.policy, bound=0.01), seen.world.desk, 1, seen.heard.append
    )
    assert tight.constant_loss(100, 200) == 1.0


# -- what the loop says --------------------------------------------------------------------------------


def test_a_decision_is_on_record_and_heard(shared: Bench) -> None:
    seen = life(shared, "says", 2060)
    seen.world.decided(decision("refused", evidence={"candidate": "newest 1W"}), seen.challenger)
    (event,) = seen.heard
    assert (event.kind, event.time, event.sentence) == ("refused", TURNED_NOW, "something refused")
    assert seen.world.events == seen.heard
    (reason,) = why(shared.store, "says")
    assert (reason.decision, reason.because) == ("says/00001", ("candidate: newest 1W",))


def test_a_refit_is_on_record_and_no_event(shared: Bench) -> None:
    seen = life(shared, "quiet", 2080)
    seen.world.decided(decision("refit", evidence={"recipes": ["all history"]}), None)
    assert seen.heard == []
    assert [reason.kind for reason in why(shared.store, "quiet/00001")] == ["refit"]


def test_a_decision_leads_back_to_its_finding_its_model_and_the_champion_of_the_day(shared: Bench) -> None:
    seen = life(shared, "leads", 2100)
    finding = seen.world.found(PAGE)
    seen.world.decided(decision("page", findings=(finding,)), seen.challenger)
    causes = {(cause.kind, cause.id) for cause in trace(shared.store, "leads/00001").causes}
    assert causes == {("finding", finding), ("run", seen.champion.run), ("run", seen.challenger.run)}


def test_harm_is_heard_once_with_the_decision_and_any_other_finding_by_itself(shared: Bench) -> None:
    seen = life(shared, "findings", 2120)
    seen.world.found(PAGE)
    assert seen.heard == []
    seen.world.found(replace(PAGE, monitor="drift", level="ticket", subject="warmth", value=float("nan")))
    (event,) = seen.heard
    assert (event.kind, event.sentence) == ("ticket", "accuracy fell to 0.700")
    assert event.evidence == {"subject": "warmth", "value": None, "n": 120}


def test_a_gate_is_kept_with_its_report_and_told_by_its_outcomes(shared: Bench) -> None:
    seen = life(shared, "gates", 2140)
    report = GateReport((GateCheck("leakage", "pass", "none"), GateCheck("size", "not tested", "alone")))
    seen.world.announced(decision("gate passed", evidence={"checks": 2}), report)
    (record,) = seen.world.gates
    assert (record.time, record.report) == (TURNED_NOW, report)
    assert seen.heard[0].evidence == {"checks": 2, "gate": {"leakage": "pass", "size": "not tested"}}


def test_living_through_it_again_repeats_every_record_and_adds_none(shared: Bench) -> None:
    told = []
    for _ in range(2):
        seen = life(shared, "twice", 2160)
        live_through(seen)
        told.append((seen.heard, why(shared.store, "twice")))
    assert told[0] == told[1]
    assert [reason.kind for reason in told[0][1]] == ["gate passed", "rollout", "promoted"]


# -- what was answered ---------------------------------------------------------------------------------


def test_until_a_release_the_first_champion_answers_everything(shared: Bench) -> None:
    seen = life(shared, "alone", 2180)
    raw, number = seen.world.answered(640, 900)
    assert raw.tolist() == seen.fitter.scored(seen.champion, 640, 900).raw.tolist()
    assert set(number.tolist()) == {1}


def test_before_the_first_champion_nobody_answers(shared: Bench) -> None:
    raw, number = life(shared, "before", 2200).world.answered(630, 645)
    assert np.isnan(raw[:10]).all()
    assert number.tolist() == [0] * 10 + [1] * 5


def test_every_row_is_answered_by_who_was_in_office_or_by_the_canary_of_its_entity(shared: Bench) -> None:
    seen, history = life(shared, "offices", 2220), shared.history
    live_through(seen)
    released = seen.world.offices[-1].model
    edges = [history.arrived(TURNED_NOW + days * DAY) for days in (0, 1, 2)]
    assert [(office.number, office.start) for office in seen.world.offices] == [(1, 640), (2, edges[2])]
    assert seen.world.canaries == [Canary(edges[1], edges[2], released, 0.2)]
    raw, number = seen.world.answered(900, 1200)
    stations = history.column("station", 900, 1200)
    for row in range(900, 1200):
        is_canary = edges[1] <= row < edges[2] and is_in_share(stations[row - 900], 0.2, released.name)
        is_new = row >= edges[2] or is_canary
        model = released if is_new else seen.champion
        assert number[row - 900] == (2 if is_new else 1)
        assert raw[row - 900] == seen.fitter.scored(model, row, row + 1).raw[0]
    assert 0 < (number[edges[1] - 900 : edges[2] - 900] == 2).mean() < 0.5


def test_a_stretch_is_answered_as_it_is_within_a_longer_one(shared: Bench) -> None:
    seen = life(shared, "stretches", 2240)
    live_through(seen)
    whole, numbers = seen.world.answered(640, 1300)
    for start, end in ((640, 700), (1000, 1050), (1020, 1300)):
        raw, number = seen.world.answered(start, end)
        assert raw.tolist() == whole[start - 640 : end - 640].tolist()
        assert number.tolist() == numbers[start - 640 : end - 640].tolist()


def test_a_promotion_is_traced_from_the_version_it_put_in_office(shared: Bench) -> None:
    seen = life(shared, "traced", 2260)
    live_through(seen)
    thread = trace(shared.store, "traced@2")
    assert {cause.kind for cause in thread.causes} == {"run", "decision"}
    (put,) = [cause for cause in thread.causes if cause.kind == "decision"]
    assert "promoted" in put.sentence


def test_who_has_answered_or_is_released_is_not_let_go(shared: Bench) -> None:
    seen = life(shared, "forgets", 2280)
    live_through(seen, days=1)
    other = seen.fitter.fit("idle", ((0, 100),), 150)
    seen.fitter.scored(other, 150, 160)
    for model in (seen.champion, seen.challenger, other):
        seen.world.forget(model)
    assert not np.isnan(seen.fitter.losses_so_far(seen.champion, 1010, 1020)).any()
    assert not np.isnan(seen.fitter.losses_so_far(seen.challenger, 900, 910)).any()
    assert np.isnan(seen.fitter.losses_so_far(other, 150, 160)).all()
