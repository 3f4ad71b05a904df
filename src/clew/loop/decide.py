"""What the loop chooses to do: a pure function of what it sees, so that the past can be replayed.

`decide` looks at one moment of one model and returns the decisions of that moment, in the order in which
they are to be carried out. It reads no clock, no file and no random number.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from clew.entities import Decision, Finding, Json
from clew.loop.policy import (
    ALPHA_BETTER,
    CALM_EVIDENCE,
    EPISODE_PATIENCE,
    ORDERED_LOOKS,
    SMALLEST_SCORED,
    TIE_AFTER,
    TIE_MARGIN,
    Policy,
)
from clew.loop.standing import Origin
from clew.stats.paired import PairedComparison, better, non_inferior


@dataclass(frozen=True, slots=True)
class Standing:
    """What one contestant has shown.

    Attributes
    ----------
    evidence
        The r of "1:r" that it is better than the champion.
    n_scored
        Rows behind that evidence.
    gain
        Mean loss saved against the champion on the rows of late (in an episode: since its onset), as a
        share of the loss bound; NaN when it answered none.
    skill
        Share of a constant answer's loss that it saves on these rows.
    mean_loss
        Its mean loss on these rows.
    champion, anchor
        Paired comparisons on the rows of late; only where one is due.
    waits
        It was refused or rolled back not long ago.
    """

    name: str
    origin: Origin
    evidence: float
    n_scored: int
    gain: float
    skill: float
    mean_loss: float
    n_recent: int
    n_rows: int
    waits: bool = False
    champion: PairedComparison | None = None
    anchor: PairedComparison | None = None
    n_looks: int = 0


@dataclass(frozen=True, slots=True)
class Episode:
    """Harm was certain and is not mended yet. Rows are ordinals of matured rows."""

    onset_row: int
    paged_row: int
    onset: datetime
    reference: float
    is_over: bool = False


@dataclass(frozen=True, slots=True)
class Situation:
    """One moment of one model, as far as decisions need to know it.

    Attributes
    ----------
    n_matured
        Matured rows so far, all told.
    n_since_promotion
        Rows the champion has answered in office.
    harm
        The r of "1:r" that the champion's risk rose by more than the margin.
    page
        The finding that harm is certain, when it is.
    recent_loss, n_recent
        The champion's mean loss on the rows of late, within the episode if there is one.
    reference
        The upper bound of the champion's healthy loss.
    is_releasing
        A release is under way; nothing else is released meanwhile.
    tie_due
        It is time to ask whether a fresher model takes a tie, or an old one returns.
    anchor_evidence
        The r of "1:r" that the champion is better than the anchor.
    best_skill
        The greatest share of a constant answer's loss that any model saved since the onset of the episode.
    is_paused
        A person paused the loop: it watches and pages, and changes nothing.
    due_recipes
        Recipes that are to be refitted, by name.
    orders
        Reasons for which a candidate is ordered now, in words.
    is_asked
        Whether a person is among those who order.
    """

    now: datetime
    n_matured: int
    n_since_promotion: int
    harm: float
    page: Finding | None
    recent_loss: float
    n_recent: int
    reference: float
    standings: tuple[Standing, ...]
    episode: Episode | None
    is_releasing: bool
    tie_due: bool
    anchor_evidence: float
    due_recipes: tuple[str, ...]
    orders: tuple[str, ...] = ()
    best_skill: float = 1.0
    is_asked: bool = False
    is_paused: bool = False


def decide(seen: Situation, policy: Policy) -> tuple[Decision, ...]:
    """The decisions of this moment.

    Kinds: ``page`` (an episode opens), ``recovered``, ``accepted`` and ``unlearnable`` (it closes),
    ``release`` (a candidate goes to the gate), ``refused``, ``undecided``, ``anchor`` (it moves to the
    champion), ``order`` (a candidate is fitted because somebody asked), ``refit`` (recipes are fitted on
    newer rows).

    At most one candidate is released in a moment, and none in the moment in which an episode closes. An
    order that comes while an ordered candidate is still judged, or a release is under way, is left out: what
    is released is fitted on everything that has matured by then, so a second candidate would be no fresher,
    and one that is replaced again and again would never see rows enough. Only a person's takes its place.
    """
    chosen = [*_page(seen), *_recovered(seen, policy)]
    if seen.is_paused:
        return tuple(chosen)
    if not seen.is_releasing and not any(decision.kind == "recovered" for decision in chosen):
        chosen += [] if policy.is_left_to_people else _release(seen, policy)
        if not any(decision.kind == "release" for decision in chosen):
            chosen += [*_accepted(seen, policy), *_anchor(seen)]
    chosen = _order(seen, chosen)
    if seen.due_recipes:
        chosen.append(_refit(seen))
    return tuple(chosen)


# -- episodes ------------------------------------------------------------------------------------------


def _page(seen: Situation) -> list[Decision]:
    page = seen.page
    if page is None or seen.episode is not None:
        return []
    return [Decision("page", seen.now, page.sentence, {"n": page.n, "value": _rounded(page.value)})]


def _recovered(seen: Situation, policy: Policy) -> list[Decision]:
    """The champion is itself again, while no repair is under way that could end the episode."""
    episode, enough = seen.episode, max(SMALLEST_SCORED, policy.rows(0.25))
    if episode is None or seen.is_releasing or not seen.recent_loss <= episode.reference:
        return []
    if seen.n_recent < enough or seen.n_matured - episode.paged_row < enough:
        return []
    level = _level(policy, seen.recent_loss)
    sentence = f"{level} on the newest {seen.n_recent:,} rows: the champion is itself again"
    return [
        Decision("recovered", seen.now, sentence, {"loss": _rounded(seen.recent_loss), "n": seen.n_recent})
    ]


def _accepted(seen: Situation, policy: Policy) -> list[Decision]:
    """Patience is over: the level of late is the new level, or the labels of late are not believed."""
    episode = seen.episode
    if episode is None or seen.n_matured - episode.onset_row < policy.rows(EPISODE_PATIENCE):
        return []
    n_rows = seen.n_matured - episode.onset_row
    if seen.best_skill < policy.skill_floor:
        sentence = (
            f"no model, old or new, saves more than {max(seen.best_skill, 0):.0%} of a constant answer's loss"
            f" in {n_rows:,} rows since {episode.onset:%Y-%m-%d}: their labels are not believed. Look at them"
            " today"
        )
        return [
            Decision("unlearnable", seen.now, sentence, {"skill": _rounded(seen.best_skill), "n": n_rows})
        ]
    sentence = (
        f"nothing better was found in {n_rows:,} rows since {episode.onset:%Y-%m-%d};"
        f" {_level(policy, seen.recent_loss)} is accepted as the new level. Look at it today"
    )
    return [Decision("accepted", seen.now, sentence, {"loss": _rounded(seen.recent_loss), "n": n_rows})]


# -- releases ------------------------------------------------------------------------------------------


def _release(seen: Situation, policy: Policy) -> list[Decision]:
    proven = _proven_better(seen, policy)
    if proven:
        return proven
    ordered = _ordered(seen, policy)
    if any(decision.kind == "release" for decision in ordered):
        return ordered
    return ordered + _of_late(seen, policy)


def _proven_better(seen: Situation, policy: Policy) -> list[Decision]:
    rivals = [s for s in seen.standings if not s.waits]
    needed = evidence_needed(len(seen.standings))
    proven = [s for s in rivals if s.evidence >= needed and s.n_scored >= SMALLEST_SCORED and s.gain > 0]
    if not proven:
        return []
    skilled = [s for s in proven if _has_skill(s, policy)]
    best = max(skilled or proven, key=lambda s: (s.gain, s.name))
    facts = _facts(best) | {"evidence": round(best.evidence, 1), "evidence_needed": needed}
    if not skilled:
        return [_no_skill(seen, best, policy, facts | {"all": [s.name for s in proven]})]
    sentence = f"{best.name} is proven better than the champion (evidence 1:{best.evidence:,.0f})"
    return [Decision("release", seen.now, sentence, facts | {"why": "repair" if seen.episode else "better"})]


def evidence_needed(n_contestants: int) -> float:
    """The r of "1:r" that proves one of so many contestants better.

    Examples
    --------
    >>> evidence_needed(1), evidence_needed(4)
    (20.0, 80.0)
    """
    return max(n_contestants, 1) / ALPHA_BETTER


def _has_skill(standing: Standing, policy: Policy) -> bool:
    return standing.n_recent >= SMALLEST_SCORED and standing.skill >= policy.skill_floor


def _no_skill(seen: Situation, standing: Standing, policy: Policy, facts: Json) -> Decision:
    sentence = (
        f"{standing.name} is refused: on the newest {standing.n_recent:,} rows it saves"
        f" {max(standing.skill, 0):.0%} of a constant answer's loss, where the first champion saved"
        f" {policy.skill:.0%}; labels of late may be broken"
    )
    return Decision("refused", seen.now, sentence, facts | {"skill": _rounded(standing.skill)})


def _of_late(seen: Situation, policy: Policy) -> list[Decision]:
    """Who did best on the newest rows, where nobody could be proven better: a recipe, or an old version."""
    if not seen.tie_due or seen.episode or seen.harm >= CALM_EVIDENCE or not policy.is_auto:
        return []
    rivals = [s for s in seen.standings if not s.waits and s.n_recent]
    recipes = sorted((s for s in rivals if s.origin == "recipe"), key=_loss_of_late)
    contending = recipes[:1] + [s for s in rivals if _returns(s)]
    passing = [s for s in contending if _ties(s, policy) and _has_skill(s, policy)]
    if not passing:
        return []
    best = min(passing, key=_loss_of_late)
    why = "fresher" if best.origin == "recipe" else "returned"
    sentence = _OF_LATE[why].format(name=best.name, n=best.n_recent)
    return [Decision("release", seen.now, sentence, _facts(best) | {"why": why})]


_OF_LATE = {
    "fresher": "{name} is no worse than champion and anchor on the newest {n:,} rows, and fresher:"
    " it takes the tie",
    "returned": "{name} is certainly better than the champion on the newest {n:,} rows:"
    " what it learned is right again, and it returns",
}


def _loss_of_late(standing: Standing) -> tuple[float, str]:
    return standing.mean_loss, standing.name


def _returns(standing: Standing) -> bool:
    """An old version has no freshness to speak for it, so a tie is not enough: it must be better."""
    is_old = standing.origin in ("retired", "anchor")
    return is_old and standing.champion is not None and better(standing.champion) == "pass"


def _ties(standing: Standing, policy: Policy) -> bool:
    margin, fewest = TIE_MARGIN * policy.margin, policy.rows(TIE_AFTER) // 2
    comparisons = [c for c in (standing.champion, standing.anchor) if c is not None]
    return bool(comparisons) and all(c.n >= fewest and non_inferior(c, margin) == "pass" for c in comparisons)


def _ordered(seen: Situation, policy: Policy) -> list[Decision]:
    candidates = [s for s in seen.standings if s.origin == "ordered" and not s.waits]
    verdicts = [decision for standing in candidates for decision in _ordered_verdict(seen, standing, policy)]
    released = next((verdict for verdict in verdicts if verdict.kind == "release"), None)
    return [verdict for verdict in verdicts if verdict.kind != "release" or verdict is released]


def _ordered_verdict(seen: Situation, standing: Standing, policy: Policy) -> list[Decision]:
    """At each look the candidate is released, refused, or left to wait for more labels."""
    if standing.champion is None:
        return []
    facts = _facts(standing)
    margin = TIE_MARGIN * policy.margin
    named = {"champion": standing.champion, "anchor": standing.anchor}
    verdicts = {who: non_inferior(c, margin) for who, c in named.items() if c is not None}
    last = standing.n_looks >= len(ORDERED_LOOKS) - 1
    # Non-inferior to a broken champion is no repair.
    is_calm = seen.episode is None and seen.page is None
    if is_calm and all(v == "pass" for v in verdicts.values()) and _has_skill(standing, policy):
        sentence = f"{standing.name} is no worse than champion and anchor on {standing.champion.n:,} rows"
        return [Decision("release", seen.now, sentence, facts | {"why": "ordered"})]
    if "fail" in verdicts.values() or last:
        wanting = sorted(verdicts, key=lambda name: ("fail", "undecided", "pass").index(verdicts[name]))
        who = wanting[0]
        words = "is certainly worse than" if "fail" in verdicts.values() else "could not be shown as good as"
        sentence = f"{standing.name} {words} the {who} on {standing.champion.n:,} rows: refused"
        return [Decision("refused", seen.now, sentence, facts | {"against": who})]
    sentence = f"{standing.name} is undecided on {standing.champion.n:,} rows: it waits for more labels"
    return [Decision("undecided", seen.now, sentence, facts)]


def _order(seen: Situation, chosen: list[Decision]) -> list[Decision]:
    """What was chosen so far, and a new candidate where one is ordered and has room."""
    if not seen.orders or seen.is_releasing or any(each.kind == "release" for each in chosen):
        return chosen
    refused = {each.evidence["candidate"] for each in chosen if each.kind == "refused"}
    judged = [s for s in seen.standings if s.origin == "ordered" and s.name not in refused]
    if judged and not seen.is_asked:
        return chosen
    # The last word on a candidate that gives way is that it does.
    names = {s.name for s in judged}
    chosen = [each for each in chosen if each.evidence.get("candidate") not in names]
    why = ", ".join(seen.orders)
    order = Decision("order", seen.now, f"a candidate is ordered: {why}", {"why": why})
    return [*chosen, *(_gives_way(seen, s) for s in judged), order]


def _gives_way(seen: Situation, standing: Standing) -> Decision:
    sentence = f"{standing.name} is undecided on {standing.n_recent:,} rows and gives way to a newer one"
    return Decision("refused", seen.now, sentence, _facts(standing) | {"against": "order"})


# -- anchor and refits -----------------------------------------------------------------------------------


def _anchor(seen: Situation) -> list[Decision]:
    """Not while a release is under way: it is held against the anchor of its beginning, or is the anchor."""
    if seen.anchor_evidence < 1 / ALPHA_BETTER:
        return []
    sentence = (
        f"the champion is proven better than the anchor (evidence 1:{seen.anchor_evidence:,.0f}) and takes"
        " its place"
    )
    return [Decision("anchor", seen.now, sentence, {"evidence": round(seen.anchor_evidence, 1)})]


def _refit(seen: Situation) -> Decision:
    names = ", ".join(seen.due_recipes)
    return Decision("refit", seen.now, f"refit on newer rows: {names}", {"recipes": list(seen.due_recipes)})


# -- words ---------------------------------------------------------------------------------------------


def _facts(standing: Standing) -> Json:
    return {
        "candidate": standing.name,
        "n": standing.n_recent,
        "gain": _rounded(standing.gain),
        "skill": _rounded(standing.skill),
        "rows": standing.n_rows,
    }


def _rounded(number: float) -> float | None:
    return round(number, 6) if number == number else None


def _level(policy: Policy, loss: float) -> str:
    """The champion's loss in the words of the metric."""
    if loss != loss:
        return f"{policy.metric.name} unknown"
    return f"{policy.metric.name} {policy.metric.value_of_loss(loss * policy.bound):.3f}"
