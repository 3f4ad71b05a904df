from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from clew.config import Settings
from clew.storage import Store, open_store
from tests.loop.made import NOW


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(root=tmp_path, store=tmp_path / "store")


@pytest.fixture
def store(settings: Settings) -> Iterator[Store]:
    with open_store(settings, now=NOW) as store:
        yield store
