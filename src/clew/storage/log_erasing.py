"""Taking a person's records out of the prediction log: out of segments, and out of the parts they move to.

Every step is whole or not done: a segment is written anew beside the old one and renamed over it, a part is
put beside the old one and takes its place in one transaction. So it may be killed anywhere and repeated.
Ids of other records stay what they are, and of those that were erased it is known that they were.
"""

from __future__ import annotations

import os
import time
from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq

from clew.errors import StoreBusy
from clew.storage.compaction import moment_of, remove_compacted, write_parquet
from clew.storage.folder import sync_folder
from clew.storage.locks import claim, folder_lock
from clew.storage.log import prediction_id
from clew.storage.log_columns import PLACE, TIME_OF, values_of
from clew.storage.log_segments import (
    LOG_FOLDER,
    LOG_FORMAT,
    OpenSegment,
    SegmentFile,
    erased_content,
    erasure_in,
    framed,
    header,
    leave_request,
    list_segments,
)
from clew.storage.records import Label, Prediction, Record, decode_record

if TYPE_CHECKING:
    from clew.storage.erasures import Erasure
    from clew.storage.rows import Row, Transaction
    from clew.storage.store import Store

LEFT_WITHIN_SECONDS = 30.0
"""How long a worker has to leave a segment that it is asked to leave."""

_LOOK_SECONDS = 0.05


@dataclass(frozen=True, slots=True)
class LogHit:
    """A segment or a part that holds records of the person.

    `name` is the segment's path below the store, or the part's deployment, day and kind; `digest` is the
    part's, None for a segment.
    """

    name: str
    n_records: int
    n_bytes: int
    digest: str | None = None


@dataclass(slots=True)
class _Found:
    """Where records of the person are: offsets by segment, by part its rows that are theirs; ids of all."""

    segments: dict[SegmentFile, list[int]] = field(default_factory=dict)
    parts: list[tuple[Row, list[bool]]] = field(default_factory=list)
    ids: set[str] = field(default_factory=set)


def find_in_log(store: Store, erasure: Erasure) -> list[LogHit]:
    """What of the log holds records of the person; nothing is changed."""
    found = _search(store, erasure)
    segments = [_hit(store, segment, offsets) for segment, offsets in found.segments.items()]
    return [*segments, *(_part_hit(row, sum(is_theirs)) for row, is_theirs in found.parts)]


def keys_in_log(store: Store, erasure: Erasure) -> dict[str, set[Any]]:
    """By dataset the keys of what was answered about the entity."""
    keys: defaultdict[str, set[Any]] = defaultdict(set)
    for _, record, _ in _raw_records(store, erasure):
        if isinstance(record, Prediction) and erasure.is_entity(record.entity):
            keys[erasure.deployments[record.deployment]].add(record.key)
    for row in _parts(store, erasure, "p"):
        table = _columns(store, row, ("key", "entity"))
        pairs = zip(values_of(table, "key"), values_of(table, "entity"), strict=True)
        theirs = {key for key, entity in pairs if erasure.is_entity(entity)}
        keys[erasure.deployments[row["deployment"]]] |= theirs
    return {name: {key for key in each if key is not None} for name, each in keys.items()}


def erase_in_log(store: Store, erasure: Erasure) -> set[str]:
    """Take the person's records out of the log; the ids of all that this erasure has taken out.

    A worker that is writing to a segment with such a record is asked to leave it for a new one.

    Raises
    ------
    StoreBusy
        When a worker does not leave its segment. Repeating goes on from there.
    """
    folder = store.folder / LOG_FOLDER
    if not folder.is_dir():
        return set()
    with folder_lock(folder):
        remove_compacted(store, folder)
        found = _search(store, erasure)
        for segment in found.segments:
            _rewrite_segment(folder, segment, erasure, found.ids)
        for row, is_theirs in found.parts:
            _rewrite_part(store, row, is_theirs, erasure.number)
        # What a writer was in the middle of when it was killed: nobody can tell whose it was.
        for torn in folder.glob("*/*.torn"):
            torn.unlink()
    return _erased_ids(store, erasure.number)


# -- searching -----------------------------------------------------------------------------------------


def _search(store: Store, erasure: Erasure) -> _Found:
    ids = _erased_ids(store, erasure.number)
    found = _Found(ids=ids)
    labels: list[tuple[SegmentFile, int, Label]] = []
    for segment, record, offset in _raw_records(store, erasure):
        if isinstance(record, Label):
            labels.append((segment, offset, record))
        elif _is_theirs(erasure, record, ids):
            found.segments.setdefault(segment, []).append(offset)
            ids.add(prediction_id(segment.worker, segment.number, offset))
    for kind in ("p", "f"):
        for row in _parts(store, erasure, kind):
            table, is_theirs = _theirs_in_part(store, row, erasure, ids)
            if any(is_theirs):
                found.parts.append((row, is_theirs))
                ids |= set(_ids(table.filter(pa.array(is_theirs))))
    # Labels last: some name the answer that they were sent for, and not the key.
    for segment, offset, label in labels:
        if _is_theirs(erasure, label, ids):
            found.segments.setdefault(segment, []).append(offset)
    for row in _parts(store, erasure, "l"):
        _, is_theirs = _theirs_in_part(store, row, erasure, ids)
        if any(is_theirs):
            found.parts.append((row, is_theirs))
    return found


def _is_theirs(erasure: Erasure, record: Record, ids: set[str]) -> bool:
    if isinstance(record, Label) and record.prediction in ids:
        return True
    if isinstance(record, Prediction) and erasure.is_entity(record.entity):
        return True
    return erasure.is_key(erasure.deployments[record.deployment], record.key)


def _raw_records(store: Store, erasure: Erasure) -> Iterator[tuple[SegmentFile, Record, int]]:
    """Records of the deployments that are in no part yet."""
    for segment in list_segments(store.folder / LOG_FOLDER):
        with suppress(FileNotFoundError), OpenSegment(segment.path) as opened:  # compacted meanwhile
            for offset, content in opened.contents():
                if erasure_in(content) is None:
                    record = decode_record(content)
                    if record.deployment in erasure.deployments:
                        yield segment, record, offset


def _parts(store: Store, erasure: Erasure, kind: str) -> list[Row]:
    with store.read() as reader:
        return reader.find("log_parts", {"deployment": list(erasure.deployments), "kind": kind})


def _columns(store: Store, row: Row, names: Sequence[str]) -> Any:
    return pq.read_table(store.objects.path(row["object_digest"]), columns=list(names), partitioning=None)


def _theirs_in_part(store: Store, row: Row, erasure: Erasure, ids: set[str]) -> tuple[Any, list[bool]]:
    more = {"p": ("entity",), "f": (), "l": ("prediction",)}[row["kind"]]
    table = _columns(store, row, (*PLACE, "key", *more))
    dataset = erasure.deployments[row["deployment"]]
    is_theirs = [erasure.is_key(dataset, key) for key in values_of(table, "key")]
    if row["kind"] == "p":
        entities = values_of(table, "entity")
        is_theirs = [known or erasure.is_entity(who) for known, who in zip(is_theirs, entities, strict=True)]
    if row["kind"] == "l":
        answers = values_of(table, "prediction")
        is_theirs = [known or name in ids for known, name in zip(is_theirs, answers, strict=True)]
    return table, is_theirs


def _ids(table: Any) -> Iterator[str]:
    return map(prediction_id, *(table.column(name).to_pylist() for name in PLACE))


def _erased_ids(store: Store, number: int) -> set[str]:
    """Of what this erasure has taken out so far."""
    ids = set()
    with store.read() as reader:
        for row in reader.find("log_segments"):
            for offset, erasure in row["erased"] or []:
                if erasure == number:
                    ids.add(prediction_id(row["worker"], row["segment"], offset))
    for segment in list_segments(store.folder / LOG_FOLDER):
        with suppress(FileNotFoundError), OpenSegment(segment.path) as opened:
            for offset, content in opened.contents():
                if erasure_in(content) == number:
                    ids.add(prediction_id(segment.worker, segment.number, offset))
    return ids


def _hit(store: Store, segment: SegmentFile, offsets: Sequence[int]) -> LogHit:
    name = segment.path.relative_to(store.folder).as_posix()
    return LogHit(name, len(offsets), segment.n_bytes)


def _part_hit(row: Row, n_records: int) -> LogHit:
    kinds = {"p": "predictions", "f": "failures", "l": "labels"}
    name = f"{kinds[row['kind']]} of {row['deployment']} on {row['day']}"
    return LogHit(name, n_records, row["n_bytes"], row["object_digest"])


# -- segments ------------------------------------------------------------------------------------------


def _rewrite_segment(folder: Path, segment: SegmentFile, erasure: Erasure, ids: set[str]) -> None:
    """Write the segment anew without the person's records."""
    with _left_alone(folder, segment), OpenSegment(segment.path) as opened:
        salt = opened.salt
        assert salt is not None, "a record was found in it"  # noqa: S101
        frames = [header(salt, LOG_FORMAT)]
        for offset, content in opened.contents():
            kept: bytes | memoryview = content
            if erasure_in(content) is None:
                record = decode_record(content)
                if record.deployment in erasure.deployments and _is_theirs(erasure, record, ids):
                    ids.add(prediction_id(segment.worker, segment.number, offset))
                    kept = erased_content(content, erasure.number)
            frames.append(framed(bytes(kept), salt, offset))
        _replace(segment.path, b"".join(frames))


@contextmanager
def _left_alone(folder: Path, segment: SegmentFile) -> Iterator[None]:
    """Hold a segment that nobody writes to; a worker that does is asked to begin another one."""
    request = leave_request(folder, segment.worker)
    give_up = time.monotonic() + LEFT_WITHIN_SECONDS
    descriptor = claim(segment.path)
    try:
        while descriptor is None:
            if time.monotonic() > give_up:
                raise StoreBusy(
                    f"Worker {segment.worker} does not leave {segment.path}, in which records are to be"
                    " erased. End it, or wait until it has ended, then repeat the command."
                )
            request.touch(mode=0o600)
            time.sleep(_LOOK_SECONDS)
            descriptor = claim(segment.path)
        yield
    finally:
        request.unlink(missing_ok=True)
        if descriptor is not None:
            os.close(descriptor)


def _replace(path: Path, content: bytes) -> None:
    fresh = path.with_suffix(".fresh")
    with fresh.open("wb") as file:
        os.fchmod(file.fileno(), 0o600)
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    fresh.replace(path)
    sync_folder(path.parent)


# -- parts ---------------------------------------------------------------------------------------------


def _rewrite_part(store: Store, row: Row, is_theirs: Sequence[bool], number: int) -> None:
    """Put a part without the person's rows in the place of the old one, which has still to be removed."""
    old = row["object_digest"]
    table = pq.read_table(store.objects.path(old), partitioning=None)
    gone = table.select(list(PLACE)).filter(pa.array(is_theirs)).to_pylist()
    kept = table.filter(pa.array([not each for each in is_theirs]))
    fresh = _put(store, row, kept) if kept.num_rows else None
    places: defaultdict[tuple[int, int], list[int]] = defaultdict(list)
    for each in gone:
        places[each["worker"], each["segment"]].append(each["offset"])
    with store.write() as tx:
        key = {name: row[name] for name in ("deployment", "kind", "day", "object_digest")}
        if tx.delete("log_parts", key):
            if fresh is not None:
                tx.insert_if_absent("log_parts", fresh)
            _point_segments(tx, old, fresh["object_digest"] if fresh else None, places, number)
            new = fresh["object_digest"] if fresh else None
            change = {"what": _part_hit(row, 0).name, "old": old, "new": new, "n_rows": len(gone)}
            note_leaving(tx, number, [old], [change])


def _put(store: Store, row: Row, kept: Any) -> dict[str, Any]:
    with store.scratch("part") as scratch:
        path = scratch / "part.parquet"
        write_parquet(kept, path)
        n_bytes, digest = path.stat().st_size, store.objects.put_file(path)
    times = kept.column(TIME_OF[row["kind"]])
    return {
        **{name: row[name] for name in ("deployment", "kind", "day")},
        "object_digest": digest,
        "n_rows": kept.num_rows,
        "n_bytes": n_bytes,
        "first_time": moment_of(times[0].value),
        "last_time": moment_of(times[-1].value),
    }


def _point_segments(
    tx: Transaction, old: str, fresh: str | None, erased: Mapping[tuple[int, int], list[int]], number: int
) -> None:
    """Let the segments whose records were in the old part say where those are now."""
    for row in tx.find("log_segments"):
        parts = row["parts"] or []
        if all(part.get("object") != old for part in parts):
            continue
        moved = [part | {"object": fresh} if part.get("object") == old else part for part in parts]
        places = erased.get((row["worker"], row["segment"]), [])
        changes = {
            "parts": [part for part in moved if "object" not in part or part["object"] is not None],
            "erased": [*(row["erased"] or []), *([place, number] for place in places)],
        }
        tx.update("log_segments", {"worker": row["worker"], "segment": row["segment"]}, changes)


def remove_parts(tx: Transaction, digests: Collection[str], now: datetime) -> None:
    """Take whole parts out of the log; of their records it is known that they were removed, and when.

    The objects stay until nothing names them and garbage is removed.
    """
    for row in tx.find("log_segments"):
        parts = row["parts"] or []
        if any(part.get("object") in digests for part in parts):
            left = [_gone(part, now) if part.get("object") in digests else part for part in parts]
            tx.update("log_segments", {"worker": row["worker"], "segment": row["segment"]}, {"parts": left})
    tx.delete("log_parts", {"object_digest": list(digests)})


def _gone(part: Mapping[str, Any], now: datetime) -> dict[str, Any]:
    return {name: part[name] for name in ("kind", "first", "last")} | {"removed": now.isoformat()}


def note_leaving(
    tx: Transaction, number: int, digests: Sequence[str], changes: Sequence[Mapping[str, Any]]
) -> None:
    """Write down what took place of what, in its transaction, and which objects are to be removed.

    A process that is killed before it has removed them leaves that to do.
    """
    row = tx.get("erasures", number=number)
    assert row is not None, "what is erased was written down before"  # noqa: S101
    leaving = list(dict.fromkeys([*(row["leaving"] or []), *digests]))
    told = [*(row["changes"] or []), *changes]
    tx.update("erasures", {"number": number}, {"leaving": leaving, "changes": told})


def remove_leaving(store: Store, number: int) -> list[str]:
    """Remove the objects that an erasure has emptied of the person, unless something else names them."""
    from clew.storage.garbage import named_in_rows

    with store.read() as reader:
        row = reader.get("erasures", number=number)
        leaving = row["leaving"] or [] if row else []
        named = named_in_rows(reader) if leaving else set()
    removed = [digest for digest in leaving if digest not in named]
    for digest in removed:
        store.objects.erase(digest)
    with store.write() as tx:
        tx.update("erasures", {"number": number}, {"leaving": []})
    return removed
