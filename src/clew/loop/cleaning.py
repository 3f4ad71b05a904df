"""What of a store nobody needs any more, and its removal: by reference, never by age.

Needed is what a row names, and what a needed list of files or the state of a loop names. Objects go in two
steps: first they are set aside, where every read still finds and brings them back, and a day later for good.
So a process that stored or found an object and has not yet written the row that names it loses nothing, on
whichever machine it runs. Killed anywhere, a cleaning leaves things that the next one finds again.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence, Set
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Literal, TypeAlias

from clew.datasets.folder_checkout import unneeded_checkouts
from clew.errors import StoreBusy
from clew.loop.jobs import LEASE
from clew.loop.live.checkpoints import digests_in_states, superseded_states
from clew.registry import record_audit
from clew.storage import Reader, Store, Transaction, Where
from clew.storage.garbage import kind_of, named_in_row, named_in_rows, with_their_files
from clew.storage.locks import leftovers, remove_unclaimed
from clew.storage.objects import StoredObject
from clew.tracking import is_alive, this_owner

Act: TypeAlias = Literal["remove", "set aside"]

KEPT_ASIDE = timedelta(days=1)
"""How long an object that was set aside can be brought back: longer than anybody takes from storing it to
writing the row that names it. A snapshot that was just taken is spared as long."""

UNNAMED = "no row names them, and no list of files that is needed"

_AT_ONCE = 500


@dataclass(frozen=True, slots=True)
class Garbage:
    """Things of one kind that nobody needs.

    Attributes
    ----------
    act
        What is done with them.
    things
        The bytes of each, by digest of objects, ``dataset/id`` of snapshots, path of files below the store.
    """

    kind: str
    act: Act
    why: str
    things: Mapping[str, int]

    @property
    def n_bytes(self) -> int:
        return sum(self.things.values())


@dataclass(frozen=True, slots=True)
class _Kept:
    """Where snapshots of a kind stand: their rows, their order, and how the thread calls them."""

    kind: str
    table: str
    log: str
    node: str


_SNAPSHOTS = (
    _Kept("snapshot", "snapshots", "snapshot_log", "snapshot"),
    _Kept("snapshot of a folder", "folder_snapshots", "folder_log", "folder"),
)


@dataclass(frozen=True, slots=True)
class _Survey:
    """The objects of a store: those in their places, those set aside, and the digests that are needed."""

    placed: Mapping[str, StoredObject]
    aside: Mapping[str, StoredObject]
    needed: Set[str]


def find_garbage(store: Store, *, wall: datetime, kept_aside: timedelta = KEPT_ASIDE) -> list[Garbage]:
    """What may go, by kind.

    Parameters
    ----------
    wall
        The machine's own time, by which files and buckets go.
    kept_aside
        How long what is set aside is kept. Nothing, when nobody else uses the store: then objects are removed
        at once.
    """
    states = digests_in_states(store)
    snapshots = _unneeded_snapshots(store, states, wall - kept_aside)
    survey = _survey(store, states, snapshots)
    return [*_of_snapshots(snapshots), *_of_objects(store, survey, wall, kept_aside), *_of_files(store, wall)]


def clean(
    store: Store, *, actor: str, now: datetime, wall: datetime, kept_aside: timedelta = KEPT_ASIDE
) -> list[Garbage]:
    """Remove what may go, each step behind its audit row; returns what was done.

    `now` is the store's own time, which may be a replay's.

    Raises
    ------
    StoreBusy
        While another cleaning is at it.
    """
    with _alone(store, wall):
        return _merged(_clean(store, actor, now, wall, kept_aside))


@contextmanager
def _alone(store: Store, wall: datetime) -> Iterator[None]:
    """Let one cleaning in at a time: what one has just set aside, another might take for long forgotten."""
    mine = {"key": "cleaning", "value": f"{this_owner()} {wall.isoformat()}"}
    with store.write() as tx:
        held = tx.get("meta", key="cleaning")
        owner, _, since = held["value"].partition(" ") if held else ("", "", "")
        if held and is_alive(owner) and wall < datetime.fromisoformat(since) + LEASE:
            raise StoreBusy(
                f"Process {owner} has been cleaning this store since {since[:16]}. Wait for it, or end it."
            )
        tx.delete("meta", {"key": "cleaning"})
        tx.insert("meta", mine)
    try:
        yield
    finally:
        with store.write() as tx:
            tx.delete("meta", mine)


def _clean(store: Store, actor: str, now: datetime, wall: datetime, kept_aside: timedelta) -> list[Garbage]:
    states = digests_in_states(store)
    done = []
    for garbage in _of_snapshots(_unneeded_snapshots(store, states, wall - kept_aside)):
        with store.write() as tx:
            removed = [name for name in garbage.things if _remove_snapshot(tx, garbage.kind, name)]
            if removed:
                done += [_told(tx, garbage, removed, actor, now)]
    survey = _survey(store, states, {})
    for digest in survey.needed & survey.aside.keys() - survey.placed.keys():
        store.objects.bring_back(digest)
        store.objects.drop(digest)  # of a bucket a copy stays aside
    for garbage in _of_objects(store, survey, wall, kept_aside):
        for batch in _batches(garbage):
            with store.write() as tx:
                done += [_told(tx, garbage, batch, actor, now)]
            for digest in batch:
                _take_away(store, survey, digest, is_for_good=garbage.act == "remove")
    for garbage in _of_files(store, wall):
        with store.write() as tx:
            done += [_told(tx, garbage, garbage.things, actor, now)]
        for name in garbage.things:
            remove_unclaimed(store.folder / name)
    return done


def _merged(parts: Sequence[Garbage]) -> list[Garbage]:
    """One for each kind, of the parts that were dealt with one after the other."""
    things: dict[tuple[str, Act, str], dict[str, int]] = {}
    for part in parts:
        things.setdefault((part.kind, part.act, part.why), {}).update(part.things)
    return [Garbage(*about, found) for about, found in things.items()]


def _told(tx: Transaction, garbage: Garbage, names: Collection[str], actor: str, now: datetime) -> Garbage:
    """The part of it that is dealt with now, once the audit log says so."""
    part = Garbage(garbage.kind, garbage.act, garbage.why, {name: garbage.things[name] for name in names})
    evidence = {"kind": part.kind, "n": len(part.things), "n_bytes": part.n_bytes, "names": [*part.things]}
    about = {"actor": actor, "action": f"{part.act} garbage", "subject": "store", "reason": part.why}
    record_audit(tx, now=now, evidence=evidence, **about)
    return part


def _batches(garbage: Garbage) -> Iterator[list[str]]:
    """Few enough names that an audit row can hold them."""
    names = list(garbage.things)
    yield from (names[first : first + _AT_ONCE] for first in range(0, len(names), _AT_ONCE))


# -- snapshots -------------------------------------------------------------------------------------------


def _unneeded_snapshots(store: Store, states: Set[str], before: datetime) -> dict[_Kept, list[str]]:
    """Snapshots that nothing names, that are not the newest of their dataset and were taken before then."""
    with store.read() as reader:
        # What a snapshot itself was made by is no need of it.
        edges = {"edges": {"from_kind": Where("!=", "snapshot")}}
        without = [table for kept in _SNAPSHOTS for table in (kept.table, kept.log)]
        named = states | named_in_rows(reader, edges, without=without)
        return {kept: _unneeded_of(reader, kept, named, before) for kept in _SNAPSHOTS}


def _unneeded_of(reader: Reader, kept: _Kept, named: Set[str], before: datetime) -> list[str]:
    taken = {(row["dataset"], row["id"]): row["taken_at"] for row in reader.find(kept.table)}
    known, newest = list(taken), {}
    for row in reader.find(kept.log):
        newest[row["dataset"]] = row["snapshot"]
        taken[row["dataset"], row["snapshot"]] = row["taken_at"]
    return [
        f"{dataset}/{identity}"
        for dataset, identity in known
        if identity not in named and newest.get(dataset) != identity and taken[dataset, identity] < before
    ]


def _of_snapshots(snapshots: Mapping[_Kept, Collection[str]]) -> list[Garbage]:
    why = "no run, version or loop used them, and their datasets have newer ones"
    return [
        Garbage(kept.kind, "remove", why, dict.fromkeys(names, 0))
        for kept, names in snapshots.items()
        if names
    ]


def _remove_snapshot(tx: Transaction, kind: str, name: str) -> bool:
    """Remove it unless it came to be needed since it was looked at; True when it was removed."""
    kept = next(each for each in _SNAPSHOTS if each.kind == kind)
    dataset, _, identity = name.rpartition("/")
    newest = tx.find(kept.log, {"dataset": dataset}, ["-sequence"], limit=1)
    is_newest = bool(newest) and newest[0]["snapshot"] == identity
    if is_newest or tx.count("edges", {"to_kind": kept.node, "to_id": identity}):
        return False
    tx.delete(kept.log, {"dataset": dataset, "snapshot": identity})
    tx.delete("edges", {"from_kind": kept.node, "from_id": identity})
    return tx.delete(kept.table, {"dataset": dataset, "id": identity}) == 1


# -- objects ---------------------------------------------------------------------------------------------


def _survey(store: Store, states: Set[str], without: Mapping[_Kept, Collection[str]]) -> _Survey:
    """Look at objects first and at rows then: what is stored in between is not yet looked at.

    Parameters
    ----------
    without
        Snapshots that are about to go.
    """
    placed = {each.digest: each for each in store.objects.listing()}
    aside = {each.digest: each for each in store.objects.listing(aside=True)}
    with store.read() as reader:
        named = states | _named(reader, without)
        needed = with_their_files(store.objects, reader, named, placed.keys() | aside.keys())
    return _Survey(placed, aside, needed)


def _named(reader: Reader, without: Mapping[_Kept, Collection[str]]) -> set[str]:
    going = {kept: set(names) for kept, names in without.items() if names}
    named = named_in_rows(reader, without=[kept.table for kept in going])
    for kept, gone in going.items():
        for row in reader.find(kept.table):
            if f"{row['dataset']}/{row['id']}" not in gone:
                named |= named_in_row(reader, kept.table, dataset=row["dataset"], id=row["id"])
    return named


def _of_objects(store: Store, survey: _Survey, wall: datetime, kept_aside: timedelta) -> list[Garbage]:
    unneeded = survey.placed.keys() - survey.needed
    by_kind: defaultdict[str, dict[str, int]] = defaultdict(dict)
    for digest in sorted(unneeded):
        kind = kind_of(store.objects.start_of(digest, 16)) if survey.placed[digest].n_bytes else "file"
        by_kind[kind][digest] = survey.placed[digest].n_bytes
    act: Act = "set aside" if kept_aside else "remove"
    found = [Garbage(kind, act, UNNAMED, things) for kind, things in sorted(by_kind.items())]
    old, twice = {}, {}
    for digest, each in sorted(survey.aside.items()):
        if digest in survey.needed and digest in survey.placed:
            twice[digest] = each.n_bytes
        elif digest not in survey.needed | unneeded and each.since <= wall - kept_aside:
            old[digest] = each.n_bytes
    if old:
        found.append(Garbage("object set aside", "remove", "nothing came to name them since", old))
    if twice:
        found.append(Garbage("copy set aside", "remove", "they are back in their places", twice))
    return found


def _take_away(store: Store, survey: _Survey, digest: str, *, is_for_good: bool) -> None:
    if digest in survey.placed and digest not in survey.needed:
        store.objects.set_aside(digest)
    if is_for_good:
        store.objects.drop(digest)


# -- files -----------------------------------------------------------------------------------------------


def _of_files(store: Store, wall: datetime) -> list[Garbage]:
    states = superseded_states(store, wall - KEPT_ASIDE)
    scratch = leftovers(store.folder / "tmp")
    checkouts = unneeded_checkouts(store)
    found = [
        Garbage("state of a loop", "remove", "a newer one took their place", _sizes(store, states)),
        Garbage("scratch", "remove", "the process that made them has ended", _sizes(store, scratch)),
        Garbage(
            "files of a folder", "remove", "laid out for trainings that are over", _sizes(store, checkouts)
        ),
    ]
    return [each for each in found if each.things]


def _sizes(store: Store, paths: Collection[Path]) -> dict[str, int]:
    return {path.relative_to(store.folder).as_posix(): _size(path) for path in paths}


def _size(path: Path) -> int:
    files = [path] if path.is_file() else [each for each in path.rglob("*") if each.is_file()]
    return sum(each.stat().st_size for each in files)
