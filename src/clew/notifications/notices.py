"""Which decisions and findings people are told of, and in what words: few, and each only once."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal, TypeAlias

from clew.entities import Decision, Finding, Json

NoticeLevel: TypeAlias = Literal["loop", "page", "ticket"]

TOLD_DECISIONS: dict[str, NoticeLevel] = {
    "page": "page",
    "accepted": "ticket",
    "unlearnable": "ticket",
    "another environment": "ticket",
    "cannot be served": "ticket",
    "not live": "ticket",
    "source failed": "ticket",
    "first champion": "loop",
    "fit failed": "loop",
    "promoted": "loop",
    "quarantined": "loop",
    "recovered": "loop",
    "refused": "loop",
    "rolled back": "loop",
    "source back": "loop",
}
"""The kinds of decisions that are told."""

UNTOLD_DECISIONS = frozenset({"anchor", "gate passed", "order", "refit", "release", "rollout", "undecided"})
"""Steps on the way to one that is told, or what changes nothing that anybody sees."""

TOLD_BY_THEIR_DECISION = frozenset({"risk", "rollout risk"})
"""Monitors whose findings are told with the decision that answers them: a page, a version rolled back."""


@dataclass(frozen=True, slots=True)
class Notice:
    """What people are told of one decision or finding.

    Attributes
    ----------
    kind
        The decision's kind, or the finding's monitor.
    at
        Event time.
    ask
        The command that tells more.
    decision, finding
        The id of the one that is told; the other is None.
    """

    level: NoticeLevel
    deployment: str
    kind: str
    at: datetime
    sentence: str
    ask: str
    evidence: Json = field(default_factory=dict)
    decision: str | None = None
    finding: str | None = None

    def payload(self) -> Json:
        """The notice as JSON holds it."""
        return {
            "level": self.level,
            "deployment": self.deployment,
            "kind": self.kind,
            "at": self.at.isoformat(),
            "sentence": self.sentence,
            "evidence": self.evidence,
            "decision": self.decision,
            "finding": self.finding,
            "ask": self.ask,
        }


def notice_of(told: Decision | Finding, deployment: str, identity: str) -> Notice | None:
    """What people are told of a decision or a finding; None when they need not know.

    Parameters
    ----------
    identity
        The id under which it is stored.

    Examples
    --------
    >>> from datetime import UTC, datetime
    >>> moment = datetime(2026, 3, 1, tzinfo=UTC)
    >>> notice = notice_of(Decision("promoted", moment, "champion is version 3"), "churn", "churn/00041")
    >>> notice.level, notice.sentence, notice.ask
    ('loop', 'champion is version 3', 'clew why churn/00041')
    >>> notice_of(Decision("refit", moment, "refit on newer rows: all history"), "churn", "churn/00042")
    """
    if isinstance(told, Decision):
        return _of_decision(told, deployment, identity)
    return _of_finding(told, deployment, identity)


def _of_decision(decision: Decision, deployment: str, identity: str) -> Notice | None:
    level = TOLD_DECISIONS.get(decision.kind)
    if level is None:
        return None
    return Notice(
        level=level,
        deployment=deployment,
        kind=decision.kind,
        at=decision.at,
        sentence=decision.sentence,
        evidence=decision.evidence,
        decision=identity,
        ask=f"clew why {identity}",
    )


def _of_finding(finding: Finding, deployment: str, identity: str) -> Notice | None:
    level = finding.level
    if level == "chart" or finding.monitor in TOLD_BY_THEIR_DECISION:
        return None
    numbers = {
        "subject": finding.subject,
        "value": finding.value,
        "lower": finding.lower,
        "upper": finding.upper,
        "n": finding.n,
        "method": finding.method,
    }
    return Notice(
        level=level,
        deployment=deployment,
        kind=finding.monitor,
        at=finding.found_at,
        sentence=finding.sentence,
        evidence=numbers | finding.evidence,
        finding=identity,
        ask=f"clew trace {identity}",
    )
