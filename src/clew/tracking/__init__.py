"""What ran: runs with their metrics, the code they ran, the environment they ran in."""

from __future__ import annotations

from clew.tracking.code import CodeFile, CodeTree, capture_code, fetch_code, get_code, materialise_code
from clew.tracking.environment import capture_environment, get_environment
from clew.tracking.metrics import LoggedMetric, log_metrics, read_metrics
from clew.tracking.owners import is_alive, this_owner
from clew.tracking.runs import close_run, fail_lost_runs, fail_run, get_run, list_runs, open_run, read_output

__all__ = [
    "CodeFile",
    "CodeTree",
    "LoggedMetric",
    "capture_code",
    "capture_environment",
    "close_run",
    "fail_lost_runs",
    "fail_run",
    "fetch_code",
    "get_code",
    "get_environment",
    "get_run",
    "is_alive",
    "list_runs",
    "log_metrics",
    "materialise_code",
    "open_run",
    "read_metrics",
    "read_output",
    "this_owner",
]
