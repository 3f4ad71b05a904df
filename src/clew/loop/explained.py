"""Why a key or an entity was answered so: each answer, recomputed by the version that gave it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any, Literal

import msgspec

from clew.entities import AuditEntry, GateReport, Json, ModelDeclaration
from clew.errors import ClewError, NotFound, UsageError, did_you_mean
from clew.loop.prediction_thread import moment_of
from clew.registry import audit_log, get_gate, get_version
from clew.storage import Store, find_predictions
from clew.storage.records import Prediction
from clew.tracking import get_run

AGREES_WITHIN = 1e-6
"""Of a probability or a share of a number: more than rounding between two machines."""

DAY = timedelta(days=1)

Explain = Callable[[int, Sequence[Mapping[str, Any]], Sequence[Any]], Json]
"""Asks a version, by its number, about rows and what was answered: see `clew.training.Child.explain`."""


@dataclass(frozen=True, slots=True)
class Contribution:
    """What one column had to do with an answer; see `clew.registry.explaining`."""

    column: str
    value: Any
    amount: float


@dataclass(frozen=True, slots=True)
class Approval:
    """Who put the version in office or on its way there, or the threshold in force; `audit` is the row."""

    audit: int
    at: datetime
    actor: str
    reason: str

    @classmethod
    def of(cls, entry: AuditEntry) -> Approval:
        return cls(entry.sequence, entry.at, entry.actor, entry.reason)


@dataclass(frozen=True, slots=True)
class ExplainedAnswer:
    """An answer, and why it was given.

    Attributes
    ----------
    score
        The logged probability of `score_of`, or the number answered.
    threshold
        In force when it was answered; None where the most probable class was.
    recomputed, agrees
        What the version answers to the same row now, and whether that is the score; None when it could not
        be asked, which `trouble` tells.
    contributions
        In `unit`, the greatest first, as `method` finds them; they and `base` add up where there is one.
    links
        Ids that ``clew trace`` follows.
    """

    prediction: str
    deployment: str
    version: int
    role: str
    answered_at: datetime
    event_time: datetime
    key: Any
    entity: Any
    predicted: Any
    score: float | None
    score_of: Any
    threshold: float | None
    recomputed: float | None = None
    agrees: bool | None = None
    trouble: str = ""
    method: str = ""
    unit: str = ""
    base: float | None = None
    contributions: tuple[Contribution, ...] = ()
    unseen: tuple[str, ...] = ()
    gate: GateReport | None = None
    approved: Approval | None = None
    threshold_set: Approval | None = None
    links: Json = field(default_factory=dict)


def explain_answers(
    store: Store,
    deployment: str,
    explain: Explain,
    *,
    about: Literal["key", "entity"],
    text: str,
    at: datetime | None = None,
    limit: int = 20,
) -> list[ExplainedAnswer]:
    """The answers about a key or an entity, the latest first, each with its reasons.

    Parameters
    ----------
    explain
        Computes the contributions; where it raises, the answer says so and stands without them.
    at
        Only answers about this day of event time, in UTC.

    Raises
    ------
    NotFound
        When there is no such model, or no such answer.
    """
    _require_model(store, deployment)
    start = None if at is None else at.replace(hour=0, minute=0, second=0, microsecond=0)
    end = None if start is None else start + DAY
    found = find_predictions(store, deployment, about, text, start=start, end=end, limit=limit)
    if not found:
        day = "" if start is None else f" on {start:%Y-%m-%d}"
        raise NotFound(
            f"{deployment!r} answered nothing about {about} {text!r}{day} that is in the log. How it stands:"
            f" clew status {deployment}"
        )
    by_version: defaultdict[int, list[int]] = defaultdict(list)
    for place, (_, record) in enumerate(found):
        by_version[record.version].append(place)
    told: dict[int, ExplainedAnswer] = {}
    entries = audit_log(store, deployment, None)
    for number, places in by_version.items():
        of_version = _OfVersion.of(store, deployment, number, entries)
        answers = [found[place] for place in places]
        told |= dict(zip(places, _explained(of_version, answers, explain), strict=True))
    return [told[place] for place in range(len(found))]


def _require_model(store: Store, deployment: str) -> None:
    with store.read() as reader:
        known = [row["name"] for row in reader.find("deployments", {"kind": "live"})]
    if deployment not in known:
        raise NotFound(f"There is no live model {deployment!r}. {did_you_mean(deployment, known)}")


@dataclass(frozen=True, slots=True)
class _OfVersion:
    """What all answers of a version share."""

    deployment: str
    number: int
    gate: GateReport | None
    links: Json
    entries: Sequence[AuditEntry]

    @classmethod
    def of(cls, store: Store, deployment: str, number: int, entries: Sequence[AuditEntry]) -> _OfVersion:
        version = get_version(store, deployment, number)
        links: Json = {"version": version.name}
        try:
            run = get_run(store, version.run)
        except NotFound:  # a version that was made elsewhere
            run = None
        if run is not None:
            ids = {"snapshot": run.snapshot, "code": run.code, "environment": run.environment}
            links |= {"run": run.id} | ids
        return cls(deployment, number, get_gate(store, deployment, number), links, entries)

    def approved(self, record: Prediction) -> Approval | None:
        """Who let this version answer, the last time before it did."""
        for entry in self._before(record):
            to = entry.evidence.get("to")
            if entry.action == "move champion" and to == self.number:
                return Approval.of(entry)
            if record.role != "champion" and isinstance(to, Mapping) and to.get("candidate") == self.number:
                return Approval.of(entry)
        return None

    def threshold_set(self, record: Prediction) -> Approval | None:
        for entry in self._before(record):
            if entry.action == "change threshold":
                return Approval.of(entry) if entry.evidence.get("to") == record.threshold else None
        return None

    def _before(self, record: Prediction) -> Sequence[AuditEntry]:
        answered_at = moment_of(record.answered_at)
        return [entry for entry in self.entries if entry.at <= answered_at]


def _explained(
    of_version: _OfVersion, answers: Sequence[tuple[str, Prediction]], explain: Explain
) -> list[ExplainedAnswer]:
    records = [record for _, record in answers]
    rows = [dict(zip(record.names, record.features, strict=True)) for record in records]
    try:
        told = explain(of_version.number, rows, [record.predicted for record in records])
    # Whatever keeps the version from answering again, what was logged is told all the same.
    except ClewError as error:
        trouble = str(error).partition("\n")[0]
        return [_plain(of_version, each, None, None, trouble=trouble) for each in answers]
    classes, places = told["classes"], told["places"] or [None] * len(records)
    return [
        _with_reasons(_plain(of_version, answer, classes, place), each, row)
        for answer, place, each, row in zip(answers, places, told["explained"], rows, strict=True)
    ]


def _plain(
    of_version: _OfVersion,
    answer: tuple[str, Prediction],
    classes: Sequence[Any] | None,
    place: int | None,
    *,
    trouble: str = "",
) -> ExplainedAnswer:
    identity, record = answer
    score, score_of = _score(record, classes, place)
    return ExplainedAnswer(
        prediction=identity,
        deployment=of_version.deployment,
        version=record.version,
        role=record.role,
        answered_at=moment_of(record.answered_at),
        event_time=moment_of(record.event_time),
        key=record.key,
        entity=record.entity,
        predicted=record.predicted,
        score=score,
        score_of=score_of,
        threshold=record.threshold,
        trouble=trouble,
        unseen=record.unseen,
        gate=of_version.gate,
        approved=of_version.approved(record),
        threshold_set=None if record.threshold is None else of_version.threshold_set(record),
        links={"prediction": identity} | of_version.links,
    )


def _score(record: Prediction, classes: Sequence[Any] | None, place: int | None) -> tuple[float | None, Any]:
    if record.probabilities is not None and classes is not None and place is not None:
        return record.probabilities[place], classes[place]
    is_number = isinstance(record.predicted, float) and record.probabilities is None
    return (float(record.predicted), None) if is_number else (None, None)  # type: ignore[arg-type]


def _with_reasons(answer: ExplainedAnswer, told: Json, row: Mapping[str, Any]) -> ExplainedAnswer:
    recomputed, amounts = told["score"], told["contributions"]
    agrees = None
    if answer.score is not None and recomputed is not None:
        agrees = abs(recomputed - answer.score) <= AGREES_WITHIN * max(1.0, abs(answer.score))
    greatest = sorted(amounts, key=lambda name: (-abs(amounts[name]), name))
    return replace(
        answer,
        recomputed=recomputed,
        agrees=agrees,
        method=told["method"],
        unit=told["unit"],
        base=told["base"],
        contributions=tuple(Contribution(name, row.get(name), amounts[name]) for name in greatest),
    )


def declared_positive(store: Store, deployment: str) -> Any:
    """The class that a deployment's code declares positive; None for the second one."""
    with store.read() as reader:
        row = reader.get("deployments", name=deployment)
    declared = None if row is None or not row["declaration"] else row["declaration"]
    return None if declared is None else msgspec.convert(declared, ModelDeclaration).positive


def refuse_unclear(key: str | None, entity: str | None) -> tuple[Literal["key", "entity"], str]:
    """What is asked about.

    Raises
    ------
    UsageError
        When it is neither or both.
    """
    if key is not None and entity is None:
        return "key", key
    if entity is not None and key is None:
        return "entity", entity
    raise UsageError("Say whose answers are to be explained: --key or --entity, one of them.")
