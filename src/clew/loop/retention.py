"""Which of the prediction log is older than it has to be kept, and needed by nothing.

Needed, whatever its age, is an answer whose label may still come: while the label delay of its model is open,
or the loop waits for it. References of versions and what loops count by are kept apart from the log.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec

from clew.entities import Duration, ModelDeclaration
from clew.loop.live.checkpoints import load_checkpoint
from clew.storage import Store, Where

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def old_parts(store: Store, retention: Duration, now: datetime) -> list[dict[str, Any]]:
    """The rows of parts of the log that may go.

    Parameters
    ----------
    now
        By the store's own clock: a replay's log is as old as the replay says.

    Raises
    ------
    StoreError
        When the state of a loop cannot be read, so that nobody here knows what it waits for.
    """
    oldest = retention.before(now)
    with store.read() as reader:
        parts = reader.find("log_parts", {"last_time": Where("<", oldest)})
        declared = {
            row["name"]: msgspec.convert(row["declaration"], ModelDeclaration)
            for row in reader.find("deployments", {"kind": "live"})
            if row["declaration"] is not None
        }
    names = {part["deployment"] for part in parts}
    kept_from = {name: min(_needed_from(store, name, declared.get(name), now), default=now) for name in names}
    return [part for part in parts if part["last_time"] < kept_from[part["deployment"]]]


def _needed_from(
    store: Store, deployment: str, declaration: ModelDeclaration | None, now: datetime
) -> Iterator[datetime]:
    """Event times of answers that are needed, or moments before them."""
    if declaration is not None:
        yield declaration.dataset.label_delay.before(now)
    checkpoint = load_checkpoint(store, deployment)
    rows = checkpoint.state.get("rows", {}) if checkpoint is not None else {}
    waiting = rows.get("waiting", {}).values()
    yield from (_EPOCH + timedelta(microseconds=row.event_time) for row in waiting)


def part_name(part: dict[str, Any]) -> str:
    """What to call a part: what it holds, of which model and day, and its digest's beginning.

    Examples
    --------
    >>> part_name({"kind": "p", "deployment": "churn", "day": "2026-03-01", "object_digest": "5b1e" * 16})
    'predictions of churn on 2026-03-01, 5b1e5b1e5b1e'
    """
    kind = {"p": "predictions", "f": "failures", "l": "labels"}[part["kind"]]
    return f"{kind} of {part['deployment']} on {part['day']}, {part['object_digest'][:12]}"
