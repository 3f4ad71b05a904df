"""``clew backtest``."""

from __future__ import annotations

import shlex
from dataclasses import fields
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from clew.cli.commands import Explained, option
from clew.cli.terminal import answer
from clew.cli.values import (
    Length,
    Moment,
    again_option,
    json_option,
    seed_option,
    set_option,
    target_argument,
)

if TYPE_CHECKING:
    from clew.entities import Duration
    from clew.loop.result import BacktestResult, Window

PERIOD = "What is replayed"


@click.command(
    "backtest",
    cls=Explained,
    example="clew backtest model.py --start 2011-07-01 --window 1mo --report backtest.html",
)
@target_argument
@option(
    "--start",
    type=Moment(),
    purpose=PERIOD,
    help="When the first model goes live: it learns from the labels known then; by default after the first"
    " 30 % of the labelled rows.",
)
@option("--end", type=Moment(), purpose=PERIOD, help="Where the replay ends; by default with the data.")
@option(
    "--window",
    type=Length(),
    default="1mo",
    purpose=PERIOD,
    help="Rows of the report, and how often the blind policy refits.",
)
@set_option
@seed_option
@again_option
@option(
    "--report",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE.html",
    purpose="Output",
    help="Write a page to read and pass on.",
)
@json_option
def backtest(
    target: str | None,
    start: datetime | None,
    end: datetime | None,
    window: Duration,
    settings: tuple[tuple[str, Any], ...],
    seed: int,
    again: bool,
    report: Path | None,
    as_json: bool,
) -> None:
    """Replay history through the whole loop, as if it were live.

    Every row is seen at its time and its label no sooner than the label delay allows. The same decisions,
    gate, rollouts and monitors run as would run live, and two policies beside them: the first model left
    frozen, and one refitted blindly every window.

    TARGET is FILE.py, FILE.py:MODEL, or the name of a model of the project here. An interrupted backtest
    goes on where it stopped when the same command runs again.
    """
    from clew.cli.progress import progress_shown
    from clew.loop.backtest import BacktestOptions
    from clew.workspace import open_workspace

    if report is not None:
        _refuse_unwritable(report)
    options = BacktestOptions(start=start, end=end, window=window)
    with open_workspace(target, Path.cwd()) as workspace, progress_shown("Replaying") as on_progress:
        result = workspace.backtest(
            options=options, params=dict(settings), seed=seed, again=again, on_progress=on_progress
        )
    place = None if report is None else report.resolve()
    if place is not None:
        from clew.cli.report import write_report

        write_report(result, place, command=typed_command())
    answer(as_json, {**fields_of(result), "report": place}, lambda: show_backtest(result, place))


def typed_command() -> str:
    """The command line as it was typed."""
    return shlex.join(["clew", *click.get_current_context().find_root().obj])


def fields_of(result: BacktestResult) -> dict[str, Any]:
    return {field.name: getattr(result, field.name) for field in fields(result)}


def _refuse_unwritable(report: Path) -> None:
    """Before an hour of work, not after it."""
    folder = report.resolve().parent
    if not folder.is_dir():
        raise _unwritable(f"the folder {folder} does not exist. Make it: mkdir -p {folder}")
    try:
        with report.open("a"):
            pass
    except OSError as error:
        reason = error.strerror
        raise _unwritable(f"{report} cannot be written: {reason}. Name another file.") from None
    if report.stat().st_size == 0:
        report.unlink()


def _unwritable(reason: str) -> click.BadParameter:
    return click.BadParameter(reason, click.get_current_context(), param_hint="'--report'")


def show_backtest(result: BacktestResult, report: Path | None) -> None:
    """The table of windows, the outcome in words, what it cannot know, where the report is."""
    from clew.cli.terminal import say, show_table
    from clew.cli.words import effort, first_doubt, headline, verdict

    say(f"{result.model}, {result.start:%Y-%m-%d} to {result.end:%Y-%m-%d}", style="bold")
    say()
    show_table(
        ["start", "n", "clew", "frozen", "blind", "version"],
        [_row(window, result.greater_is_better) for window in result.windows],
        right=["n", "clew", "frozen", "blind", "version"],
    )
    say()
    say(f"{headline(result)}.", style="bold")
    say(verdict(result))
    say(effort(result.summary))
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


def _row(window: Window, greater_is_better: bool) -> list[Any]:
    from rich.text import Text

    from clew.cli.words import day, number

    values = [window.clew, window.frozen, window.blind]
    known = [value for value in values if value is not None]
    best = (max if greater_is_better else min)(known) if known else None
    styles = ["bold" if value is not None and value == best else "" for value in values]
    cells = [Text(number(value), style=style) for value, style in zip(values, styles, strict=True)]
    return [day(window.start), f"{window.n:,}", *cells, window.version]
