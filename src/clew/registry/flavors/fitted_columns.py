"""Words about the columns and classes that a model was fitted on."""

from __future__ import annotations

from typing import Any

from clew.errors import PackageError
from clew.registry.signature import Signature


def listing(values: Any, most: int = 8) -> str:
    """The first few values as they are written, and how many there are in all."""
    shown = ", ".join(map(repr, list(values)[:most]))
    return f"{shown}, … ({len(values)} in all)" if len(values) > most else shown or "none"


def other_columns(library: str, fitted: str, signature: Signature) -> PackageError:
    """The error for a model that was fitted on something else than the features."""
    return PackageError(
        f"The {library} model was fitted on {fitted}, but the features are {listing(signature.names)}. Fit it"
        " on columns of train.X; a transformation that is needed to predict belongs into a scikit-learn"
        " Pipeline."
    )
