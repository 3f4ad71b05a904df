"""Which snapshot somebody means, and the history of a dataset."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, time, timedelta

from clew.datasets.snapshots import get_snapshot, latest_snapshot, list_datasets, list_snapshots
from clew.entities import Snapshot
from clew.errors import NotFound, did_you_mean
from clew.storage import Store


@dataclass(frozen=True, slots=True)
class LogEntry:
    """A snapshot that became the newest of its dataset.

    Attributes
    ----------
    number
        1 for the first. A snapshot that came back has an entry for each time.
    n_bytes, n_new_bytes
        Of its parts in the store, and of those that no earlier entry has.
    """

    number: int
    snapshot: Snapshot
    taken_at: datetime
    source: str
    n_bytes: int
    n_new_bytes: int


def find_snapshot(store: Store, reference: str, dataset: str | None = None) -> Snapshot:
    """The snapshot that words name.

    Parameters
    ----------
    reference
        ``"rides"`` for its newest one, ``"rides@5b1e90"`` for the one whose id begins so,
        ``"rides@2026-03-01"`` for the newest of the end of that day (UTC), ``"rides@2026-03-01T12:00"`` for
        that of a moment; what follows the ``@`` does alone, a date where there is one dataset.
    dataset
        Look in this one only; `reference` is then what would follow the ``@``.

    Raises
    ------
    NotFound
        When there is none, naming what exists.
    """
    name, at, place = reference.partition("@")
    if at:
        return _place_in(store, name, place)
    if dataset is not None:
        return _place_in(store, dataset, reference)
    known = [each.name for each in list_datasets(store)]
    if reference in known:
        return _place_in(store, reference, "")
    moment = _moment(reference)
    if moment is None:
        return get_snapshot(store, reference)
    if len(known) == 1:
        return snapshot_at(store, known[0], moment)
    raise NotFound(
        f"{reference!r} is a time, but of which dataset? Write one of {', '.join(known)} before it:"
        f" {known[0]}@{reference}"
        if known
        else f"There is no snapshot of {reference}: there are none yet."
    )


def _place_in(store: Store, dataset: str, place: str) -> Snapshot:
    known = [each.name for each in list_datasets(store)]
    if dataset not in known:
        raise NotFound(f"There is no dataset {dataset!r}. {did_you_mean(dataset, known)}")
    moment = _moment(place)
    if moment is not None:
        return snapshot_at(store, dataset, moment)
    if place:
        return get_snapshot(store, place, dataset)
    newest = latest_snapshot(store, dataset)
    if newest is None:
        raise NotFound(f"Dataset {dataset!r} has no snapshot yet. Take one with: clew try")
    return newest


def _moment(words: str) -> datetime | None:
    """The time that words say; None for an id, which has no dashes. A day is meant to its end."""
    if "-" not in words:
        return None
    with suppress(ValueError):
        moment = datetime.fromisoformat(words)
        moment = moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment
        is_day = len(words) == len("2026-03-01") and moment.timetz().replace(tzinfo=None) == time()
        return moment + timedelta(days=1, microseconds=-1) if is_day else moment
    return None


def snapshot_at(store: Store, dataset: str, moment: datetime) -> Snapshot:
    """The snapshot that was the newest of a dataset at a moment.

    Raises
    ------
    NotFound
        When none was taken by then.
    """
    with store.read() as reader:
        entries = reader.find("snapshot_log", {"dataset": dataset}, ["sequence"])
    by_then = [entry for entry in entries if entry["taken_at"] <= moment]
    if not by_then:
        first = f"the first was taken {entries[0]['taken_at']:%Y-%m-%d %H:%MZ}" if entries else "it has none"
        raise NotFound(
            f"Dataset {dataset!r} had no snapshot by {moment:%Y-%m-%d %H:%MZ}; {first}."
            f" See: clew data log {dataset}"
        )
    return get_snapshot(store, by_then[-1]["snapshot"], dataset)


def snapshot_log(store: Store, dataset: str) -> list[LogEntry]:
    """The history of a dataset, the newest entry first.

    Raises
    ------
    NotFound
        When there is no such dataset.
    """
    _place_in(store, dataset, "")
    snapshots = {each.id: each for each in list_snapshots(store, dataset)}
    with store.read() as reader:
        rows = reader.find("snapshot_log", {"dataset": dataset}, ["sequence"])
    wanted = {part.object_digest for each in snapshots.values() for part in each.parts}
    sizes = {found.digest: found.n_bytes for found in store.objects.listing() if found.digest in wanted}
    seen: set[str] = set()
    entries = []
    for row in rows:
        snapshot = snapshots[row["snapshot"]]
        parts = {part.object_digest for part in snapshot.parts}
        n_bytes, n_new = (sum(sizes.get(part, 0) for part in some) for some in (parts, parts - seen))
        seen |= parts
        entries.append(LogEntry(row["sequence"], snapshot, row["taken_at"], row["source"], n_bytes, n_new))
    return entries[::-1]
