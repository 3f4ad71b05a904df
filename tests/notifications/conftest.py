from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeAlias

import pytest

from clew.config import Settings
from clew.storage import Store, open_store
from tests.notifications.receivers import NOW, Receiver, receiver
from tests.storage import processes

StartChild: TypeAlias = Callable[[str], subprocess.Popen[str]]


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(root=tmp_path, store=tmp_path / "store")


@pytest.fixture
def store(settings: Settings) -> Iterator[Store]:
    with open_store(settings, now=NOW) as store:
        yield store


@pytest.fixture
def here() -> Iterator[Receiver]:
    """A receiver on this machine."""
    with receiver() as here:
        yield here


@pytest.fixture
def start(settings: Settings) -> Iterator[StartChild]:
    """Starts processes that work on the test's store; they are ended with the test at the latest."""
    with processes.children() as start_child:
        yield lambda code: start_child(settings, code)
