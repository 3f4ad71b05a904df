"""What is watched of a deployed model: harm, drift, and whether its rows and labels are sound at all.

Monitors are values: they eat a day of rows, return the next monitor, and say what they found as a `Finding`.
They read no clock and no table; whoever drives them, live or in a backtest, hands them rows and `now`.

The modules hold the rest: `clew.monitoring.cohorts` says which rows may be judged, `clew.monitoring.days`
counts rows into bins.
"""

from __future__ import annotations

from clew.monitoring.budget import page_alpha, ticket_alpha
from clew.monitoring.contract import ContractMonitor
from clew.monitoring.drift import DriftMonitor
from clew.monitoring.findings import list_findings, store_finding
from clew.monitoring.labels import label_finding
from clew.monitoring.reference import Reference, reference_of
from clew.monitoring.risk import LossScale, RiskMonitor

__all__ = [
    "ContractMonitor",
    "DriftMonitor",
    "LossScale",
    "Reference",
    "RiskMonitor",
    "label_finding",
    "list_findings",
    "page_alpha",
    "reference_of",
    "store_finding",
    "ticket_alpha",
]
