from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.serving.workers import Place, new_place


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    """A project with a store and a token; its workers are ended with the test."""
    with new_place(tmp_path) as place:
        yield place
