from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from clew.config import Settings
from clew.storage import Database, Store, open_store
from tests.storage import processes
from tests.storage.processes import StartChild

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(root=tmp_path, store=tmp_path / ".clew")


@pytest.fixture
def store(settings: Settings) -> Iterator[Store]:
    with open_store(settings, now=NOW) as store:
        yield store


@pytest.fixture(params=["sqlite", "postgresql"])
def any_settings(request: pytest.FixtureRequest, tmp_path: Path) -> Settings:
    """Settings of a store in each database Clew speaks to."""
    url = request.getfixturevalue("postgres_url") if request.param == "postgresql" else None
    return Settings(root=tmp_path, store=tmp_path / ".clew", database=url)


@pytest.fixture
def any_store(any_settings: Settings) -> Iterator[Store]:
    with open_store(any_settings, now=NOW) as store:
        yield store


@pytest.fixture
def start() -> Iterator[StartChild]:
    """Starts children that are ended with the test at the latest."""
    with processes.children() as start:
        yield start


@pytest.fixture
def connect() -> Iterator[Callable[[Path | str], Database]]:
    """Databases that are closed after the test."""
    opened: list[Database] = []

    def connect(where: Path | str, busy_timeout_seconds: float = 30.0) -> Database:
        opened.append(Database(where, busy_timeout_seconds))
        return opened[-1]

    yield connect
    for database in opened:
        database.close()
