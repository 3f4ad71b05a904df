from __future__ import annotations

import pytest

from tests.docs.walks import Walks


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--write-examples",
        action="store_true",
        help="write what the commands of README and docs print now into the pages",
    )


@pytest.fixture(scope="session")
def walks(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Walks:
    root = tmp_path_factory.getbasetemp()
    # Parallel processes have a folder each, below the one they share.
    is_parallel = hasattr(request.config, "workerinput")
    return Walks((root.parent if is_parallel else root) / "walks")
