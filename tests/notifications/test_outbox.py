from __future__ import annotations

import os
import signal
from collections import Counter
from datetime import timedelta
from pathlib import Path

import pytest

from clew.config import NotificationSettings
from clew.entities import Decision
from clew.notifications import deliver_due, tell
from clew.notifications.outbox import MOST_ATTEMPTS, pause_after
from clew.storage import Store
from tests.notifications.conftest import StartChild
from tests.notifications.receivers import NOW, Receiver, put, rows, until, webhook
from tests.storage.processes import hear

SECOND = timedelta(seconds=1)
BOTH = NotificationSettings(webhook="https://hooks.example/T0", command=("true",))
PROMOTED = Decision("promoted", NOW, "champion is version 3", {"version": 3})


def told(store: Store, settings: NotificationSettings, decision: Decision = PROMOTED) -> None:
    with store.write() as tx:
        tell(tx, settings, decision, deployment="churn", identity="churn/00004", now=NOW)


def status(store: Store) -> list[tuple[str, int]]:
    return [(row["status"], row["attempts"]) for row in rows(store)]


# ---------------------------------------------------------------- the outbox


def test_a_decision_is_put_there_once_for_each_channel(store: Store) -> None:
    told(store, BOTH)
    told(store, BOTH)
    assert Counter(row["channel"] for row in rows(store)) == {"webhook": 1, "command": 1}
    row = rows(store)[0]
    assert (row["level"], row["deployment"], row["status"]) == ("loop", "churn", "waiting")
    assert row["payload"]["ask"] == "clew why churn/00004"


def test_it_is_there_only_with_what_it_tells_of(store: Store) -> None:
    with pytest.raises(ValueError, match="no table"), store.write() as tx:  # noqa: PT012 - both in one
        tell(tx, BOTH, PROMOTED, deployment="churn", identity="churn/00004", now=NOW)
        tx.insert("no such table", {})
    assert rows(store) == []


def test_only_the_levels_that_are_set_are_told(store: Store) -> None:
    told(store, NotificationSettings(command=("true",), levels=("page",)))
    told(store, NotificationSettings())
    told(store, BOTH, Decision("refit", NOW, "refit on newer rows"))
    assert rows(store) == []


def test_the_same_id_in_another_deployment_is_another_notice(store: Store) -> None:
    settings = NotificationSettings(command=("true",))
    for deployment in ("churn", "credit"):
        with store.write() as tx:
            tell(tx, settings, PROMOTED, deployment=deployment, identity="1", now=NOW)
    assert len({row["id"] for row in rows(store)}) == 2


# ---------------------------------------------------------------- sending and trying again


def test_what_was_sent_is_not_sent_again(store: Store, here: Receiver) -> None:
    put(store, webhook(here), "one", "two")
    assert deliver_due(store, webhook(here), NOW) == 2
    assert deliver_due(store, webhook(here), NOW + timedelta(days=9)) == 0
    assert status(store) == [("sent", 1)] * 2
    assert len(here.received) == 2


def test_what_is_not_due_yet_waits(store: Store, here: Receiver) -> None:
    put(store, webhook(here), "one", now=NOW + SECOND)
    assert deliver_due(store, webhook(here), NOW) == 0
    assert deliver_due(store, webhook(here), NOW + SECOND) == 1


def test_a_failure_is_tried_again_after_a_minute_then_two_then_four(store: Store, here: Receiver) -> None:
    settings = webhook(here)
    here.status = 503
    put(store, settings, "one")
    moment = NOW
    for n_attempts, minutes in enumerate((1, 2, 4), 1):
        assert deliver_due(store, settings, moment) == 0
        assert status(store) == [("waiting", n_attempts)]
        assert "503 Service Unavailable" in rows(store)[0]["last_error"]
        moment += timedelta(minutes=minutes)
        assert deliver_due(store, settings, moment - SECOND) == 0
        assert len(here.received) == n_attempts
        moment += SECOND
    here.status = 200
    assert deliver_due(store, settings, moment) == 1
    assert [got.notice["attempt"] for got in here.received] == [1, 2, 3, 4]
    assert len({got.headers["X-Clew-Delivery"] for got in here.received}) == 1
    assert (rows(store)[0]["status"], rows(store)[0]["last_error"]) == ("sent", None)


def test_pauses_grow_to_six_hours_and_all_attempts_lie_within_a_day() -> None:
    pauses = [pause_after(n) for n in range(1, MOST_ATTEMPTS + 1)]
    assert max(pauses) == timedelta(hours=6)
    assert sum(pauses[:-1], timedelta()) <= timedelta(hours=24) < sum(pauses, timedelta())
    assert pause_after(10**6) == timedelta(hours=6)


def test_after_a_day_it_is_given_up_with_the_last_error(store: Store, here: Receiver) -> None:
    settings = webhook(here)
    here.status = 500
    put(store, settings, "one")
    moment, ends = NOW, NOW + timedelta(days=3)
    while moment < ends:
        deliver_due(store, settings, moment)
        moment += timedelta(minutes=61)
    assert status(store) == [("given up", MOST_ATTEMPTS)]
    assert rows(store)[0]["last_error"].endswith("answered 500 Internal Server Error")
    assert len(here.received) == MOST_ATTEMPTS


def test_what_a_program_complains_of_is_kept_without_secrets(store: Store) -> None:
    settings = NotificationSettings(
        webhook="https://me:hunter2@hooks.example/T0/B7",
        secret="pssst",
        command=("sh", "-c", "echo 'pssst at https://me:hunter2@hooks.example/T0/B7' >&2; exit 1"),
        levels=("page",),
    )
    put(store, settings, "one")
    deliver_due(store, settings, NOW)
    errors = " ".join(row["last_error"] or "" for row in rows(store))
    assert "sh ended with exit code 1: … at …" in errors
    for secret in ("hunter2", "pssst", "T0", "B7"):
        assert secret not in errors


def test_once_a_channel_failed_its_other_notices_are_left_for_the_next_call(
    store: Store, here: Receiver, tmp_path: Path
) -> None:
    settings = webhook(here, command=("sh", "-c", 'echo >> "$0"', str(tmp_path / "told")))
    here.status = 500
    put(store, settings, "one", "two", "three")
    assert deliver_due(store, settings, NOW) == 3  # the command's
    assert len(here.received) == 1
    here.status = 200
    assert deliver_due(store, settings, NOW) == 2
    assert deliver_due(store, settings, NOW + timedelta(minutes=2)) == 1
    assert (tmp_path / "told").read_text() == "\n" * 3


def test_a_channel_that_is_no_longer_set_is_given_up(store: Store, here: Receiver) -> None:
    put(store, webhook(here), "one")
    assert deliver_due(store, NotificationSettings(), NOW) == 0
    assert status(store) == [("given up", 0)]
    assert "webhook is no longer set" in rows(store)[0]["last_error"]


# ---------------------------------------------------------------- several processes, and their deaths

_DELIVER = """
from clew.config import NotificationSettings
from clew.notifications import deliver_due
store = open_store(settings, now=now)
say("ready")
wait()
say(deliver_due(store, NotificationSettings(webhook={url!r}, secret="s", allow_private=True), now))
"""


def test_of_two_who_deliver_at_once_one_sends_each_notice(
    store: Store, here: Receiver, start: StartChild
) -> None:
    identities = [str(n) for n in range(40)]
    put(store, webhook(here), *identities)
    children = [start(_DELIVER.format(url=here.url)) for _ in range(2)]
    for child in children:
        assert hear(child) == "ready"
    for child in children:
        assert child.stdin is not None
        child.stdin.write("\n")
        child.stdin.flush()
    n_sent = [int(hear(child)) for child in children]
    assert sum(n_sent) == 40
    assert len({got.notice["id"] for got in here.received}) == len(here.received) == 40
    assert {row["status"] for row in rows(store)} == {"sent"}


def test_who_is_killed_between_sending_and_writing_it_down_leaves_it_to_be_sent_again(
    store: Store, here: Receiver, start: StartChild
) -> None:
    put(store, webhook(here), "one")
    child = start(_DELIVER.format(url=here.url))
    here.before_answer = lambda: os.kill(child.pid, signal.SIGKILL)
    assert hear(child) == "ready"
    assert child.stdin is not None
    child.stdin.write("\n")
    child.stdin.flush()
    until(lambda: child.poll() is not None)
    here.before_answer = lambda: None
    assert status(store) == [("waiting", 1)]
    assert deliver_due(store, webhook(here), NOW + timedelta(seconds=30)) == 0
    assert deliver_due(store, webhook(here), NOW + timedelta(seconds=70)) == 1
    first, second = here.received
    assert first.headers["X-Clew-Delivery"] == second.headers["X-Clew-Delivery"]
    assert status(store) == [("sent", 2)]


def test_killed_during_the_last_attempt_it_is_given_up(store: Store, here: Receiver) -> None:
    put(store, webhook(here), "one")
    with store.write() as tx:
        tx.update("notices", {"status": "waiting"}, {"attempts": MOST_ATTEMPTS})
    assert deliver_due(store, webhook(here), NOW) == 0
    assert rows(store)[0]["status"] == "given up"
    assert rows(store)[0]["last_error"] == "Clew was ended during the last attempt"
