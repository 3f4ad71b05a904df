"""What the loops of one system share, and how each of them says where it stands."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from clew.config import Settings
from clew.loop.live.workshop import CapturedProject
from clew.loop.result import Event
from clew.serving.doorbell import Doorbell
from clew.storage import Store


@dataclass(frozen=True, slots=True)
class LiveStatus:
    """Where a running model stands, over its `n` newest matured rows; `value` is None when there are none."""

    deployment: str
    metric: str
    value: float | None
    n: int
    version: int | None
    stage: str
    status: str
    next_tick: datetime | None
    sentence: str = ""


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What the loops of one system share."""

    store: Store
    settings: Settings
    project: CapturedProject
    doorbell: Doorbell
    slot: AbstractContextManager[Any]
    clock: Callable[[], datetime]
    on_event: Callable[[str, Event], None]
    seed: int = 0
