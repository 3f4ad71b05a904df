"""The command line: each verb parses what was typed, calls one function below, shows what came of it."""

from __future__ import annotations

from clew.cli.entry import main, run

__all__ = ["main", "run"]
