"""Reading the prediction log: what is new since a position, one record by its id, all of a deployment."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from clew.storage.log_segments import HEADER_BYTES, OpenSegment, list_segments, record_end
from clew.storage.records import Record, decode_record


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
        at = positions.get(segment.name, 0)
        if segment.n_bytes > max(at, HEADER_BYTES):
            try:
                with OpenSegment(segment.path) as opened:
                    named = f"{segment.worker:x}-{segment.number:x}-"
                    for offset, content in opened.contents(at):
                        found.append((f"{named}{offset:x}", decode_record(content)))
                        at = record_end(offset, content)
            except FileNotFoundError:  # compacted since it was listed, so everybody has read it
                continue
        if at:
            reached[segment.name] = at
    return found, reached
