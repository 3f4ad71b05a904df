"""Wrong orders, foreigners, and people in each other's way, at the control server of ``clew up``."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from threading import Barrier
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest

from tests.server.running import Up, eventually, make_project, up
from tests.server.small_live import N_VERSIONS

pytestmark = pytest.mark.timeout(180)


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Up]:
    """One system for all: what is wrong must leave nothing behind."""
    root = make_project(tmp_path_factory.mktemp("faults") / "project")
    (root / "clew.toml").write_text('models = ["model.py"]\n[serving]\ntimeout_seconds = 1\n')
    with up(root) as running:
        yield running


def clew(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-P", "-c", "import sys; from clew.cli import run; sys.exit(run())", *words]
    return subprocess.run(command, cwd=folder, check=False, capture_output=True, text=True)


def refusal(response: httpx.Response) -> tuple[int, str, str]:
    """Status, code and message; of an error's one shape."""
    error = response.json()["error"]
    assert set(error) == {"code", "message"}
    return response.status_code, error["code"], error["message"]


def champion(running: Up) -> int:
    [line] = running.ask("GET", "/status").json()["models"]
    return int(line["version"])


def moves(running: Up) -> list[dict[str, Any]]:
    entries = running.ask("GET", "/audit?subject=dice").json()["entries"]
    return [entry for entry in entries if entry["action"] == "move champion"]


# ---------------------------------------------------------------- wrong requests

AS_JSON = "application/json"
WRONG, UNKNOWN, TOO_LATE = "INVALID_PARAMETER_VALUE", "RESOURCE_DOES_NOT_EXIST", "RESOURCE_CONFLICT"


@pytest.mark.parametrize(
    ("body", "kind", "expected"),
    [
        (b'{"reason": "x", "version"', AS_JSON, (400, "MALFORMED_JSON", "no JSON at character 25")),
        (b"\xff\xfe", AS_JSON, (400, "MALFORMED_JSON", "no JSON at character 0")),
        (b"[" * 100_000, AS_JSON, (400, WRONG, "error parsing the body")),
        (b"", AS_JSON, (422, WRONG, "the body: Field required")),
        (b"[]", AS_JSON, (422, WRONG, "valid dictionary")),
        (b'{"reason": "x"}', "text/plain", (415, "UNSUPPORTED_MEDIA_TYPE", "Content-Type: application/json")),
        (b'{"version": 2}', "", (422, WRONG, "reason: Field required")),
        (b'{"version": 2}', "application/x-www-form-urlencoded", (422, WRONG, "reason: Field required")),
        (b'{"version": 2}', AS_JSON, (422, WRONG, "reason: Field required")),
        (b'{"reason": " "}', AS_JSON, (400, WRONG, "needs a reason")),
        (b'{"reason": null}', AS_JSON, (422, WRONG, "reason: Input should be")),
        (b'{"reason": "\\ud800"}', AS_JSON, (422, WRONG, "reason: Input should be")),
        (b'{"reason": "x", "version": "two"}', AS_JSON, (422, WRONG, "version: Input")),
        (b'{"reason": "x", "version": NaN}', AS_JSON, (422, WRONG, "finite number")),
        (b'{"reason": "x", "versions": 2}', AS_JSON, (422, WRONG, "versions: Extra")),
        (b'{"reason": "x", "version": 9}', AS_JSON, (404, UNKNOWN, "versions 1 to 3 exist")),
        (b'{"reason": "x", "version": -1}', AS_JSON, (404, UNKNOWN, "no version -1")),
        (b'{"reason": "x", "version": 36893488147419103232}', AS_JSON, (404, UNKNOWN, "no version 3689")),
        (b'{"reason": "x", "version": 2, "expected": 3}', AS_JSON, (409, TOO_LATE, "not version 3")),
        (json.dumps({"reason": "x" * 1_000_000}).encode(), AS_JSON, (413, WRONG, "at most 1,000,000 bytes")),
    ],
)  # fmt: skip
def test_a_wrong_order_is_refused_with_what_is_wrong(
    body: bytes, kind: str, expected: tuple[int, str, str], running: Up
) -> None:
    headers = {"Authorization": f"Bearer {running.token}"} | ({"Content-Type": kind} if kind else {})
    status, code, words = expected
    got = refusal(running.ask("POST", "/models/dice/promote", content=body, headers=headers))
    assert got[:2] == (status, code)
    assert words in got[2]
    assert champion(running) == 1


@pytest.mark.parametrize(
    ("method", "path", "order", "expected"),
    [
        ("POST", "/models/dise/pause", {"reason": "x"}, (404, UNKNOWN, "Did you mean 'dice'?")),
        ("POST", "/models/dice%00/pause", {"reason": "x"}, (404, UNKNOWN, "Did you mean 'dice'?")),
        ("POST", "/models/dice/rollback", {"reason": "x"}, (400, WRONG, "no other champion")),
        ("POST", "/models/dice/retire", {"reason": "x", "expected": 3}, (409, TOO_LATE, "is version 1")),
        ("POST", "/clock", {"now": "2026-01-01T00:00:00Z"}, (400, WRONG, "--clock replay")),
        ("POST", "/clock", {"now": "2026-01-01T00:00:00"}, (422, WRONG, "timezone")),
        ("GET", "/audit?limit=0", None, (422, WRONG, "limit")),
        ("GET", "/commands/none", None, (404, UNKNOWN, "no command 'none'")),
        ("GET", "/trace/none", None, (404, UNKNOWN, "clew models list")),
        ("GET", "/nowhere", None, (404, UNKNOWN, "GET /openapi.json")),
        ("PUT", "/status", None, (405, "METHOD_NOT_ALLOWED", "GET /openapi.json")),
    ],
)  # fmt: skip
def test_what_is_not_there_is_refused_with_what_there_is(
    method: str, path: str, order: Any, expected: tuple[int, str, str], running: Up
) -> None:
    got = refusal(running.ask(method, path, json=order))
    assert got[:2] == expected[:2]
    assert expected[2] in got[2]
    assert champion(running) == 1


def test_a_refused_order_holds_up_none_behind_it(running: Up) -> None:
    huge = {"reason": "a slip of the finger", "version": 2**80}
    assert running.ask("POST", "/models/dice/promote", json=huge).status_code == 404
    assert running.ask("POST", "/models/dice/pause", json={"reason": "next"}).status_code == 200
    assert running.ask("POST", "/models/dice/resume", json={"reason": "next"}).status_code == 200
    typed = clew(running.folder, "promote", "dice", str(2**80), "--reason", "by hand", "--json")
    assert (typed.returncode, json.loads(typed.stdout)["error"]["code"]) == (1, UNKNOWN)
    again = clew(running.folder, "rollback", "dice", "--reason", "by hand")
    assert again.returncode == 2
    assert "'dice' has had no other champion to go back to." in again.stderr


# ---------------------------------------------------------------- foreigners


@pytest.mark.parametrize(
    "header", [None, "Bearer wrong", "Bearer", "Basic {token}", "{token}", b"Bearer \xff"]
)
def test_nobody_is_answered_without_a_token_that_counts(header: str | bytes | None, running: Up) -> None:
    given = header.format(token=running.token) if isinstance(header, str) else header
    headers: Any = {} if given is None else {"Authorization": given}
    for method, path in (("GET", "/status"), ("GET", "/metrics"), ("POST", "/models/dice/retire")):
        response = running.ask(
            method, path, headers=headers, **({"json": {"reason": "x"}} if method == "POST" else {})
        )
        status, code, message = refusal(response)
        assert (status, code) == (401, "UNAUTHENTICATED")
        assert "clew token create NAME" in message
        assert response.headers["WWW-Authenticate"] == "Bearer"
    assert running.ask("GET", "/health", headers=headers).status_code == 200


def test_a_revoked_token_is_refused_from_the_next_request_on(running: Up) -> None:
    token = clew(running.folder, "token", "create", "ada").stdout.strip()
    headers = {"Authorization": f"Bearer {token}"}
    assert running.ask("GET", "/status", headers=headers).status_code == 200
    assert clew(running.folder, "token", "revoke", "ada").returncode == 0
    assert refusal(running.ask("GET", "/status", headers=headers))[0] == 401


@pytest.mark.parametrize("headers", [{"Host": "evil.example"}, {"Origin": "https://evil.example"}])
def test_a_foreign_name_or_page_is_refused_even_with_a_token(headers: dict[str, str], running: Up) -> None:
    authorised = headers | {"Authorization": f"Bearer {running.token}"}
    assert refusal(running.ask("GET", "/status", headers=authorised))[:2] == (403, "PERMISSION_DENIED")


@pytest.mark.parametrize(
    "sent", ["", "POST /models/dice/pause HTTP/1.1\r\nHost:", "{head}\r\nContent-Length: 99\r\n\r\n{{"]
)
def test_a_caller_who_sends_half_a_request_is_cut_off(sent: str, running: Up) -> None:
    place = urlsplit(running.facts["control_url"])
    head = f"POST /models/dice/pause HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {running.token}"
    with socket.create_connection((place.hostname, place.port)) as caller:
        caller.settimeout(60)
        caller.sendall(sent.format(head=head).encode())
        assert running.ask("GET", "/status").status_code == 200
        with suppress(ConnectionResetError):
            assert caller.recv(1000) == b""


# ---------------------------------------------------------------- two at once


def test_of_two_who_promote_at_once_one_wins_and_one_is_told_who_did(running: Up) -> None:
    for _ in range(5):
        before, n_before = champion(running), len(moves(running))
        start = Barrier(2)

        def promote(version: int, seen: int = before, start: Barrier = start) -> httpx.Response:
            order = {"reason": f"version {version} is right", "version": version, "expected": seen}
            start.wait()
            return running.ask("POST", "/models/dice/promote", json=order)

        wanted = [number for number in range(1, N_VERSIONS + 1) if number != before]
        with ThreadPoolExecutor(2) as people:
            answers = dict(zip(wanted, people.map(promote, wanted), strict=True))
        [winner] = [number for number, answer in answers.items() if answer.status_code == 200]
        [loser] = [answer for answer in answers.values() if answer.status_code != 200]
        status, code, message = refusal(loser)
        assert (status, code) == (409, TOO_LATE)
        assert f"is version {winner}, not version {before} as expected" in message
        assert champion(running) == winner
        newest, *_ = moves(running)
        assert len(moves(running)) == n_before + 1
        assert (newest["evidence"]["from"], newest["evidence"]["to"]) == (before, winner)
        assert newest["reason"] == f"version {winner} is right"


def test_the_system_is_well_after_all_that(running: Up) -> None:
    assert eventually(lambda: running.ask("GET", "/health").json()["status"] == "ok")
    assert "Traceback" not in running.log.read_text()
