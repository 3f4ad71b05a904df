"""Running user code: a child process describes a project, fits its models and predicts with them.

The parent's side never imports a user's file; it holds a `Child` and talks to it.
"""

from __future__ import annotations

from clew.training.fits import Fit
from clew.training.process import child_variables
from clew.training.project import Described
from clew.training.session import Child

__all__ = ["Child", "Described", "Fit", "child_variables"]
