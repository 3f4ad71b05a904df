"""``clew try``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from clew.cli.commands import Explained
from clew.cli.terminal import answer
from clew.cli.values import again_option, json_option, seed_option, set_option, target_argument

if TYPE_CHECKING:
    from clew.loop.result import TryResult

EXIT_CODES = {"pass": 0, "not tested": 0, "fail": 3, "undecided": 4}


@click.command("try", cls=Explained, example="clew try model.py --set num_leaves=63")
@target_argument
@set_option
@seed_option
@again_option
@json_option
@click.pass_context
def try_once(
    ctx: click.Context,
    target: str | None,
    settings: tuple[tuple[str, Any], ...],
    seed: int,
    again: bool,
    as_json: bool,
) -> None:
    """Train once and show what the gate says.

    TARGET is FILE.py, FILE.py:MODEL, or the name of a model of the project here; without it, the project's
    only model. The table is snapshotted, code and environment are captured, the model is fitted in a
    process of its own and packaged, and every check of the gate is held.

    Ends with 0 when the gate passed, 3 when it failed, 4 when it is undecided.
    """
    from clew.cli.progress import progress_shown
    from clew.workspace import open_workspace

    with open_workspace(target, Path.cwd()) as workspace, progress_shown("Trying") as on_progress:
        result = workspace.try_model(params=dict(settings), seed=seed, again=again, on_progress=on_progress)
    answer(as_json, result, lambda: show_try(result))
    ctx.exit(EXIT_CODES[result.report.outcome])


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
