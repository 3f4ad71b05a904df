"""The projects that ``clew init`` makes, and every verb on one of them: real files, children and records."""

from __future__ import annotations

import contextlib
import io
import json
import os
import pty
import re
import signal
import subprocess
import sys
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from clew.cli import run
from clew.cli.loans import CHANGE_DAY, N_A_DAY
from clew.cli.verbs.init import EXAMPLES, project_files, write_project
from clew.errors import UsageError

BIKES = Path(__file__).parents[2] / "examples" / "bikes"
CLEW = [sys.executable, "-c", "import sys; from clew.cli import run; sys.exit(run())"]


@dataclass(frozen=True)
class Done:
    returncode: int
    stdout: str
    stderr: str


def clew(folder: Path, *words: str) -> Done:
    """The command line in this process, so that its imports are paid for once; children are real."""
    stdout, stderr = io.StringIO(), io.StringIO()
    with contextlib.chdir(folder), redirect_stdout(stdout), redirect_stderr(stderr):
        code = run(words)
    return Done(code, stdout.getvalue(), stderr.getvalue())


def answered(folder: Path, *words: str) -> Any:
    """The one JSON document on stdout of a verb that ended well."""
    done = clew(folder, *words, "--json")
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


# -- what is written -----------------------------------------------------------------------------------


def test_a_project_is_complete(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["init", str(tmp_path / "new"), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    written = {path.name for path in (tmp_path / "new").iterdir()}
    assert written == {".gitignore", "README.md", "clew.toml", "loans.parquet", "model.py"}
    assert set(told["files"]) == written
    assert "clew try" in told["next"]


def test_the_next_commands_begin_where_the_reader_stands(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    run(["init", "new"])
    assert "  cd new\n  clew try\n" in capsys.readouterr().out
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    run(["init"])
    assert "cd " not in capsys.readouterr().out


@pytest.mark.parametrize("example", EXAMPLES)
def test_what_exists_is_named_and_kept(example: str, tmp_path: Path) -> None:
    (tmp_path / "README.md").write_text("mine")
    (tmp_path / "clew.toml").write_text("mine too")
    with pytest.raises(UsageError, match=r"README\.md, clew\.toml"):
        write_project(tmp_path, example)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["README.md", "clew.toml"]
    assert (tmp_path / "README.md").read_text() == "mine"


def test_a_folder_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(UsageError, match=r"file/loans cannot be written: Not a directory\. Name another"):
        write_project(tmp_path / "file" / "loans", "loans")


def test_the_same_table_is_made_everywhere(tmp_path: Path) -> None:
    one, other = (write_project(tmp_path / name, "loans")[-1] for name in ("one", "other"))
    assert pq.read_table(one).equals(pq.read_table(other))


def test_the_world_of_the_loans_changes_half_way(tmp_path: Path) -> None:
    table = pq.read_table(write_project(tmp_path, "loans")[-1])
    change = CHANGE_DAY * N_A_DAY
    assert 0.4 < change / table.num_rows < 0.6
    rates = [missed_by_brokers(part) for part in (table.slice(0, change), table.slice(change))]
    assert rates[0] < 0.25
    assert rates[1] > 0.5


def missed_by_brokers(table: Any) -> float:
    of_brokers = table.filter(pc.field("channel") == "broker")
    return float(pc.mean(of_brokers.column("missed_payment")).as_py())


def test_the_readme_tells_the_number_of_rows(tmp_path: Path) -> None:
    n_rows = pq.read_metadata(write_project(tmp_path, "loans")[-1]).num_rows
    assert f"{n_rows:,} invented applications" in (tmp_path / "README.md").read_text()


def test_the_bikes_example_is_what_init_writes() -> None:
    for name, text in project_files("bikes").items():
        assert (BIKES / name).read_text(encoding="utf-8") == text


def test_the_bikes_project_is_about_twenty_lines() -> None:
    code = re.sub(r'"""[\s\S]*?"""', "", project_files("bikes")["bikes.py"])
    assert sum(bool(line.strip()) for line in code.splitlines()) <= 22


# -- every verb, for real ------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The loans project after one ``clew try``."""
    folder = tmp_path_factory.mktemp("projects") / "loans"
    write_project(folder, "loans")
    done = clew(folder, "try")
    assert done.returncode == 0, done.stderr
    assert "missed_payment, version 1 made" in done.stdout
    assert "clew trace missed_payment@1" in done.stdout.splitlines()[-1]
    return folder


@pytest.fixture(scope="module")
def backtest(project: Path) -> Any:
    """A quarter of the loans, replayed with a report."""
    words = ["--start", "2024-09-01", "--end", "2024-12-01", "--report", "report.html"]
    return answered(project, "backtest", *words)


def test_trying_again_changes_nothing(project: Path) -> None:
    told = answered(project, "try")
    assert told["is_new"] is False
    assert told["version"]["number"] == 1
    assert told["report"]["outcome"] == "pass"


def test_a_minimum_out_of_reach_ends_with_the_gates_exit_code(tmp_path: Path) -> None:
    write_project(tmp_path, "loans")
    model = tmp_path / "model.py"
    model.write_text(model.read_text().replace('{"accuracy": 0.7}', '{"accuracy": 0.99}'))
    done = clew(tmp_path, "try", "model.py", "--set", "num_leaves=7", "--json")
    assert done.returncode == 3
    told = json.loads(done.stdout)
    assert told["run"]["params"]["num_leaves"] == {"value": 7, "source": "command line"}
    failed = [check["name"] for check in told["report"]["checks"] if check["outcome"] == "fail"]
    assert failed == ["minimum accuracy"]


def test_a_backtest_is_one_document(backtest: Any, project: Path) -> None:
    assert (backtest["model"], backtest["metric"]) == ("missed_payment", "accuracy")
    assert backtest["start"] == "2024-09-01T00:00:00Z"
    assert [window["start"][:7] for window in backtest["windows"]] == ["2024-09", "2024-10", "2024-11"]
    for window in backtest["windows"]:
        assert {"start", "end", "n", "clew", "frozen", "blind", "version"} <= window.keys()
        assert window["clew_band"]["lower"] <= window["clew"] <= window["clew_band"]["upper"]
    assert backtest["summary"].keys() == {
        *("clew", "frozen", "blind", "fits", "blind_fits", "promotions", "refusals", "undecided"),
        *("pages", "tickets", "rollbacks", "seconds"),
    }
    for event in backtest["events"]:
        assert event.keys() == {"time", "kind", "sentence", "evidence"}
        assert event["time"].endswith("Z")


def test_the_change_is_noticed(backtest: Any) -> None:
    pages = [event for event in backtest["events"] if event["kind"] == "page"]
    assert pages
    assert "2024-10" <= pages[0]["time"] < "2024-12"


def test_the_report_is_where_it_was_asked_for(backtest: Any, project: Path) -> None:
    path = project / "report.html"
    assert backtest["report"] == str(path)
    page = path.read_text(encoding="utf-8")
    assert "--start 2024-09-01" in page
    assert "missed_payment" in page


@pytest.mark.parametrize(
    ("words", "key"),
    [
        (["runs", "list", "--model", "missed_payment", "--status", "finished", "--since", "1d"], "runs"),
        (["models", "list", "--model", "missed_payment"], "models"),
        (["data", "list", "--dataset", "loans"], "snapshots"),
    ],
)
def test_lists_hold_what_was_made(words: list[str], key: str, project: Path) -> None:
    everything = answered(project, *words)[key]
    assert everything
    assert answered(project, *words, "--limit", "1")[key] == everything[:1]


def test_a_filter_that_fits_nothing_gives_an_empty_list(project: Path) -> None:
    nothing: Any = {"runs": [], "tags": {}, "unknown": []}
    assert answered(project, "runs", "list", "--status", "failed") == nothing
    assert answered(project, "runs", "list", "--since", "2999-01-01") == nothing
    assert "or make one: clew try" in clew(project, "runs", "list", "--status", "failed").stdout


def test_each_record_can_be_shown_and_traced(project: Path) -> None:
    one = answered(project, "runs", "list")["runs"][0]
    assert answered(project, "runs", "show", one["id"][:8])["run"] == one
    assert answered(project, "models", "show", "missed_payment")["versions"][0]["number"] == 1
    version = answered(project, "models", "show", "missed_payment@1")
    assert version["gate"]["outcome"] == "pass"
    snapshot = answered(project, "data", "show", one["snapshot"][:8])["snapshot"]
    assert snapshot["n_rows"] == 21_880
    thread = answered(project, "trace", "missed_payment@1")
    assert one["snapshot"] in json.dumps(thread)
    assert answered(project, "why", "missed_payment")["reasons"]


def test_a_thread_is_told_as_events_of_openlineage_one_a_line(project: Path) -> None:
    told = clew(project, "trace", "missed_payment@1", "--format", "openlineage").stdout
    events = [json.loads(line) for line in told.splitlines()]
    assert {event["job"]["name"] for event in events} == {"loans.snapshot", "missed_payment.try"}
    written = {dataset["name"] for event in events for dataset in event["outputs"]}
    assert written == {"data/loans", "models/missed_payment"}
    assert answered(project, "trace", "missed_payment@1") == json.loads(
        clew(project, "trace", "missed_payment@1", "--format", "json").stdout
    )
    refused = clew(project, "trace", "missed_payment@1", "--format", "openlineage", "--json")
    assert refused.returncode == 2
    assert "Leave one out" in json.loads(refused.stdout)["error"]["message"]


def test_what_a_training_printed_can_be_read_though_it_failed(tmp_path: Path) -> None:
    write_project(tmp_path, "loans")
    model = tmp_path / "model.py"
    body = "    for n in range(100):\n        print('step', n)\n    raise ValueError('no')\n    model ="
    model.write_text(model.read_text().replace("    model =", body, 1))
    assert clew(tmp_path, "try").returncode == 1
    run_id = answered(tmp_path, "runs", "list")["runs"][0]["id"]
    printed = answered(tmp_path, "runs", "show", run_id)["printed"].splitlines()
    assert printed == [f"step {n}" for n in range(100)]
    shown = clew(tmp_path, "runs", "show", run_id).stdout
    assert "60 lines before these" in shown
    assert "step 60\n" in shown
    assert "step 59\n" not in shown
    assert "ValueError: no" in shown


@pytest.mark.parametrize(
    ("words", "part"),
    [
        (["runs", "list"], "missed_payment"),
        (["models", "show", "missed_payment@1"], "✓ pass"),
        (["data", "list"], "21,880"),
        (["trace", "missed_payment@1"], "snapshot"),
        (["why", "missed_payment"], "passed the gate"),
    ],
)
def test_people_get_plain_text_without_colour_or_padding(words: list[str], part: str, project: Path) -> None:
    said = clew(project, *words).stdout
    assert part in said
    assert "\x1b" not in said
    assert all(line == line.rstrip() for line in said.splitlines())


def on_a_terminal(folder: Path, *words: str) -> str:
    """What the command writes when stdout is a real terminal."""
    master, slave = pty.openpty()
    with os.fdopen(slave, "w", encoding="utf-8") as terminal, contextlib.chdir(folder):
        with redirect_stdout(terminal):
            assert run(words) == 0
        said = os.read(master, 65536)
    os.close(master)
    return said.decode()


def test_colour_is_for_terminals_that_want_it(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    green = "\x1b[32m"
    words = ("models", "show", "missed_payment@1")
    for name in ("NO_COLOR", "FORCE_COLOR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TERM", "xterm-256color")
    assert green in on_a_terminal(project, *words)
    monkeypatch.setenv("NO_COLOR", "1")
    assert green not in on_a_terminal(project, *words)


def test_a_name_that_does_not_exist_is_an_error_with_what_there_is(project: Path) -> None:
    done = clew(project, "models", "show", "missed_paymnt")
    assert done.returncode == 1
    assert "missed_payment" in done.stderr
    assert clew(project, "trace", "nonsense").returncode == 1


def test_an_unwritable_report_is_refused_before_the_work(project: Path) -> None:
    done = clew(project, "backtest", "--report", "nowhere/report.html")
    assert done.returncode == 2
    assert "mkdir -p" in done.stderr


def test_ctrl_c_ends_at_once_and_says_how_to_go_on(project: Path) -> None:
    command = [*CLEW, "backtest", "--seed", "5"]
    process = subprocess.Popen(
        command, cwd=project, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    )
    with process:
        assert process.stderr is not None
        assert "capturing" in process.stderr.readline()
        process.send_signal(signal.SIGINT)
        said = process.stderr.read()
        assert process.wait(timeout=20) == 130
    assert "Traceback" not in said
    assert "backtest --seed 5" in said.splitlines()[-1]
