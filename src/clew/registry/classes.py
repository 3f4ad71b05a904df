"""Which of the label's values a classifier's classes are."""

from __future__ import annotations

from typing import Any

import numpy as np

from clew.registry.predictions import strange_class
from clew.registry.signature import Signature


def label_values(signature: Signature) -> dict[Any, Any]:
    """The label's values, found by equality: ``1``, ``1.0`` and ``True`` find the one that the label has."""
    return {value: value for value in signature.classes or ()}


def own_classes(classes: Any, signature: Signature) -> tuple[Any, ...]:
    """The classes of a fitted classifier, in its order and in the label's own type.

    Raises
    ------
    PackageError
        When it was fitted on something else than the label.
    """
    given = np.asarray(classes).tolist()
    known = label_values(signature)
    if not known:
        return tuple(given)
    for value in given:
        if value not in known:
            raise strange_class(value, known)
    return tuple(known[value] for value in given)
