from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from clew.config import Settings
from clew.storage import Store, open_store
from tests.storage import processes
from tests.storage.processes import StartChild

NOW = datetime(2026, 6, 1, 12, tzinfo=UTC)


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(root=tmp_path, store=tmp_path / ".clew")


@pytest.fixture
def store(settings: Settings) -> Iterator[Store]:
    with open_store(settings, now=NOW) as store:
        yield store


@pytest.fixture
def start() -> Iterator[StartChild]:
    """Starts children that are ended with the test at the latest."""
    with processes.children() as start:
        yield start
