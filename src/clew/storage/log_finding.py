"""Finding answers in the prediction log by what they are about: a key or an entity, as a person writes it."""

from __future__ import annotations

import heapq
from datetime import datetime
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from clew.storage.log_columns import ids_of, joined, records_of, table_of, values_of
from clew.storage.log_reading import open_part, parts_and_raw_rows
from clew.storage.records import Prediction

if TYPE_CHECKING:
    from clew.storage.store import Store

_TIME = "event_time"


def find_predictions(
    store: Store,
    deployment: str,
    about: Literal["key", "entity"],
    text: str,
    *,
    start: datetime | None = None,
    end: datetime | None = None,
    limit: int = 20,
) -> list[tuple[str, Prediction]]:
    """Answers about one key or entity with their ids, those of the latest event time first.

    Of each part only the column asked about is read, until it is found there; parts older than the answers
    that are wanted are not opened.

    Parameters
    ----------
    text
        The key or entity, a number or truth value as JSON writes it.
    start, end
        Only of event times at or after `start` and before `end`.
    """
    parts, raw = parts_and_raw_rows(store, deployment, "p", start, end)
    found = [_matching(table_of("p", raw), about, text, start, end)] if raw else []
    for part in sorted(parts, key=lambda row: row["last_time"], reverse=True):
        if _nth_newest(found, limit) > _microseconds_of(part["last_time"]):
            break
        with open_part(store, part["object_digest"]) as file:
            if _is_about(file.read([about]), about, text).any():
                found.append(_matching(file.read(), about, text, start, end))
    if not found:
        return []
    table = joined(found).sort_by([(name, "descending") for name in (_TIME, "answered_at")]).slice(0, limit)
    records = records_of("p", table)
    named = zip(ids_of(table), records, strict=True)
    return [(identity, record) for identity, record in named if isinstance(record, Prediction)]


def _matching(table: Any, about: str, text: str, start: datetime | None, end: datetime | None) -> Any:
    times = table.column(_TIME)
    wanted = pa.array(_is_about(table, about, text))
    if start is not None:
        wanted = pc.and_(wanted, pc.greater_equal(times, pa.scalar(start, times.type)))
    if end is not None:
        wanted = pc.and_(wanted, pc.less(times, pa.scalar(end, times.type)))
    return table.filter(wanted)


def _is_about(table: Any, about: str, text: str) -> np.ndarray:
    """Whether a row's key or entity is the one that was written, shape ``(n_rows,)``."""
    column = table.column(about)
    if pa.types.is_string(column.type) and not table.schema.field(about).metadata:
        return np.asarray(pc.fill_null(pc.equal(column, text), False).to_numpy(zero_copy_only=False), bool)
    return np.array(
        [value is not None and text in _written(value) for value in values_of(table, about)], bool
    )


def _written(value: Any) -> set[str]:
    """How a person may write a value.

    Examples
    --------
    >>> sorted(_written(7.0)), sorted(_written(True))
    (['7', '7.0'], ['True', 'true'])
    """
    if isinstance(value, bool):
        return {str(value), str(value).lower()}
    return {str(value), f"{value:.0f}"} if isinstance(value, float) and value.is_integer() else {str(value)}


def _nth_newest(found: list[Any], n: int) -> int:
    """The event time of the last answer that is wanted; long ago while there are fewer."""
    times = [time for table in found for time in values_of(table, _TIME)]
    newest: list[int] = heapq.nlargest(n, times)
    return newest[-1] if len(newest) == n else -(2**63)


def _microseconds_of(moment: datetime) -> int:
    return int(np.datetime64(moment.replace(tzinfo=None), "us").astype(np.int64))
