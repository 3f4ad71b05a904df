"""What a flavor says about a model that it wrote."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from clew.entities import Json


@dataclass(frozen=True)
class SavedModel:
    """One written model.

    Attributes
    ----------
    mlflow_flavor, entry
        The flavor's name and entry in the MLmodel file, as MLflow spells them.
    model_digest
        SHA-256 of what the model says, whatever the time, the run or the compression.
    distributions
        What has to be installed to read it.
    trusted_types
        Types that skops does not trust by itself, with where each came from.
    """

    mlflow_flavor: str
    entry: Json
    model_digest: str
    distributions: tuple[str, ...]
    trusted_types: Mapping[str, str] = field(default_factory=dict)
