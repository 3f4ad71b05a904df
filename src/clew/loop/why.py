"""The reasons of decisions, in plain sentences."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from clew.errors import Erased, NotFound
from clew.loop.acts import acts_of_people
from clew.loop.prediction_thread import answer_sentence, is_prediction_id, moment_of
from clew.loop.result import Reason
from clew.loop.trace import version_name
from clew.storage import Reader, Store, Where, read_record
from clew.storage.records import Failure, Label, Prediction

NEWEST = 200
"""Decisions of a deployment that are told at most."""


def why(store: Store, reference: str) -> list[Reason]:
    """Why the decisions of a model, of one of its versions, or one decision, were taken; oldest first.

    What people did stands among them, with their reason.

    Of a prediction: why this version gave the answer, and then why there is such a version.

    Parameters
    ----------
    reference
        A model's name, a backtest's id, a version (``busy_hour@3``, ``busy_hour@champion``), or a decision's
        id, or the id that came with an answer.

    Raises
    ------
    NotFound
        When nothing was decided or answered under that name.
    """
    if is_prediction_id(reference):
        try:
            answer = read_record(store, reference)
        except Erased as erased:
            return [Reason(reference, erased.at, "erased", str(erased), ())]
        if not isinstance(answer, Label):
            return [_answer_reason(reference, answer), *why(store, f"{answer.deployment}@{answer.version}")]
    with store.read() as reader:
        if "@" in reference:
            reference = version_name(reader, reference)
        rows, acts = _decisions(reader, reference), _acts(reader, reference)
        versions = _versions(reader, reference)
        if not rows and not versions and not acts:
            known = sorted({row["name"] for row in reader.find("deployments")})
            there = f"decisions were taken for {', '.join(known)}" if known else "nothing was decided yet"
            raise NotFound(f"There is nothing to say of {reference!r}; {there}. See: clew models list")
        decided = [_reason(reader, row) for row in rows]
        told = sorted([*decided, *acts], key=lambda reason: reason.at)[-NEWEST:]
        return [*(_version_reason(row) for row in versions), *told]


_ROLES = {
    "champion": "it was champion, which answers every key that no canary takes",
    "canary": "the key falls into the share of keys that this version was tried on",
    "shadow": "it was asked beside the one that answered the caller, to be compared",
}


def _answer_reason(identity: str, answer: Prediction | Failure) -> Reason:
    because = [_ROLES[answer.role]]
    if isinstance(answer, Prediction):
        if answer.probabilities:
            because.append(f"probabilities: {_plain(list(answer.probabilities))}")
        because += [f"{name}: not among those it was trained on" for name in answer.unseen]
    sentence = answer_sentence(answer)
    return Reason(identity, moment_of(answer.answered_at), "answer", sentence, tuple(because))


def _decisions(reader: Reader, reference: str) -> list[dict[str, Any]]:
    one = reader.get("decisions", id=reference)
    if one is not None:
        return [one]
    deployment = reference.partition("@")[0]
    where = {"deployment": deployment, "kind": Where("!=", "refit")}
    rows = reader.find("decisions", where, ["sequence"])
    return [row for row in rows if _is_about(row, reference)][-NEWEST:]


def _acts(reader: Reader, reference: str) -> list[Reason]:
    """What people did: where no system ran, only the audit log tells it."""
    deployment, _, number = reference.partition("@")
    return [
        Reason(f"audit/{act.row}", act.at, act.kind, act.sentence, (f"audit log: clew audit show {act.row}",))
        for act in acts_of_people(reader, deployment)
        if not number or str(act.version) == number
    ]


def _is_about(row: Mapping[str, Any], reference: str) -> bool:
    number = reference.partition("@")[2]
    return not number or str((row["evidence"] or {}).get("version")) == number


def _versions(reader: Reader, reference: str) -> list[dict[str, Any]]:
    """Versions that a person made have no decision of the loop; their gate is the reason."""
    deployment, _, number = reference.partition("@")
    where: dict[str, Any] = {"deployment": deployment}
    if number.isdigit():
        where["number"] = int(number)
    rows = reader.find("versions", where, ["number"])
    is_live = reader.find("deployments", {"name": deployment, "kind": "live"}, limit=1)
    return rows if is_live else []


def _version_reason(row: Mapping[str, Any]) -> Reason:
    checks = (row["gate"] or {}).get("checks", [])
    outcomes = {check["outcome"] for check in checks}
    verdict = next((o for o in ("fail", "undecided", "pass") if o in outcomes), "not tested")
    words = {"fail": "failed", "undecided": "left undecided by", "pass": "passed"}.get(
        verdict, "did not meet"
    )
    sentence = f"version {row['number']} was trained and {words} the gate"
    because = tuple(f"{check['name']}: {check['outcome']}: {check['sentence']}" for check in checks)
    return Reason(f"{row['deployment']}@{row['number']}", row["created_at"], "version", sentence, because)


def _reason(reader: Reader, row: Mapping[str, Any]) -> Reason:
    findings = [reader.get("findings", id=identity) for identity in row["findings"] or []]
    because = [f"{f['monitor']}: {f['sentence']} ({f['method']})" for f in findings if f is not None]
    because += [
        f"{name.replace('_', ' ')}: {_plain(value)}"
        for name, value in (row["evidence"] or {}).items()
        if value is not None
    ]
    return Reason(row["id"], row["at"], row["kind"], row["sentence"], tuple(because))


def _plain(value: object) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {inner}" for name, inner in value.items())
    if isinstance(value, list):
        return ", ".join(map(_plain, value))
    return f"{value:,.4g}" if isinstance(value, float) else str(value)
