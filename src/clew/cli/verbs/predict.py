"""``clew predict``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from clew.cli.commands import Explained, option
from clew.cli.outputs import refuse_unwritable
from clew.cli.terminal import answer
from clew.cli.values import json_option

if TYPE_CHECKING:
    from clew.loop.batch import BatchResult


@click.command(
    "predict", cls=Explained, example="clew predict busy_hour --data july.csv --out answers.parquet"
)
@click.argument("model", metavar="MODEL[@VERSION]")
@option("--data", required=True, metavar="SOURCE", purpose="What is answered", help="A Parquet or CSV file.")
@option(
    "--out",
    required=True,
    type=click.Path(dir_okay=False, path_type=Path),
    purpose="What is answered",
    help="Where the answers go, as .parquet or .csv.",
)
@option("--force", is_flag=True, purpose="What is answered", help="Write over a file that is there.")
@json_option
def predict(model: str, data: str, out: Path, force: bool, as_json: bool) -> None:
    """Answer for the rows of a table.

    MODEL is a name, for its champion, or NAME@NUMBER, or NAME@ALIAS. The file gets the key, time and entity
    of each row, the prediction, its probabilities, the model and its version. The batch is recorded, and
    clew trace leads from it to what made the version.
    """
    from clew.cli.people import actor_here
    from clew.cli.records import records_here
    from clew.errors import UsageError
    from clew.loop.batch import KINDS

    if out.exists() and not force:
        raise UsageError(f"{out} exists and is not overwritten. Name another file, or add --force.")
    refuse_unwritable(out, "--out", KINDS)
    with records_here() as records:
        result = records.predict_batch(model, data, out.resolve(), where=Path.cwd(), actor=actor_here())
    answer(as_json, result, lambda: _show(result))


def _show(result: BatchResult) -> None:
    from clew.cli.terminal import say

    counts = "" if result.counts is None else ": " + ", ".join(f"{n:,} {c}" for c, n in result.counts.items())
    say(f"{result.n_rows:,} rows answered by {result.version}{counts}")
    say(f"They are in {result.destination}. Where they came from: clew trace {result.id}")
