"""What is told of versions lately: the difference of two readings of what their workers counted."""

from __future__ import annotations

import pytest

from clew.server.figures import Recent
from clew.serving.figures_file import WorkerFigures


def reading(worker: int, n_requests: int, n_beside: int, n_failed: int = 0) -> WorkerFigures:
    """A worker on which version 1 answered so often in 2 ms, while version 2 was asked beside it."""
    figures = WorkerFigures(worker, pid=1, log_bytes=500)
    champion, shadow = figures.of("dice", 1), figures.of("dice", 2)
    for _ in range(n_requests):
        champion.answered(3, 0.002)
    champion.model_seconds = n_requests * 3 * 0.0004
    shadow.n_beside, shadow.model_seconds = n_beside, n_beside * 0.0001
    if n_failed:
        shadow.failed("MODEL_FAILED", n_failed)
    return figures


@pytest.fixture
def recent() -> Recent:
    recent = Recent()
    recent.add([reading(1, 10, 30), reading(2, 0, 0)], 100.0)
    recent.add([reading(1, 30, 90, n_failed=4), reading(2, 5, 15)], 110.0)
    return recent


def test_versions_are_told_apart_and_workers_added_up(recent: Recent) -> None:
    first, second = recent.lately_by_version()["dice"]
    assert (first.version, first.requests_per_second, first.beside_per_second) == (1, 2.5, 0.0)
    assert (first.p50, first.errors) == (0.0025, 0)
    assert first.seconds_per_row == pytest.approx(0.0004)
    assert (second.version, second.requests_per_second, second.beside_per_second) == (2, 0.0, 7.5)
    assert (second.p50, second.errors) == (None, 4)
    assert second.seconds_per_row == pytest.approx(0.0001)


def test_a_model_is_what_its_versions_are_together(recent: Recent) -> None:
    lately = recent.lately()["dice"]
    assert (lately.requests_per_second, lately.errors, lately.log_bytes) == (2.5, 4, 1000)


def test_versions_that_nobody_asks_are_left_out() -> None:
    recent = Recent()
    assert recent.lately_by_version() == {}
    for seconds in (0.0, 60.0):
        recent.add([reading(1, 10, 0)], seconds)
    assert recent.lately_by_version() == {}
