"""``clew up`` with real processes: nothing is lost, nothing is left, nobody is kept waiting."""

from __future__ import annotations

import json
import signal
import socket
import stat
import subprocess
import sys
import threading
import time
from pathlib import Path

import httpx
import psutil
import pytest

from tests.server.running import Up, ended, eventually, kill, make_project, start, up

pytestmark = pytest.mark.timeout(180)

REPLAY = ("--clock", "replay", "--at", "2026-01-01")


@pytest.fixture
def project(tmp_path: Path) -> Path:
    return make_project(tmp_path / "project")


def clew(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-P", "-c", "import sys; from clew.cli import run; sys.exit(run())", *words]
    return subprocess.run(command, cwd=folder, check=False, capture_output=True, text=True)


def is_gone(process: psutil.Process) -> bool:
    return not process.is_running() or process.status() == psutil.STATUS_ZOMBIE


def test_it_comes_up_answers_and_ends_with_nothing_left(project: Path) -> None:
    with up(project, "--workers", "2") as running:
        assert running.facts["models"] == {"dice": 1}
        assert running.ask("GET", "/health").json()["status"] == "ok"
        assert set(running.processes) == {"control", "worker 1", "worker 2"}
        assert running.predict() in running.processes.values()
        family = running.family()
        running.process.send_signal(signal.SIGINT)
        code, _ = ended(running.process)
        assert code == 0, running.log.read_text()
        assert all(is_gone(each) for each in family)
        assert not (project / ".clew/run/up.json").exists()


def test_the_token_file_is_for_its_owner_alone_and_no_output_holds_the_token(project: Path) -> None:
    with up(project) as running:
        file = Path(running.facts["token_file"])
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
        assert stat.S_IMODE(file.parent.stat().st_mode) == 0o700
        assert running.token not in json.dumps(running.facts)
        running.ask("GET", f"/?token={running.token}", headers={})
        running.ask("GET", "/status", headers={"Authorization": "Bearer wrong-secret"})
        assert running.token not in running.log.read_text()
        assert "wrong-secret" not in running.log.read_text()
        stored = (project / ".clew/clew.sqlite").read_bytes()
        assert running.token.encode() not in stored


def test_prediction_survives_the_death_of_control_which_is_replaced(project: Path) -> None:
    with up(project) as running:
        before = running.processes
        kill(before["control"])
        for _ in range(20):
            assert running.predict() == before["worker 1"]
        eventually(lambda: running.processes["control"] != before["control"])
        eventually(lambda: answers(running))
        assert "control (process" in running.log.read_text()
        assert "was ended by SIGKILL; it is started again in 0.1 s" in running.log.read_text()
        assert running.processes["worker 1"] == before["worker 1"]


def answers(running: Up) -> bool:
    try:
        return bool(running.ask("GET", "/health").json()["status"] == "ok")
    except httpx.HTTPError:
        return False


def test_a_killed_worker_is_replaced_and_the_socket_waits_for_it(project: Path) -> None:
    with up(project) as running:
        for _ in range(3):
            before = running.processes["worker 1"]
            kill(before)
            # The connection lies in the socket that the supervisor holds until the new worker takes it.
            assert running.predict() not in (0, before)


def test_a_second_up_is_refused_and_told_of_the_first(project: Path) -> None:
    with up(project) as running:
        process, log = start(project)
        code, said = ended(process)
        message = json.loads(said)["error"]["message"]
        assert code == 1, log.read_text()
        assert f"process {running.process.pid} on {socket.gethostname()} since" in message
        assert running.facts["url"] in message
        assert running.facts["control_url"] in message
        assert running.predict() == running.processes["worker 1"]


def test_it_starts_on_what_a_killed_one_left_and_children_die_with_their_parent(project: Path) -> None:
    with up(project, "--workers", "2") as running:
        family = running.family()
        assert len(family) >= 3
        kill(running.process.pid)
        eventually(lambda: all(is_gone(each) for each in family), seconds=10)
        assert (project / ".clew/run/up.json").exists()
    with up(project) as again:
        assert again.facts["models"] == {"dice": 1}


def test_a_taken_port_is_told_with_who_holds_it(project: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        process, _ = start(project, "--port", str(port))
        code, said = ended(process)
    message = json.loads(said)["error"]["message"]
    assert code == 2
    assert f"Port {port} of 127.0.0.1 is taken by process {psutil.Process().pid} (" in message
    assert "--port" in message


def test_one_port_for_both_servers_is_refused_as_that(project: Path) -> None:
    process, _ = start(project, "--port", "8753", "--control-port", "8753")
    code, said = ended(process)
    assert code == 2
    message = json.loads(said)["error"]["message"]
    assert "Port 8753 is to be that of predictions and of control, which are two servers" in message


def test_a_worker_finishes_what_it_has_begun_before_it_ends(project: Path) -> None:
    with up(project) as running:
        answered: list[int] = []
        url = running.facts["url"] + "/slow"
        asking = threading.Thread(target=lambda: answered.append(httpx.get(url, timeout=30).status_code))
        asking.start()
        time.sleep(0.4)
        running.process.send_signal(signal.SIGTERM)
        assert ended(running.process)[0] == 0
        asking.join()
        assert answered == [200]


def test_the_second_interrupt_kills(project: Path) -> None:
    (project / "slow").write_text("60")
    with up(project, *REPLAY) as running:
        family = running.family()
        moving = threading.Thread(target=move_and_ignore, args=[running])
        moving.start()
        time.sleep(0.5)
        begun = time.monotonic()
        running.process.send_signal(signal.SIGINT)
        time.sleep(0.5)
        running.process.send_signal(signal.SIGINT)
        code, _ = ended(running.process)
        assert code == 130
        assert time.monotonic() - begun < 5
        assert all(is_gone(each) for each in family)
        moving.join()


def move_and_ignore(running: Up) -> None:
    try:
        running.ask("POST", "/clock", json={"now": "2026-01-01T01:00:00Z"})
    except httpx.HTTPError:
        return


def test_a_replay_moves_only_when_told_and_goes_on_where_it_was(project: Path) -> None:
    with up(project, *REPLAY) as running:
        moved = running.ask("POST", "/clock", json={"now": "2026-01-01T05:30:00+00:00"})
        assert moved.json() == {"mode": "replay", "now": "2026-01-01T05:30:00Z"}
        checks = running.ask("GET", "/why/dice").json()["reasons"]
        # Everything that was due is done when the answer comes, each at its own moment.
        assert [each["at"] for each in checks if each["kind"] == "check"] == [
            f"2026-01-01T0{hour}:00:00Z" for hour in range(1, 6)
        ]
        back = running.ask("POST", "/clock", json={"now": "2026-01-01T05:00:00Z"})
        assert (back.status_code, back.json()["error"]["code"]) == (400, "INVALID_PARAMETER_VALUE")
        kill(running.processes["control"])
        eventually(lambda: answers(running))
        assert running.ask("GET", "/clock").json()["now"] == "2026-01-01T05:30:00Z"
        kill(running.process.pid)
    with up(project, *REPLAY) as again:
        stands = {"mode": "replay", "now": "2026-01-01T05:30:00Z", "trouble": None}
        assert again.ask("GET", "/clock").json() == stands


def test_a_replay_needs_a_beginning(project: Path) -> None:
    process, _ = start(project, "--clock", "replay")
    code, said = ended(process)
    assert code == 2
    assert "--at 2026-01-01" in json.loads(said)["error"]["message"]


def test_another_address_needs_a_token_that_somebody_made(project: Path) -> None:
    process, _ = start(project, "--host", "0.0.0.0")
    code, said = ended(process)
    assert code == 2
    assert "clew token create" in json.loads(said)["error"]["message"]
    made = clew(project, "token", "create", "ada")
    assert made.returncode == 0, made.stderr
    with up(project, "--host", "0.0.0.0") as running:
        ask = {"Authorization": f"Bearer {made.stdout.strip()}"}
        assert running.ask("GET", "/models", headers=ask).status_code == 200
        assert running.facts["token_file"] is None


def test_a_start_that_cannot_succeed_ends_with_the_reason(project: Path) -> None:
    (project / "refuse").write_text("no wind")
    process, log = start(project)
    code, said = ended(process)
    assert code == 1, said
    assert "no wind" in log.read_text()


def test_verbs_steer_the_running_system_and_a_stopped_one(project: Path) -> None:
    with up(project) as running:
        done = clew(project, "promote", "dice", "2", "--reason", "by hand", "--json")
        assert done.returncode == 0, done.stderr
        assert json.loads(done.stdout)["status"] == "done"
        shown = json.loads(clew(project, "status", "--json").stdout)
        assert (shown["up"]["pid"], shown["models"][0]["version"]) == (running.process.pid, 2)
        running.process.send_signal(signal.SIGTERM)
        ended(running.process)
    done = clew(project, "rollback", "dice", "--reason", "too many complaints")
    assert done.stdout == "The champion of dice is version 1 now, after version 2.\n", done.stderr
    shown = json.loads(clew(project, "status", "--json").stdout)
    assert (shown["up"], shown["models"][0]["version"]) == (None, 1)


def test_the_supervisor_stays_small(project: Path) -> None:
    with up(project) as running:
        assert psutil.Process(running.process.pid).memory_info().rss < 45e6
        maps = Path(f"/proc/{running.process.pid}/maps")
        if maps.exists():
            loaded = maps.read_text()
            assert not [name for name in ("numpy", "sqlalchemy", "pydantic", "_ssl") if name in loaded]
