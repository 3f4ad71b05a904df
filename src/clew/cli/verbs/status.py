"""``clew status``."""

from __future__ import annotations

import math
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

import click

from clew.cli.commands import Explained, option
from clew.cli.elsewhere import ask_server, refuse_elsewhere, server_option
from clew.cli.lived import hand_over, refuse_unwritable_report, report_option
from clew.cli.terminal import answer
from clew.cli.values import Length, Moment, json_option, utc_now

if TYPE_CHECKING:
    from clew.entities import Duration
    from clew.server.figures import Lately, VersionLately
    from clew.server.status import ModelLine, Overview, WorkerLine


PERIOD = "What it lived through"


@click.command(
    "status",
    cls=Explained,
    example="clew status busy_hour --report busy_hour.html",
)
@click.argument("model", required=False)
@option(
    "--since",
    type=Moment(),
    purpose=PERIOD,
    help="Rows of this time and later; by default since it went live.",
)
@option("--until", type=Moment(), purpose=PERIOD, help="Rows before this time; by default until now.")
@option(
    "--window",
    type=Length(),
    purpose=PERIOD,
    help="Rows of the table; by default a month, of a young model a week or a day.",
)
@report_option
@server_option
@json_option
@click.pass_context
def status(
    ctx: click.Context,
    /,
    model: str | None,
    since: datetime | None,
    until: datetime | None,
    window: Duration | None,
    report: Path | None,
    server: str | None,
    as_json: bool,
) -> None:
    """Show how every model stands, or what one MODEL lived through.

    It reads the store and the files that a running clew up leaves there, so it also answers while control
    is being restarted, and tells what was last known when nothing runs. Requests, latency and errors are
    those of the last minute.

    What a MODEL lived through is told from what was recorded: the metric of the answers that callers really
    had, by window, beside that of its first version on the same rows; alarms, decisions and gates; and who
    answered when. With --report it becomes a page like a backtest's.
    """
    if model is None:
        _refuse_without_model(ctx, since=since, until=until, window=window, report=report)
        _show_all(server, as_json)
        return
    refuse_elsewhere(ctx, server, "What a model lived through")
    from clew.cli.progress import progress_shown
    from clew.cli.records import records_here
    from clew.server.clock import system_now

    refuse_unwritable_report(report)
    with records_here() as records, progress_shown("Reading") as on_progress:
        now = system_now(records.store, utc_now())
        result = records.lived(
            model, now=now, since=since, until=until, window=window, on_progress=on_progress
        )
    hand_over(result, report, as_json=as_json)


def _refuse_without_model(ctx: click.Context, **given: object) -> None:
    name = next((name for name, value in given.items() if value is not None), None)
    if name is not None:
        raise click.UsageError(
            f"--{name} is about one model: name it, such as: clew status MODEL --{name} …", ctx
        )


def _show_all(server: str | None, as_json: bool) -> None:
    from clew.server.status import Overview

    found = ask_server(server, "GET", "/status", Overview) if server else _overview_here()
    answer(as_json, found, lambda: show_overview(found))


def _overview_here() -> Overview:
    from clew.cli.records import records_here
    from clew.server.clock import system_now
    from clew.server.status import overview

    with records_here() as records:
        return overview(records.store, system_now(records.store, utc_now()))


def show_overview(found: Overview) -> None:
    """First whether anything runs, then a line a model."""
    from clew.cli.terminal import say, show_facts, show_table

    if found.up is None:
        say("clew up does not run on this store; this is what was last known. Start it with: clew up")
    show_facts(
        {
            "up": found.up
            and f"since {found.up.since:%Y-%m-%d %H:%M} UTC, process {found.up.pid} on {found.up.machine}",
            "predictions": found.up and found.up.url,
            "control": found.up and found.up.control_url,
            "clock": _clock(found),
        }
        | {f"worker {each.worker}": _worker(each) for each in found.workers}
    )
    say()
    if not found.models:
        say("No model is live yet. clew up makes first champions.")
        return
    show_table(
        ["model", "version", "stage", "metric", "last decision", "req/s", "p50", "p99", "errors", "log lag"],
        [_line(each) for each in found.models],
        right=["version", "req/s", "p50", "p99", "errors", "log lag"],
    )
    for each in found.models:
        if each.stage == "waits":
            say(f"\n{each.deployment} waits: {each.waits_for}")
        if each.served_from:
            say(f"\n{each.served_from}")
    asked = [_version_line(each.deployment, one) for each in found.models for one in each.versions]
    if asked:
        say("\nBy version, in the last minute:")
        columns = ["req/s", "shadow rows/s", "p50", "p99", "model a row", "errors"]
        show_table(["version", *columns], asked, right=columns)


def _version_line(deployment: str, lately: VersionLately) -> list[str]:
    return [
        f"{deployment}@{lately.version}",
        f"{lately.requests_per_second:.1f}",
        f"{lately.beside_per_second:.1f}",
        _milliseconds(lately.p50),
        _milliseconds(lately.p99),
        _milliseconds(lately.seconds_per_row),
        str(lately.errors),
    ]


def _worker(worker: WorkerLine) -> str:
    from clew.cli.words import size

    asked = f"{worker.in_flight} being asked now" if worker.in_flight else "idle"
    return f"process {worker.pid}: {size(worker.memory_bytes)}, {worker.cpu_seconds:,.1f} s of CPU, {asked}"


def _clock(found: Overview) -> str:
    from clew.cli.words import lasting

    age = "" if found.loop_age_seconds is None else f", loop heard {lasting(found.loop_age_seconds)} ago"
    trouble = f". {found.clock_trouble}" if found.clock_trouble else ""
    return f"{found.clock_mode}, {found.clock_now:%Y-%m-%d %H:%M:%S} UTC{age}{trouble}"


def _line(model: ModelLine) -> list[str]:
    from clew.cli.words import number

    value = model.value
    return [
        model.deployment,
        "–" if model.version is None else str(model.version),
        _stage(model),
        "" if model.metric is None else f"{model.metric} {number(value)} ({model.n:,})",
        _decision(model),
        *_traffic(model.lately),
    ]


def _decision(model: ModelLine) -> str:
    from clew.cli.words import day

    decision = model.last_decision
    if decision is None:
        return ""
    # What a model waits for is told in full below the table.
    return f"{day(decision.at)} {decision.kind if model.stage == 'waits' else decision.sentence}"


def _stage(model: ModelLine) -> str:
    share = f" {model.share * 100:.4g}%" if model.stage == "canary" else ""
    candidate = f" of {model.candidate}" if model.candidate is not None else ""
    return f"{model.stage}{share}{candidate}{', paused' if model.is_paused else ''}"


def _traffic(lately: Lately | None) -> list[str]:
    from clew.cli.words import size

    if lately is None:
        return ["–"] * 5
    quantiles = [_milliseconds(lately.p50), _milliseconds(lately.p99)]
    return [
        f"{lately.requests_per_second:.1f}",
        *quantiles,
        str(lately.errors),
        size(lately.log_bytes) if lately.log_bytes is not None else "",
    ]


def _milliseconds(seconds: float | None) -> str:
    if seconds is None:
        return "–"
    return f"{seconds * 1000:.4g} ms" if math.isfinite(seconds) else "> 5 s"
