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
    from clew.registry.alias_moves import aliases, move_alias
    from clew.registry.audit import audit_log, record_audit
    from clew.registry.features import FeatureColumn
    from clew.registry.models import LoadedModel, wrap_model
    from clew.registry.package_files import package_digest
    from clew.registry.packages import PackageInfo, load_package, package_model_digest, save_package
    from clew.registry.predictions import Predictions
    from clew.registry.profile import profile_counts, reference_profile
    from clew.registry.row_models import RowModel, open_row_model
    from clew.registry.signature import Signature
    from clew.registry.stored_packages import fetch_package, store_package
    from clew.registry.versions import (
        ModelSummary,
        ensure_deployment,
        get_gate,
        get_profile,
        get_version,
        list_models,
        list_versions,
        register,
    )

_HOMES = {
    "FeatureColumn": "features",
    "LoadedModel": "models",
    "ModelSummary": "versions",
    "PackageInfo": "packages",
    "Predictions": "predictions",
    "RowModel": "row_models",
    "Signature": "signature",
    "aliases": "alias_moves",
    "audit_log": "audit",
    "ensure_deployment": "versions",
    "fetch_package": "stored_packages",
    "get_gate": "versions",
    "get_profile": "versions",
    "get_version": "versions",
    "list_models": "versions",
    "list_versions": "versions",
    "load_package": "packages",
    "move_alias": "alias_moves",
    "open_row_model": "row_models",
    "package_digest": "package_files",
    "package_model_digest": "packages",
    "profile_counts": "profile",
    "record_audit": "audit",
    "reference_profile": "profile",
    "register": "versions",
    "save_package": "packages",
    "store_package": "stored_packages",
    "wrap_model": "models",
}
__all__ = [
    "FeatureColumn",
    "LoadedModel",
    "ModelSummary",
    "PackageInfo",
    "Predictions",
    "RowModel",
    "Signature",
    "aliases",
    "audit_log",
    "ensure_deployment",
    "fetch_package",
    "get_gate",
    "get_profile",
    "get_version",
    "list_models",
    "list_versions",
    "load_package",
    "move_alias",
    "open_row_model",
    "package_digest",
    "package_model_digest",
    "profile_counts",
    "record_audit",
    "reference_profile",
    "register",
    "save_package",
    "store_package",
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
