from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from clew.config import Settings
from clew.entities import Finding
from clew.monitoring import list_findings, store_finding
from clew.monitoring.findings import finding_id
from clew.storage import Store, open_store

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with open_store(Settings(root=tmp_path, store=tmp_path / ".clew"), now=NOW) as opened:
        yield opened


def a_finding(**changes: object) -> Finding:
    plain = Finding(
        monitor="risk",
        level="page",
        subject="churn",
        window_start=NOW - timedelta(days=9),
        window_end=NOW - timedelta(days=1),
        found_at=NOW,
        value=0.842,
        lower=0.829,
        upper=0.855,
        n=2900,
        method="e-detector; wilson interval",
        sentence="accuracy fell to 0.842",
        onset=NOW - timedelta(days=9),
        evidence={"limit": 0.861, "columns": ["a", "b"]},
    )
    return dataclasses.replace(plain, **changes)  # type: ignore[arg-type]


def test_a_finding_comes_back_as_it_was_stored(store: Store) -> None:
    found = a_finding()
    with store.write() as tx:
        store_finding(tx, "churn", found)
    assert list_findings(store, "churn") == [found]


def test_storing_a_finding_again_changes_nothing(store: Store) -> None:
    with store.write() as tx:
        first = store_finding(tx, "churn", a_finding())
    with store.write() as tx:
        assert store_finding(tx, "churn", a_finding()) == first
    assert len(list_findings(store, "churn")) == 1


def test_different_findings_have_different_ids() -> None:
    others = [a_finding(monitor="drift"), a_finding(sentence="else"), a_finding(found_at=NOW + timedelta(1))]
    ids = {finding_id("churn", each) for each in [a_finding(), *others]} | {finding_id("bikes", a_finding())}
    assert len(ids) == 5


def test_findings_are_listed_by_deployment_level_and_time(store: Store) -> None:
    ticket = a_finding(level="ticket", found_at=NOW + timedelta(hours=1), onset=None)
    early = a_finding(found_at=NOW - timedelta(days=30))
    with store.write() as tx:
        for each in (ticket, a_finding(), early):
            store_finding(tx, "churn", each)
        store_finding(tx, "bikes", early)
    assert list_findings(store, "churn") == [early, a_finding(), ticket]
    assert list_findings(store, "churn", level="ticket") == [ticket]
    assert list_findings(store, "churn", since=NOW) == [a_finding(), ticket]
    assert list_findings(store, "nothing") == []
