from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from clew.config import Settings
from clew.storage import Store, open_store
from tests.loop.bikes import Bench, bench
from tests.loop.lives import Lives
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


@pytest.fixture(scope="session")
def shared_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that all processes of this test run share."""
    own = tmp_path_factory.getbasetemp()
    return own.parent if "PYTEST_XDIST_WORKER" in os.environ else own


@pytest.fixture(scope="session")
def lives(shared_folder: Path) -> Lives:
    return Lives(shared_folder / "lives")


@pytest.fixture(scope="session", autouse=True)
def compiled_once(shared_folder: Path) -> None:
    """Children import pandas and scikit-learn a few hundred times; they need not compile them each time."""
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    os.environ.setdefault("PYTHONPYCACHEPREFIX", str(shared_folder / "bytecode"))
