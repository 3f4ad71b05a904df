"""What a parent knows of the models that a child holds, and how to have them again after a crash."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from clew.entities import Json, ModelDeclaration
from clew.tracking import OpenedFile
from clew.training.process import Limits


@dataclass(frozen=True, slots=True)
class Fit:
    """A fitted model that a child holds under `id`, and what fitting it took.

    Attributes
    ----------
    params
        The hyperparameters that the function was called with, defaults included.
    model_digest
        SHA-256 over the model's predictions on up to 1,000 rows spread over its training rows, bit by
        bit: the same rows, parameters and seed give the same digest, unless the code is not
        deterministic. (Not over the model's bytes: writing these costs more than many a fit.)
    output
        What was printed, within bounds.
    seconds, peak_memory_bytes
        What the function itself took: its time, and the child's resident memory at its highest.
    classes
        The label's values, sorted; None for regression.
    n_rows
        How many labelled rows it learned from.
    opened
        Files outside of the captured code that the process read until then, at import or in a fit.
    """

    id: str
    params: Mapping[str, Any]
    model_digest: str
    output: bytes
    seconds: float
    peak_memory_bytes: int
    classes: tuple[Any, ...] | None
    n_rows: int
    opened: tuple[OpenedFile, ...] = ()


@dataclass(frozen=True, slots=True)
class Used:
    """Rows and the model that learns from them, as told to the child."""

    request: Json
    declaration: ModelDeclaration


@dataclass(frozen=True, slots=True)
class Recipe:
    """How to make a model again in a new process, after the one that held it died."""

    request: Json
    used: Used | None
    limits: Limits
    model_digest: str | None = None


@dataclass(slots=True)
class Memory:
    """What the parent remembers, and what the process of the moment holds of it."""

    used: Used | None = None
    recipes: dict[str, Recipe] = field(default_factory=dict)
    told: Used | None = None
    held: set[str] = field(default_factory=set)


def fit_of(fit_id: str, fitted: Json, output: bytes) -> Fit:
    classes = fitted["classes"]
    return Fit(
        id=fit_id,
        params=fitted["params"],
        model_digest=fitted["model_digest"],
        output=output,
        seconds=fitted["seconds"],
        peak_memory_bytes=fitted["peak_memory_bytes"],
        classes=None if classes is None else tuple(classes),
        n_rows=fitted["n_rows"],
        opened=tuple(OpenedFile(path, digest) for path, digest in fitted["opened"]),
    )
