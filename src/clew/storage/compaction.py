"""Moving segments of the prediction log that nobody writes any more into Parquet files by model and day.

A compaction may be killed anywhere and be repeated. First the Parquet files are put beside the other
objects, under the hash of their content; then one transaction names them as parts of the log and the
segments as compacted; then the segments are removed. Before the transaction the segments count, after it
the parts; what an interrupted compaction left to do, the next one does.
"""

from __future__ import annotations

import gc
import logging
import os
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from clew.storage.folder import sync_folder
from clew.storage.locks import claim, folder_lock
from clew.storage.log_columns import LEAN_KINDS, TIME_OF, Kind, LogRow, table_of
from clew.storage.log_segments import (
    HEADER_BYTES,
    LOG_FOLDER,
    OpenSegment,
    SegmentFile,
    erasure_in,
    list_segments,
    record_end,
)
from clew.storage.records import decode_lean_record

if TYPE_CHECKING:
    from clew.storage.store import Store

log = logging.getLogger("clew.storage")

# Rows that are held in memory before they are written out: about 15 MB of a dozen features each.
ROWS_AT_ONCE = 25_000

# Rows that are read to find one of them.
_ROWS_A_GROUP = 20_000

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_DAY_MICROSECONDS = 86_400_000_000
_FIRST, _LAST = datetime.min.replace(tzinfo=UTC), datetime.max.replace(tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Compaction:
    """What a compaction did.

    Attributes
    ----------
    segments
        Those that were moved, as ``worker/number``.
    n_records, n_parts
        The records in them, and the Parquet files they are in now.
    n_bytes_before, n_bytes_after
        Sizes of the segments and of the files.
    """

    segments: tuple[str, ...]
    n_records: int
    n_parts: int
    n_bytes_before: int
    n_bytes_after: int


def compact(store: Store, *, consumed: Sequence[Mapping[str, int]], now: datetime) -> Compaction:
    """Move the segments that nobody will write to and everybody has read into Parquet files.

    Parameters
    ----------
    consumed
        The positions of each reader, as `read_since` returned them; a segment waits until all of them have
        passed its last record. Without readers every segment that was left is moved.
    now
        Kept beside the segments as the time of their compaction.
    """
    folder = store.folder / LOG_FOLDER
    if not folder.is_dir():
        return Compaction((), 0, 0, 0, 0)
    with folder_lock(folder), _without_garbage_search():
        remove_compacted(store, folder)
        done = [_publish(store, batch, now) for batch in _batches(folder, consumed, store)]
        remove_compacted(store, folder)
    return Compaction(
        segments=tuple(each.file.name for batch in done for each in batch.segments),
        n_records=sum(each.n_records for batch in done for each in batch.segments),
        n_parts=sum(len(batch.parts) for batch in done),
        n_bytes_before=sum(each.end for batch in done for each in batch.segments),
        n_bytes_after=sum(part["n_bytes"] for batch in done for part in batch.parts),
    )


@contextmanager
def _without_garbage_search() -> Iterator[None]:
    """Of a hundred thousand rows none is garbage; looking through them again and again costs time."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


# ---------------------------------------------------------------- which segments


def _batches(folder: Path, consumed: Sequence[Mapping[str, int]], store: Store) -> Iterator[_Batch]:
    """The segments to move, in groups that are published together."""
    batch = _Batch(store)
    for segment in _left(folder):
        if not _is_consumed(segment, consumed):
            continue
        batch.add(segment)
        if batch.n_rows >= ROWS_AT_ONCE:
            yield batch
            batch = _Batch(store)
    if batch.segments:
        yield batch


def _left(folder: Path) -> list[SegmentFile]:
    """Segments that hold something and that nobody writes to, now or later."""
    left = []
    for segment in list_segments(folder):
        descriptor = claim(segment.path)
        if descriptor is None:
            continue
        try:
            # A file without its header may be one that a writer has made and not yet locked. One that is
            # not locked and has a header was left for good: a writer opens only what it makes itself.
            n_bytes = os.fstat(descriptor).st_size
        finally:
            os.close(descriptor)
        if n_bytes > HEADER_BYTES:
            left.append(segment._replace(n_bytes=n_bytes))
    return left


def _is_consumed(segment: SegmentFile, consumed: Sequence[Mapping[str, int]]) -> bool:
    position = min((positions.get(segment.name, 0) for positions in consumed), default=segment.n_bytes)
    if position >= segment.n_bytes:
        return True
    # What follows the last whole record nobody reads, so nobody's position gets past it.
    with OpenSegment(segment.path) as opened:
        return all(record_end(offset, content) <= position for offset, content in opened.contents())


# ---------------------------------------------------------------- into Parquet


@dataclass(slots=True)
class _Moved:
    """A segment of a batch: where its last whole record ends, and which parts hold its records."""

    file: SegmentFile
    end: int = HEADER_BYTES
    n_records: int = 0
    parts: list[dict[str, Any]] = field(default_factory=list)
    erased: list[tuple[int, int]] = field(default_factory=list)


class _Batch:
    """Segments that are published together, and the parts that their records went to."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._groups: defaultdict[tuple[str, Kind, int], list[LogRow]] = defaultdict(list)
        self._n_held = 0
        self.segments: list[_Moved] = []
        self.parts: list[dict[str, Any]] = []

    @property
    def n_rows(self) -> int:
        return sum(each.n_records for each in self.segments)

    def add(self, segment: SegmentFile) -> None:
        moved = _Moved(segment)
        self.segments.append(moved)
        groups, worker, number = self._groups, segment.worker, segment.number
        with OpenSegment(segment.path) as opened:
            for offset, content in opened.contents():
                moved.end = record_end(offset, content)
                erasure = erasure_in(content)
                if erasure is not None:
                    moved.erased.append((offset, erasure))
                    continue
                record = decode_lean_record(content)
                kind = LEAN_KINDS[type(record)]
                day = getattr(record, TIME_OF[kind]) // _DAY_MICROSECONDS
                groups[record.deployment, kind, day].append(LogRow(worker, number, offset, record))
                moved.n_records += 1
                self._n_held += 1
                if self._n_held >= ROWS_AT_ONCE:
                    self.write()

    def write(self) -> None:
        """Put what is held into parts."""
        for (deployment, kind, day), rows in sorted(self._groups.items(), key=lambda item: item[0]):
            self._write_part(deployment, kind, day, rows)
        self._groups.clear()
        self._n_held = 0

    def _write_part(self, deployment: str, kind: Kind, day: int, rows: list[LogRow]) -> None:
        table = table_of(kind, rows)
        with self._store.scratch("part") as scratch:
            path = scratch / "part.parquet"
            write_parquet(table, path)
            n_bytes = path.stat().st_size
            digest = self._store.objects.put_file(path)
        times = table.column(TIME_OF[kind])
        self.parts.append(
            {
                "deployment": deployment,
                "kind": kind,
                "day": str(np.datetime64(day, "D")),
                "object_digest": digest,
                "n_rows": len(rows),
                "n_bytes": n_bytes,
                "first_time": moment_of(times[0].value),
                "last_time": moment_of(times[-1].value),
            }
        )
        offsets = table.group_by(["worker", "segment"]).aggregate([("offset", "min"), ("offset", "max")])
        spans = {
            (span["worker"], span["segment"]): {"first": span["offset_min"], "last": span["offset_max"]}
            for span in offsets.to_pylist()
        }
        for moved in self.segments:
            span = spans.get((moved.file.worker, moved.file.number))
            if span is not None:
                moved.parts.append({"object": digest, "kind": kind} | span)


def write_parquet(table: Any, path: Path) -> None:
    """Write a part of the log."""
    # Numbers, keys and requests are hardly ever there twice: a dictionary of them is larger than they are.
    of_text = [
        field.name
        for field in table.schema
        if pa.types.is_string(field.type) and field.name not in ("key", "request")
    ]
    pq.write_table(table, path, compression="zstd", row_group_size=_ROWS_A_GROUP, use_dictionary=of_text)


def moment_of(microseconds: int) -> datetime:
    try:
        return _EPOCH + timedelta(microseconds=microseconds)
    except OverflowError:  # no date that Python or anybody knows
        return _LAST if microseconds > 0 else _FIRST


def _publish(store: Store, batch: _Batch, now: datetime) -> _Batch:
    batch.write()
    with store.write() as tx:
        for part in batch.parts:
            tx.insert_if_absent("log_parts", part)
        for moved in batch.segments:
            tx.insert(
                "log_segments",
                {
                    "worker": moved.file.worker,
                    "segment": moved.file.number,
                    "path": str(moved.file.path.relative_to(store.folder)),
                    "n_bytes": moved.end,
                    "n_records": moved.n_records,
                    "parts": moved.parts,
                    "compacted_at": now,
                    "erased": moved.erased,
                },
            )
    return batch


# ---------------------------------------------------------------- removal


def remove_compacted(store: Store, folder: Path) -> None:
    """Remove the segments whose records are in parts; each worker's newest is emptied and stays."""
    segments = list_segments(folder)
    # A file without its header does not count: its writer removes it again when the disk has no room for one.
    newest = {each.worker: each.number for each in segments if each.n_bytes >= HEADER_BYTES}
    with store.read() as reader:
        ends = {(row["worker"], row["segment"]): row["n_bytes"] for row in reader.find("log_segments")}
    for segment in segments:
        end = ends.get((segment.worker, segment.number))
        if end is None:
            continue
        if segment.n_bytes > end:
            _set_aside(segment, end)
        if segment.number == newest[segment.worker]:
            os.truncate(segment.path, HEADER_BYTES)
        else:
            sync_folder(segment.path.parent)  # the newer number must outlive a power cut first
            segment.path.unlink()


def _set_aside(segment: SegmentFile, end: int) -> None:
    """Keep what followed the last whole record: a writer was killed there, but damage would look alike."""
    with segment.path.open("rb") as file:
        file.seek(end)
        rest = file.read()
    if not any(rest):  # blocks that a power cut left unwritten
        return
    aside = segment.path.with_suffix(".torn")
    aside.write_bytes(rest)
    log.warning(
        "a segment of the prediction log ended in no whole record",
        extra={"segment": segment.name, "n_bytes": len(rest), "kept_in": str(aside)},
    )
