"""``clew data append`` and ``clew data schema``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from clew.cli.commands import Explained, option
from clew.cli.terminal import answer
from clew.cli.values import json_option

if TYPE_CHECKING:
    from clew.datasets import Dataset
    from clew.entities import Column
    from clew.loop.appending import Appended

WHAT = "What is done"


@click.command("append", cls=Explained, example="clew data append rides may.parquet --dry-run")
@click.argument("dataset", metavar="DATASET")
@click.argument("file", metavar="FILE")
@option("--dry-run", is_flag=True, purpose=WHAT, help="Check the rows and say what would come of them only.")
@json_option
def append(dataset: str, file: str, dry_run: bool, as_json: bool) -> None:
    """Add the rows of a file to the newest snapshot of a dataset, without reading the others.

    FILE is Parquet, CSV or JSON lines, with new rows alone; the dataset's function gets them as it gets those
    of its source. Rows with keys that are there already are refused, and so are columns that are missing and
    values that do not fit. New columns join. Nothing is stored when something is refused.

    When a source is read, it is the whole table: rows that it does not have are not in the snapshot made of
    it. So put the file among those that the source names, too, as in rides/*.parquet.
    """
    from clew.cli.people import actor_here
    from clew.workspace import open_workspace

    where = Path.cwd()
    with open_workspace(None, where) as workspace:
        appended = workspace.append(dataset, file, where=where, actor=actor_here(), is_dry=dry_run)
    answer(as_json, appended, lambda: show_appended(appended, file))


def show_appended(appended: Appended, file: str) -> None:
    from clew.cli.terminal import say

    n_after = appended.n_before + appended.n_rows
    rows = f"{appended.n_rows:,} rows of {file} joined {appended.n_before:,} of {appended.dataset}"
    if appended.snapshot is None:
        rows = f"{appended.n_rows:,} rows of {file} can join {appended.n_before:,} of {appended.dataset}"
        say(f"{rows}, which makes {n_after:,}. Nothing was stored.")
    else:
        say(f"{rows}: snapshot {appended.snapshot[:12]} has {n_after:,}.")
    if appended.new_columns and appended.before is not None:
        say(f"Its columns change, to version {appended.schema_version}: {_named(appended.new_columns)}.")
    if not appended.is_in_source:
        source = appended.source or "The function that the dataset is read with"
        say(f"{source} does not name {file}. Put the rows there, too: read again, it is the whole table.")


def _named(columns: tuple[Column, ...]) -> str:
    return ", ".join(f"{column.name} is {column.type}" for column in columns)


@click.command("schema", cls=Explained, example="clew data schema rides")
@click.argument("dataset", metavar="DATASET")
@json_option
def schema(dataset: str, as_json: bool) -> None:
    """List the versions of a dataset's columns: what came, went and changed its type, and when."""
    from clew import datasets
    from clew.cli.records import records_here
    from clew.errors import NotFound, did_you_mean

    with records_here() as records:
        known = {each.name: each for each in datasets.list_datasets(records.store)}
    if dataset not in known:
        raise NotFound(f"There is no dataset {dataset!r}. {did_you_mean(dataset, known)}")
    found = known[dataset]
    answer(as_json, {"dataset": found.name, "schemas": found.schemas}, lambda: show_schemas(found))


def show_schemas(found: Dataset) -> None:
    from clew.cli.terminal import show_table

    before: dict[str, str] = {}
    lines = []
    for each in found.schemas:
        types = {column.name: column.type for column in each.columns}
        snapshot, code = (each.snapshot or "")[:12], (each.code or "")[:12]
        changed = "; ".join(_changes(before, types)) if before else f"{len(types)} columns"
        lines.append([f"{each.number}", f"{each.since:%Y-%m-%d %H:%M}", changed, snapshot, code])
        before = types
    show_table(["version", "since", "what changed", "snapshot", "code"], lines, right=["version"])


def _changes(before: dict[str, str], after: dict[str, str]) -> list[str]:
    new = [f"{name} is new ({kind})" for name, kind in after.items() if name not in before]
    gone = [f"{name} is gone" for name in before if name not in after]
    other = [
        f"{name} is {kind}, was {before[name]}"
        for name, kind in after.items()
        if name in before and before[name] != kind
    ]
    return [*new, *other, *gone] or ["the order of the columns, or which are categories"]
