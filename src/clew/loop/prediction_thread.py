"""The thread of one prediction: from the answer somebody got back to what made it."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pyarrow.compute as pc

from clew.datasets import find_rows, latest_snapshot
from clew.entities import Json, ModelDeclaration
from clew.errors import DataError, Erased, NotFound
from clew.loop.result import ThreadNode
from clew.registry.audit import put_in_office
from clew.storage import Reader, Store, read_record, scan
from clew.storage.records import Failure, Label, Prediction

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_ID = re.compile(r"[0-9a-f]{1,16}-[0-9a-f]{1,16}-[0-9a-f]{1,16}")


def is_prediction_id(reference: str) -> bool:
    """Whether it looks like the id of an answer.

    Examples
    --------
    >>> is_prediction_id("3-1-1f4"), is_prediction_id("busy_hour@3")
    (True, False)
    """
    return _ID.fullmatch(reference) is not None


def prediction_node(store: Store, identity: str, trace: Callable[[Store, str], ThreadNode]) -> ThreadNode:
    """The answer, and below it the version that gave it, who put that in office, and the row it was about.

    Of one that was erased only that it was, when, by whom and why.

    Raises
    ------
    NotFound
        When the log has no such record.
    """
    try:
        record = read_record(store, identity)
    except Erased as erased:
        return ThreadNode("prediction", identity, str(erased), {})
    if isinstance(record, Label):
        raise NotFound(f"{identity!r} is a label that was sent, and no prediction.")
    version = f"{record.deployment}@{record.version}"
    sentence = f"{moment_of(record.answered_at):%Y-%m-%d %H:%M} {answer_sentence(record)}"
    causes = [trace(store, version), *_offices(store, record), *_rows(store, record)]
    return ThreadNode("prediction", identity, sentence, _facts(record), tuple(causes))


def answers_node(store: Store, reader: Reader, version: str) -> ThreadNode | None:
    """All answers of a version, counted; None when it gave none that is on record."""
    deployment, _, number = version.rpartition("@")
    known = reader.get("deployments", name=deployment)
    if known is None or known["kind"] != "live":
        return None
    logged = scan(store, deployment, columns=("version", "role"))
    mine = logged.filter(pc.equal(logged.column("version"), int(number)))
    if not mine.num_rows:
        return None
    roles = {each["values"]: each["counts"] for each in pc.value_counts(mine.column("role")).to_pylist()}
    span = pc.min_max(mine.column("event_time")).as_py()
    n_given = roles.get("champion", 0) + roles.get("canary", 0)
    beside = f", and asked {roles['shadow']:,} times beside the champion" if "shadow" in roles else ""
    sentence = (
        f"{n_given:,} answers to callers about {span['min']:%Y-%m-%d %H:%M} to {span['max']:%Y-%m-%d %H:%M}"
        f"{beside}"
    )
    return ThreadNode("predictions", version, sentence, {"by role": roles})


def answer_sentence(record: Prediction | Failure) -> str:
    """Who answered what about which key."""
    who = f"version {record.version} of {record.deployment} as {record.role}"
    if isinstance(record, Failure):
        return f"{who} failed on {record.key}: {record.error}"
    return f"{who} answered {record.predicted} for {record.key}"


def _facts(record: Prediction | Failure) -> Json:
    facts: Json = {"event_time": moment_of(record.event_time).isoformat(), "request": record.request}
    if isinstance(record, Failure):
        return facts
    return facts | {
        "features": dict(zip(record.names, record.features, strict=True)),
        "probabilities": list(record.probabilities or ()),
        "unseen": list(record.unseen),
        "entity": record.entity,
    }


def _offices(store: Store, record: Prediction | Failure) -> list[ThreadNode]:
    """Who made this version champion, the last time before the answer."""
    entry = put_in_office(store, record.deployment, record.version, moment_of(record.answered_at))
    if entry is None:
        return []
    sentence = f"{entry.at:%Y-%m-%d %H:%M} champion by {entry.actor}: {entry.reason}"
    evidence = {name: value for name, value in entry.evidence.items() if value is not None}
    return [ThreadNode("audit", str(entry.sequence), sentence, {"evidence": evidence}, ())]


def _rows(store: Store, record: Prediction | Failure) -> list[ThreadNode]:
    """The row of the same key in the newest snapshot, when it came into the table."""
    with store.read() as reader:
        row = reader.get("deployments", name=record.deployment)
    if row is None or row["declaration"] is None:
        return []
    dataset = msgspec.convert(row["declaration"], ModelDeclaration).dataset
    snapshot = latest_snapshot(store, dataset.name)
    if snapshot is None:
        return []
    try:
        found: list[dict[str, Any]] = find_rows(store, snapshot, keys=[record.key]).to_pylist()
    except DataError:
        return []  # a key that cannot be one of the table's is in none of its rows
    return [
        ThreadNode(
            "row",
            str(record.key),
            f"its row in snapshot {snapshot.id[:12]} of {dataset.name}",
            {name: str(value) if isinstance(value, datetime) else value for name, value in each.items()},
            (),
        )
        for each in found
    ]


def moment_of(microseconds: int) -> datetime:
    """A time of the log."""
    return _EPOCH + timedelta(microseconds=microseconds)
