"""What an event looks like by its kind, on the terminal and in the report: a sign and a tone."""

from __future__ import annotations

from typing import Literal, NamedTuple

Tone = Literal["alarm", "caution", "good", "plain"]


class Look(NamedTuple):
    """A sign that needs no colour to be told apart, and the tone that chooses the colour."""

    sign: str
    tone: Tone


_LOOKS = {
    "page": Look("▲", "alarm"),
    "rolled back": Look("◀", "alarm"),
    "fit failed": Look("!", "alarm"),
    "ticket": Look("◆", "caution"),
    "accepted": Look("◆", "caution"),
    "another environment": Look("◆", "caution"),
    "cannot be served": Look("◆", "caution"),
    "not live": Look("◆", "caution"),
    "unlearnable": Look("◆", "caution"),
    "promoted": Look("★", "good"),
    "first champion": Look("★", "good"),
    "recovered": Look("✓", "good"),
    "refused": Look("✗", "plain"),
    "undecided": Look("○", "plain"),
}

GATE_SIGNS = {"pass": "✓", "fail": "✗", "undecided": "?", "not tested": "–"}
"""The sign of a check's outcome."""


def look_of(kind: str) -> Look:
    """The look of an event's kind; a kind that nobody foresaw is a plain dot."""
    return _LOOKS.get(kind, Look("·", "plain"))
