from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import click
import pytest

from clew.cli import main, run
from clew.errors import ClewError, DataError, MissingExtra, NotFound, ProjectError, StoreBusy, TrainingFailed

Saying = pytest.CaptureFixture[str]


@pytest.fixture
def verb() -> Iterator[Callable[[BaseException | None], None]]:
    """Gives the command line a verb ``probe`` that ends as it is told."""

    def add(ending: BaseException | None) -> None:
        @main.command("probe")
        @click.option("--json", "as_json", is_flag=True)
        def probe(as_json: bool) -> None:
            if ending is not None:
                raise ending

    yield add
    main.commands.pop("probe", None)


@pytest.mark.parametrize(
    ("ending", "code"),
    [
        (None, 0),
        (ClewError("something. Do this"), 1),
        (DataError("column x has words. Mend it"), 1),
        (NotFound("no such run. See: clew runs list"), 1),
        (StoreBusy("held by 4711. Wait"), 1),
        (MissingExtra("polars", "polars", "frame='polars'"), 1),
        (ProjectError("no file. Name one"), 2),
        (KeyboardInterrupt(), 130),
        (ZeroDivisionError("division by zero"), 1),
    ],
)
def test_how_a_command_ends(
    verb: Callable[[BaseException | None], None], ending: BaseException | None, code: int, capsys: Saying
) -> None:
    verb(ending)
    assert run(["probe"]) == code
    assert capsys.readouterr().out == ""


def test_a_message_stands_alone_and_last(
    verb: Callable[[BaseException | None], None], capsys: Saying
) -> None:
    verb(NotFound("There is no run 'zzz'. List them with: clew runs list"))
    run(["probe"])
    assert capsys.readouterr().err == "Error: There is no run 'zzz'. List them with: clew runs list\n"


def test_the_users_own_traceback_comes_before_the_message(
    verb: Callable[[BaseException | None], None], capsys: Saying
) -> None:
    traceback = 'Traceback (most recent call last):\n  File "model.py", line 3\nValueError: no'
    verb(TrainingFailed("model.py raised ValueError: no. Mend it", traceback))
    run(["probe"])
    lines = capsys.readouterr().err.splitlines()
    assert lines[0].startswith("Traceback")
    assert lines[-1].startswith("Error: model.py raised")


def test_an_interrupted_command_says_how_to_go_on(
    verb: Callable[[BaseException | None], None], capsys: Saying
) -> None:
    verb(KeyboardInterrupt())
    assert run(["probe"]) == 130
    assert capsys.readouterr().err.splitlines()[-1].endswith("run again: clew probe")


def test_a_fault_of_clew_is_shown_with_traceback_and_where_to_report(
    verb: Callable[[BaseException | None], None], capsys: Saying
) -> None:
    verb(ZeroDivisionError("division by zero"))
    run(["probe"])
    said = capsys.readouterr().err
    assert "ZeroDivisionError: division by zero" in said
    assert "Please report it" in said.splitlines()[-1]
    assert "Python 3." in said.splitlines()[-1]


@pytest.mark.parametrize(
    ("ending", "code"),
    [
        (NotFound("no such run"), "RESOURCE_DOES_NOT_EXIST"),
        (ProjectError("no file"), "INVALID_PARAMETER_VALUE"),
        (ZeroDivisionError("division by zero"), "INTERNAL_ERROR"),
        (KeyboardInterrupt(), "CANCELLED"),
    ],
)
def test_an_error_is_one_json_document_too(
    verb: Callable[[BaseException | None], None], ending: BaseException, code: str, capsys: Saying
) -> None:
    verb(ending)
    run(["probe", "--json"])
    said = json.loads(capsys.readouterr().out)
    assert said["error"]["code"] == code
    assert said["error"]["message"]


def test_wrong_usage_is_json_too(capsys: Saying) -> None:
    assert run(["runs", "lst", "--json"]) == 2
    assert "Did you mean 'list'?" in json.loads(capsys.readouterr().out)["error"]["message"]


def test_version(capsys: Saying) -> None:
    assert run(["--version"]) == 0
    assert capsys.readouterr().out.startswith("clew 0.")


def test_a_reader_that_has_heard_enough_is_not_complained_about() -> None:
    command = [sys.executable, "-c", "import sys; from clew.cli import run; sys.exit(run(['--help']))"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        assert process.stderr.read() == b""
        assert process.wait() == 1


def test_a_terminal_without_unicode_gets_other_characters(tmp_path: Path) -> None:
    program = (
        "from clew.cli import run; from clew.cli.words import number; run(['--version']); print(number(None))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        check=False,
        capture_output=True,
        env={"PYTHONIOENCODING": "ascii", "PATH": "/usr/bin:/bin"},
        cwd=tmp_path,
    )
    assert (done.returncode, done.stderr) == (0, b"")
    assert done.stdout.splitlines()[-1] == b"?"


@pytest.mark.parametrize("words", [["runs", "list"], ["trace", "busy_hour@1"], ["why", "busy_hour"]])
def test_asking_for_records_makes_none(
    words: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Saying
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run(words) == 1
    assert "clew try" in capsys.readouterr().err.splitlines()[-1]
    assert list(tmp_path.iterdir()) == []
