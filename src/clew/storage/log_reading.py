"""Reading the prediction log: what is new since a position, one record by its id, all of a deployment."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from clew.errors import Erased, NotFound, UsageError
from clew.storage.conditions import Where
from clew.storage.erasures import read_erasures
from clew.storage.log import parse_prediction_id
from clew.storage.log_segments import (
    HEADER_BYTES,
    LOG_FOLDER,
    OpenSegment,
    SegmentFile,
    erasure_in,
    list_segments,
    record_end,
    segment_path,
)
from clew.storage.records import Record, decode_lean_record, decode_record
from clew.storage.row_groups import row_groups_with

if TYPE_CHECKING:
    import pyarrow as pa
    import pyarrow.parquet as pq

    from clew.storage.log_columns import Kind, LogRow
    from clew.storage.rows import Row
    from clew.storage.store import Store

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def read_since(folder: Path, positions: Mapping[str, int]) -> tuple[list[tuple[str, Record]], dict[str, int]]:
    """What was appended since `positions`, and the positions to read on from.

    Reading in pieces gives the same as reading at once, and each record once. Only whole records are read:
    what a writer is in the middle of comes next time.

    Parameters
    ----------
    folder
        Of the log, as given to `LogWriter`.
    positions
        By segment (``"worker/number"``) the offset up to which it was read; an empty mapping for all.

    Returns
    -------
    records
        With their ids, by worker, segment and offset.
    positions
        Of the segments that still hold anything; those that were compacted are left out.
    """
    found: list[tuple[str, Record]] = []
    reached: dict[str, int] = {}
    for segment in list_segments(folder):
        if segment.n_bytes <= HEADER_BYTES:  # nothing is in it yet, or nothing any more
            continue
        at = positions.get(segment.name, 0)
        if segment.n_bytes > at:
            try:
                with OpenSegment(segment.path) as opened:
                    named = f"{segment.worker:x}-{segment.number:x}-"
                    for offset, content in opened.contents(at):
                        at = record_end(offset, content)
                        if erasure_in(content) is None:
                            found.append((f"{named}{offset:x}", decode_record(content)))
            except FileNotFoundError:  # compacted since it was listed, so everybody has read it
                continue
        if at:
            reached[segment.name] = at
    return found, reached


def read_record(store: Store, prediction_id: str) -> Record:
    """The record with this id, from its segment or from the part that it was moved to.

    Raises
    ------
    NotFound
        When it is no id, or there is no record of it (any more).
    Erased
        When it was erased.
    """
    place = parse_prediction_id(prediction_id)
    content = _raw_content(store, *place)
    if content is not None:
        erasure = erasure_in(content)
        if erasure is None:
            return decode_record(content)
        raise _erased(store, prediction_id, erasure)
    record = _moved_record(store, prediction_id, *place)
    if record is None:
        raise NotFound(
            f"There is no prediction {prediction_id}. Was it cut off when it was copied, or answered by"
            " another system?"
        )
    return record


def _raw_content(store: Store, worker: int, segment: int, offset: int) -> memoryview | None:
    try:
        with OpenSegment(segment_path(store.folder / LOG_FOLDER, worker, segment)) as opened:
            return opened.content_at(offset)
    except OSError:  # it is not there, or its number is longer than a file's name may be
        return None


def _moved_record(store: Store, prediction_id: str, worker: int, segment: int, offset: int) -> Record | None:
    if max(worker, segment, offset) >= 2**63:
        return None
    with store.read() as reader:
        row = reader.get("log_segments", worker=worker, segment=segment)
    if row is None:
        return None
    for place, erasure in row["erased"] or []:
        if place == offset:
            raise _erased(store, prediction_id, erasure)
    covering = [part for part in row["parts"] or [] if part["first"] <= offset <= part["last"]]
    for part in covering:
        if "object" not in part:
            continue
        found = _rows_at(store, part["object"], {"worker": worker, "segment": segment, "offset": offset})
        if found.num_rows:
            from clew.storage.log_columns import records_of

            return records_of(part["kind"], found)[0]
    removed = [part["removed"] for part in covering if "removed" in part]
    if removed:
        raise NotFound(
            f"Prediction {prediction_id} was removed on {removed[0][:10]}, as it was older than the retention"
            " of the log. See: clew audit list --action 'remove garbage'"
        )
    return None


def _erased(store: Store, prediction_id: str, number: int) -> Erased:
    with store.read() as reader:
        [erasure] = read_erasures(reader, number=number)
    return Erased(f"Prediction {prediction_id} {erasure.sentence()}", erasure.at)


def _rows_at(store: Store, digest: str, place: Mapping[str, int]) -> pa.Table:
    import pyarrow.compute as pc

    with open_part(store, digest) as file:
        rows = file.read_row_groups(row_groups_with(file, {name: [n] for name, n in place.items()}))
    for name, number in place.items():
        rows = rows.filter(pc.equal(rows[name], number))
    return rows


def _part(
    store: Store, digest: str, filters: list[tuple[str, str, Any]], columns: Sequence[str] | None = None
) -> pa.Table:
    import pyarrow.parquet as pq

    path = store.objects.path(digest)
    return pq.read_table(path, columns=columns, filters=filters or None, partitioning=None)


@contextmanager
def open_part(store: Store, digest: str) -> Iterator[pq.ParquetFile]:
    """A part of the log, read as it is asked for."""
    import pyarrow.parquet as pq

    with pq.ParquetFile(store.objects.path(digest)) as file:
        yield file


def scan(
    store: Store,
    deployment: str,
    kind: Kind = "p",
    start: datetime | None = None,
    end: datetime | None = None,
    columns: Sequence[str] | None = None,
) -> pa.Table:
    """All records of a deployment, moved or not, in the order of their time.

    Parameters
    ----------
    kind
        ``"p"`` predictions, ``"f"`` failures, ``"l"`` labels.
    start, end
        Only those whose event time (a label's: when it was received) is at or after `start` and before `end`.
    columns
        Only these, beside the time and `id`: what is left out is not read. All by default.

    Returns
    -------
    table
        A column for each attribute of the record and one, ``id``, that names it. Features are columns
        ``feature.NAME``; ``names`` says, as JSON, which of them a row was asked with. A column whose
        values have no common type holds them as JSON text. Rows of one time stand as they were logged.
    """
    from clew.storage.log_columns import PLACE, TIME_OF, ids_of, joined, table_of

    if kind not in TIME_OF:
        raise UsageError(f"There are no records of kind {kind!r}; there are {', '.join(TIME_OF)}.")
    filters = [
        (TIME_OF[kind], operator, moment)
        for operator, moment in ((">=", start), ("<", end))
        if moment is not None
    ]
    wanted = None if columns is None else [*dict.fromkeys((*columns, TIME_OF[kind], *PLACE))]
    while True:
        parts, raw = parts_and_raw_rows(store, deployment, kind, start, end)
        fresh = table_of(kind, raw) if wanted is None else table_of(kind, raw).select(wanted)
        try:
            tables = [_part(store, part["object_digest"], filters, wanted) for part in parts]
        except NotFound:
            if _are_named(store, parts):
                raise
            continue  # rows in it were erased since it was listed: another part took its place
        break
    whole = joined([fresh, *tables])
    whole = whole.sort_by([(name, "ascending") for name in (TIME_OF[kind], *PLACE)])
    return whole.add_column(0, "id", [ids_of(whole)]).drop_columns(list(PLACE))


def _are_named(store: Store, parts: Sequence[Row]) -> bool:
    with store.read() as reader:
        named = {row["object_digest"] for row in reader.find("log_parts")}
    return all(part["object_digest"] in named for part in parts)


def parts_and_raw_rows(
    store: Store, deployment: str, kind: Kind, start: datetime | None, end: datetime | None
) -> tuple[list[Row], list[LogRow]]:
    """The parts that may hold what is asked for, and the rows of it that are in no part, of one moment."""
    where: dict[str, Any] = {"deployment": deployment, "kind": kind}
    if start is not None:
        where["last_time"] = Where(">=", start)
    if end is not None:
        where["first_time"] = Where("<", end)
    while True:
        with store.read() as reader:
            parts = reader.find("log_parts", where)
            moved = {(row["worker"], row["segment"]) for row in reader.find("log_segments")}
        try:
            rows = [
                row
                for segment in list_segments(store.folder / LOG_FOLDER)
                if (segment.worker, segment.number) not in moved
                for row in _raw_rows(segment, deployment, kind, start, end)
            ]
        except FileNotFoundError:
            continue
        # Segments are removed only after they were counted as moved: if none was, all were whole.
        with store.read() as reader:
            if reader.count("log_segments") == len(moved):
                return parts, rows


def _raw_rows(
    segment: SegmentFile, deployment: str, kind: Kind, start: datetime | None, end: datetime | None
) -> Iterator[LogRow]:
    from clew.storage.log_columns import LEAN_KINDS, TIME_OF, LogRow

    first, last = _microseconds(start), _microseconds(end)
    with OpenSegment(segment.path) as opened:
        for offset, content in opened.contents():
            if erasure_in(content) is not None:
                continue
            record = decode_lean_record(content)
            if record.deployment != deployment or LEAN_KINDS[type(record)] != kind:
                continue
            time = getattr(record, TIME_OF[kind])
            if (first is None or time >= first) and (last is None or time < last):
                yield LogRow(segment.worker, segment.number, offset, record)


def _microseconds(moment: datetime | None) -> int | None:
    return None if moment is None else (moment - _EPOCH) // timedelta(microseconds=1)
