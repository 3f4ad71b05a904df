from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeAlias

import pytest

from clew.training import Child

StartChild: TypeAlias = Callable[[Path], Child]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[StartChild]:
    """Starts children for a project's folder; they are ended with the test at the latest."""
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    started: list[Child] = []

    def start(root: Path) -> Child:
        started.append(Child.start(root, root, scratch))
        return started[-1]

    yield start
    for child in started:
        child.close()
