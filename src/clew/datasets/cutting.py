"""Where a table is cut into parts: before rows that its content picks, whatever their position.

A part begins before a row whose key has a greater hash than the `reach` rows before it and the `reach`
rows after it, so that on average every 2 × reach + 1 rows one does. Whether a row is such a peak depends on
its neighbours alone: rows that are added, dropped or changed somewhere move no cut elsewhere. A part has
more than `reach` rows, unless it is the last one, and at most 8 × reach.

The key is what is hashed, since `prepare` promises that it is there and unique: a hash of it has no ties,
and rows that are corrected keep their place among their neighbours.

The hash and the rule are part of format 1 and never change: tests pin them.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from clew.entities import Cuts, Part

Hashes = npt.NDArray[np.uint64]

PARTS_AT_FIRST = 64
# Below this a part costs more as a file and a row on record than its bytes are worth.
SMALLEST_REACH = 4096
LONGEST = 8
# A table that has grown so far is cut anew, once, so that its snapshots do not list parts without end.
MOST_PARTS = 1024

_WORD_BYTES = 8


def cuts_for(n_rows: int, key: str, recorded: Cuts | None) -> Cuts:
    """How a table is cut: as its dataset's snapshots are, while that gives no more than about 1,024 parts.

    Examples
    --------
    >>> cuts_for(1_000_000, "id", None)
    Cuts(column='id', reach=7812)
    >>> cuts_for(8_000_000, "id", Cuts("id", 7812))
    Cuts(column='id', reach=7812)
    >>> cuts_for(20_000_000, "id", Cuts("id", 7812))
    Cuts(column='id', reach=156250)
    """
    if recorded is not None and recorded.column == key and n_rows <= MOST_PARTS * 2 * recorded.reach:
        return recorded
    return Cuts(key, max(SMALLEST_REACH, n_rows // (2 * PARTS_AT_FIRST)))


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


# -- hashing -------------------------------------------------------------------------------------------


def key_hashes(keys: pa.ChunkedArray) -> Hashes:
    """A number for each key, spread evenly over 64 bits: the same on every machine.

    Whole numbers, dates and instants are taken as the number that Arrow keeps, text as its UTF-8 bytes.
    """
    hashed = [_text_hashes(c) if pa.types.is_string(c.type) else _number_hashes(c) for c in keys.chunks]
    return np.concatenate([np.empty(0, np.uint64), *hashed])


def _number_hashes(keys: pa.Array) -> Hashes:
    if pa.types.is_date32(keys.type):
        keys = keys.cast(pa.int32())
    return _mixed(keys.cast(pa.int64()).to_numpy().view(np.uint64))


def _text_hashes(keys: pa.Array) -> Hashes:
    """Eight bytes at a time for all keys at once, the last ones filled up with zeros."""
    _, offsets, content = keys.buffers()
    ends = np.frombuffer(offsets, "<i4")[keys.offset : keys.offset + len(keys) + 1].astype(np.int64)
    lengths = np.diff(ends)
    hashes = _mixed(lengths.view(np.uint64))
    if not len(keys) or ends[0] == ends[-1]:
        return hashes
    spoken = np.frombuffer(content, np.uint8)[ends[0] : ends[-1]]
    padded = np.concatenate([spoken, np.zeros(_WORD_BYTES, np.uint8)])
    words = np.ndarray((len(spoken) + 1,), "<u8", padded, strides=(1,))
    starts = ends[:-1] - ends[0]
    longer = np.flatnonzero(lengths)
    position = 0
    while len(longer):
        n_bytes = np.minimum(lengths[longer] - position, _WORD_BYTES)
        unused_bits = ((_WORD_BYTES - n_bytes) * 8).view(np.uint64)
        word = words[starts[longer] + position].astype(np.uint64) << unused_bits >> unused_bits
        hashes[longer] = _mixed(hashes[longer] ^ word)
        position += _WORD_BYTES
        longer = longer[lengths[longer] > position]
    return hashes


def _mixed(numbers: Hashes) -> Hashes:
    """The step of SplitMix64 (Steele, Lea, Flood 2014): one to one, and each bit hangs on all of them."""
    mixed = numbers + np.uint64(0x9E3779B97F4A7C15)
    mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    hashed: Hashes = mixed ^ (mixed >> np.uint64(31))
    return hashed
