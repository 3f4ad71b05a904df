"""What the report says, as plain values for its template."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from clew.cli.kinds import GATE_SIGNS, look_of
from clew.cli.report.intervals import interval_drawing
from clew.cli.words import (
    best_of,
    counted,
    day,
    effort,
    headline,
    is_live,
    metric_in_words,
    number,
    outcomes,
    policies,
    policy_gains,
    verdict,
)

if TYPE_CHECKING:
    from clew.entities import GateCheck
    from clew.figures.palette import Policy
    from clew.loop.result import Event, GateRecord, Lived, Window


def facts_of(result: Lived) -> dict[str, Any]:
    """Everything the template shows besides charts, version and command."""
    gates = [_gate(place, record, result.events) for place, record in enumerate(result.gates, start=1)]
    return {
        "result": result,
        "model": result.model,
        "metric": metric_in_words(result.metric),
        "title": headline(result),
        "verdict": verdict(result),
        "effort": effort(result),
        "is_live": is_live(result),
        "outcomes": outcomes(result),
        "told_of": f"{day(result.start)} to {day(result.end)}",
        "gains": policy_gains(result),
        "events": [_event(event, gates) for event in result.events],
        "kinds": Counter(event.kind for event in result.events),
        "gates": gates,
        "windows": [_window(window, policies(result), result.greater_is_better) for window in result.windows],
        "versions": result.versions,
        "number": number,
        "day": day,
        "counted": counted,
    }


def _event(event: Event, gates: list[dict[str, Any]]) -> dict[str, Any]:
    sign, tone = look_of(event.kind)
    return {
        "time": day(event.time),
        "kind": event.kind,
        "sign": sign,
        "tone": tone,
        "sentence": event.sentence,
        "evidence": flat(event.evidence),
        "gate": next((gate["id"] for gate in gates if gate["event"] is event), None),
    }


def _event_of(record: GateRecord, events: Sequence[Event]) -> Event | None:
    """The event that tells how this gate ended: of its moment, with its outcome or about its candidate."""
    for event in events:
        is_told = "gate" in event.evidence or event.kind == "first champion"
        if event.time == record.time and (is_told or record.candidate in event.sentence):
            return event
    return None


def flat(evidence: Mapping[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    """Nested evidence as names and texts.

    Examples
    --------
    >>> flat({"n": 1200, "gate": {"slices": "pass"}, "value": 0.12345678})
    [('n', '1,200'), ('gate, slices', 'pass'), ('value', '0.123457')]
    """
    rows: list[tuple[str, str]] = []
    for name, value in evidence.items():
        label = f"{prefix}{name}".replace("_", " ")
        if isinstance(value, Mapping):
            rows += flat(value, f"{label}, ")
        else:
            rows.append((label, _text(value)))
    return rows


def _text(value: Any) -> str:
    if isinstance(value, bool) or value is None:
        return {True: "yes", False: "no", None: "–"}[value]
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, list | tuple):
        return ", ".join(map(_text, value))
    return str(value)


def _gate(place: int, record: GateRecord, events: Sequence[Event]) -> dict[str, Any]:
    outcome, event = record.report.outcome, _event_of(record, events)
    return {
        "id": f"gate-{place}",
        "event": event,
        "time": day(record.time),
        "candidate": record.candidate,
        "about": event.sentence if event else record.candidate,
        "outcome": outcome,
        "sign": GATE_SIGNS[outcome],
        "checks": [_check(check) for check in record.report.checks],
    }


def _check(check: GateCheck) -> dict[str, Any]:
    interval = ""
    if check.lower is not None and check.upper is not None:
        interval = f"{number(check.lower)} to {number(check.upper)}"
    return {
        "name": check.name.replace("_", " "),
        "outcome": check.outcome,
        "sign": GATE_SIGNS[check.outcome],
        "sentence": check.sentence,
        "value": "" if check.value is None else number(check.value),
        "interval": interval,
        "limit": "" if check.limit is None else number(check.limit),
        "n": "" if check.n is None else f"{check.n:,}",
        "drawing": interval_drawing(check.value, check.lower, check.upper, check.limit),
    }


def _window(window: Window, told: Sequence[Policy], greater_is_better: bool) -> dict[str, Any]:
    cells = []
    values = [getattr(window, policy) for policy in told]
    best = best_of(values, greater_is_better)
    for policy, value, is_best in zip(told, values, best, strict=True):
        band = getattr(window, f"{policy}_band")
        between = "" if band.lower is None else f"{number(band.lower)} to {number(band.upper)}"
        cells.append(
            {
                "policy": policy,
                "value": number(value),
                "between": between,
                "is_best": is_best,
            }
        )
    return {"start": day(window.start), "n": f"{window.n:,}", "cells": cells, "version": window.version}
