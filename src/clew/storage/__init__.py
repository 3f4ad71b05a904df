"""Rows in a database and immutable bytes beside it: the only room that speaks SQL or touches a bucket.

``open_store`` opens both. All changes of rows go through ``store.write()``, which lets one writer at a
time into a store; bytes are put once under their SHA-256 and never change.
"""

from __future__ import annotations

from clew.storage.conditions import Where
from clew.storage.database import Database
from clew.storage.objects import ObjectStore
from clew.storage.rows import Reader, Transaction, link
from clew.storage.store import Store, open_objects, open_store

__all__ = [
    "Database",
    "ObjectStore",
    "Reader",
    "Store",
    "Transaction",
    "Where",
    "link",
    "open_objects",
    "open_store",
]
