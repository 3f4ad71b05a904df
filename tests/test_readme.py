"""The README says what is so: its figures are the measured ones, its commands exist, its gaps are gaps."""

from __future__ import annotations

import importlib.util
import json
import re
import tomllib
from pathlib import Path
from typing import Any

import pytest

from clew.declare import DatasetSpec, ModelSpec
from tests.docs.pages import DOCS, ROOT, blocks, commands
from tools import showcase

README = (ROOT / "README.md").read_text(encoding="utf-8")
TUTORIAL = DOCS / "tutorials" / "first-model.md"


def kept() -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads(showcase.BIKES.read_text(encoding="utf-8"))
    return loaded


def of_kind(kind: str) -> list[str]:
    return [block.body for block in blocks(README) if block.kind == kind]


# ---------------------------------------------------------------- figures


def test_the_tables_hold_what_was_measured() -> None:
    assert showcase.with_tables(README) == README, "write them anew with: python tools/showcase.py tables"


def test_the_life_through_real_servers_is_told_as_it_was() -> None:
    lived = json.loads(showcase.LIVE.read_text(encoding="utf-8"))
    told, summary = " ".join(README.split()), lived["summary"]
    assert f"{sum(lived['counts'].values()):,} requests" in told
    assert f"with {summary['promotions']} promotions on the way" in told
    # The same policy on the same history: what a backtest promises is what life keeps.
    assert abs(summary["clew"] - kept()["summary"]["clew"]) <= 0.01
    n_rows = sum(window["n"] for window in lived["windows"])
    assert n_rows == sum(lived["counts"].values())
    for policy in ("clew", "frozen"):
        mean = sum(window["n"] * window[policy] for window in lived["windows"]) / n_rows
        assert summary[policy] == pytest.approx(mean, abs=2e-6)


def test_the_summary_is_the_mean_of_its_windows() -> None:
    windows = kept()["windows"]
    n_rows = sum(window["n"] for window in windows)
    for policy in ("clew", "frozen", "blind"):
        mean = sum(window["n"] * window[policy] for window in windows) / n_rows
        assert kept()["summary"][policy] == pytest.approx(mean, abs=2e-6)


def test_the_replay_is_that_of_the_demo() -> None:
    assert kept()["command"] == showcase.demo_command()


def days_of(kind: str, pattern: str) -> list[str]:
    sentences = [event["sentence"] for event in kept()["events"] if event["kind"] == kind]
    return [day for sentence in sentences for day in re.findall(pattern, sentence)]


def test_the_alarms_come_on_the_days_that_are_told() -> None:
    day = r"\d{4}-\d\d-\d\d"
    pages, rain = (next(line for line in README.splitlines() if word in line) for word in ("Irene", "Sandy"))
    assert re.findall(day, pages) == days_of("page", rf"rows since ({day})\)")[:3]
    assert set(re.findall(day, rain)) < set(days_of("ticket", rf"pn has numbers far outside .* of ({day})"))


def test_the_challengers_cost_about_three_times_the_fits_of_refitting_blindly() -> None:
    told = (DOCS / "explanation" / "the-loop.md").read_text(encoding="utf-8")
    assert "made about three times as many fits as refitting every month" in told
    assert 2.5 < kept()["summary"]["fits"] / kept()["summary"]["blind_fits"] < 3.5


def test_adwin_is_earlier_and_cries_when_a_better_month_ends() -> None:
    result = json.loads((showcase.BENCHMARKS / "alarms.json").read_text(encoding="utf-8"))["result"]
    assert result["peers"]["river ADWIN"] < result["value"]
    after = "false_pages_after_a_better_month"
    assert result["details"][after] <= 0.01 < 0.3 < result["details"][f"{after}_adwin"]


@pytest.mark.parametrize("picture", showcase.PICTURES, ids=lambda picture: picture.stem)
def test_a_picture_is_one_and_not_too_heavy(picture: Path) -> None:
    content = picture.read_bytes()
    assert content.startswith(b"\x89PNG\r\n")
    assert 20_000 < len(content) < 300_000


def test_a_benchmark_is_set_out_with_its_goal_and_what_stands_beside_it() -> None:
    result = {"name": "a b", "value": 1.25, "unit": "ms", "goal": 2, "better": "lower", "peers": {"c": 3.0}}
    assert showcase.speed_row("x", result) == ["a b", "1.25 ms", "≤ 2", "c: 3"]


# ---------------------------------------------------------------- what a user writes


def declared(code: str) -> tuple[DatasetSpec, ModelSpec]:
    names: dict[str, Any] = {}
    exec(compile(code, "declared", "exec"), names)
    found = list(names.values())
    (dataset,) = (each for each in found if isinstance(each, DatasetSpec))
    (model,) = (each for each in found if isinstance(each, ModelSpec))
    return dataset, model


def test_the_project_shown_is_the_example_with_a_table_at_hand() -> None:
    (code,) = of_kind("python")
    shown, example = (declared(each)[1].declaration for each in (code, example_code()))
    for name in ("name", "metric", "margin", "minimum", "slices", "params", "retrain", "rollout"):
        assert getattr(shown, name) == getattr(example, name), name
    for name in ("name", "time", "key", "label", "label_delay", "timezone"):
        assert getattr(shown.dataset, name) == getattr(example.dataset, name), name


def example_code() -> str:
    return (ROOT / "examples" / "bikes" / "bikes.py").read_text(encoding="utf-8")


def test_the_project_shown_is_about_fifteen_lines() -> None:
    (code,) = of_kind("python")
    assert len([line for line in code.splitlines() if line]) <= 15


# ---------------------------------------------------------------- commands


def test_every_command_exists() -> None:
    assert [command for command in shown_commands() if not is_known(command)] == []


def shown_commands() -> list[str]:
    pages = [README, *(page.read_text(encoding="utf-8") for page in DOCS.rglob("*.md"))]
    return [
        line
        for page in pages
        for block in blocks(page)
        if block.kind == "sh"
        for line in block.body.splitlines()
    ]


def is_known(command: str) -> bool:
    """Whether a command that no test can run is one that would work."""
    if command.startswith("make "):
        return re.search(rf"^{command[5:]}:", (ROOT / "Makefile").read_text(), re.MULTILINE) is not None
    if command.startswith("pip install "):
        return extras_of(command) <= set(project()["optional-dependencies"])
    return command in walked() or (command.startswith("clew ") and is_parsed(command))


def extras_of(command: str) -> set[str]:
    found = re.fullmatch(r'pip install "clew\[([a-z0-9,]+)\]"', command)
    return set(found[1].split(",")) if found else {"no such form"}


def project() -> dict[str, Any]:
    table: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    return table


def walked() -> set[str]:
    """What the tutorial runs."""
    found = [block for block in blocks(TUTORIAL.read_text(encoding="utf-8")) if block.kind == "console"]
    return {command.typed for block in found for command in commands(block)}


def is_parsed(command: str) -> bool:
    """Whether the command line takes these options with these values."""
    import click

    from clew.cli import main

    _, verb, *arguments = command.split()
    context = click.Context(main, info_name="clew")
    found = main.get_command(context, verb)
    try:
        return found is not None and bool(found.make_context(verb, arguments, parent=context))
    except click.ClickException:
        return False


@pytest.mark.parametrize("command", ["make tea", 'pip install "clew[gold]"', "clew backtest --windw 2w"])
def test_a_command_that_does_not_exist_is_noticed(command: str) -> None:
    assert not is_known(command)


# ---------------------------------------------------------------- what is missing


def test_what_it_cannot_do_is_taken_back_when_it_can() -> None:
    is_missing = importlib.util.find_spec("clew.serving") is None
    assert ("- **Serve.**" in README) == is_missing
    is_silent = importlib.util.find_spec("clew.notifications") is None
    assert ("- **Page somebody.**" in README) == is_silent


def test_the_package_shows_this_readme() -> None:
    assert project()["readme"] == "README.md"
