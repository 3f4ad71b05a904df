from __future__ import annotations

import math
from dataclasses import replace
from typing import Any, get_args

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from clew.entities import Decision, Finding, Trigger
from clew.loop.decide import Episode, Situation, Standing, decide, evidence_needed
from clew.loop.policy import (
    ALPHA_BETTER,
    CALM_EVIDENCE,
    ORDERED_LOOKS,
    SKILL_FLOOR,
    SMALLEST_SCORED,
    TIE_CONFIDENCE,
)
from clew.loop.standing import Origin
from clew.stats.paired import PairedComparison, paired_comparison
from tests.loop.made import DAY, NOW, declared, policy

POLICY = policy()
PROOF = 1e5
LOOK_CONFIDENCE = 1 - (1 - TIE_CONFIDENCE) / len(ORDERED_LOOKS)


def standing(name: str = "newest 1W", origin: Origin = "recipe", **changes: Any) -> Standing:
    """A contestant with skill that has shown nothing against the champion."""
    facts: dict[str, Any] = {"evidence": 1.0, "n_scored": 100, "gain": 0.0, "skill": 0.5, "mean_loss": 0.1,
                             "n_recent": 100, "n_rows": 200}  # fmt: skip
    return Standing(name, origin, **{**facts, **changes})


def better(name: str = "newest 1W", origin: Origin = "recipe", **changes: Any) -> Standing:
    """A contestant that is proven better than the champion."""
    return standing(name, origin, **{"evidence": PROOF, "gain": 0.05, **changes})


def situation(*standings: Standing, **changes: Any) -> Situation:
    """A calm moment, 1,000 rows in, with these contestants."""
    facts: dict[str, Any] = {
        "now": NOW,
        "n_matured": 1000,
        "n_since_promotion": 500,
        "harm": 0.1,
        "page": None,
        "recent_loss": 0.1,
        "n_recent": 100,
        "reference": 0.12,
        "episode": None,
        "is_releasing": False,
        "tie_due": False,
        "anchor_evidence": 0.0,
        "due_recipes": (),
    }
    return Situation(standings=standings, **{**facts, **changes})


def compared(n: int, difference: float = 0.0, confidence: float = TIE_CONFIDENCE) -> PairedComparison:
    """Two models that err on 20 % of `n` rows, half of them shared, the candidate on `difference` fewer."""
    champion, candidate = np.zeros(n), np.zeros(n)
    champion[: n // 5] = 1
    candidate[n // 10 : n // 10 + round((0.2 - difference) * n)] = 1
    return paired_comparison(champion, candidate, confidence)


PAGE = Finding(
    monitor="risk",
    level="page",
    subject="busy_hour",
    window_start=NOW - 5 * DAY,
    window_end=NOW,
    found_at=NOW,
    value=0.7,
    lower=0.6,
    upper=0.8,
    n=120,
    method="e-detector",
    sentence="accuracy fell to 0.700",
    onset=NOW - 5 * DAY,
)
OPEN = Episode(onset_row=700, paged_row=800, onset=NOW - 5 * DAY, reference=0.12)


def kinds(seen: Situation, by: Any = POLICY) -> list[str]:
    return [decision.kind for decision in decide(seen, by)]


def only(seen: Situation, by: Any = POLICY) -> Decision:
    (decision,) = decide(seen, by)
    return decision


def test_in_a_calm_moment_nothing_is_decided() -> None:
    assert decide(situation(standing()), POLICY) == ()


# -- episodes ------------------------------------------------------------------------------------------


def test_a_page_opens_an_episode_in_the_finding_s_words() -> None:
    decision = only(situation(page=PAGE))
    assert (decision.kind, decision.sentence, decision.at) == ("page", "accuracy fell to 0.700", NOW)
    assert decision.evidence == {"n": 120, "value": 0.7}


def test_an_episode_is_not_opened_twice() -> None:
    young = replace(OPEN, onset_row=900)
    assert kinds(situation(page=PAGE, episode=young, recent_loss=0.3)) == []


def test_a_champion_that_is_itself_again_ends_the_episode() -> None:
    decision = only(situation(episode=OPEN, recent_loss=0.12))
    assert (decision.kind, decision.evidence) == ("recovered", {"loss": 0.12, "n": 100})
    assert decision.sentence == "accuracy 0.880 on the newest 100 rows: the champion is itself again"


@pytest.mark.parametrize(
    "changes",
    [
        {"recent_loss": 0.121},
        {"recent_loss": math.nan},
        {"n_recent": SMALLEST_SCORED - 1},
        {"episode": replace(OPEN, paged_row=1000 - SMALLEST_SCORED + 1)},
        {"is_releasing": True},
    ],
)
def test_recovery_takes_a_healthy_loss_on_enough_rows_and_no_repair_under_way(
    changes: dict[str, Any],
) -> None:
    healthy = {"episode": OPEN, "recent_loss": 0.1}
    assert "recovered" in kinds(situation(**healthy))
    assert "recovered" not in kinds(situation(**{**healthy, **changes}))


def test_after_a_window_without_repair_the_new_level_is_accepted() -> None:
    patient = replace(OPEN, onset_row=1000 - POLICY.window + 1)
    assert kinds(situation(episode=patient, recent_loss=0.3)) == []
    decision = only(situation(episode=replace(OPEN, onset_row=1000 - POLICY.window), recent_loss=0.3))
    assert (decision.kind, decision.evidence) == ("accepted", {"loss": 0.3, "n": 200})
    assert decision.sentence == (
        "nothing better was found in 200 rows since 2026-02-24; accuracy 0.700 is accepted as the new level."
        " Look at it today"
    )


def test_labels_that_no_model_can_learn_are_not_believed() -> None:
    patient = replace(OPEN, onset_row=1000 - POLICY.window)
    decision = only(situation(episode=patient, recent_loss=0.5, best_skill=0.02))
    assert decision.kind == "unlearnable"
    assert "saves more than 2% of a constant answer's loss" in decision.sentence


def test_a_level_that_nobody_knows_is_accepted_in_so_many_words() -> None:
    decision = only(situation(episode=OPEN, recent_loss=math.nan, n_recent=0))
    assert "accuracy unknown is accepted" in decision.sentence
    assert decision.evidence["loss"] is None


def test_no_level_is_accepted_while_a_repair_is_under_way() -> None:
    assert kinds(situation(episode=OPEN, recent_loss=0.3, is_releasing=True)) == []


def test_a_repair_that_is_found_at_last_goes_before_patience() -> None:
    repair = better("since onset", "onset")
    assert kinds(situation(repair, episode=OPEN, recent_loss=0.3)) == ["release"]


def test_a_champion_that_is_itself_again_needs_no_repair() -> None:
    repair = better("since onset", "onset")
    unskilled = better("all history", skill=0.0)
    assert kinds(situation(repair, episode=OPEN, recent_loss=0.1)) == ["recovered"]
    assert kinds(situation(unskilled, episode=OPEN, recent_loss=0.1)) == ["recovered"]


# -- proven better -------------------------------------------------------------------------------------


def test_a_challenger_that_is_proven_better_is_released() -> None:
    decision = only(situation(better(), standing("all history")))
    assert (decision.kind, decision.evidence["why"]) == ("release", "better")
    assert decision.evidence == {
        "candidate": "newest 1W",
        "n": 100,
        "gain": 0.05,
        "skill": 0.5,
        "rows": 200,
        "evidence": PROOF,
        "evidence_needed": 40.0,
        "why": "better",
    }
    assert decision.sentence == "newest 1W is proven better than the champion (evidence 1:100,000)"


@pytest.mark.parametrize("origin", get_args(Origin))
def test_whoever_is_proven_better_may_take_over(origin: Origin) -> None:
    assert kinds(situation(better("one", origin))) == ["release"]


def test_in_an_episode_a_release_is_a_repair() -> None:
    assert only(situation(better(), episode=OPEN, recent_loss=0.3)).evidence["why"] == "repair"


@pytest.mark.parametrize(
    "changes",
    [
        {"evidence": 19.9},
        {"n_scored": SMALLEST_SCORED - 1},
        {"gain": 0.0},
        {"gain": math.nan},
        {"waits": True},
    ],
)
def test_proof_takes_evidence_rows_and_a_gain_of_late(changes: dict[str, Any]) -> None:
    assert kinds(situation(better(**{"evidence": 20.0, **changes}))) == []
    assert kinds(situation(better(evidence=20.0))) == ["release"]


@given(st.integers(1, 50))
def test_the_chance_of_a_wrong_proof_is_shared_by_the_contestants(n: int) -> None:
    assert evidence_needed(n) == pytest.approx(n / ALPHA_BETTER)
    others = [standing(f"other {i}") for i in range(n - 1)]
    assert kinds(situation(better(evidence=n / ALPHA_BETTER), *others)) == ["release"]
    assert kinds(situation(better(evidence=n / ALPHA_BETTER - 0.1), *others)) == []


def test_of_several_proven_better_the_one_with_the_largest_gain_is_released() -> None:
    decision = only(situation(better("a", gain=0.02), better("b", gain=0.04), better("c", gain=0.03)))
    assert decision.evidence["candidate"] == "b"


def test_who_only_learned_broken_labels_is_refused() -> None:
    decision = only(situation(better(skill=0.2), better("all history", skill=0.1)))
    assert decision.kind == "refused"
    assert decision.evidence["all"] == ["newest 1W", "all history"]
    assert decision.sentence == (
        "newest 1W is refused: on the newest 100 rows it saves 20% of a constant answer's loss, where the"
        " first champion saved 50%; labels of late may be broken"
    )


def test_one_with_skill_goes_before_a_better_one_without() -> None:
    assert only(situation(better("a", skill=0.1, gain=0.2), better("b"))).evidence["candidate"] == "b"


def test_skill_takes_enough_rows_of_late() -> None:
    assert kinds(situation(better(n_recent=SMALLEST_SCORED - 1))) == ["refused"]


def test_a_first_champion_without_skill_asks_for_none() -> None:
    assert kinds(situation(better(skill=-0.1)), policy(skill=-0.2)) == ["release"]


# -- ties ----------------------------------------------------------------------------------------------


def tied(name: str = "newest 1W", **changes: Any) -> Standing:
    return standing(name, **{"champion": compared(8000), "anchor": compared(8000), **changes})


def test_a_fresher_model_takes_the_tie_when_it_is_due() -> None:
    decision = only(situation(tied(), tie_due=True))
    assert (decision.kind, decision.evidence["why"]) == ("release", "fresher")
    assert "no worse than champion and anchor" in decision.sentence


def test_the_best_of_late_takes_the_tie() -> None:
    standings = (tied("a", mean_loss=0.2), tied("b", mean_loss=0.1), standing("c", mean_loss=0.3))
    assert only(situation(*standings, tie_due=True)).evidence["candidate"] == "b"


def test_where_the_champion_is_the_anchor_a_tie_with_it_is_enough() -> None:
    assert kinds(situation(tied(anchor=None), tie_due=True)) == ["release"]


@pytest.mark.parametrize(
    "changes",
    [
        {"tie_due": False},
        {"harm": CALM_EVIDENCE},
        {"episode": replace(OPEN, onset_row=900), "recent_loss": 0.3},
        {"is_releasing": True},
    ],
)
def test_a_tie_is_taken_only_in_calm(changes: dict[str, Any]) -> None:
    assert kinds(situation(tied(), **{"tie_due": True, **changes})) == []


@pytest.mark.parametrize(
    "changes",
    [
        {"champion": compared(8000, -0.05)},
        {"anchor": compared(8000, -0.05)},
        {"champion": compared(100)},
        {"anchor": compared(100)},
        {"champion": compared(POLICY.rows(0.5) // 2 - 1, 0.2)},
        {"champion": None, "anchor": None},
        {"skill": SKILL_FLOOR * 0.5 - 0.01},
        {"waits": True},
        {"origin": "retired"},
        {"n_recent": 0},
    ],
)
def test_a_tie_takes_certainty_against_champion_and_anchor_skill_and_its_turn(
    changes: dict[str, Any],
) -> None:
    assert kinds(situation(replace(tied(), **changes), tie_due=True)) == []


def test_a_tie_on_a_few_rows_is_none_however_sure_it_looks() -> None:
    assert compared(POLICY.rows(0.5) // 2 - 1, 0.2).lower > 0


def test_without_the_word_auto_nobody_takes_a_tie() -> None:
    by_order = policy(declaration=declared(retrain=(Trigger("drift"),)))
    assert kinds(situation(tied(), tie_due=True), by_order) == []


# -- returns -------------------------------------------------------------------------------------------


def returning(name: str = "version 3", origin: Origin = "retired", **changes: Any) -> Standing:
    """An old version that errs on a tenth fewer of the newest rows than the champion."""
    return tied(name, **{"origin": origin, "champion": compared(400, 0.1), "mean_loss": 0.05, **changes})


@pytest.mark.parametrize("origin", ["retired", "anchor"])
def test_an_old_version_that_is_certainly_better_on_the_newest_rows_returns(origin: Origin) -> None:
    old = returning(origin=origin, anchor=None if origin == "anchor" else compared(8000))
    decision = only(situation(tied(), old, tie_due=True))
    assert (decision.kind, decision.evidence["why"]) == ("release", "returned")
    assert decision.evidence["candidate"] == "version 3"
    assert "certainly better than the champion on the newest 100 rows" in decision.sentence


@pytest.mark.parametrize(
    "changes",
    [
        {"champion": compared(8000)},
        {"champion": None},
        {"champion": compared(POLICY.rows(0.5) // 2 - 1, 0.2)},
        {"anchor": compared(8000, -0.05)},
        {"skill": SKILL_FLOOR * 0.5 - 0.01},
        {"waits": True},
        {"origin": "onset"},
    ],
)
def test_an_old_version_does_not_return_at_a_tie_nor_worse_than_the_anchor(changes: dict[str, Any]) -> None:
    assert kinds(situation(returning(**changes), tie_due=True)) == []


def test_an_old_version_returns_only_when_it_is_time_to_ask() -> None:
    assert kinds(situation(returning())) == []


def test_a_recipe_that_did_better_than_the_old_version_goes_before_it() -> None:
    decision = only(situation(tied(mean_loss=0.04), returning(), tie_due=True))
    assert decision.evidence["why"] == "fresher"


def test_where_the_best_recipe_does_not_tie_the_old_version_returns() -> None:
    worse = tied(mean_loss=0.04, anchor=compared(8000, -0.05))
    assert only(situation(worse, returning(), tie_due=True)).evidence["why"] == "returned"


# -- ordered candidates --------------------------------------------------------------------------------


def ordered(n: int, difference: float = 0.0, **changes: Any) -> Standing:
    """An ordered candidate at its look at `n` rows, on which it errs on `difference` fewer."""
    comparison = compared(n, difference, LOOK_CONFIDENCE)
    facts = {"champion": comparison, "anchor": comparison, "n_recent": n, "gain": difference}
    return standing("ordered", "ordered", **{**facts, **changes})


def test_an_equal_candidate_is_undecided_where_rows_are_too_few_to_tell() -> None:
    decision = only(situation(ordered(200)))
    assert decision.kind == "undecided"
    assert decision.sentence == "ordered is undecided on 200 rows: it waits for more labels"


def test_an_equal_candidate_is_released_once_rows_are_enough() -> None:
    decision = only(situation(ordered(20_000)))
    assert (decision.kind, decision.evidence["why"]) == ("release", "ordered")


def test_a_certainly_worse_candidate_is_refused() -> None:
    decision = only(situation(ordered(200, -0.2)))
    assert (decision.kind, decision.evidence["against"]) == ("refused", "champion")
    assert decision.sentence == "ordered is certainly worse than the champion on 200 rows: refused"


def test_a_candidate_that_is_worse_than_the_anchor_alone_is_refused() -> None:
    decision = only(situation(ordered(200, 0.1, anchor=compared(200, -0.2))))
    assert (decision.kind, decision.evidence["against"]) == ("refused", "anchor")


def test_at_its_last_look_an_undecided_candidate_is_refused() -> None:
    last = len(ORDERED_LOOKS) - 1
    decision = only(situation(ordered(200, champion=compared(20_000), n_looks=last)))
    assert decision.kind == "refused"
    assert decision.sentence.startswith("ordered could not be shown as good as the anchor")


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"episode": replace(OPEN, onset_row=900), "recent_loss": 0.3}, ["undecided"]),
        ({"page": PAGE}, ["page", "undecided"]),
        ({"is_releasing": True}, []),
    ],
)
def test_as_good_as_a_broken_champion_is_not_good_enough(
    changes: dict[str, Any], expected: list[str]
) -> None:
    assert kinds(situation(ordered(20_000), **changes)) == expected


def test_between_its_looks_nothing_is_said_of_a_candidate() -> None:
    assert kinds(situation(ordered(150, champion=None, anchor=None))) == []


def test_a_candidate_without_skill_waits() -> None:
    assert kinds(situation(ordered(20_000, skill=0.1))) == ["undecided"]


def test_a_candidate_that_waits_is_not_looked_at() -> None:
    assert kinds(situation(ordered(20_000, waits=True))) == []


@pytest.mark.parametrize("n", [200, 500])
def test_a_candidate_that_is_a_point_worse_hardly_ever_passes(n: int) -> None:
    """A point `>=` would let it through one time in five at 500 rows."""
    rng, n_released = np.random.default_rng(7), 0
    for _ in range(400):
        champion, candidate = rng.random(n) < 0.15, rng.random(n) < 0.16
        comparison = paired_comparison(champion.astype(float), candidate.astype(float), LOOK_CONFIDENCE)
        seen = situation(ordered(n, champion=comparison, anchor=None))
        n_released += kinds(seen) == ["release"]
    assert n_released <= 20


# -- anchor, orders, refits ----------------------------------------------------------------------------


def test_the_anchor_moves_to_a_champion_that_is_proven_better() -> None:
    decision = only(situation(anchor_evidence=20.0))
    assert (decision.kind, decision.evidence) == ("anchor", {"evidence": 20.0})
    assert "takes its place" in decision.sentence
    assert kinds(situation(anchor_evidence=19.9)) == []


def test_the_anchor_stays_while_a_release_is_held_against_it() -> None:
    assert kinds(situation(anchor_evidence=PROOF, is_releasing=True)) == []
    assert kinds(situation(better("anchor", "anchor"), anchor_evidence=PROOF)) == ["release"]


def test_a_person_does_not_wait_for_the_candidate_before() -> None:
    judged = ordered(10, champion=None, anchor=None)
    left = decide(situation(judged, orders=("ana asked: x",), is_asked=True), POLICY)
    assert [decision.kind for decision in left] == ["refused", "order"]
    assert left[0].sentence == "ordered is undecided on 10 rows and gives way to a newer one"
    last_word = situation(ordered(200), orders=("ana asked: x",), is_asked=True)
    assert kinds(last_word) == ["refused", "order"]


def test_an_order_is_a_decision_with_all_its_reasons() -> None:
    decision = only(situation(orders=("60d went by", "drift was confirmed")))
    assert (decision.kind, decision.evidence) == ("order", {"why": "60d went by, drift was confirmed"})
    assert decision.sentence == "a candidate is ordered: 60d went by, drift was confirmed"


@pytest.mark.parametrize(
    ("standings", "changes", "expected"),
    [
        ((ordered(150, champion=None, anchor=None),), {}, []),
        ((ordered(200),), {}, ["undecided"]),
        ((ordered(20_000),), {}, ["release"]),
        ((better(),), {}, ["release"]),
        ((), {"is_releasing": True}, []),
        ((ordered(200, -0.2),), {}, ["refused", "order"]),
        ((standing(),), {}, ["order"]),
    ],
)
def test_no_candidate_is_ordered_while_one_is_judged_or_released(
    standings: tuple[Standing, ...], changes: dict[str, Any], expected: list[str]
) -> None:
    assert kinds(situation(*standings, orders=("60d went by",), **changes)) == expected


def test_due_recipes_are_refitted_together() -> None:
    decision = only(situation(due_recipes=("all history", "newest 1W")))
    assert (decision.kind, decision.evidence) == ("refit", {"recipes": ["all history", "newest 1W"]})


def test_decisions_come_in_the_order_in_which_they_are_carried_out() -> None:
    moment = {"page": PAGE, "orders": ("60d went by",), "due_recipes": ("all history",)}
    assert kinds(situation(better(), **moment)) == ["page", "release", "refit"]
    assert kinds(situation(better(skill=0.0), **moment)) == ["page", "refused", "order", "refit"]


# -- laws ----------------------------------------------------------------------------------------------

numbers = st.floats(-1, 1) | st.just(math.nan)


@st.composite
def comparisons(draw: st.DrawFn) -> PairedComparison:
    lower, mean, upper = sorted(draw(st.lists(st.floats(-0.3, 0.3), min_size=3, max_size=3)))
    return PairedComparison(mean, lower, upper, draw(st.integers(1, 3000)), 0.9)


standings = st.builds(
    Standing,
    name=st.sampled_from(["a", "b", "c"]),
    origin=st.sampled_from(get_args(Origin)),
    evidence=st.floats(0, 1e6),
    n_scored=st.integers(0, 300),
    gain=numbers,
    skill=st.floats(-1, 1),
    mean_loss=st.floats(0, 1) | st.just(math.inf),
    n_recent=st.integers(0, 300),
    n_rows=st.integers(0, 3000),
    waits=st.booleans(),
    champion=st.none() | comparisons(),
    anchor=st.none() | comparisons(),
    n_looks=st.integers(0, 7),
)
episodes = st.builds(
    Episode,
    onset_row=st.integers(0, 900),
    paged_row=st.integers(900, 1000),
    onset=st.just(NOW - 5 * DAY),
    reference=st.floats(0, 1),
)
situations = st.builds(
    Situation,
    now=st.just(NOW),
    n_matured=st.integers(1000, 1300),
    n_since_promotion=st.integers(0, 1000),
    harm=st.floats(0, 1e6),
    page=st.none() | st.just(PAGE),
    recent_loss=st.floats(0, 1) | st.just(math.nan),
    n_recent=st.integers(0, 300),
    reference=st.floats(0, 1),
    standings=st.lists(standings, max_size=4).map(tuple),
    episode=st.none() | episodes,
    is_releasing=st.booleans(),
    tie_due=st.booleans(),
    anchor_evidence=st.floats(0, 1e6),
    due_recipes=st.sampled_from([(), ("all history",)]),
    orders=st.sampled_from([(), ("60d went by",)]),
)
policies = st.builds(
    policy, skill=st.floats(-0.5, 1), margin=st.floats(0.001, 0.3), window=st.integers(100, 900)
)


@given(situations, policies)
def test_the_same_moment_always_gets_the_same_decisions(seen: Situation, by: Any) -> None:
    assert decide(seen, by) == decide(replace(seen), replace(by))


@given(situations, policies)
def test_never_more_than_one_candidate_is_released_and_none_during_a_release(
    seen: Situation, by: Any
) -> None:
    n_released = kinds(seen, by).count("release")
    assert n_released <= (0 if seen.is_releasing else 1)


@given(situations, policies)
def test_nobody_without_skill_is_released(seen: Situation, by: Any) -> None:
    for decision in decide(seen, by):
        if decision.kind == "release":
            found = [s for s in seen.standings if s.name == decision.evidence["candidate"]]
            assert any(s.skill >= by.skill_floor and s.n_recent >= SMALLEST_SCORED for s in found)


@given(situations, policies)
def test_who_was_refused_not_long_ago_is_left_alone(seen: Situation, by: Any) -> None:
    waiting = replace(seen, standings=tuple(replace(s, waits=True) for s in seen.standings))
    assert not {"release", "refused", "undecided"} & set(kinds(waiting, by))


@given(situations, policies)
def test_an_episode_that_closes_releases_nobody(seen: Situation, by: Any) -> None:
    decided = kinds(seen, by)
    closing = {"recovered", "accepted"} & set(decided)
    assert len(closing) <= (0 if seen.episode is None else 1)
    assert not (closing and "release" in decided)


@given(situations, policies)
def test_what_every_decision_says_can_be_stored(seen: Situation, by: Any) -> None:
    for decision in decide(seen, by):
        assert decision.at == NOW
        assert decision.sentence
        assert all(value == value for value in decision.evidence.values())
