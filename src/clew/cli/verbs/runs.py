"""``clew runs``."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Any, cast

import click

from clew.cli.commands import Explained, Verbs, option
from clew.cli.terminal import answer
from clew.cli.values import WHICH, json_option, limit_option, since_option
from clew.cli.verbs.run_records import artifacts, note, note_line, tag

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from clew.entities import Run, RunStatus
    from clew.storage.series import SeriesSummary
    from clew.tracking import Artifact, Note, OpenedFile

LAST_LINES = 40
"""Of what a training printed; a screenful."""


@click.group("runs", cls=Verbs, example="clew runs list --model busy_hour --since 7d")
def runs() -> None:
    """Look at trainings."""


for _command in (tag, note, artifacts):
    runs.add_command(_command)


@runs.command(
    "list",
    cls=Explained,
    example=(
        "clew runs list --status failed --since 7d\n"
        '  clew runs list --where "metric.accuracy > 0.8 and param.num_leaves = 31" --sort metric.accuracy'
    ),
)
@option(
    "--where",
    metavar="CONDITIONS",
    purpose=WHICH,
    help="Only those that meet all conditions on metric.NAME, param.NAME, tag.NAME, status, model, started, …"
    " joined by and; with =, !=, <, <=, >, >=, like.",
)
@option(
    "--sort",
    metavar="NAME",
    purpose=WHICH,
    help="By metric.NAME, param.NAME, tag.NAME or seconds, the highest first; 'NAME asc' for the lowest.",
)
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
    where: str | None,
    sort: str | None,
    limit: int,
    as_json: bool,
) -> None:
    """List trainings, the newest first.

    The words of --where are those of MLflow's search_runs. A training without a metric, parameter or tag
    meets no condition about it, and is left out when sorted by it.
    """
    from clew import tracking
    from clew.cli.records import records_here

    conditions = tracking.parse_search(where) if where else ()
    order = tracking.parse_order(sort) if sort else None
    with records_here() as records:
        found = tracking.find_runs(
            records.store,
            conditions,
            order=order,
            model=model,
            status=cast("RunStatus | None", status),
            purpose=purpose,
            since=since,
            limit=limit,
            key_prefix=None if work == "all" else f"{work}/",
        )
        tags = tracking.tags_of_runs(records.store, [run.id for run in found])
        unknown = [] if found else tracking.unknown_names(records.store, conditions)
    asked_for = [(each.kind, each.name) for each in conditions]
    asked_for += [(order.kind, order.name)] if order else []
    params = list(dict.fromkeys(name for kind, name in asked_for if kind == "param"))
    answer(
        as_json,
        {"runs": found, "tags": tags, "unknown": unknown},
        lambda: show_runs(found, tags, params, unknown),
    )


def show_runs(
    found: list[Run],
    tags: Mapping[str, Mapping[str, str]],
    params: Sequence[str] = (),
    unknown: Sequence[str] = (),
) -> None:
    """A row for each; of params those of interest, and tags where there are any."""
    from clew.cli.terminal import say, show_table
    from clew.cli.words import lasting

    if not found:
        nothing = "No run fits what was asked for. Ask for all with: clew runs list --of all; or make one:"
        say("\n".join(unknown) or f"{nothing} clew try")
        return
    tagged = [tags.get(run.id, {}) for run in found]
    given = [[(name, run.params[name].value) for name in params if name in run.params] for run in found]
    more = {
        "params": [", ".join(f"{name} {value!r}" for name, value in each) for each in given],
        "tags": [", ".join(f"{name}={value}" for name, value in each.items()) for each in tagged],
    }
    shown = {name: cells for name, cells in more.items() if any(cells)}
    show_table(
        ["id", "model", "purpose", "status", "started", "rows", "took", "metrics", *shown],
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
                *(cells[place] for cells in shown.values()),
            ]
            for place, run in enumerate(found)
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


def _metrics_with_intervals(run: Run) -> str:
    from clew.cli.words import number

    told = []
    for name, value in run.metrics.items():
        between = run.intervals.get(name)
        interval = f"  (95 %: {number(between[0])} to {number(between[1])})" if between else ""
        told.append(f"{name} {number(value)}{interval}")
    return "\n".join(told)


@runs.command("show", cls=Explained, example="clew runs show 3f9a2c")
@click.argument("run_id", metavar="ID")
@json_option
def show_run(run_id: str, as_json: bool) -> None:
    """Show everything about one training.

    Also what its function logged, saved and printed, and what people said of it. ID is the run's id or its
    first letters. With --json logged series are whole.
    """
    from clew import tracking
    from clew.cli.records import records_here

    with records_here() as records:
        run = tracking.get_run(records.store, run_id)
        # A series may have millions of numbers; only a program gets them all.
        logged = tracking.read_metrics(records.store, run.id) if as_json else []
        series = [] if as_json else tracking.summarise_metrics(records.store, run.id)
        printed = tracking.read_output(records.store, run)
        tags = tracking.read_tags(records.store, run.id)
        notes = tracking.read_notes(records.store, run.id)
        artifacts = tracking.list_artifacts(records.store, run.id)
        opened = tracking.opened_files(records.store, run.id)
    told = {"run": run, "logged": logged, "printed": printed, "tags": tags, "notes": notes}
    answer(
        as_json,
        {**told, "artifacts": artifacts, "opened": opened},
        lambda: _show_run(run, printed, series, tags, notes, artifacts, opened),
    )


def _show_run(
    run: Run,
    printed: str,
    series: Sequence[SeriesSummary],
    tags: Mapping[str, str],
    notes: Sequence[Note],
    artifacts: Sequence[Artifact],
    opened: Sequence[OpenedFile],
) -> None:
    from clew.cli.terminal import say, show_facts
    from clew.cli.words import size

    say(f"Run {run.id} of {run.model}", style="bold")
    show_facts(
        {
            "status": run.status,
            "purpose": run.purpose,
            "started": f"{run.started_at:%Y-%m-%d %H:%M:%S} UTC",
            **_what_it_took(run),
            # Of a model that was made elsewhere none of these is known.
            "rows": f"{n_rows(run):,}: {_ranges(run)}" if run.snapshot else None,
            "snapshot": f"{run.snapshot[:12]} of {run.dataset}" if run.snapshot else None,
            "code": run.code[:12] or None,
            "environment": run.environment[:12],
            "also read": read_outside(opened),
            "seed": run.seed,
            "params": _params(run),
            "metrics": _metrics_with_intervals(run),
            "tags": "\n".join(f"{name} = {value}" for name, value in tags.items()),
            "notes": "\n".join(map(note_line, notes)),
            "logged": "\n".join(map(_series_line, series)),
            "artifacts": "\n".join(f"{each.name}  {size(each.n_bytes)}" for each in artifacts),
            "model digest": run.model_digest,
            "printed": _end_of(printed),
            "error": run.error,
        }
    )
    say()
    say(f"Where it came from: clew trace {run.id[:12]}")


def _series_line(series: SeriesSummary) -> str:
    """How a series went, and where it ended."""
    from clew.cli.words import number, sparkline

    at = "" if series.last_step is None else f" at step {series.last_step:,}"
    if series.n == 1:
        return f"{series.name} {number(series.last)}{at}"
    return (
        f"{series.name} {number(series.last)}{at}  {sparkline(series.points)}"
        f"  {series.n:,} values, first {number(series.first)}"
    )


def read_outside(opened: Sequence[OpenedFile]) -> str:
    """Files that the training read and that nobody keeps, a line each; empty for none."""
    return "\n".join(f"{file.path}  (sha256 {(file.sha256 or 'unknown')[:12]}, not kept)" for file in opened)


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
