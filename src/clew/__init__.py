"""Clew keeps production models right: version, deploy, monitor, improve, in one loop.

A project declares a dataset and a model; the command ``clew`` does the rest.
Names load when they are first used, so that ``import clew`` stays light.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from clew.declare import dataset, model, sql
    from clew.errors import ClewError
    from clew.reading import load, snapshot

__version__ = "0.1.0"
__all__ = ["ClewError", "__version__", "dataset", "load", "model", "snapshot", "sql"]

_HOMES = {
    "dataset": "clew.declare",
    "model": "clew.declare",
    "sql": "clew.declare",
    "ClewError": "clew.errors",
    "load": "clew.reading",
    "snapshot": "clew.reading",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'clew' has no attribute {name!r}; it has {', '.join(sorted(__all__))}")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
