"""``clew runs``."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Any, cast

import click

from clew.cli.commands import Explained, Verbs, option
from clew.cli.terminal import answer
from clew.cli.values import WHICH, json_option, limit_option, since_option

if TYPE_CHECKING:
    from clew.entities import Run, RunStatus

LAST_LINES = 40
"""Of what a training printed; a screenful."""


@click.group("runs", cls=Verbs, example="clew runs list --model busy_hour --since 7d")
def runs() -> None:
    """Look at trainings."""


@runs.command("list", cls=Explained, example="clew runs list --status failed --since 7d")
@option("--model", purpose=WHICH, help="Only those of this model.")
@option(
    "--status",
    type=click.Choice(["running", "finished", "failed"]),
    purpose=WHICH,
    help="Only those that stand so.",
)
@option(
    "--of",
    "work",
    type=click.Choice(["try", "live", "backtest", "reproduce", "all"]),
    default="try",
    purpose=WHICH,
    help="Only those of this kind of work: live is what clew up fitted; a backtest makes dozens.",
)
@option("--purpose", purpose=WHICH, help='Only those made for this, such as "blind refit".')
@since_option
@limit_option
@json_option
def list_runs(
    model: str | None,
    status: str | None,
    work: str,
    purpose: str | None,
    since: datetime | None,
    limit: int,
    as_json: bool,
) -> None:
    """List trainings, the newest first."""
    from clew import tracking
    from clew.cli.records import records_here

    with records_here() as records:
        found = tracking.list_runs(
            records.store,
            model=model,
            status=cast("RunStatus | None", status),
            purpose=purpose,
            since=since,
            limit=limit,
            key_prefix=None if work == "all" else f"{work}/",
        )
    answer(as_json, {"runs": found}, lambda: show_runs(found))


def show_runs(found: list[Run]) -> None:
    from clew.cli.terminal import say, show_table
    from clew.cli.words import lasting

    if not found:
        say(
            "No run fits what was asked for. Ask for all with: clew runs list --of all; or make one: clew try"
        )
        return
    show_table(
        ["id", "model", "purpose", "status", "started", "rows", "took", "metrics"],
        [
            [
                run.id[:12],
                run.model,
                run.purpose,
                run.status,
                f"{run.started_at:%Y-%m-%d %H:%M}",
                f"{n_rows(run):,}",
                "" if run.seconds is None else lasting(run.seconds),
                _metrics(run),
            ]
            for run in found
        ],
        right=["rows", "took"],
    )


def n_rows(run: Run) -> int:
    return sum(len(rows) for rows in run.rows)


def _ranges(run: Run) -> str:
    from clew.cli.words import listed

    return listed([f"{rows.start:,} to {rows.end:,}" for rows in run.rows])


def _metrics(run: Run) -> str:
    from clew.cli.words import number

    return ", ".join(f"{name} {number(value)}" for name, value in run.metrics.items())


@runs.command("show", cls=Explained, example="clew runs show 3f9a2c")
@click.argument("run_id", metavar="ID")
@json_option
def show_run(run_id: str, as_json: bool) -> None:
    """Show everything about one training.

    Also what its function printed. ID is the run's id or its first letters.
    """
    from clew import tracking
    from clew.cli.records import records_here

    with records_here() as records:
        run = tracking.get_run(records.store, run_id)
        logged = list(tracking.read_metrics(records.store, run.id))
        printed = tracking.read_output(records.store, run)
    answer(
        as_json,
        {"run": run, "logged": logged, "printed": printed},
        lambda: _show_run(run, n_logged=len(logged), printed=printed),
    )


def _show_run(run: Run, n_logged: int, printed: str) -> None:
    from clew.cli.terminal import say, show_facts

    say(f"Run {run.id} of {run.model}", style="bold")
    show_facts(
        {
            "status": run.status,
            "purpose": run.purpose,
            "started": f"{run.started_at:%Y-%m-%d %H:%M:%S} UTC",
            **_what_it_took(run),
            "rows": f"{n_rows(run):,}: {_ranges(run)}",
            "snapshot": f"{run.snapshot[:12]} of {run.dataset}",
            "code": run.code[:12],
            "environment": run.environment[:12],
            "seed": run.seed,
            "params": _params(run),
            "metrics": _metrics(run),
            "logged": f"{n_logged:,} values" if n_logged else None,
            "model digest": run.model_digest,
            "printed": _end_of(printed),
            "error": run.error,
        }
    )
    say()
    say(f"Where it came from: clew trace {run.id[:12]}")


def _what_it_took(run: Run) -> dict[str, Any]:
    from clew.cli.words import lasting, size

    return {
        "took": None if run.seconds is None else lasting(run.seconds),
        "memory": None if run.peak_memory_bytes is None else f"at most {size(run.peak_memory_bytes)}",
    }


def _end_of(printed: str) -> str:
    """The last lines, since a training may print thousands."""
    lines = printed.rstrip().splitlines()
    n_left_out = len(lines) - LAST_LINES
    said = [f"[... {n_left_out:,} lines before these: --json has them ...]"] if n_left_out > 0 else []
    return "\n".join([*said, *lines[-LAST_LINES:]])


def _params(run: Run) -> str:
    return "\n".join(f"{name} = {param.value!r}  ({param.source})" for name, param in run.params.items())


@runs.command("diff", cls=Explained, example="clew runs diff busy_hour@3 busy_hour@7")
@click.argument("then", metavar="A")
@click.argument("now", metavar="B")
@json_option
def diff_runs(then: str, now: str, as_json: bool) -> None:
    """Show what differs between two trainings, and only that.

    Parameters and metrics, rows by key, packages and machine, code line by line. A and B are the first
    letters of the ids of runs, or versions (MODEL@NUMBER).
    """
    show_difference(then, now, as_json)


def show_difference(then: str, now: str, as_json: bool) -> None:
    """Compare two runs or versions of the project here."""
    from clew.cli.records import records_here
    from clew.cli.run_change import show_run_change

    with records_here() as records:
        change = records.difference(then, now)
    answer(as_json, {"differs": bool(change), "change": change}, lambda: show_run_change(change))
