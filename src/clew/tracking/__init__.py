"""What ran: runs with their metrics, the code they ran, the environment they ran in."""

from __future__ import annotations

from clew.tracking.code import CodeFile, CodeTree, capture_code, fetch_code, get_code, materialise_code
from clew.tracking.code_change import FileChange, code_change
from clew.tracking.environment import capture_environment, get_environment, keep_environment
from clew.tracking.environment_change import Changed, EnvironmentChange, environment_change
from clew.tracking.made_environments import make_environment
from clew.tracking.metrics import LoggedMetric, log_metrics, read_metrics
from clew.tracking.owners import is_alive, this_owner
from clew.tracking.runs import (
    close_run,
    fail_lost_runs,
    fail_run,
    folders_of,
    get_run,
    list_runs,
    open_run,
    read_output,
)

__all__ = [
    "Changed",
    "CodeFile",
    "CodeTree",
    "EnvironmentChange",
    "FileChange",
    "LoggedMetric",
    "capture_code",
    "capture_environment",
    "close_run",
    "code_change",
    "environment_change",
    "fail_lost_runs",
    "fail_run",
    "fetch_code",
    "folders_of",
    "get_code",
    "get_environment",
    "get_run",
    "is_alive",
    "keep_environment",
    "list_runs",
    "log_metrics",
    "make_environment",
    "materialise_code",
    "open_run",
    "read_metrics",
    "read_output",
    "this_owner",
]
