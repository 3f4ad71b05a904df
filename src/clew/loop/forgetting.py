"""Forgetting a person: what a store holds of them, and its erasure, once and for all.

First the erasure is written down, by hashes that name nobody; then snapshots, log and loops lose the person,
each in steps that are whole or not done; at last a row of the audit log says what took the place of what.
Killed anywhere, the same command goes on where it was.
"""

from __future__ import annotations

import secrets
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal, TypeAlias

import msgspec
import numpy as np
import pyarrow.parquet as pq

from clew.datasets import list_datasets, read_source
from clew.datasets.erasing import (
    PersonInSnapshots,
    erase_in_snapshots,
    find_in_snapshots,
    keys_in_snapshots,
)
from clew.entities import DatasetDeclaration, ModelDeclaration
from clew.errors import DataError, NotFound, StoreBusy, UsageError, did_you_mean
from clew.loop.cleaning import alone_in_store
from clew.loop.live.checkpoints import behind_erasures
from clew.loop.live.forgetting import forget_in_checkpoint, n_rows_in_checkpoint
from clew.registry import record_audit
from clew.storage import Reader, Store
from clew.storage.erasures import Erasure, Stage, Subject, mask, read_erasures, salted_hash, text_of
from clew.storage.log_erasing import erase_in_log, find_in_log, keys_in_log, remove_leaving

Alone: TypeAlias = Callable[[], AbstractContextManager[object]]
"""Keeps a running system from living its loops for the time of a block; raises `StoreBusy` where one does."""

_LOOK_SECONDS = 0.05
_SALT_BYTES = 16


@dataclass(frozen=True, slots=True)
class Person:
    """Who is to be forgotten: an entity, or the one behind a key; and where, everywhere by default."""

    subject: Subject
    value: str
    dataset: str | None = None
    model: str | None = None


@dataclass(frozen=True, slots=True)
class Held:
    """Something that holds the person's data: `n_rows` of them, in `n_bytes` that are written anew."""

    kind: Literal["snapshot part", "log segment", "log day", "state of a loop"]
    name: str
    n_rows: int
    n_bytes: int


@dataclass(frozen=True, slots=True)
class Forgetting:
    """What a store holds of a person, and what was done about it.

    Attributes
    ----------
    number
        Of the erasure; None while nothing was done.
    status
        ``"found"``: nothing was done. ``"waiting"``: a running loop will let go of the person as soon as it
        rests. ``"done"``.
    held
        What holds or held the person's data.
    snapshots
        By ``dataset/id`` how many of its rows.
    trained
        By version how many of the rows that it learned from.
    beyond
        What cannot be reached from here, in sentences.
    before
        Erasures of the same person that are done, in words.
    """

    number: int | None
    status: Literal["found", "waiting", "done"]
    held: tuple[Held, ...]
    snapshots: Mapping[str, int]
    trained: Mapping[str, int]
    beyond: tuple[str, ...]
    before: tuple[str, ...] = ()


def find_person(store: Store, person: Person) -> Forgetting:
    """What the store holds of a person; nothing is changed.

    Raises
    ------
    NotFound, UsageError
        When there is no such dataset or model, or no entity is declared.
    """
    erasure = _with_keys(store, _planned(store, person))
    return _found(store, person, erasure)


def forget_person(
    store: Store,
    person: Person,
    *,
    actor: str,
    reason: str,
    now: datetime,
    wall: datetime,
    alone: Alone,
    wait_seconds: float,
) -> Forgetting:
    """Erase a person from snapshots, log and loops; goes on with an erasure of the same that was broken off.

    Parameters
    ----------
    wait_seconds
        How long to wait for the loop of a running system.

    Raises
    ------
    StoreBusy
        While another erasure or a cleaning is at it, or a worker does not leave its segment.
    """
    if not reason.strip():
        raise UsageError("forget needs a reason, which is kept in the audit log: --reason 'why'.")
    with alone_in_store(store, wall):
        begun = _begun(store, person)
        erasure = begun or _with_keys(store, _planned(store, person))
        found = _found(store, person, erasure)
        if begun is None:
            if not found.held:
                return found
            erasure = _begin(store, erasure, found, actor=actor, reason=reason.strip(), now=now)
        return go_on(store, erasure, found, now=now, alone=alone, wait_seconds=wait_seconds)


def go_on(
    store: Store, erasure: Erasure, found: Forgetting, *, now: datetime, alone: Alone, wait_seconds: float
) -> Forgetting:
    """Carry an erasure through that was written down, from wherever it is."""
    remove_leaving(store, erasure.number)
    erasure = _with_keys(store, erasure)
    if erasure.status == "begun":
        erase_in_snapshots(store, erasure)
        remove_leaving(store, erasure.number)
        erasure = _reached(store, erasure, "snapshots")
    if erasure.status == "snapshots":
        ids = erase_in_log(store, erasure)
        remove_leaving(store, erasure.number)
        _forget_first_answers(store, ids)
        erasure = _reached(store, erasure, "log", n_log_records=len(ids))
    if not _loops_forgot(store, alone, wait_seconds):
        return replace(found, number=erasure.number, status="waiting")
    _finish(store, erasure, now)
    return replace(found, number=erasure.number, status="done")


def nothing_found() -> Forgetting:
    """What there is to say where nobody looked."""
    return Forgetting(None, "found", (), {}, {}, ())


# -- who, and where ------------------------------------------------------------------------------------


def _planned(store: Store, person: Person) -> Erasure:
    datasets, deployments = _scope(store, person)
    _refuse_without_entity(store, person, {*datasets, *deployments.values()})
    salt = secrets.token_hex(_SALT_BYTES)
    fingerprint = salted_hash(salt, text_of(person.value))
    return Erasure(
        number=0,
        subject=person.subject,
        salt=salt,
        fingerprint=fingerprint,
        datasets=datasets,
        deployments=deployments,
        keys={},
        status="begun",
        actor="",
        reason="",
        at=datetime.min.replace(tzinfo=UTC),
    )


def _scope(store: Store, person: Person) -> tuple[tuple[str, ...], dict[str, str]]:
    known = [each.name for each in list_datasets(store)]
    with store.read() as reader:
        deployments = _deployments(reader)
    if person.dataset is not None and person.dataset not in known:
        raise NotFound(f"There is no dataset {person.dataset!r}. {did_you_mean(person.dataset, known)}")
    if person.model is not None:
        if person.model not in deployments:
            raise NotFound(
                f"There is no live model {person.model!r}. {did_you_mean(person.model, deployments)}"
            )
        return (), {person.model: deployments[person.model]}
    if person.dataset is not None:
        theirs = {name: dataset for name, dataset in deployments.items() if dataset == person.dataset}
        return (person.dataset,), theirs
    return tuple(sorted(known)), deployments


def _deployments(reader: Reader) -> dict[str, str]:
    """By live deployment its dataset."""
    rows = reader.find("deployments", {"kind": "live"})
    return {
        row["name"]: msgspec.convert(row["declaration"], ModelDeclaration).dataset.name
        for row in rows
        if row["declaration"] is not None
    }


def _declarations(store: Store) -> dict[str, DatasetDeclaration]:
    with store.read() as reader:
        rows = reader.find("datasets")
    return {row["name"]: msgspec.convert(row["declaration"], DatasetDeclaration) for row in rows}


def _refuse_without_entity(store: Store, person: Person, datasets: set[str]) -> None:
    declared = {name: each for name, each in _declarations(store).items() if name in datasets}
    if person.subject == "entity" and not any(each.entity for each in declared.values()):
        keys = ", ".join(f"{each.key} of {name}" for name, each in sorted(declared.items())) or "none yet"
        raise UsageError(
            f"No dataset here declares whom its rows belong to (entity=…), so nothing is known by"
            f" {person.value!r}. Name keys instead: --key KEY (keys: {keys})."
        )


def _with_keys(store: Store, erasure: Erasure) -> Erasure:
    """The erasure with all keys of the person as far as they are still known."""
    names = {*erasure.datasets, *erasure.deployments.values()}
    if erasure.subject == "key":
        return replace(erasure, keys={name: frozenset({erasure.fingerprint}) for name in names})
    keys = {name: set(erasure.keys.get(name, ())) for name in names}
    for found in (keys_in_snapshots(store, erasure), keys_in_log(store, erasure)):
        for name, theirs in found.items():
            keys.setdefault(name, set()).update(map(erasure.hash_of, theirs))
    return replace(erasure, keys={name: frozenset(each) for name, each in keys.items()})


def _begun(store: Store, person: Person) -> Erasure | None:
    """An erasure of the same that was broken off."""
    scope = _scope(store, person)
    with store.read() as reader:
        for erasure in read_erasures(reader):
            is_theirs = erasure.hash_of(person.value) == erasure.fingerprint
            is_same = (erasure.datasets, dict(erasure.deployments)) == scope
            if erasure.status != "done" and erasure.subject == person.subject and is_theirs and is_same:
                return erasure
    return None


# -- what there is -------------------------------------------------------------------------------------


def _found(store: Store, person: Person, erasure: Erasure) -> Forgetting:
    snapshots = find_in_snapshots(store, erasure)
    return Forgetting(
        number=None,
        status="found",
        held=tuple(_held(store, erasure, snapshots)),
        snapshots={f"{name}/{identity}": len(each) for (name, identity), each in snapshots.places.items()},
        trained=_trained_on(store, snapshots),
        beyond=tuple(_beyond(store, erasure)),
        before=tuple(_before(store, person)),
    )


def _held(store: Store, erasure: Erasure, snapshots: PersonInSnapshots) -> Iterator[Held]:
    for part in snapshots.parts.values():
        yield Held("snapshot part", f"{part.dataset} {part.digest[:12]}", part.n_rows, part.n_bytes)
    for hit in find_in_log(store, erasure):
        kind: Literal["log segment", "log day"] = "log day" if hit.digest else "log segment"
        yield Held(kind, hit.name, hit.n_records, hit.n_bytes)
    with store.read() as reader:
        rows = reader.find("checkpoints", {"deployment": list(erasure.deployments)})
    for row in rows:
        n_rows = n_rows_in_checkpoint(store, row["deployment"], erasure)
        if n_rows:
            path = store.folder / "loop" / row["deployment"] / row["state"]
            yield Held("state of a loop", row["deployment"], n_rows, path.stat().st_size)


def _trained_on(store: Store, found: PersonInSnapshots) -> dict[str, int]:
    """Versions that learned from rows of the person, and from how many."""
    trained: dict[str, int] = {}
    with store.read() as reader:
        for (dataset, snapshot), places in found.places.items():
            for run in reader.find("runs", {"dataset": dataset, "snapshot": snapshot}):
                n_rows = _n_within(places, run["rows"] or [])
                for version in reader.find("versions", {"run": run["id"]}) if n_rows else []:
                    trained[f"{version['deployment']}@{version['number']}"] = n_rows
    return dict(sorted(trained.items()))


def _n_within(places: np.ndarray, ranges: Sequence[Any]) -> int:
    spans = [(each["start"], each["end"]) if isinstance(each, Mapping) else tuple(each) for each in ranges]
    return sum(int(((places >= start) & (places < end)).sum()) for start, end in spans)


def _beyond(store: Store, erasure: Erasure) -> Iterator[str]:
    declared = _declarations(store)
    for name in erasure.datasets:
        source = declared[name].source or "the function that makes it"
        yield (
            f"the source of {name}, {source}: it is yours; rows that were erased here stay out of later"
            " snapshots all the same"
        )
    for destination, n_rows in _in_batches(store, erasure, declared):
        answers = "1 answer" if n_rows == 1 else f"{n_rows:,} answers"
        yield f"{destination}, to which clew predict wrote {answers} about them: the file is yours"
    yield "models that learned from their rows, and what training functions printed: see which versions"
    yield "folders of files, and tags, notes and files that are kept with runs: nobody looks into them"
    yield "backups: one that is restored loses the person again"


def _in_batches(
    store: Store, erasure: Erasure, declared: Mapping[str, DatasetDeclaration]
) -> Iterator[tuple[str, int]]:
    with store.read() as reader:
        rows = reader.find("batches", {"deployment": list(erasure.deployments), "status": "done"})
    for path in sorted({row["destination"]: row for row in rows}):
        deployment = next(row["deployment"] for row in rows if row["destination"] == path)
        name = erasure.deployments[deployment]
        try:
            table = _answers(Path(path))
        except (OSError, DataError):
            continue  # moved on, or overwritten with something else
        columns = [
            (table.column(column), dataset)
            for column, dataset in ((declared[name].key, name), (declared[name].entity, None))
            if column in table.column_names
        ]
        n_rows = int(mask(erasure, columns).to_numpy().sum()) if columns else 0
        if n_rows:
            yield path, n_rows


def _answers(path: Path) -> Any:
    return pq.read_table(path) if path.suffix == ".parquet" else read_source(path.name, path.parent)


def _before(store: Store, person: Person) -> Iterator[str]:
    with store.read() as reader:
        for erasure in read_erasures(reader, status="done", subject=person.subject):
            if erasure.hash_of(person.value) == erasure.fingerprint:
                yield f"{person.subject} {person.value} {erasure.sentence()}"


# -- doing it ------------------------------------------------------------------------------------------


def _begin(
    store: Store, erasure: Erasure, found: Forgetting, *, actor: str, reason: str, now: datetime
) -> Erasure:
    """Write the erasure down before anything is done."""
    with store.write() as tx:
        newest = tx.find("erasures", order_by=["-number"], limit=1)
        number = newest[0]["number"] + 1 if newest else 1
        begun = replace(erasure, number=number, actor=actor, reason=reason, at=now)
        row = {
            "number": number,
            "subject": begun.subject,
            "salt": begun.salt,
            "fingerprint": begun.fingerprint,
            "datasets": list(begun.datasets),
            "deployments": dict(begun.deployments),
            "keys": {name: sorted(each) for name, each in begun.keys.items()},
            "status": "begun",
            "actor": actor,
            "reason": reason,
            "at": now,
            "changes": [{"what": name, "learned from": n} for name, n in found.trained.items()],
            "leaving": [],
        }
        tx.insert("erasures", row)
        evidence = _who(begun) | {"rows": _n_by_kind(found.held), "trained on them": dict(found.trained)}
        record_audit(
            tx, now=now, actor=actor, action="begin forget", subject=f"erasure {number}", reason=reason,
            evidence=evidence,
        )  # fmt: skip
    return begun


def _who(erasure: Erasure) -> dict[str, Any]:
    """Whom an erasure is about, in a way that only tells who knows them, and the salt, already."""
    return {
        "subject": erasure.subject,
        "salted hash": erasure.fingerprint,
        "datasets": list(erasure.datasets),
        "deployments": sorted(erasure.deployments),
    }


def _n_by_kind(held: Sequence[Held]) -> dict[str, int]:
    counts: defaultdict[str, int] = defaultdict(int)
    for each in held:
        counts[each.kind] += each.n_rows
    return dict(counts)


def _reached(store: Store, erasure: Erasure, status: Stage, **told: int) -> Erasure:
    with store.write() as tx:
        row = tx.get("erasures", number=erasure.number)
        assert row is not None, "it was written down"  # noqa: S101
        changes = [*(row["changes"] or []), *([{"what": "log"} | told] if told else [])]
        tx.update("erasures", {"number": erasure.number}, {"status": status, "changes": changes})
    return replace(erasure, status=status)


def _forget_first_answers(store: Store, ids: set[str]) -> None:
    """Answers that are kept for requests that come again, in which one of these ids stands."""
    wanted = [f'"{identity}"'.encode() for identity in ids]
    for path in (store.folder / "run" / "idempotency").glob("*"):
        try:
            content = path.read_bytes()
        except (FileNotFoundError, IsADirectoryError):
            continue
        if any(identity in content for identity in wanted):
            path.unlink(missing_ok=True)


def _loops_forgot(store: Store, alone: Alone, wait_seconds: float) -> bool:
    """Have every loop let go of the person: here where nothing runs, else by waiting for what does."""
    give_up = time.monotonic() + wait_seconds
    while behind := behind_erasures(store):
        try:
            with alone():
                for deployment in behind:
                    forget_in_checkpoint(store, deployment)
        except StoreBusy:
            if time.monotonic() > give_up:
                return False
            time.sleep(_LOOK_SECONDS)
    return True


def _finish(store: Store, erasure: Erasure, now: datetime) -> None:
    with store.write() as tx:
        row = tx.get("erasures", number=erasure.number)
        assert row is not None, "it was written down"  # noqa: S101
        if row["status"] == "done":
            return
        tx.update("erasures", {"number": erasure.number}, {"status": "done", "done_at": now})
        record_audit(
            tx, now=now, actor=erasure.actor, action="forget", subject=f"erasure {erasure.number}",
            reason=erasure.reason, evidence=_who(erasure) | {"changes": row["changes"]},
        )  # fmt: skip
