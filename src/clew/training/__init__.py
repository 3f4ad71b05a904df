"""Running user code: a child process describes a project, fits its models and predicts with them.

The parent's side never imports a user's file; it holds a `Child` and talks to it. Names load when they are
first used, so that a child does not load its parent's side.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from clew.training.fits import Fit
    from clew.training.following import Listener
    from clew.training.journal import ArtifactLimits, Logged
    from clew.training.project import Described
    from clew.training.session import Child

_HOMES = {
    "ArtifactLimits": "journal",
    "Child": "session",
    "Described": "project",
    "Fit": "fits",
    "Listener": "following",
    "Logged": "journal",
}
__all__ = ["ArtifactLimits", "Child", "Described", "Fit", "Listener", "Logged"]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(
            f"module 'clew.training' has no attribute {name!r}; it has {', '.join(sorted(__all__))}"
        )
    return getattr(import_module(f"clew.training.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)
