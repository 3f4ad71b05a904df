from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from clew.config import NotificationSettings
from clew.notifications import deliver_due
from clew.notifications.command import run_command
from clew.notifications.failures import DeliveryFailed
from clew.storage import Store
from tests.notifications.conftest import StartChild
from tests.notifications.receivers import NOW, put, rows, until


def failure(*command: str, **options: float) -> str:
    with pytest.raises(DeliveryFailed) as caught:
        run_command(command, b"{}", **options)
    return str(caught.value)


def test_the_program_gets_the_notice_on_its_standard_input(store: Store, tmp_path: Path) -> None:
    settings = NotificationSettings(command=("sh", "-c", 'cat > "$1"', "sh", str(tmp_path / "told")))
    put(store, settings, "one")
    assert deliver_due(store, settings, NOW) == 1
    told = json.loads((tmp_path / "told").read_text())
    assert (told["sentence"], told["id"]) == ("this is one", rows(store)[0]["id"])


def test_its_exit_code_and_its_last_complaint_are_kept() -> None:
    said = failure("sh", "-c", "echo first >&2; echo 'no such channel' >&2; exit 3")
    assert said == "sh ended with exit code 3: no such channel"


def test_a_program_that_a_signal_ended_has_failed() -> None:
    assert failure("sh", "-c", "kill -TERM $$") == "sh ended with exit code 143"


def test_a_program_that_is_not_there_is_said() -> None:
    assert failure("/no/such/program") == (
        "/no/such/program ended with exit code 127: it cannot be started: No such file or directory"
    )


def test_a_program_may_leave_its_input_unread_and_say_much() -> None:
    run_command(("sh", "-c", "yes | head -c 3000000; yes | head -c 3000000 >&2"), b"x" * 3_000_000)


def test_a_program_may_leave_another_one_behind(tmp_path: Path) -> None:
    begun = time.monotonic()
    run_command(("sh", "-c", 'sleep 20 & echo $! > "$0"', str(tmp_path / "pid")), b"{}")
    assert time.monotonic() - begun < 10
    os.kill(int((tmp_path / "pid").read_text()), signal.SIGKILL)


def test_at_the_limit_it_is_killed_with_all_it_started(tmp_path: Path) -> None:
    script = 'sleep 60 & echo $! > "$0"; wait'
    begun = time.monotonic()
    said = failure("sh", "-c", script, str(tmp_path / "pid"), limit_seconds=0.5)
    assert said == "sh ran longer than 0.5 s and was killed"
    assert time.monotonic() - begun < 5
    until(lambda: has_ended(int((tmp_path / "pid").read_text())))


def test_it_ends_when_whoever_tells_is_killed(tmp_path: Path, start: StartChild) -> None:
    child = start(
        f"""
        from clew.notifications.command import run_command
        run_command(("sh", "-c", 'echo $$ > "$0"; sleep 60', {str(tmp_path / "pid")!r}), b"{{}}")
        """
    )
    until(lambda: (tmp_path / "pid").exists() and bool((tmp_path / "pid").read_text()))
    child.kill()
    until(lambda: has_ended(int((tmp_path / "pid").read_text())))


def has_ended(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def test_no_pipe_is_left_open() -> None:
    before = psutil.Process().num_fds()
    run_command(("true",), b"{}")
    failure("false")
    assert psutil.Process().num_fds() == before


def test_the_runner_needs_nothing_but_pythons_own() -> None:
    """It is started in a moment, and where Clew is not installed for the interpreter's own path."""
    code = "import runpy, sys; runpy.run_path(sys.argv[1]); print(*sys.modules)"
    runner = Path(run_command.__code__.co_filename).with_name("runner.py")
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", code, str(runner)], check=True, capture_output=True, text=True
    )
    assert not {"clew", "msgspec", "sqlalchemy"} & set(done.stdout.split())
