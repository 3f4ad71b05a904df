"""Records as JSON documents: what ``--json`` prints."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Iterable, Mapping
from dataclasses import fields, is_dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from clew.entities import Duration, GateReport, Margin, RolloutStep, Trigger

_SPELLED = (Duration, Margin, RolloutStep, Trigger, Path)


def document(value: Any) -> Any:
    """The value as JSON has it: records as objects, times in ISO 8601 UTC, what is no number as null.

    Examples
    --------
    >>> document({"at": datetime(2026, 3, 1, tzinfo=UTC), "loss": float("nan"), "after": Duration(months=1)})
    {'at': '2026-03-01T00:00:00Z', 'loss': None, 'after': '1mo'}
    """
    if isinstance(value, _SPELLED):
        return str(value)
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat().replace("+00:00", "Z")
    if is_dataclass(value) and not isinstance(value, type):
        told = {field.name: document(getattr(value, field.name)) for field in fields(value)}
        return told | {"outcome": value.outcome} if isinstance(value, GateReport) else told
    if isinstance(value, Mapping):
        return {str(name): document(inner) for name, inner in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [document(inner) for inner in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def print_document(value: Any) -> None:
    """Print one JSON document on stdout."""
    json.dump(document(value), sys.stdout, indent=2, ensure_ascii=False, allow_nan=False)
    sys.stdout.write("\n")


def print_lines(values: Iterable[Any]) -> None:
    """Print each value as a JSON document on a line of its own."""
    for value in values:
        json.dump(document(value), sys.stdout, ensure_ascii=False, allow_nan=False)
        sys.stdout.write("\n")
