"""Clew keeps production models right: version, deploy, monitor, improve."""

from __future__ import annotations

__version__ = "0.1.0"
