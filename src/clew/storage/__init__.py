"""Rows, immutable bytes and the prediction log: the only room that speaks SQL or touches a bucket.

``open_store`` opens rows and bytes. All changes of rows go through ``store.write()``, which lets one writer
at a time into a store; bytes are put once under their SHA-256 and never change. ``LogWriter`` appends to
the prediction log, ``read_since``, ``read_record`` and ``scan`` read it, ``compact`` moves it into Parquet.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from clew.storage.conditions import Where
from clew.storage.database import Database
from clew.storage.log import LogWriter, parse_prediction_id
from clew.storage.log_reading import read_record, read_since, scan
from clew.storage.log_segments import LOG_FOLDER
from clew.storage.objects import Batch, ObjectStore
from clew.storage.rows import Reader, Transaction, link
from clew.storage.store import Store, open_objects, open_store

if TYPE_CHECKING:
    from clew.storage.compaction import Compaction, compact

__all__ = [
    "LOG_FOLDER",
    "Batch",
    "Compaction",
    "Database",
    "LogWriter",
    "ObjectStore",
    "Reader",
    "Store",
    "Transaction",
    "Where",
    "compact",
    "link",
    "open_objects",
    "open_store",
    "parse_prediction_id",
    "read_record",
    "read_since",
    "scan",
]


def __getattr__(name: str) -> Any:
    # Imported when asked for: it needs pyarrow, which no prediction worker should wait for.
    if name in ("Compaction", "compact"):
        return getattr(import_module("clew.storage.compaction"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
