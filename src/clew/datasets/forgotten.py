"""Rows that were erased do not come back with the next snapshot, although their source may have them."""

from __future__ import annotations

from collections.abc import Sequence

import pyarrow as pa
import pyarrow.compute as pc

from clew.errors import DataError
from clew.storage.erasures import Erasure, mask


def without_erased(rows: pa.Table, erasures: Sequence[Erasure], dataset: str, key: str) -> pa.Table:
    """The rows of a table but those with a key that was erased.

    Raises
    ------
    DataError
        When no other row is there.
    """
    for erasure in erasures:
        is_theirs = mask(erasure, [(rows[key], dataset)])
        if pc.any(is_theirs).as_py():
            rows = rows.filter(pc.invert(is_theirs))
    if not rows.num_rows:
        raise DataError(f"Every row of {dataset!r} was erased, so there is nothing to keep.")
    return rows
