from __future__ import annotations

import shlex
import subprocess
import sys
from collections.abc import Iterator

import click
import pytest

from clew.cli import main, run
from clew.cli.commands import Explained
from clew.cli.entry import PURPOSES, VERBS

SLOW = {"jinja2", "msgspec", "numpy", "pandas", "plotly", "pyarrow", "rich", "sqlalchemy"}


def commands(command: click.Command, path: str = "clew") -> Iterator[tuple[str, click.Command]]:
    """The command and all below it, with the words that call it."""
    yield path, command
    if isinstance(command, click.Group):
        context = click.Context(command, info_name=path)
        for name in command.list_commands(context):
            child = command.get_command(context, name)
            assert child is not None
            yield from commands(child, f"{path} {name}")


ALL = dict(commands(main))
VERBS_THAT_DO = {path: command for path, command in ALL.items() if not isinstance(command, click.Group)}


def help_of(path: str) -> str:
    command = ALL[path]
    return command.get_help(click.Context(command, info_name=path))


def test_every_verb_is_there() -> None:
    expected = {"init", "try", "backtest", "trace", "why", "runs", "models", "data", "audit", "gc"}
    expected |= {"forget", "backup", "restore"}
    expected |= {
        "up",
        "status",
        "token",
        "promote",
        "rollback",
        "pause",
        "resume",
        "retrain",
        "retire",
        "threshold",
        "predict",
        "reproduce",
    }
    assert {path.split()[1] for path in VERBS_THAT_DO} == expected


@pytest.mark.parametrize("path", ALL)
def test_help_begins_with_a_sentence_and_an_example(path: str) -> None:
    lines = help_of(path).splitlines()
    assert lines[0].endswith(".")
    assert lines[0][0].isupper()
    assert lines[1:3] == ["", "Example:"]
    assert lines[3].startswith("  clew ")


@pytest.mark.parametrize("path", ALL)
def test_the_example_parses(path: str) -> None:
    command = ALL[path]
    assert isinstance(command, Explained)
    examples = [line.strip() for line in command.example.splitlines()]
    assert any(example.startswith(path) for example in examples)
    for example in examples:
        words = shlex.split(example)
        if words[0] == "clew":
            parsed(main, words[1:])


def parsed(command: click.Command, words: list[str]) -> None:
    """Parse down to the last verb without doing anything; a wrong word raises."""
    context = command.make_context("clew", words)
    if isinstance(command, click.Group):
        _, child, rest = command.resolve_command(context, [*context._protected_args, *context.args])
        assert child is not None
        parsed(child, rest)


def test_an_example_with_a_wrong_option_would_be_noticed() -> None:
    with pytest.raises(click.UsageError):
        parsed(main, ["backtest", "--widow", "1mo"])


@pytest.mark.parametrize("path", VERBS_THAT_DO)
def test_every_verb_speaks_json(path: str) -> None:
    options = [name for parameter in VERBS_THAT_DO[path].params for name in parameter.opts]
    assert "--json" in options


@pytest.mark.parametrize("path", VERBS_THAT_DO)
def test_every_option_says_what_it_is_for(path: str) -> None:
    for parameter in VERBS_THAT_DO[path].params:
        if isinstance(parameter, click.Option):
            assert parameter.help
            assert parameter.help.endswith(".")


@pytest.mark.parametrize("name", VERBS)
def test_the_overview_says_of_a_verb_what_the_verb_says_of_itself(name: str) -> None:
    assert VERBS[name].load().help is not None
    assert str(VERBS[name].load().help).splitlines()[0] == VERBS[name].sentence


def test_the_overview_lists_every_verb_once() -> None:
    assert sorted(name for names in PURPOSES.values() for name in names) == sorted(VERBS)


def test_defaults_are_shown() -> None:
    assert "[default: 1mo]" in help_of("clew backtest")
    assert "[default: loans]" in help_of("clew init")


@pytest.mark.parametrize("words", [["--help"], ["backtest", "--help"], ["runs", "--help"], ["--version"]])
def test_asking_for_help_loads_nothing_slow(words: list[str]) -> None:
    probe = f"""
import sys
from clew.cli import run
code = run({words!r})
print("loaded:", *(sys.modules.keys() & {SLOW!r}))
sys.exit(code)
"""
    done = subprocess.run([sys.executable, "-c", probe], check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.rpartition("loaded:")[2].split() == []


def test_help_of_the_overview_loads_no_verb() -> None:
    probe = "import sys; from clew.cli import run; run(['--help']); print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", probe], check=True, capture_output=True, text=True)
    assert "clew.cli.verbs" not in done.stdout


@pytest.mark.parametrize(
    ("words", "hint"),
    [
        (["bactest"], "Did you mean 'backtest'?"),
        (["runs", "lst"], "Did you mean 'list'?"),
        (["backtest", "--widow", "1mo"], "Did you mean '--window'?"),
        (["qqq"], "Known: audit, backtest, backup"),
        (["backtest", "--window", "1 month"], "Did you mean '1mo'?"),
        (["backtest", "--start", "July"], "Write 2011-07-01"),
        (["backtest", "--set", "num_leaves"], "NAME=VALUE"),
        (["runs", "list", "--status", "done"], "'finished'"),
        (["runs", "list", "--since", "yesterday"], "or how long ago, such as 7d"),
        (["backtest", "--window", "0d"], "must be longer than nothing"),
    ],
)
def test_a_wrong_word_is_answered_with_the_right_one(
    words: list[str], hint: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(words) == 2
    said = capsys.readouterr()
    assert hint in said.err
    assert said.err.splitlines()[-1].startswith("What it takes: clew")
    assert said.out == ""


@pytest.mark.parametrize("words", [[], ["runs"]])
def test_a_command_without_its_verb_is_answered_with_help_and_no_error(
    words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(words) == 2
    said = capsys.readouterr()
    assert "Example:" in said.err
    assert "Error" not in said.err
    assert said.out == ""


def test_an_option_without_its_value_is_answered_with_the_help_of_its_verb(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert run(["runs", "list", "--limit"]) == 2
    assert capsys.readouterr().err.endswith("What it takes: clew runs list --help\n")
