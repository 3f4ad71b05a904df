"""``--server URL``: verbs that ask a running system from a folder that knows nothing of it."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.server.running import Up, make_project, up

pytestmark = pytest.mark.timeout(120)


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Up]:
    with up(make_project(tmp_path_factory.mktemp("there") / "project")) as running:
        yield running


def clew(
    folder: Path, running: Up, *words: str, token: str | None = None, url: str | None = None
) -> subprocess.CompletedProcess[str]:
    """The verb in an empty folder; it asks with the system's own token unless another is given."""
    program = "import sys; from clew.cli import run; sys.exit(run())"
    given = {"CLEW_TOKEN": running.token if token is None else token}
    return subprocess.run(
        [sys.executable, "-P", "-c", program, *words, "--server", url or running.facts["control_url"]],
        cwd=folder,
        env={"PATH": os.defpath, "HOME": str(folder), **given},
        check=False,
        capture_output=True,
        text=True,
    )


def test_status_trace_and_why_tell_what_they_tell_there(running: Up, tmp_path: Path) -> None:
    told = json.loads(clew(tmp_path, running, "status", "--json").stdout)
    assert (told["up"]["pid"], told["models"][0]["deployment"]) == (running.process.pid, "dice")
    assert "dice" in clew(tmp_path, running, "status").stdout
    thread = json.loads(clew(tmp_path, running, "why", "dice@1", "--json").stdout)
    assert thread["reasons"][0]["sentence"].startswith("version 1 was trained")
    for form in ("tree", "openlineage"):
        refused = clew(tmp_path, running, "trace", "nothing", "--forward", "--format", form)
        assert (refused.returncode, refused.stdout) == (1, "")
        assert "No run, version, snapshot, decision or finding is named 'nothing'" in refused.stderr


def test_an_order_is_carried_out_there_by_whose_token_it_is(running: Up, tmp_path: Path) -> None:
    done = clew(tmp_path, running, "promote", "dice", "2", "--reason", "from afar", "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["actor"] == "admin"
    assert clew(tmp_path, running, "rollback", "dice", "--reason", "no").returncode == 0
    again = clew(tmp_path, running, "promote", "dice", "9", "--reason", "from afar")
    assert again.returncode == 1
    assert "has no version 9" in again.stderr


def test_what_cannot_be_asked_from_afar_says_so(running: Up, tmp_path: Path) -> None:
    for words, said in (
        (("status", "dice"), "What a model lived through is told where the store is"),
        (("promote", "dice", "1", "--reason", "x", "--dry-run"), "What would be done is told where"),
    ):
        refused = clew(tmp_path, running, *words)
        assert (refused.returncode, said in refused.stderr) == (2, True), refused.stderr


def test_without_a_token_or_with_a_wrong_one_nothing_is_told(running: Up, tmp_path: Path) -> None:
    missing = clew(tmp_path, running, "status", token="")
    assert missing.returncode == 2
    assert "export CLEW_TOKEN=" in missing.stderr
    wrong = clew(tmp_path, running, "status", token="wrong-secret")
    assert wrong.returncode == 1
    assert "wrong-secret" not in wrong.stderr + wrong.stdout


def test_an_address_where_nobody_or_somebody_else_answers_is_named(running: Up, tmp_path: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}"
        nobody = clew(tmp_path, running, "status", url=url)
    assert f"Nobody answers at {url}" in nobody.stderr
    other = clew(tmp_path, running, "status", url=running.facts["url"])
    assert "Is it the control address?" in other.stderr or "There is no" in other.stderr
    assert "and no address" in clew(tmp_path, running, "status", url="localhost:8751").stderr
