"""Who may ask, and how much: the same door before every route, and limits that a real worker keeps."""

from __future__ import annotations

import contextlib
import json
import socket
import time
from typing import Any

import httpx
import pytest

from clew.config import ServingSettings
from clew.serving.app import ROUTES
from clew.serving.door import Door
from clew.serving.refusals import Refused
from clew.serving.routing_table import RoutingTable
from tests.serving.workers import ROW, TOKEN, Place, Worker, error_of, fitted, wait_for


def paths() -> list[tuple[str, str, bool]]:
    return [
        (rule.method, rule.prefix + "credit" * rule.prefix.endswith("/"), rule.needs_token) for rule in ROUTES
    ]


def test_every_route_but_health_needs_a_token_that_holds(place: Place) -> None:
    place.serve(fitted())
    place.allow("another", "Ann")
    worker = place.start()
    assert [path for _, path, needs_token in paths() if not needs_token] == ["/health"]
    for method, path, needs_token in [*paths(), ("GET", "/no/such/path", True)]:
        for headers in ({}, {"Authorization": "Bearer wrong"}, {"Authorization": f"Basic {TOKEN}"}):
            response = httpx.request(method, worker.url + path, headers=headers, content=b"{}")
            assert (response.status_code == 401) == needs_token, (path, headers)
    for token in (TOKEN, "another"):
        answer = httpx.post(
            worker.url + "/predict/credit", json=ROW, headers={"Authorization": f"Bearer {token}"}
        )
        assert answer.status_code == 200


def test_a_revoked_token_is_refused_within_a_second_without_any_bell(place: Place) -> None:
    place.serve(fitted())
    worker = place.start()
    assert worker.predict().status_code == 200
    place.revoke("tests")
    started = time.monotonic()
    wait_for(lambda: worker.predict().status_code == 401, "the token is refused")
    assert time.monotonic() - started < 1.0
    assert error_of(worker.predict()) == (401, "UNAUTHENTICATED", None, None)


@pytest.mark.parametrize(
    ("header", "value", "is_allowed"),
    [
        ("Host", "localhost:1", True),
        ("Host", "LOCALHOST", True),
        ("Host", "[::1]:8750", True),
        ("Host", "models.example", True),
        ("Host", "evil.example", False),
        ("Host", "localhost.evil.example", False),
        ("Host", "", False),
        ("Origin", "http://localhost:3000", True),
        ("Origin", "https://models.example", True),
        ("Origin", "https://evil.example", False),
        ("Origin", "null", False),
    ],
)
def test_foreign_hosts_and_pages_are_refused(header: str, value: str, is_allowed: bool) -> None:
    door = Door(ServingSettings(allowed_hosts=("models.example",)))
    headers = {b"host": b"127.0.0.1:8750"} | {header.lower().encode(): value.encode()}
    if is_allowed:
        assert door.admit(headers, RoutingTable(), needs_token=False) == ""
        return
    with pytest.raises(Refused) as refused:
        door.admit(headers, RoutingTable(), needs_token=False)
    assert (refused.value.status, refused.value.code) == (403, f"FOREIGN_{header.upper()}")


def test_a_foreign_page_is_refused_by_a_worker_even_with_a_token(place: Place) -> None:
    place.serve(fitted())
    worker = place.start(settings='allowed_hosts = ["models.example"]')
    assert error_of(worker.predict(Origin="https://evil.example"))[:2] == (403, "FOREIGN_ORIGIN")
    assert error_of(worker.predict(Host="evil.example"))[:2] == (403, "FOREIGN_HOST")
    assert worker.predict(Host="models.example").status_code == 200
    assert place.predictions()[-1][1].key == "r1"


def test_wrong_methods_and_paths_say_what_there_is(place: Place) -> None:
    place.serve(fitted())
    worker = place.start()
    wrong = worker.client.get("/predict/credit")
    assert error_of(wrong)[:2] == (405, "METHOD_NOT_ALLOWED")
    assert wrong.headers["Allow"] == "POST"
    nowhere = worker.client.post("/predictions")
    assert error_of(nowhere)[:2] == (404, "RESOURCE_DOES_NOT_EXIST")
    assert "POST /predict/{model}" in nowhere.json()["error"]["message"]


def test_a_body_or_a_list_beyond_the_limits_is_refused(place: Place) -> None:
    place.serve(fitted())
    worker = place.start(settings="max_body_bytes = 20_000\nmax_rows = 5")
    assert worker.predict([ROW] * 5).status_code == 200
    assert error_of(worker.predict([ROW] * 6)) == (422, "TOO_MANY_ROWS", None, None)
    assert error_of(worker.predict(ROW | {"weekday": "x" * 20_000}))[:2] == (413, "BODY_TOO_LARGE")
    # Read to its end, so that the caller sees the answer; a much larger one is cut off.
    assert error_of(worker.predict(ROW | {"weekday": "x" * 70_000}))[:2] == (413, "BODY_TOO_LARGE")
    with contextlib.suppress(httpx.TransportError):
        assert worker.predict(ROW | {"weekday": "x" * 5_000_000}).status_code == 413
    assert worker.predict().status_code == 200
    assert len(place.predictions()) == 6


def half_a_request(worker: Worker, with_body: bool = True) -> socket.socket:
    """A connection whose caller has sent the head of a request and the first byte of its body."""
    caller = socket.create_connection(("127.0.0.1", worker.port))
    head = f"POST /predict/credit HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {TOKEN}\r\n"
    caller.sendall(f"{head}Content-Length: 100\r\n\r\n{{".encode() if with_body else head.encode())
    return caller


@pytest.mark.parametrize("with_body", [True, False])
def test_a_slow_caller_is_cut_off_and_nobody_else_waits(with_body: bool, place: Place) -> None:
    place.serve(fitted())
    worker = place.start(settings="timeout_seconds = 1")
    with (
        half_a_request(worker, with_body) as slow,
        socket.create_connection(("127.0.0.1", worker.port)) as silent,
    ):
        started = time.monotonic()
        assert worker.predict().status_code == 200
        assert time.monotonic() - started < 0.5
        for caller in (slow, silent):
            caller.settimeout(10)
            with contextlib.suppress(ConnectionResetError):
                assert caller.recv(1000) == b""
        assert 0.5 < time.monotonic() - started < 5
    time.sleep(1.5)
    assert worker.predict().status_code == 200, "a connection that owes nothing stays open"


def test_more_requests_than_may_wait_are_told_to_come_again(place: Place) -> None:
    place.serve(fitted())
    worker = place.start(settings="max_waiting = 2")
    callers = [half_a_request(worker) for _ in range(3)]
    try:
        refused = wait_for(lambda: (r := worker.predict()).status_code == 503 and r, "a worker with no room")
        assert error_of(refused)[:2] == (503, "TOO_BUSY")
        assert refused.headers["Retry-After"] == "1"
        assert worker.client.get("/health").status_code == 200
    finally:
        for caller in callers:
            caller.close()
    wait_for(lambda: worker.predict().status_code == 200, "room again")


def test_two_requests_in_one_packet_are_both_answered_in_order(place: Place) -> None:
    place.serve(fitted())
    worker = place.start()
    body = json.dumps(ROW).encode()
    head = f"POST /predict/credit HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {TOKEN}\r\n"
    one = f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body
    with socket.create_connection(("127.0.0.1", worker.port)) as caller:
        caller.settimeout(10)
        caller.sendall(one + one)
        got = b""
        while got.count(b"HTTP/1.1 200") < 2:
            got += caller.recv(10_000)
    assert len(place.predictions()) == 2


def test_health_needs_no_token_and_waits_for_the_routes(place: Place) -> None:
    place.serve(fitted())
    worker = place.start(wait=False)
    states: list[Any] = []

    def is_ready() -> bool:
        try:
            response = httpx.get(worker.url + "/health")
        except httpx.TransportError:
            return False
        states.append((response.status_code, response.json()["status"]))
        return response.status_code == 200

    wait_for(is_ready, "a worker that is ready")
    assert set(states) <= {(503, "loading"), (200, "ready")}
    assert worker.predict().status_code == 200
