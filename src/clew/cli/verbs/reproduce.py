"""``clew reproduce``."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from clew.cli.commands import Explained, option
from clew.cli.terminal import answer
from clew.cli.values import TRAINING, json_option

if TYPE_CHECKING:
    from clew.loop.reproduction import MetricCompared, PredictionsCompared, Reproduction

EXIT_CODES = {"same bits": 0, "same predictions": 0, "same metrics": 4, "differs": 3}
SIGNS = {"same bits": "✓", "same predictions": "✓", "same metrics": "?", "differs": "✗"}


@click.command("reproduce", cls=Explained, example="clew reproduce busy_hour@7")
@click.argument("reference", metavar="VERSION|RUN")
@option(
    "--here",
    "is_here",
    is_flag=True,
    purpose=TRAINING,
    help="Use what is installed now, and make no environment.",
)
@json_option
@click.pass_context
def reproduce(ctx: click.Context, reference: str, is_here: bool, as_json: bool) -> None:
    """Train a version again from its record, and compare.

    VERSION|RUN is a version (MODEL@NUMBER), a model (its newest version), or the first letters of a run's
    id. Rows, code, parameters and seed come from the record, each checked against its digest; the project's
    files and sources of today are not looked at. Packages are the recorded ones, installed by uv into a
    folder of the store where they are not those of today. The repetition is a run of its own, which the
    thread holds.

    Ends with 0 at the same bits or the same predictions, 4 when only the metrics are the same, 3 when it
    differs.
    """
    from clew.cli.progress import progress_shown
    from clew.cli.records import records_here

    with records_here() as records, progress_shown("Reproducing") as on_progress:
        result = records.reproduce(reference, is_here=is_here, on_progress=on_progress)
    answer(as_json, result, lambda: show_reproduction(result))
    ctx.exit(EXIT_CODES[result.level])


def show_reproduction(result: Reproduction) -> None:
    """The level, what it rests on, and what most likely made a difference."""
    from clew.cli.terminal import console, say, show_facts
    from clew.cli.words import counted

    what = result.version or f"run {result.repeated.id[:12]}"
    say(f"{SIGNS[result.level]} {what}: {_verdict(result)}", style="bold")
    say()
    show_facts(
        {
            "model": _bits(result),
            "predictions": result.predictions and _predictions(result.predictions),
            **{metric.name: _metric(metric) for metric in result.metrics},
            "rows": f"{counted(result.n_erased, 'row')} erased since" if result.n_erased else "",
            "environment": _environment(result),
            "likely cause": "\n".join(result.causes),
            "not compared": "\n".join(result.notes),
            "run": result.run.id[:12],
        }
    )
    say()
    console().print("What it repeated:  ", style="dim", end="")
    console().print(f"clew trace {result.run.id[:12]}")


def _verdict(result: Reproduction) -> str:
    return "it differs" if result.level == "differs" else result.level


def _bits(result: Reproduction) -> str:
    if result.is_same_fit and result.is_same_package is not False:
        return f"the same to the last bit: {(result.run.model_digest or '')[:12]}"
    then, now = ((run.model_digest or "none")[:12] for run in (result.repeated, result.run))
    return (
        f"{then} then, {now} now"
        if then != now
        else "the same answers where it learned; its file holds other bytes"
    )


def _predictions(compared: PredictionsCompared) -> str:
    rows = f"{compared.n_rows:,} rows and {compared.n_mixed:,} mixed from them"
    if compared.is_same and not compared.largest_difference:
        return f"the same on {rows}, with no difference"
    answered = f"{compared.n_otherwise:,} of {rows} are answered otherwise"
    largest = f"the largest difference is {compared.largest_difference:.3g}"
    return f"{answered}; {largest}; the same is up to {compared.tolerance:.3g}"


def _metric(metric: MetricCompared) -> str:
    said = f"{metric.then:.6g} then, {metric.now:.6g} now"
    difference = f", a difference of {metric.difference:+.3g}" if metric.difference else ", no difference"
    same = "" if metric.tolerance is None else f"; the same is up to {metric.tolerance:.3g}"
    return f"{said}{difference}{same} ({metric.rows})"


def _environment(result: Reproduction) -> str:
    from clew.cli.words import counted, listed

    change = result.environment
    where = "made from the record" if result.is_made else "the present one"
    if not change:
        return f"{where}, which is as recorded"
    found = {
        "package of another version": len(change.packages),
        "other fact": len(change.facts),
        "package of other files": len(change.rebuilt),
    }
    plural = {"package of another version": "packages of other versions",
              "package of other files": "packages of other files"}  # fmt: skip
    told = listed([counted(n, word, plural.get(word)) for word, n in found.items() if n])
    return f"{where}, with {told}: clew runs diff {result.repeated.id[:12]} {result.run.id[:12]}"
