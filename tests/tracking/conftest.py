from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import TypeAlias

import pytest

from clew.config import Settings
from clew.storage import Store, open_store
from tests.storage import processes

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
StartChild: TypeAlias = Callable[[str], subprocess.Popen[str]]


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(root=tmp_path, store=tmp_path / "store")


@pytest.fixture
def store(settings: Settings) -> Iterator[Store]:
    with open_store(settings, now=NOW) as store:
        yield store


@pytest.fixture
def start(settings: Settings) -> Iterator[StartChild]:
    """Starts processes that work on the test's store; they are ended with the test at the latest."""
    started: list[subprocess.Popen[str]] = []

    def start(code: str) -> subprocess.Popen[str]:
        started.append(processes.start(settings, code))
        return started[-1]

    yield start
    for process in started:
        processes.kill(process)
