"""Tables in, immutable snapshots out: named by their content, ordered by time and key.

Names load when they are first used, so that a child process that only reads a table does not open the
records.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from clew.datasets.checkout import checkout_snapshot
    from clew.datasets.digest import content_digest
    from clew.datasets.frames import from_frame, part_relation, to_frame
    from clew.datasets.history import find_snapshot, snapshot_log
    from clew.datasets.lookup import find_rows, read_rows
    from clew.datasets.maturity import matured
    from clew.datasets.records import Dataset
    from clew.datasets.schema import feature_names, prepare
    from clew.datasets.snapshots import (
        append_rows,
        get_snapshot,
        latest_snapshot,
        list_datasets,
        list_snapshots,
        take_snapshot,
    )
    from clew.datasets.sources import read_source
    from clew.datasets.verify import verify_snapshot

_HOMES = {
    "Dataset": "records",
    "append_rows": "snapshots",
    "checkout_snapshot": "checkout",
    "content_digest": "digest",
    "feature_names": "schema",
    "find_rows": "lookup",
    "find_snapshot": "history",
    "from_frame": "frames",
    "get_snapshot": "snapshots",
    "latest_snapshot": "snapshots",
    "list_datasets": "snapshots",
    "list_snapshots": "snapshots",
    "matured": "maturity",
    "part_relation": "frames",
    "prepare": "schema",
    "read_rows": "lookup",
    "read_source": "sources",
    "snapshot_log": "history",
    "take_snapshot": "snapshots",
    "to_frame": "frames",
    "verify_snapshot": "verify",
}

__all__ = [
    "Dataset",
    "append_rows",
    "checkout_snapshot",
    "content_digest",
    "feature_names",
    "find_rows",
    "find_snapshot",
    "from_frame",
    "get_snapshot",
    "latest_snapshot",
    "list_datasets",
    "list_snapshots",
    "matured",
    "part_relation",
    "prepare",
    "read_rows",
    "read_source",
    "snapshot_log",
    "take_snapshot",
    "to_frame",
    "verify_snapshot",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(
            f"module 'clew.datasets' has no attribute {name!r}; it has {', '.join(sorted(__all__))}"
        )
    return getattr(import_module(f"clew.datasets.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)
