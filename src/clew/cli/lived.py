"""What a model lived through, on the terminal and as a page: what ``clew backtest`` and ``status`` show."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from clew.cli.commands import option
from clew.cli.outputs import refuse_unwritable
from clew.cli.terminal import answer
from clew.cli.values import F

if TYPE_CHECKING:
    from clew.figures.palette import Policy
    from clew.loop.result import Lived, Window


def report_option(command: F) -> F:
    return option(
        "--report",
        type=click.Path(dir_okay=False, path_type=Path),
        metavar="FILE.html",
        purpose="Output",
        help="Write a page to read and pass on.",
    )(command)


def refuse_unwritable_report(report: Path | None) -> None:
    """Before an hour of work, not after it."""
    refuse_unwritable(report, "--report", (".html", ".htm"))


def hand_over(result: Lived, report: Path | None, *, as_json: bool) -> None:
    """Write the page if one is asked for, and print the result."""
    place = None if report is None else report.resolve()
    if place is not None:
        from clew.cli.report import write_report

        write_report(result, place, command=typed_command())
    answer(as_json, {**fields_of(result), "report": place}, lambda: show_lived(result, place))


def typed_command() -> str:
    """The command line as it was typed."""
    return shlex.join(["clew", *click.get_current_context().find_root().obj])


def fields_of(result: Lived) -> dict[str, Any]:
    return {field.name: getattr(result, field.name) for field in fields(result)}


def show_lived(result: Lived, report: Path | None) -> None:
    """The table of windows, the outcome in words, what it cannot know, where the report is."""
    from clew.cli.terminal import say, show_table
    from clew.cli.words import effort, first_doubt, headline, policies, verdict

    told = policies(result)
    say(f"{result.model}, {result.start:%Y-%m-%d} to {result.end:%Y-%m-%d}", style="bold")
    say()
    show_table(
        ["start", "n", *told, "version"],
        [_row(window, told, result.greater_is_better) for window in result.windows],
        right=["n", *told, "version"],
    )
    say()
    say(f"{headline(result)}.", style="bold")
    say(verdict(result))
    say(effort(result))
    if doubt := first_doubt(result):
        say(doubt)
    if result.notes:
        say()
        say("What this cannot know", style="dim")
        for note in result.notes:
            say(f"· {note}")
    say()
    say(f"Why it decided so: clew why {result.id}")
    say(f"Report: {report}" if report else "Add --report FILE.html for a page to read and pass on.")


def _row(window: Window, told: Sequence[Policy], greater_is_better: bool) -> list[Any]:
    from rich.text import Text

    from clew.cli.words import best_of, day, number

    values = [getattr(window, policy) for policy in told]
    best = best_of(values, greater_is_better)
    styles = ["bold" if is_best else "" for is_best in best]
    cells = [Text(number(value), style=style) for value, style in zip(values, styles, strict=True)]
    return [day(window.start), f"{window.n:,}", *cells, window.version]
