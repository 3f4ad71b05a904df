"""What people did to a deployment, as far as no decision tells it: from the audit log.

Where a system runs, a person's promotion leaves a decision. What they do while none runs, and what moves no
champion, stands in the audit log alone.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from clew.entities import Json
from clew.storage import Reader

_BOTH_DO = ("move champion", "end rollout")
"""What the loop does, too; a person's row names their command."""

_PEOPLE_DO = ("pause", "resume", "retrain", "retire")
_KINDS = {"promote": "promoted", "rollback": "rolled back"}


@dataclass(frozen=True, slots=True)
class Act:
    """What a person did; `row` is its number in the audit log, `version` the one it was about."""

    row: int
    at: datetime
    kind: str
    sentence: str
    version: int | None
    evidence: Json


def acts_of_people(reader: Reader, deployment: str, newest: int | None = None) -> list[Act]:
    """What people did to a deployment and no decision tells, the oldest first.

    Parameters
    ----------
    newest
        Look at so many of the newest rows only; at all of them by default.
    """
    where = {"subject": deployment, "action": [*_BOTH_DO, *_PEOPLE_DO]}
    rows = reader.find("audit", where, ["-sequence"], newest)[::-1]
    ordered = [row for row in rows if row["action"] in _PEOPLE_DO or "command" in row["evidence"]]
    decisions = reader.find("decisions", {"deployment": deployment}, ["-sequence"], newest) if ordered else []
    told = {(row["evidence"] or {}).get("command") for row in decisions} - {None}
    return [_act(**row) for row in ordered if row["evidence"].get("command") not in told]


def _act(
    *, sequence: int, at: datetime, actor: str, action: str, reason: str, evidence: Json, **_: object
) -> Act:
    verb: str = evidence.get("verb", "rollback" if action == "end rollout" else action)
    version = evidence.get("to", evidence.get("version"))
    whither = {"move champion": f" to version {version}", "end rollout": f" of version {version}"}
    sentence = f"{actor} says: {verb}{whither.get(action, '')}: {reason}"
    return Act(sequence, at, _KINDS.get(verb, verb), sentence, version, evidence)
