"""Tokens: the file of the first one, and when workers go by a change."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from pathlib import Path

import httpx
import pytest

from clew.config import Settings
from clew.server.tokens import create_token, ensure_first_token, revoke_token, wait_until_known
from clew.serving import fleet
from clew.storage import Store, open_store
from tests.serving.workers import ROW, fitted, new_place

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return open_store(Settings(root=tmp_path, store=tmp_path / "store"), now=NOW)


def test_the_first_tokens_file_goes_with_its_token(store: Store) -> None:
    file = store.folder / "run" / "token"
    with store:
        assert ensure_first_token(store, NOW)
        create_token(store, "ada", actor="admin", now=NOW)
        revoke_token(store, "ada", actor="admin", now=NOW)
        assert file.is_file()
        revoke_token(store, "admin", actor="ada", now=NOW, dry_run=True)
        assert file.is_file()
        revoke_token(store, "admin", actor="ada", now=NOW)
        assert not file.exists()


def test_a_start_removes_the_file_of_a_token_that_does_not_count(store: Store) -> None:
    file = store.folder / "run" / "token"
    with store:
        ensure_first_token(store, NOW)
        file.write_text("of another time\n")  # as a kill between the two steps of a revocation leaves it
        assert not ensure_first_token(store, NOW)
        assert not file.exists()


def test_workers_go_by_a_token_from_the_moment_that_the_wait_ends(tmp_path: Path) -> None:
    with new_place(tmp_path / "project") as place:
        place.serve(fitted())
        worker = place.start()
        for n in range(5):
            token = create_token(place.store, f"ada-{n}", actor="tests", now=NOW)
            assert wait_until_known(place.store)
            headers = {"Authorization": f"Bearer {token}"}
            answer = httpx.post(f"{worker.url}/predict/credit", json=ROW, headers=headers)
            assert answer.status_code == 200
            revoke_token(place.store, f"ada-{n}", actor="tests", now=NOW)
            assert wait_until_known(place.store)
            answer = httpx.post(f"{worker.url}/predict/credit", json=ROW, headers=headers)
            assert answer.status_code == 401


def test_the_wait_for_a_worker_that_never_looks_is_bounded(store: Store) -> None:
    with store:
        fleet.join(store, NOW)  # this process, which serves nothing
        create_token(store, "ada", actor="tests", now=NOW)
        began = time.monotonic()
        assert not wait_until_known(store, seconds=0.1)
        assert time.monotonic() - began < 30
