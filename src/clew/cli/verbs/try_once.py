"""``clew try``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from clew.cli.commands import Explained, option
from clew.cli.terminal import answer
from clew.cli.values import (
    TRAINING,
    Axis,
    again_option,
    json_option,
    seed_option,
    set_option,
    target_argument,
)

if TYPE_CHECKING:
    from clew.loop.columns import ColumnsReport
    from clew.loop.grid import GridResult
    from clew.loop.result import TryResult

EXIT_CODES = {"pass": 0, "not tested": 0, "fail": 3, "undecided": 4}


@click.command(
    "try",
    cls=Explained,
    example=(
        "clew try model.py --set num_leaves=63\n"
        "  clew try --grid learning_rate=0.01,0.1 --grid num_leaves=31,63 --jobs 2\n"
        "  clew try --columns"
    ),
)
@target_argument
@set_option
@option(
    "--grid",
    type=Axis(),
    multiple=True,
    purpose=TRAINING,
    help="Values of a hyperparameter to compare; of several, every combination. Only the best is registered.",
)
@option(
    "--columns",
    is_flag=True,
    purpose=TRAINING,
    help="Say what each column is worth: train again without it.",
)
@option(
    "--jobs",
    type=click.IntRange(1, 64),
    metavar="NUMBER",
    default=1,
    purpose=TRAINING,
    help="Train so many at a time, for --grid and --columns.",
)
@seed_option
@again_option
@json_option
@click.pass_context
def try_once(
    ctx: click.Context,
    target: str | None,
    settings: tuple[tuple[str, Any], ...],
    grid: tuple[tuple[str, list[Any]], ...],
    columns: bool,
    jobs: int,
    seed: int,
    again: bool,
    as_json: bool,
) -> None:
    """Train once and show what the gate says.

    TARGET is FILE.py, FILE.py:MODEL, or the name of a model of the project here; without it, the project's
    only model. The table is snapshotted, code and environment are captured, the model is fitted in a
    process of its own and packaged, and every check of the gate is held.

    With --grid and --columns more trainings are made: each is a run, learns from the older two thirds of the
    rows and is measured on the newest third, all on the same rows. What was measured before is read back, so
    that after Ctrl-C the same command goes on.

    Ends with 0 when the gate passed, 3 when it failed, 4 when it is undecided.
    """
    from clew.cli.grid import show_columns_report, show_grid
    from clew.cli.progress import progress_shown
    from clew.workspace import open_workspace

    params, axes = dict(settings), _axes(grid, settings)
    found: GridResult | None = None
    weighed: ColumnsReport | None = None
    with open_workspace(target, Path.cwd()) as workspace, progress_shown("Trying") as on_progress:
        if axes:
            found = workspace.try_grid(
                axes, params=params, seed=seed, jobs=jobs, again=again, on_progress=on_progress
            )
        result = (
            found.tried
            if found
            else workspace.try_model(params=params, seed=seed, again=again, on_progress=on_progress)
        )
        if columns:
            weighed = workspace.weigh_columns(result, jobs=jobs, on_progress=on_progress)

    def show() -> None:
        if found is not None:
            show_grid(found)
        show_try(result)
        if weighed is not None:
            show_columns_report(weighed)

    answer(as_json, _told(result, found, weighed), show)
    ctx.exit(EXIT_CODES[result.report.outcome])


def _told(result: TryResult, grid: GridResult | None, columns: ColumnsReport | None) -> dict[str, Any]:
    """One document: the try, and beside it what was compared."""
    from clew.cli.documents import document

    told: dict[str, Any] = document(result)
    if grid is not None:
        told["grid"] = {name: value for name, value in document(grid).items() if name != "tried"}
    if columns is not None:
        told["columns"] = document(columns)
    return told


def _axes(
    grid: tuple[tuple[str, list[Any]], ...], settings: tuple[tuple[str, Any], ...]
) -> dict[str, list[Any]]:
    axes: dict[str, list[Any]] = {}
    for name, values in grid:
        if name in axes:
            raise click.UsageError(f"--grid {name} is given twice; write all its values behind one.")
        if name in dict(settings):
            raise click.UsageError(f"{name} is given to --grid and to --set; leave one of them out.")
        axes[name] = values
    return axes


def show_try(result: TryResult) -> None:
    """The gate's report, what was made, and where to go from here."""
    from clew.cli.terminal import console, outcome_text, say, show_facts, show_gate
    from clew.cli.verbs.runs import n_rows, read_outside
    from clew.cli.words import lasting, number, size

    version, run = result.version, result.run
    stand = "made" if result.is_new else "unchanged: nothing it depends on has changed (--again trains anew)"
    say(f"{version.model}, version {version.number} {stand}", style="bold")
    say()
    show_gate(result.report)
    say()
    metrics = ", ".join(f"{name} {number(value)}" for name, value in version.metrics.items())
    show_facts(
        {
            "gate": outcome_text(result.report.outcome),
            "metrics": metrics,
            "run": f"{run.id[:12]}  {n_rows(run):,} rows of snapshot {run.snapshot[:12]}",
            "also read": read_outside(result.opened),
            "took": f"{lasting(run.seconds or 0)}, at most {size(run.peak_memory_bytes or 0)} of memory",
        }
    )
    say()
    console().print("Where it came from:  ", style="dim", end="")
    console().print(f"clew trace {version.name}")
