"""What ran: runs with their metrics, the code they ran, the environment they ran in."""

from __future__ import annotations

from clew.tracking.annotations import (
    Note,
    note_run,
    read_notes,
    read_tags,
    remove_note,
    tag_run,
    tags_of_runs,
    untag_run,
)
from clew.tracking.artifacts import (
    Artifact,
    checked_artifact_name,
    keep_artifacts,
    list_artifacts,
    read_artifact,
    write_artifacts,
)
from clew.tracking.code import CodeFile, CodeTree, capture_code, fetch_code, get_code, materialise_code
from clew.tracking.code_change import FileChange, code_change
from clew.tracking.environment import capture_environment, get_environment, keep_environment
from clew.tracking.environment_change import Changed, EnvironmentChange, environment_change
from clew.tracking.made_environments import make_environment
from clew.tracking.metrics import LoggedMetric, log_metrics, read_metrics, summarise_metrics
from clew.tracking.opened_files import OpenedFile, opened_files
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
from clew.tracking.search import find_runs, parse_order, parse_search, unknown_names

__all__ = [
    "Artifact",
    "Changed",
    "CodeFile",
    "CodeTree",
    "EnvironmentChange",
    "FileChange",
    "LoggedMetric",
    "Note",
    "OpenedFile",
    "capture_code",
    "capture_environment",
    "checked_artifact_name",
    "close_run",
    "code_change",
    "environment_change",
    "fail_lost_runs",
    "fail_run",
    "fetch_code",
    "find_runs",
    "folders_of",
    "get_code",
    "get_environment",
    "get_run",
    "is_alive",
    "keep_artifacts",
    "keep_environment",
    "list_artifacts",
    "list_runs",
    "log_metrics",
    "make_environment",
    "materialise_code",
    "note_run",
    "open_run",
    "opened_files",
    "parse_order",
    "parse_search",
    "read_artifact",
    "read_metrics",
    "read_notes",
    "read_output",
    "read_tags",
    "remove_note",
    "summarise_metrics",
    "tag_run",
    "tags_of_runs",
    "this_owner",
    "unknown_names",
    "untag_run",
    "write_artifacts",
]
