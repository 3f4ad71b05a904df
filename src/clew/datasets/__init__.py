"""Tables in, immutable snapshots out: named by their content, ordered by time and key."""

from __future__ import annotations

from clew.datasets.digest import content_digest
from clew.datasets.frames import from_frame, to_frame
from clew.datasets.lookup import find_rows, read_rows
from clew.datasets.maturity import matured
from clew.datasets.schema import feature_names, prepare
from clew.datasets.snapshots import (
    Dataset,
    get_snapshot,
    latest_snapshot,
    list_datasets,
    list_snapshots,
    take_snapshot,
)
from clew.datasets.sources import read_source

__all__ = [
    "Dataset",
    "content_digest",
    "feature_names",
    "find_rows",
    "from_frame",
    "get_snapshot",
    "latest_snapshot",
    "list_datasets",
    "list_snapshots",
    "matured",
    "prepare",
    "read_rows",
    "read_source",
    "take_snapshot",
    "to_frame",
]
