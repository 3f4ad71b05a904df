"""What the project declares now, held against what the last ``clew up`` went by: told, and recorded.

A changed label delay or metric changes what later decisions mean, and a function that was renamed leaves a
model behind that answers on while nothing watches it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields
from datetime import datetime
from typing import Any

import msgspec

from clew.entities import DatasetDeclaration, Json, ModelDeclaration
from clew.loop.result import Event
from clew.registry import record_audit
from clew.storage import Reader, Store

ACTION = "go by declaration"
KIND = "declaration"


def note_declarations(
    store: Store,
    declared: Sequence[ModelDeclaration],
    now: datetime,
    tell: Callable[[str, Event], None],
) -> None:
    """Tell and record what is declared otherwise than at the last start, and what is declared no more.

    It has to come before the records take over what is declared now.
    """
    for declaration in declared:
        with store.read() as reader:
            before, is_recorded = _gone_by(reader, declaration.name)
        changes = {} if before is None else changes_between(before, declaration)
        if changes:
            told = "; ".join(f"{name} is {is_} now, after {was}" for name, (was, is_) in changes.items())
            tell(declaration.name, Event(now, KIND, f"changed since the last start: {told}"))
        if changes or not is_recorded:
            _record(store, declaration.name, now, declaration, changes)
    with store.read() as reader:
        left = _answering_still(reader, {each.name for each in declared})
        ever_noted = {name: _gone_by(reader, name)[0] is not None for name in left}
    for name, number in left.items():
        sentence = (
            f"{name} is not declared any more, but its version {number} answers on, and nothing watches it."
            f" Declare it again, or end it: clew retire {name} --reason '…'"
        )
        tell(name, Event(now, KIND, sentence))
        if ever_noted[name]:
            _record(store, name, now, None, {})


def changes_between(before: ModelDeclaration, now: ModelDeclaration) -> dict[str, tuple[str, str]]:
    """What is declared otherwise, each as it was and as it is, in words.

    Examples
    --------
    >>> from clew.entities import Duration, Margin
    >>> rides = DatasetDeclaration("rides", "at", "id", "busy", Duration.parse("1d"), "rides.parquet")
    >>> before = ModelDeclaration("busy_hour", rides, "accuracy", Margin.parse(0.01))
    >>> now = ModelDeclaration("busy_hour", rides, "log_loss", Margin.parse(0.01))
    >>> changes_between(before, now)
    {'metric': ('accuracy', 'log_loss')}
    """
    pairs = [(each.name, getattr(before, each.name), getattr(now, each.name)) for each in fields(before)]
    pairs = [pair for pair in pairs if pair[0] != "dataset"]
    for each in fields(DatasetDeclaration):
        name = f"dataset's {each.name}" if each.name in ("name", "not_features") else each.name
        pairs.append((name, getattr(before.dataset, each.name), getattr(now.dataset, each.name)))
    return {name: (_in_words(was), _in_words(is_)) for name, was, is_ in pairs if was != is_}


def _in_words(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{name}={inner}" for name, inner in value.items()) or "none"
    if isinstance(value, tuple | list):
        return ", ".join(map(str, value)) or "none"
    return "none" if value is None else str(value)


def _gone_by(reader: Reader, name: str) -> tuple[ModelDeclaration | None, bool]:
    """What the last start went by, and whether that was recorded then."""
    rows = reader.find("audit", {"subject": name, "action": ACTION}, ["-sequence"], limit=1)
    if rows:
        plain = rows[0]["evidence"].get("declaration")
        return (None if plain is None else msgspec.convert(plain, ModelDeclaration)), plain is not None
    # A store that an earlier Clew lived in: what it knows last.
    row = reader.get("deployments", name=name)
    has_lived = reader.count("checkpoints", {"deployment": name}) > 0
    if row is None or row["declaration"] is None or not has_lived:
        return None, False
    return msgspec.convert(row["declaration"], ModelDeclaration), False


def _answering_still(reader: Reader, declared: set[str]) -> dict[str, int]:
    routes = reader.find("routes")
    return {
        row["deployment"]: row["champion"]
        for row in routes
        if row["deployment"] not in declared and row["champion"] is not None and row["stage"] != "retired"
    }


def _record(
    store: Store,
    name: str,
    now: datetime,
    declaration: ModelDeclaration | None,
    changes: Mapping[str, tuple[str, str]],
) -> None:
    evidence: Json = {
        "changes": {each: list(pair) for each, pair in changes.items()},
        "declaration": msgspec.to_builtins(declaration),
    }
    with store.write() as tx:
        record_audit(
            tx, now=now, actor="clew up", action=ACTION, subject=name, reason="read at the start",
            evidence=evidence,
        )  # fmt: skip
