"""How a table becomes parts in the store: what is there already is neither looked at nor written again."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import datetime
from itertools import takewhile

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from clew.datasets.cutting import cuts_for, parts_that_stay
from clew.datasets.digest import content_digest
from clew.datasets.hashes import key_hashes
from clew.datasets.known_keys import fingerprints, known_keys, may_have, usable, with_new
from clew.datasets.lookup import read_rows
from clew.datasets.parts import (
    ROWS_A_BLOCK,
    PartStore,
    are_same,
    at_once,
    block_digests,
    blocks_of,
    n_rows_of,
    n_same_rows,
)
from clew.datasets.schema import Shaped, in_order, is_ascending, refuse_known_keys
from clew.entities import Column, Cuts, DatasetDeclaration, KnownKeys, Part, RowRange, Snapshot
from clew.storage import Batch, ObjectStore, Store

Find = Callable[[tuple[str, ...]], Snapshot | None]
"""The snapshot with these blocks, if it is on record and whole."""


@dataclass(frozen=True, slots=True)
class Kept:
    """A table as it is kept."""

    parts: tuple[Part, ...]
    blocks: tuple[str, ...]
    cuts: Cuts | None
    first_time: datetime | None
    last_time: datetime | None
    keys: KnownKeys | None


def keep(
    store: Store,
    shaped: Shaped,
    declaration: DatasetDeclaration,
    newest: Snapshot | None,
    find: Find,
    at_hand: pa.Table | None = None,
) -> Kept:
    """Store what is not there yet of a whole table.

    `at_hand` are the rows of the newest snapshot, for who has them in memory: what a table has in common
    with them need not be hashed.

    Raises
    ------
    DataError
        When a key is on several rows.
    """
    rows = shaped.rows
    blocks, n_same = _compared(rows, newest, at_hand)
    there = find(blocks)
    if there is not None:
        return Kept(there.parts, blocks, there.cuts, there.first_time, there.last_time, there.keys)
    if newest is not None and n_same == newest.n_rows < rows.num_rows:
        new_rows = replace(shaped, rows=rows.slice(n_same))
        longer = _Longer(store, newest, declaration, new_rows, n_same, rows.slice, blocks)
        if goes_on(newest, declaration, shaped.columns, new_rows.rows.num_rows) and longer.is_surely_new():
            return longer.keep()
    hashes = shaped.hashes()
    sorted_hashes = shaped.sorted_hashes(hashes)
    shaped.refuse_twins(sorted_hashes)
    cuts = cuts_for(rows.num_rows, declaration.key, newest.cuts if newest else None)
    staying: tuple[Part, ...] = ()
    if newest is not None and newest.cuts == cuts:
        staying = _staying(store.objects, newest, n_same, cuts)
    n_staying = n_rows_of(staying)
    ascends = is_ascending(rows[declaration.key])
    with store.objects.batch() as batch, ThreadPoolExecutor(1) as beside:
        before = usable(store.objects, newest.keys) if newest else None
        keys = beside.submit(known_keys, store.objects, batch, sorted_hashes, before) if not ascends else None
        parts = PartStore(store.objects, batch, declaration, newest.parts if newest else ())
        added = parts.store(rows.slice(n_staying), hashes[n_staying:], cuts)
        known = keys.result() if keys is not None else KnownKeys(is_ascending=True)
    times = rows[declaration.time]
    return Kept((*staying, *added), blocks, cuts, times[0].as_py(), times[-1].as_py(), known)


def keep_longer(store: Store, newest: Snapshot, shaped: Shaped, declaration: DatasetDeclaration) -> Kept:
    """Store what changes when rows join the newest snapshot.

    Raises
    ------
    DataError
        When a key is on several rows, or there already.
    """
    rows = shaped.rows
    n_before = _n_rows_before(store, newest, declaration.time, rows[declaration.time][0])

    def tail_from(first: int) -> pa.Table:
        older = read_rows(store, newest, RowRange(min(first, newest.n_rows), newest.n_rows))
        tail = pa.concat_tables([older, rows])
        return tail if n_before == newest.n_rows else in_order(tail, declaration)

    longer = _Longer(store, newest, declaration, shaped, n_before, tail_from)
    longer.refuse_twins()
    if not longer.is_surely_new():
        older = read_rows(store, newest, columns=[declaration.key]).column(0)
        refuse_known_keys(rows[declaration.key], older, declaration.key)
        longer.older_keys = older
    return longer.keep()


def goes_on(
    newest: Snapshot, declaration: DatasetDeclaration, columns: tuple[Column, ...], n_added: int
) -> bool:
    """Whether with so many more rows the columns, the order and the cuts stay what they are."""
    before = newest.declaration
    same_order = before is not None and (before.time, before.key) == (declaration.time, declaration.key)
    cuts = cuts_for(newest.n_rows + n_added, declaration.key, newest.cuts)
    return same_order and (newest.columns, newest.cuts) == (columns, cuts)


class _Longer:
    """The newest snapshot with new rows.

    Parameters
    ----------
    n_before
        How many of the older rows lie before the first new one.
    tail_from
        Gives the rows of old and new together, in order, from a row on that is no later than `n_before`.
    blocks
        Of all rows, when they are known.
    """

    def __init__(
        self,
        store: Store,
        newest: Snapshot,
        declaration: DatasetDeclaration,
        added: Shaped,
        n_before: int,
        tail_from: Callable[[int], pa.Table],
        blocks: tuple[str, ...] | None = None,
    ) -> None:
        self.added = added
        self.older_keys: pa.ChunkedArray | None = None
        self._store, self._newest, self._declaration = store, newest, declaration
        self._known = usable(store.objects, newest.keys)
        self._cuts = cuts_for(newest.n_rows + added.rows.num_rows, declaration.key, newest.cuts)
        self._staying = _staying(store.objects, newest, n_before, self._cuts)
        self._n_before, self._n_blocks = n_before, n_before // ROWS_A_BLOCK
        self._n_staying = n_rows_of(self._staying)
        n_known = self._n_staying if blocks is not None else self._n_blocks * ROWS_A_BLOCK
        self._first, self._blocks = min(self._n_staying, n_known), blocks
        self._tail = tail_from(self._first)
        self._hashes = added.sorted_hashes(added.hashes())

    def refuse_twins(self) -> None:
        """Refuse new keys that are on several of the new rows."""
        self.added.refuse_twins(self._hashes)

    def is_surely_new(self) -> bool:
        """Whether it is seen at a glance that each new key is new, and that none comes twice."""
        known = self._known
        if known is None:
            return False
        if known.is_ascending:
            return self._follows()
        new = fingerprints(self._hashes)
        has_twins = bool((new[1:] == new[:-1]).any())
        return not has_twins and not may_have(self._store.objects, known, new)

    def keep(self) -> Kept:
        """Store what changes; the keys are known to be new."""
        declaration, newest, objects = self._declaration, self._newest, self._store.objects
        changed = self._tail.slice(self._n_staying - self._first)
        hashes = key_hashes(changed[declaration.key])
        with objects.batch() as batch, ThreadPoolExecutor(2) as beside:
            blocks, keys = beside.submit(self._all_blocks), beside.submit(self._keys, batch)
            parts = PartStore(objects, batch, declaration, newest.parts)
            added = parts.store(changed, hashes, self._cuts)
            kept = (*self._staying, *added), blocks.result(), self._cuts
            known = keys.result()
        times = self._tail[declaration.time]
        first_time = newest.first_time if self._n_before else times[0].as_py()
        return Kept(*kept, first_time, times[-1].as_py(), known)

    def _all_blocks(self) -> tuple[str, ...]:
        if self._blocks is not None:
            return self._blocks
        changed = self._tail.slice(self._n_blocks * ROWS_A_BLOCK - self._first)
        return (*self._newest.blocks[: self._n_blocks], *block_digests(changed))

    def _keys(self, batch: Batch) -> KnownKeys | None:
        known = self._known
        if known is not None and known.runs:
            return with_new(self._store.objects, batch, known, fingerprints(self._hashes))
        if self.older_keys is None:
            return known
        hashes = np.sort(np.concatenate([key_hashes(self.older_keys), self._hashes]))
        return known_keys(self._store.objects, batch, hashes)

    def _follows(self) -> bool:
        """Whether the new keys are above all older ones, of which the last is the greatest."""
        keys, added = self._tail[self._declaration.key], self.added.rows[self._declaration.key]
        n_older = len(keys) - len(added)
        return n_older > 0 and is_ascending(keys) and bool(pc.equal(keys[n_older], added[0]).as_py())


def _compared(
    rows: pa.Table, newest: Snapshot | None, at_hand: pa.Table | None
) -> tuple[tuple[str, ...], int]:
    """The blocks of a table, and how many leading rows it has in common with the newest snapshot at least."""
    if newest is not None and at_hand is not None and are_same(at_hand, rows.slice(0, newest.n_rows)):
        n_blocks = newest.n_rows // ROWS_A_BLOCK
        changed = block_digests(rows.slice(n_blocks * ROWS_A_BLOCK))
        return (*newest.blocks[:n_blocks], *changed), newest.n_rows
    pieces = blocks_of(rows)
    if newest is None or not newest.n_rows or newest.n_rows > rows.num_rows:
        blocks = at_once(content_digest, pieces)
        return blocks, n_same_rows(blocks, newest.blocks) if newest is not None else 0
    start = (len(newest.blocks) - 1) * ROWS_A_BLOCK
    # The last block of the older table, as it stands in this one.
    *found, last = at_once(content_digest, [*pieces, rows.slice(start, newest.n_rows - start)])
    if (*found[: len(newest.blocks) - 1], last) == newest.blocks:
        return tuple(found), newest.n_rows
    return tuple(found), n_same_rows(found, newest.blocks)


def _staying(objects: ObjectStore, newest: Snapshot, n_same: int, cuts: Cuts) -> tuple[Part, ...]:
    """The leading parts that need neither be cut nor looked at again, up to one that was lost."""
    same = parts_that_stay(newest.parts, n_same, cuts.reach)
    return tuple(takewhile(lambda part: objects.exists(part.object_digest), same))


def _n_rows_before(store: Store, snapshot: Snapshot, column: str, time: pa.Scalar) -> int:
    """How many rows are older than this time."""
    if snapshot.last_time is not None and snapshot.last_time < time.as_py():
        return snapshot.n_rows
    times = read_rows(store, snapshot, columns=[column]).column(0)
    return int(pc.sum(pc.less(times, time)).as_py())
