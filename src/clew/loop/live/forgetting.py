"""Taking a person out of where a loop stands.

Rows of a loop are named by their ordinals, and what it learned rests on these. So a row of the person does
not go: the row before it, of somebody else, is copied into its place, under a key that nobody has.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from typing import Any

import numpy as np
import pyarrow as pa

from clew.errors import DataError
from clew.loop.live.checkpoints import load_checkpoint, save_checkpoint
from clew.loop.live.rows import LiveRows
from clew.loop.live.traffic import Trial
from clew.storage import Store
from clew.storage.erasures import Erasure, erasures_since, mask
from clew.storage.records import Failure, Prediction

_LONG_AGO = datetime(1, 1, 1, tzinfo=UTC)


def forget_in_checkpoint(store: Store, deployment: str) -> bool:
    """Take out of a kept loop whoever was forgotten since; whether it is another one than before.

    Killed anywhere it leaves the old state or the new one, and can be repeated. No other process may live
    this loop meanwhile.
    """
    with store.read() as reader:
        row = reader.get("checkpoints", deployment=deployment)
        since = erasures_since(reader, row["erasure"]) if row else []
    if row is None or not since:
        return False
    newest, theirs = since[-1].number, [each for each in since if deployment in each.deployments]
    if theirs:
        checkpoint = load_checkpoint(store, deployment)
        assert checkpoint is not None, "there is a row of it"  # noqa: S101
        state = dict(checkpoint.state)
        for erasure in theirs:
            state = forget_in_state(state, erasure, erasure.deployments[deployment])
        save_checkpoint(store, replace(checkpoint, state=state), row["positions"] or {}, erasure=newest)
    else:
        with store.write() as tx:
            tx.update("checkpoints", {"deployment": deployment}, {"erasure": newest})
    return bool(theirs)


def n_rows_in_checkpoint(store: Store, deployment: str, erasure: Erasure) -> int:
    """How many rows of the person a kept loop holds, known or waiting."""
    checkpoint = load_checkpoint(store, deployment)
    if checkpoint is None or "rows" not in checkpoint.state:
        return 0
    rows = LiveRows.restored(checkpoint.state["rows"])
    dataset = erasure.deployments[deployment]
    return int(_theirs(rows, erasure, dataset).sum()) + len(_waiting_keys(rows, erasure, dataset))


def forget_in_state(state: Mapping[str, Any], erasure: Erasure, dataset: str) -> dict[str, Any]:
    """The state of a loop without the person."""
    if "rows" not in state:
        return dict(state)
    rows = LiveRows.restored(state["rows"])
    forget_rows(rows, erasure, dataset)
    world = dict(state["world"])

    def is_theirs(record: Prediction | Failure) -> bool:
        entity = getattr(record, "entity", None)
        return erasure.is_key(dataset, record.key) or erasure.is_entity(entity)

    world["asked"] = [record for record in world["asked"] if not is_theirs(record)]
    trial: Trial | None = world["trial"]
    if trial is not None:
        trial.answers = [record for record in trial.answers if not is_theirs(record)]
        trial.alone = {key: record for key, record in trial.alone.items() if not is_theirs(record)}
    return {**state, "rows": rows.state(), "world": world}


def forget_rows(rows: LiveRows, erasure: Erasure, dataset: str) -> None:
    """Take the person out of labelled and waiting rows.

    Raises
    ------
    DataError
        When no row of anybody else is there.
    """
    for key in _waiting_keys(rows, erasure, dataset):
        row = rows.waiting.pop(key, None)
        rows.let_go(row.ids if row else ())
        rows.labels.pop(key, None)
    for key in [key for key in rows.corrected if erasure.is_key(dataset, key)]:
        del rows.corrected[key]
    theirs = _theirs(rows, erasure, dataset)
    if theirs.all() and len(theirs):
        raise DataError(f"Every row that the loop of {rows.declaration.name!r} knows is to be erased.")
    if theirs.any():
        _replace(rows, theirs, erasure.number)


def _waiting_keys(rows: LiveRows, erasure: Erasure, dataset: str) -> list[Any]:
    known = {key for key, row in rows.waiting.items() if erasure.is_entity(row.entity)}
    known |= {key for key in (*rows.waiting, *rows.labels) if erasure.is_key(dataset, key)}
    return list(known)


def _theirs(rows: LiveRows, erasure: Erasure, dataset: str) -> np.ndarray:
    table, declared = rows.history.table, rows.declaration.dataset
    columns: list[tuple[Any, str | None]] = [(table.column(declared.key), dataset)]
    if declared.entity in table.column_names:
        columns.append((table.column(declared.entity), None))
    found: np.ndarray = mask(erasure, columns).to_numpy()
    return found


def _replace(rows: LiveRows, theirs: np.ndarray, number: int) -> None:
    history, declared = rows.history, rows.declaration.dataset
    others = np.flatnonzero(~theirs)
    before = np.searchsorted(others, np.arange(len(theirs)), side="right") - 1
    source = others[np.maximum(before, 0)]
    table = history.table.take(pa.array(source))
    places = np.flatnonzero(theirs).tolist()
    keys = table.column(declared.key).to_pylist()
    kind = table.schema.field(declared.key).type
    for place in places:
        keys[place] = nobodys_key(kind, number, place)
        rows.stand_ins.add(keys[place])
    table = _with(table, declared.key, keys)
    if declared.entity in table.column_names:
        entities = table.column(declared.entity).to_pylist()
        for place in places:
            entities[place] = None
        table = _with(table, str(declared.entity), entities)
    rows.history = replace(
        history,
        table=table,
        times=history.times[source],
        matured_at=history.matured_at[source],
        y=history.y[source],
    )
    rows.know_keys_anew()


def _with(table: pa.Table, name: str, values: list[Any]) -> pa.Table:
    place = table.column_names.index(name)
    field = table.schema.field(place)
    return table.set_column(place, field, pa.array(values, field.type))


def nobodys_key(kind: pa.DataType, number: int, place: int) -> Any:
    """A key of this type that no row has.

    Examples
    --------
    >>> nobodys_key(pa.string(), 3, 17), nobodys_key(pa.int64(), 3, 17)
    ('erased 3/17', -9223372023969873903)
    """
    if pa.types.is_string(kind):
        return f"erased {number}/{place}"
    step = (number << 32) + place
    if pa.types.is_date(kind):
        return date(1, 1, 1) + timedelta(days=step % 300_000)
    if pa.types.is_timestamp(kind):
        return _LONG_AGO + timedelta(microseconds=step)
    if pa.types.is_floating(kind):
        return -1e300 - step * 1e290
    return -(2**63) + step
