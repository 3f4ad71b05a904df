"""Where a table is cut into parts: before rows that its content picks, whatever their position.

A part begins before a row whose key has a greater hash than the `reach` rows before it and the `reach`
rows after it, so that on average every 2 × reach + 1 rows one does. Whether a row is such a peak depends on
its neighbours alone: rows that are added, dropped or changed somewhere move no cut elsewhere. A part has
more than `reach` rows, unless it is the last one, and at most 8 × reach.

The key is what is hashed, since `prepare` promises that it is there and unique: a hash of it has no ties,
and rows that are corrected keep their place among their neighbours.

The rule is part of format 1 and never changes: tests pin it.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate

import numpy as np

from clew.datasets.hashes import Hashes
from clew.entities import Cuts, Part

PARTS_AT_FIRST = 64
# Below this a part costs more as a file and a row on record than its bytes are worth.
SMALLEST_REACH = 4096
LONGEST = 8
# Parts of a large table are made in memory, several at a time.
LARGEST_REACH = 2**17
# So many times `reach` hashes are looked at together, however long the table.
_WINDOW = 24
# A table that has grown so far is cut anew, once, so that its snapshots do not list parts without end.
MOST_PARTS = 1024


def cuts_for(n_rows: int, key: str, recorded: Cuts | None) -> Cuts:
    """How a table is cut: as its dataset's snapshots are, while that gives no more than about 1,024 parts.

    Examples
    --------
    >>> cuts_for(1_000_000, "id", None)
    Cuts(column='id', reach=7812)
    >>> cuts_for(8_000_000, "id", Cuts("id", 7812))
    Cuts(column='id', reach=7812)
    >>> cuts_for(20_000_000, "id", Cuts("id", 7812))
    Cuts(column='id', reach=131072)
    """
    if recorded is not None and recorded.column == key and n_rows <= MOST_PARTS * 2 * recorded.reach:
        return recorded
    reach = min(n_rows // (2 * PARTS_AT_FIRST), LARGEST_REACH)
    return Cuts(key, max(reach, SMALLEST_REACH, n_rows // MOST_PARTS))


def part_sizes(hashes: Hashes, reach: int) -> list[int]:
    """How many rows each part has.

    Parameters
    ----------
    hashes
        Of the rows' keys, in order. The first row is the table's first or begins a part of it: rows
        before a part have no say in the parts from there on.
    reach
        How many rows on either side a peak has to be above, at least 1.
    """
    sizes: list[int] = []
    start, length = 0, _WINDOW * reach
    while start + length < len(hashes):
        found = _part_sizes(hashes[start : start + length], reach)
        # Whether a part ends here is decided by rows as far as this behind it.
        n_sure = sum(end + reach < length for end in accumulate(found))
        sizes += found[:n_sure]
        start += sum(found[:n_sure])
    return sizes + _part_sizes(hashes[start:], reach)


def _part_sizes(hashes: Hashes, reach: int) -> list[int]:
    starts, end = [0], len(hashes)
    for peak in [*_peaks(hashes, reach), end]:
        while peak - starts[-1] > LONGEST * reach:
            starts.append(starts[-1] + LONGEST * reach)
        # After a cut that was forced a peak may be near; its neighbours then lie in two parts.
        if peak < end and peak - starts[-1] > reach:
            starts.append(peak)
    return [after - start for start, after in zip(starts, [*starts[1:], end], strict=True) if after > start]


def parts_that_stay(parts: Sequence[Part], n_same: int, reach: int) -> tuple[Part, ...]:
    """The leading parts that a table has too when its first `n_same` rows are those of these parts."""
    end = 0
    for n_parts, part in enumerate(parts):
        end += part.n_rows
        # Whether a part ends here is decided by rows as far as this behind it.
        if end + reach >= n_same:
            return tuple(parts[:n_parts])
    return tuple(parts)


def _peaks(hashes: Hashes, reach: int) -> list[int]:
    """Rows above all of the `reach` before and the `reach` after them; rows near the ends are not asked."""
    if len(hashes) < 2 * reach + 1:
        return []
    highest = _highest(hashes, reach)
    middle = hashes[reach : len(hashes) - reach]
    is_peak = (middle > highest[: len(middle)]) & (middle > highest[reach + 1 :])
    return (np.flatnonzero(is_peak) + reach).tolist()


def _highest(hashes: Hashes, length: int) -> Hashes:
    """The greatest of each `length` neighbouring hashes.

    Any window spans the end of one block and the beginning of the next (van Herk 1992), so two passes
    do, however long the windows are.
    """
    n_windows = len(hashes) - length + 1
    blocks = np.pad(hashes, (0, -len(hashes) % length)).reshape(-1, length)
    to_the_end = np.maximum.accumulate(blocks[:, ::-1], axis=1)[:, ::-1].ravel()
    from_the_start = np.maximum.accumulate(blocks, axis=1).ravel()
    return np.maximum(to_the_end[:n_windows], from_the_start[length - 1 : length - 1 + n_windows])
