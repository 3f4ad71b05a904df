"""Rows, immutable bytes and the prediction log: the only room that speaks SQL or touches a bucket.

``open_store`` opens rows and bytes. All changes of rows go through ``store.write()``, which lets one writer
at a time into a store; bytes are put once under their SHA-256 and never change. ``LogWriter`` appends to
the prediction log.
"""

from __future__ import annotations

from clew.storage.conditions import Where
from clew.storage.database import Database
from clew.storage.log import LogWriter, parse_prediction_id
from clew.storage.log_reading import read_since
from clew.storage.log_segments import LOG_FOLDER
from clew.storage.objects import ObjectStore
from clew.storage.rows import Reader, Transaction, link
from clew.storage.store import Store, open_objects, open_store

__all__ = [
    "LOG_FOLDER",
    "Database",
    "LogWriter",
    "ObjectStore",
    "Reader",
    "Store",
    "Transaction",
    "Where",
    "link",
    "open_objects",
    "open_store",
    "parse_prediction_id",
    "read_since",
]
