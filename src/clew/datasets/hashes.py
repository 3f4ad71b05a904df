"""A number for each key, for all keys at once.

Tables are cut by these numbers, and keys are known again by them: they are part of format 1 and never
change, whatever the machine and the versions of numpy and pyarrow. Tests pin them.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pyarrow as pa

Hashes = npt.NDArray[np.uint64]

_WORD_BYTES = 8
# So many rows at a time stay in the processor's cache.
_ROWS_AT_ONCE = 16_384


def key_hashes(keys: pa.ChunkedArray, into: Hashes | None = None) -> Hashes:
    """A number for each key, spread evenly over 64 bits: the same on every machine.

    Whole numbers, dates and instants are taken as the number that Arrow keeps, text as its UTF-8 bytes.
    `into` is where to put them, when that is not to be memory.
    """
    hashes = np.empty(len(keys), np.uint64) if into is None else into
    start = 0
    for chunk in keys.chunks:
        for first in range(0, len(chunk), _ROWS_AT_ONCE):
            piece = chunk.slice(first, _ROWS_AT_ONCE)
            hashed = _text_hashes(piece) if pa.types.is_string(piece.type) else _number_hashes(piece)
            hashes[start : start + len(piece)] = hashed
            start += len(piece)
    return hashes


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
    if (lengths == lengths[0]).all() and not lengths[0] % _WORD_BYTES:
        for words in spoken.view("<u8").reshape(len(keys), -1).T:
            hashes = _mixed(hashes ^ words)
        return hashes
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
    mixed ^= mixed >> np.uint64(30)
    mixed *= np.uint64(0xBF58476D1CE4E5B9)
    mixed ^= mixed >> np.uint64(27)
    mixed *= np.uint64(0x94D049BB133111EB)
    mixed ^= mixed >> np.uint64(31)
    return mixed
