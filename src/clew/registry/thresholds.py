"""Decision thresholds: the probability from which on the positive one of two classes is answered.

A threshold belongs to a deployment and not to a version: changing it changes what the same model answers.
Each change takes a number of the routes' sequence, so that prediction workers follow it as they do a route.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import TYPE_CHECKING, Any

from clew.errors import NotFound, UsageError
from clew.registry.audit import record_audit
from clew.registry.routes import next_generation, routing_generation

if TYPE_CHECKING:
    from clew.entities import Json, ModelDeclaration
    from clew.registry.predictions import Predictions
    from clew.storage import Reader, Transaction


@dataclass(frozen=True, slots=True)
class Cut:
    """A threshold in force, and the class that it is about; `positive` None for the second class.

    Examples
    --------
    >>> Cut(0.08).places(("paid", "missed"))
    (1, 0)
    >>> Cut(0.08, "paid").places(("paid", "missed"))
    (0, 1)
    """

    threshold: float
    positive: Any = None

    def places(self, classes: Sequence[Any] | None) -> tuple[int, int]:
        """Where among a version's classes the positive one stands, and where the other.

        Raises
        ------
        UsageError
            When there are not two classes, or the positive one is none of them.
        """
        return positive_place(classes, self.positive)

    def applied(self, answers: Predictions) -> Predictions:
        """What is answered for these probabilities.

        Raises
        ------
        UsageError
            As `places`, and when there are no probabilities.
        """
        import numpy as np  # a prediction worker, which asks `places` alone, does without

        if answers.probabilities is None:
            raise UsageError(
                f"The threshold {self.threshold:g} is for probabilities; the model has no predict_proba()."
            )
        positive, other = self.places(answers.classes)
        own = np.asarray(answers.classes)
        is_positive = answers.probabilities[:, positive] >= self.threshold
        return replace(answers, predicted=np.where(is_positive, own[positive], own[other]))


def positive_place(classes: Sequence[Any] | None, positive: Any = None) -> tuple[int, int]:
    """Where the positive one of two classes stands, and where the other; see `Cut.places`."""
    known = list(classes or ())
    if len(known) != 2:
        there = (
            f"this one has {len(known)}: {', '.join(map(repr, known[:8]))}" if known else "this has numbers"
        )
        raise UsageError(f"A threshold decides between two classes; {there}.")
    if positive is None:
        return 1, 0
    if positive not in known:
        raise UsageError(
            f"The positive class is {positive!r}, but the label's values are {known[0]!r} and {known[1]!r}."
            " Say one of them in @clew.model(…, positive=…)."
        )
    place = known.index(positive)
    return place, 1 - place


def cut_of(declaration: ModelDeclaration, threshold: float | None) -> Cut | None:
    """The cut of a deployment with this threshold in force."""
    return None if threshold is None else Cut(threshold, declaration.positive)


def get_threshold(reader: Reader, deployment: str) -> float | None:
    """The threshold in force; None where the most probable class is answered.

    Raises
    ------
    NotFound
        When there is no such deployment.
    """
    row = reader.get("deployments", name=deployment)
    if row is None:
        raise NotFound(f"There is no model {deployment!r}. List them with: clew models list")
    threshold: float | None = row["threshold"]
    return threshold


def threshold_to_begin_with(reader: Reader, deployment: str, declaration: ModelDeclaration) -> float | None:
    """The threshold in force once the deployment has this declaration.

    What a person set holds as long as the code says what it said then.
    """
    row = reader.get("deployments", name=deployment)
    if row is None or (row["declaration"] or {}).get("threshold") != declaration.threshold:
        return declaration.threshold
    threshold: float | None = row["threshold"]
    return threshold


def change_threshold(
    tx: Transaction,
    deployment: str,
    threshold: float | None,
    now: datetime,
    *,
    actor: str,
    reason: str,
    evidence: Json | None = None,
) -> int:
    """Put a threshold in force, with its generation and audit row; one that is in force is left alone.

    Returns
    -------
    int
        The generation that workers have to reach.
    """
    before = get_threshold(tx, deployment)
    if before == threshold:
        return routing_generation(tx)
    tx.update("deployments", {"name": deployment}, {"threshold": threshold})
    generation = next_generation(tx)
    told = {**(evidence or {}), "from": before, "to": threshold, "generation": generation}
    record_audit(
        tx, now=now, actor=actor, action="change threshold", subject=deployment, reason=reason, evidence=told
    )
    return generation
