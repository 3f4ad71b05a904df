"""Explained answers, as people read them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from clew.loop.explained import Approval, ExplainedAnswer

SHOWN_CONTRIBUTIONS = 8


def show_answers(answers: list[ExplainedAnswer]) -> None:
    """Each answer with its reasons, the latest first."""
    from clew.cli.terminal import say, show_columns

    for place, each in enumerate(answers):
        if place:
            say()
        say(f"{_head(each)}", "bold")
        if each.agrees is False:
            say(_contradiction(each), "bold red")
        if each.trouble:
            say(f"It could not be computed again: {each.trouble}", "bold red")
        show_columns(_facts(each))
        _show_contributions(each)
    if answers:
        say(f"\nThe whole thread: clew trace {answers[0].prediction}", "dim")


def _head(each: ExplainedAnswer) -> str:
    of_entity = "" if each.entity is None else f" of {each.entity}"
    beside = "" if each.role != "shadow" else ", told to nobody"
    return (
        f"{each.event_time:%Y-%m-%d %H:%M}  {each.deployment} answered {each.predicted} for {each.key}"
        f"{of_entity}{beside}"
    )


def _contradiction(each: ExplainedAnswer) -> str:
    return (
        f"NOT THE SAME: version {each.version} computes {_number(each.recomputed)} now, but"
        f" {_number(each.score)} is logged. Do not rely on the contributions below; compare the environments:"
        f" clew reproduce {each.links.get('version', '')}"
    )


def _facts(each: ExplainedAnswer) -> list[list[str]]:
    agrees = " (computed again: the same)" if each.agrees else ""
    of_class = "" if each.score_of is None else f"probability of {each.score_of} "
    rows = [["score", f"{of_class}{_number(each.score)}{agrees}"], ["threshold", _threshold(each)]]
    version = f"{each.links.get('version')} as {each.role}, answered {each.answered_at:%Y-%m-%d %H:%M}"
    rows += [["version", version], ["gate", _gate(each)], ["approved", _approved(each.approved)]]
    if each.unseen:
        rows.append(["never seen", ", ".join(each.unseen)])
    links = {name: identity for name, identity in each.links.items() if name not in ("version", "prediction")}
    rows.append(["prediction", each.prediction])
    rows += [[name, str(identity)[:12]] for name, identity in links.items()]
    return [["", *row] for row in rows]


def _threshold(each: ExplainedAnswer) -> str:
    if each.threshold is None:
        return "none: the most probable class" if each.score_of is not None else "none"
    by = "" if each.threshold_set is None else f", by {_approved(each.threshold_set)}"
    return f"{each.threshold:g}{by}"


def _gate(each: ExplainedAnswer) -> str:
    if each.gate is None:
        return "never met the gate"
    told = [f"{check.name}: {check.outcome}" for check in each.gate.checks if check.outcome != "pass"]
    n_passed = sum(check.outcome == "pass" for check in each.gate.checks)
    rest = f"; {', '.join(told)}" if told else ""
    return f"{each.gate.outcome}, {n_passed} of {len(each.gate.checks)} checks passed{rest}"


def _approved(approval: Approval | None) -> str:
    if approval is None:
        return "nobody on record"
    return f"{approval.actor} at {approval.at:%Y-%m-%d %H:%M}: {approval.reason} (audit {approval.audit})"


def _show_contributions(each: ExplainedAnswer) -> None:
    from clew.cli.terminal import say, show_columns

    if not each.contributions:
        return
    say(f"  contributions in {each.unit}: {each.method}", "dim")
    shown = each.contributions[:SHOWN_CONTRIBUTIONS]
    show_columns([["", one.column, _number(one.value), _signed(one.amount)] for one in shown])
    rest = each.contributions[SHOWN_CONTRIBUTIONS:]
    if rest:
        say(f"  and {len(rest)} smaller ones, {_signed(sum(one.amount for one in rest))} together", "dim")


def _signed(amount: float) -> str:
    return f"{amount:+.4f}".replace("-", "−")


def _number(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.6g}"
    return "missing" if value is None else str(value)
