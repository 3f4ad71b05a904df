"""Versions, aliases and packages: which model is which, where it points, and how it answers.

A package is a model in its library's own format with the signature of what it takes. A version is an
immutable number of a deployment; an alias points to one and moves by compare-and-set, with a row in the
audit log. Names load when they are first used, so that a child process that only fits does not open the
records.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from clew.registry.features import FeatureColumn
    from clew.registry.models import LoadedModel, wrap_model
    from clew.registry.packages import PackageInfo, load_package, package_digest, save_package
    from clew.registry.predictions import Predictions
    from clew.registry.signature import Signature

_HOMES = {
    "FeatureColumn": "features",
    "LoadedModel": "models",
    "PackageInfo": "packages",
    "Predictions": "predictions",
    "Signature": "signature",
    "load_package": "packages",
    "package_digest": "packages",
    "save_package": "packages",
    "wrap_model": "models",
}
__all__ = [
    "FeatureColumn",
    "LoadedModel",
    "PackageInfo",
    "Predictions",
    "Signature",
    "load_package",
    "package_digest",
    "save_package",
    "wrap_model",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(
            f"module 'clew.registry' has no attribute {name!r}; it has {', '.join(sorted(__all__))}"
        )
    return getattr(import_module(f"clew.registry.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)
