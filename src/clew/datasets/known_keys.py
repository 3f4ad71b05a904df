"""Which keys a snapshot has, without reading them.

A key that is appended must be new. Where the keys ascend, the last one tells; else their fingerprints do:
48 bits of each key's hash, sorted and packed, in an object beside the parts. A key whose fingerprint is not
there is new; where one is there, the keys themselves are read.

New keys make a run of their own; runs are merged when the one before is not much longer, so that there
are few of them and each key is written a few times only.
"""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from clew.datasets.hashes import Hashes
from clew.datasets.parts import ROWS_A_BLOCK
from clew.entities import KeyRun, KnownKeys
from clew.errors import NotFound, ObjectDamaged
from clew.storage import Batch, ObjectStore

SMALLEST_INDEX = ROWS_A_BLOCK
"""Of fewer keys the reading costs less than a file."""

Fingerprints: TypeAlias = npt.NDArray[np.int64]

_UNUSED_BITS = np.uint64(16)
# The runs of a window that slides along have keys of rows that went.
_MOST_STALE = 1.5
# Runs are made in memory: a longer one is several.
_LONGEST_RUN = 4_000_000
# A run is merged with new keys when it has at most so many times as many.
_MERGED_BELOW = 2


def fingerprints(hashes: Hashes) -> Fingerprints:
    """What is kept of the keys' hashes, which are sorted."""
    return (hashes >> _UNUSED_BITS).view(np.int64)


def known_keys(
    objects: ObjectStore, batch: Batch, hashes: Hashes, known: KnownKeys | None = None
) -> KnownKeys | None:
    """What is to be noted of a table's keys; None where they are so few that it is not worth it.

    Parameters
    ----------
    hashes
        Of the keys, sorted.
    known
        What is noted of the snapshot before, whose runs are used where they have most of these keys. They
        may then have more: a fingerprint that is there tells nothing for sure.
    """
    if len(hashes) < SMALLEST_INDEX:
        return None
    n_noted = sum(run.n_keys for run in known.runs) if known is not None else 0
    if known is not None and 0 < n_noted < _MOST_STALE * len(hashes) and len(hashes) <= _LONGEST_RUN:
        keys = fingerprints(hashes)
        new = keys[~_are_in(objects, known, keys)]
        if len(new) < len(keys) // 2:
            return with_new(objects, batch, known, new) if len(new) else known
    starts = range(0, len(hashes), _LONGEST_RUN)
    runs = (_kept(batch, fingerprints(hashes[start : start + _LONGEST_RUN])) for start in starts)
    return KnownKeys(is_ascending=False, runs=tuple(runs))


def usable(objects: ObjectStore, known: KnownKeys | None) -> KnownKeys | None:
    """What is noted of keys, if none of it was lost or damaged: it is made again where it was."""
    try:
        for run in known.runs if known is not None else ():
            objects.path(run.object_digest)
    except (NotFound, ObjectDamaged):
        return None
    return known


def may_have(objects: ObjectStore, known: KnownKeys, new: Fingerprints) -> bool:
    """Whether one of the new fingerprints is in the runs."""
    return bool(_are_in(objects, known, new).any())


def _are_in(objects: ObjectStore, known: KnownKeys, keys: Fingerprints) -> npt.NDArray[np.bool_]:
    found = np.zeros(len(keys), bool)
    for run in known.runs:
        there = _read(objects, run)
        places = np.minimum(np.searchsorted(there, keys), len(there) - 1)
        found |= there[places] == keys
    return found


def with_new(objects: ObjectStore, batch: Batch, known: KnownKeys, new: Fingerprints) -> KnownKeys:
    """The runs with keys that none of them has."""
    runs = list(known.runs)
    while runs and runs[-1].n_keys <= min(_MERGED_BELOW * len(new), _LONGEST_RUN):
        new = np.sort(np.concatenate([_read(objects, runs.pop()), new]))
    return KnownKeys(is_ascending=False, runs=(*runs, _kept(batch, new)))


def _kept(batch: Batch, keys: Fingerprints) -> KeyRun:
    # Sorted numbers lie near each other, so that of each little more than the distance is written.
    sink = pa.BufferOutputStream()
    how = {"fingerprint": "DELTA_BINARY_PACKED"}
    table = pa.table({"fingerprint": keys})
    pq.write_table(table, sink, use_dictionary=False, column_encoding=how, write_statistics=False)
    return KeyRun(batch.put(sink.getvalue()), len(keys))


def _read(objects: ObjectStore, run: KeyRun) -> Fingerprints:
    with pq.ParquetFile(objects.path(run.object_digest), memory_map=True) as file:
        keys: Fingerprints = file.read(use_threads=False).column(0).to_numpy()
    return keys
