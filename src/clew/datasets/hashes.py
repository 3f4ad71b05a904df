"""A number for each key, for all keys at once.

Nothing is kept by these numbers, but tables are cut by them: they are part of format 1 and never change,
whatever the machine and the versions of numpy and pyarrow. Tests pin them.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pyarrow as pa

Hashes = npt.NDArray[np.uint64]

_WORD_BYTES = 8


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
