"""The page about what a model lived through: one HTML file without network, to read, print and pass on."""

from __future__ import annotations

from clew.cli.report.page import render_report, write_report

__all__ = ["render_report", "write_report"]
