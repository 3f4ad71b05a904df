from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from clew.config import Settings
from clew.storage import Store, open_store
from tests.loop.bikes import Bench, bench
from tests.loop.made import NOW


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(root=tmp_path, store=tmp_path / "store")


@pytest.fixture
def store(settings: Settings) -> Iterator[Store]:
    with open_store(settings, now=NOW) as store:
        yield store


@pytest.fixture(scope="session")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    """Real fits in real children. It costs seconds to open, so tests share it, each with its own fitter."""
    with bench(tmp_path_factory.mktemp("bikes")) as opened:
        yield opened
