"""Taking a person's rows out of snapshots: parts that hold them are made anew without them.

A snapshot keeps its name, which says what it held when it was taken, and records which rows are gone. All
parts are put first; then one transaction lets every snapshot name the new ones.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from clew.datasets.digest import content_digest
from clew.datasets.parts import encoded, n_rows_of, open_part, read_part
from clew.datasets.snapshots import list_snapshots
from clew.entities import Part, RowRange, Snapshot
from clew.storage import Store, Transaction
from clew.storage.erasures import Erasure, mask
from clew.storage.log_erasing import note_leaving


@dataclass(frozen=True, slots=True)
class PartHit:
    """A part that holds `n_rows` rows of the person."""

    dataset: str
    digest: str
    n_rows: int
    n_bytes: int


@dataclass(slots=True)
class PersonInSnapshots:
    """Where the person is: the parts, and by snapshot the places that its rows had when it was taken."""

    parts: dict[str, PartHit] = field(default_factory=dict)
    places: dict[tuple[str, str], np.ndarray] = field(default_factory=dict)


def keys_in_snapshots(store: Store, erasure: Erasure) -> dict[str, set[Any]]:
    """By dataset the keys of all rows of the entity, in any snapshot."""
    keys: defaultdict[str, set[Any]] = defaultdict(set)
    seen: set[str] = set()
    for dataset in sorted({*erasure.datasets, *erasure.deployments.values()}):
        for snapshot in list_snapshots(store, dataset):
            declaration = snapshot.declaration
            if declaration is None or declaration.entity is None:
                continue
            if declaration.entity not in _names(snapshot):
                continue
            for part in snapshot.parts:
                if part.object_digest not in seen:
                    seen.add(part.object_digest)
                    table = read_part(store.objects, part, [declaration.key, declaration.entity])
                    theirs = table.filter(mask(erasure, [(table[declaration.entity], None)]))
                    keys[dataset] |= set(theirs[declaration.key].to_pylist())
    return dict(keys)


def find_in_snapshots(store: Store, erasure: Erasure) -> PersonInSnapshots:
    """What of the snapshots holds rows of the person; nothing is changed.

    Raises
    ------
    StoreError
        When a part is damaged: what it holds is not known then.
    """
    found, seen = PersonInSnapshots(), dict[str, np.ndarray]()
    for dataset in erasure.datasets:
        for snapshot in list_snapshots(store, dataset):
            places, start = [], 0
            for part in snapshot.parts:
                if part.object_digest not in seen:
                    seen[part.object_digest] = _theirs(store, erasure, snapshot, part)
                theirs = seen[part.object_digest]
                if len(theirs):
                    places.append(theirs + start)
                    n_bytes = store.objects.path(part.object_digest).stat().st_size
                    found.parts[part.object_digest] = PartHit(
                        dataset, part.object_digest, len(theirs), n_bytes
                    )
                start += part.n_rows
            if places:
                then = places_then(snapshot)
                found.places[dataset, snapshot.id] = then[np.concatenate(places)]
    return found


def _names(snapshot: Snapshot) -> list[str | None]:
    return [column.name for column in snapshot.columns]


def _theirs(store: Store, erasure: Erasure, snapshot: Snapshot, part: Part) -> np.ndarray:
    """The places in the part of the person's rows."""
    declaration = snapshot.declaration
    if declaration is None:
        return np.empty(0, np.int64)
    asked: list[tuple[str, str | None]] = [(declaration.key, snapshot.dataset)]
    if declaration.entity in _names(snapshot) and erasure.subject == "entity":
        asked.append((str(declaration.entity), None))
    table = read_part(store.objects, part, [name for name, _ in asked])
    is_theirs = mask(erasure, [(table[name], dataset) for name, dataset in asked])
    return np.flatnonzero(is_theirs.to_numpy())


def places_then(snapshot: Snapshot) -> np.ndarray:
    """Where each row that remains was when the snapshot was taken.

    Examples
    --------
    >>> from datetime import datetime
    >>> at = datetime(2026, 3, 1)
    >>> places_then(Snapshot("rides", "1f", (), (), 3, None, None, at, "", erased=(RowRange(1, 3),)))
    array([0, 3, 4])
    """
    stayed = np.ones(snapshot.n_rows + snapshot.n_erased, bool)
    for gone in snapshot.erased:
        stayed[gone.start : gone.end] = False
    return np.flatnonzero(stayed)


def erase_in_snapshots(store: Store, erasure: Erasure) -> None:
    """Take the person's rows out of every snapshot.

    What took the place of what is written down with the erasure; the old objects are still to be removed.
    """
    found = find_in_snapshots(store, erasure)
    if not found.places:
        return
    made: dict[str, Part | None] = {}
    snapshots = [each for name in erasure.datasets for each in list_snapshots(store, name)]
    for snapshot in snapshots:
        for part in snapshot.parts:
            if part.object_digest in found.parts and part.object_digest not in made:
                made[part.object_digest] = _without(store, erasure, snapshot, part)
    changes = list(_told(found, made))
    with store.write() as tx:
        for snapshot in snapshots:
            theirs = found.places.get((snapshot.dataset, snapshot.id))
            if theirs is not None:
                parts = _name_new_parts(store, tx, snapshot, made, theirs)
                told = {"snapshot": snapshot.id, "n_rows": len(theirs), "holds": digest_of_parts(parts)}
                changes.append({"what": f"snapshot of {snapshot.dataset}"} | told)
        # What is known of the keys names theirs by a hash; without it the keys are read when they are needed.
        runs = [
            run.object_digest
            for snapshot in snapshots
            if (snapshot.dataset, snapshot.id) in found.places and snapshot.keys is not None
            for run in snapshot.keys.runs
        ]
        note_leaving(tx, erasure.number, [*made, *runs], changes)


def digest_of_parts(parts: Sequence[Part]) -> str:
    """Names what parts hold, one after the other."""
    return hashlib.sha256("\n".join(part.content for part in parts).encode()).hexdigest()


def _told(found: PersonInSnapshots, made: Mapping[str, Part | None]) -> Iterator[dict[str, Any]]:
    for digest, hit in found.parts.items():
        part = made[digest]
        new = {"new": part.object_digest, "content": part.content} if part else {"new": None}
        yield {"what": f"part of {hit.dataset}", "old": digest, "n_rows": hit.n_rows} | new


def _without(store: Store, erasure: Erasure, snapshot: Snapshot, part: Part) -> Part | None:
    """The part without the person's rows; None when nothing remains of it."""
    assert snapshot.declaration is not None, "a row in it was told apart"  # noqa: S101
    stays = np.ones(part.n_rows, bool)
    stays[_theirs(store, erasure, snapshot, part)] = False
    with open_part(store.objects, part) as file:
        rows = file.read(use_threads=False).filter(pa.array(stays))
    if not rows.num_rows:
        return None
    return Part(content_digest(rows), store.objects.put(encoded(rows, snapshot.declaration)), rows.num_rows)


def _name_new_parts(
    store: Store, tx: Transaction, snapshot: Snapshot, made: Mapping[str, Part | None], theirs: np.ndarray
) -> list[Part]:
    replaced = [made.get(part.object_digest, part) for part in snapshot.parts]
    parts = [part for part in replaced if part is not None]
    gone = np.zeros(snapshot.n_rows + snapshot.n_erased, bool)
    gone[theirs] = True
    for each in snapshot.erased:
        gone[each.start : each.end] = True
    first, last = _span(store, snapshot, parts)
    changes = {
        "parts": msgspec.to_builtins(parts),
        "n_rows": n_rows_of(parts),
        "first_time": first,
        "last_time": last,
        # Of format 0 they were the parts' own digests, and are no longer.
        "blocks": list(snapshot.blocks),
        "keys": {"is_ascending": True} if snapshot.keys and snapshot.keys.is_ascending else None,
        "erased": msgspec.to_builtins([RowRange(*each) for each in _runs(gone)]),
    }
    tx.update("snapshots", {"dataset": snapshot.dataset, "id": snapshot.id}, changes)
    return parts


def _span(store: Store, snapshot: Snapshot, parts: Sequence[Part]) -> tuple[Any, Any]:
    if not parts or snapshot.declaration is None:
        return snapshot.first_time, snapshot.last_time
    name = snapshot.declaration.time
    times = (read_part(store.objects, part, [name])[name] for part in (parts[0], parts[-1]))
    first, last = (pc.min_max(each).as_py() for each in times)
    return first["min"], last["max"]


def _runs(flags: np.ndarray) -> Iterator[tuple[int, int]]:
    """Runs of true flags.

    Examples
    --------
    >>> list(_runs(np.array([True, True, False, True])))
    [(0, 2), (3, 4)]
    """
    edges = np.flatnonzero(np.diff(np.concatenate([[False], flags, [False]]).astype(np.int8)))
    yield from ((int(start), int(end)) for start, end in edges.reshape(-1, 2))
