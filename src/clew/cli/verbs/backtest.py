"""``clew backtest``."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from clew.cli.commands import Explained, option
from clew.cli.lived import hand_over, refuse_unwritable_report, report_option
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
@report_option
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

    refuse_unwritable_report(report)
    options = BacktestOptions(start=start, end=end, window=window)
    with open_workspace(target, Path.cwd()) as workspace, progress_shown("Replaying") as on_progress:
        result = workspace.backtest(
            options=options, params=dict(settings), seed=seed, again=again, on_progress=on_progress
        )
    hand_over(result, report, as_json=as_json)
