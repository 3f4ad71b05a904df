from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

# Before anything imports numpy: small matrices on shared cores are slower with a thread for each core.
for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "POLARS_MAX_THREADS"):
    os.environ[variable] = "1"

import hypothesis
import pytest

from tests import servers
from tests.servers import PostgresServer, S3Server

hypothesis.settings.register_profile(
    "clew",
    deadline=None,
    derandomize="CI" in os.environ,
    suppress_health_check=[hypothesis.HealthCheck.too_slow],
)
hypothesis.settings.load_profile("clew")

SERVERS_DIRECTORY = pytest.StashKey[Path]()


def pytest_configure(config: pytest.Config) -> None:
    """Give the whole run one directory for its servers; parallel workers hear of it from their controller."""
    workerinput = getattr(config, "workerinput", None)
    if workerinput is None:
        config.stash[SERVERS_DIRECTORY] = Path(tempfile.mkdtemp(prefix="clew-test-servers-"))
    else:
        config.stash[SERVERS_DIRECTORY] = Path(workerinput["servers_directory"])


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: object) -> None:
    node.workerinput["servers_directory"] = str(node.config.stash[SERVERS_DIRECTORY])  # type: ignore[attr-defined]


def pytest_unconfigure(config: pytest.Config) -> None:
    if not hasattr(config, "workerinput"):
        servers.stop_all(config.stash[SERVERS_DIRECTORY])


@pytest.fixture(scope="session")
def postgres(pytestconfig: pytest.Config) -> PostgresServer:
    """A real PostgreSQL, shared by the whole run."""
    return servers.shared_postgres(pytestconfig.stash[SERVERS_DIRECTORY])


@pytest.fixture
def postgres_url(postgres: PostgresServer) -> Iterator[str]:
    """The URL of an empty database that is this test's own."""
    with postgres.fresh_database() as url:
        yield url


@pytest.fixture(scope="session")
def s3(pytestconfig: pytest.Config) -> S3Server:
    """A real S3 server, shared by the whole run: endpoint, keys and region to reach it with."""
    return servers.shared_s3(pytestconfig.stash[SERVERS_DIRECTORY])


@pytest.fixture
def s3_url(s3: S3Server) -> str:
    """A place in the S3 server's bucket that is this test's own."""
    return s3.fresh_url()
