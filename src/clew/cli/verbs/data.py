"""``clew data``."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING

import click

from clew.cli.commands import Explained, Verbs, option
from clew.cli.terminal import answer
from clew.cli.values import WHICH, json_option, limit_option, since_option
from clew.cli.verbs import data_append, data_folders, data_history

if TYPE_CHECKING:
    from clew.entities import FolderSnapshot, Snapshot


@click.group("data", cls=Verbs, example="clew data list --dataset rides")
def data() -> None:
    """Look at snapshots of datasets, compare them, get them back; keep folders of files."""


data.add_command(data_folders.add)


data.add_command(data_append.append)
data.add_command(data_append.schema)


@data.command("list", cls=Explained, example="clew data list --dataset rides --since 30d")
@option("--dataset", purpose=WHICH, help="Only those of this dataset.")
@since_option
@limit_option
@json_option
def list_data(dataset: str | None, since: datetime | None, limit: int, as_json: bool) -> None:
    """List snapshots of datasets, tables and folders of files, the newest first."""
    from clew import datasets
    from clew.cli.records import records_here
    from clew.datasets.folders import list_folders

    with records_here() as records:
        snapshots = datasets.list_snapshots(records.store, dataset)
        folders = list_folders(records.store, dataset)
    newer = [snapshot for snapshot in snapshots if since is None or snapshot.taken_at >= since]
    found = sorted(newer, key=lambda snapshot: snapshot.taken_at, reverse=True)[:limit]
    files = [folder for folder in folders if since is None or folder.taken_at >= since][:limit]
    answer(as_json, {"snapshots": found, "folders": files}, lambda: show_all(found, files))


def show_all(tables: list[Snapshot], folders: list[FolderSnapshot]) -> None:
    from clew.cli.terminal import say

    if tables or not folders:
        show_snapshots(tables)
    if tables and folders:
        say()
    if folders:
        data_folders.show_folders(folders)


def show_snapshots(found: list[Snapshot]) -> None:
    from clew.cli.terminal import say, show_table

    if not found:
        say("No snapshot fits what was asked for. Take one with: clew try")
        return
    show_table(
        ["dataset", "snapshot", "rows", "columns", "from", "to", "taken", "source"],
        [
            [
                snapshot.dataset,
                snapshot.id[:12],
                f"{snapshot.n_rows:,}",
                len(snapshot.columns),
                _day(snapshot.first_time),
                _day(snapshot.last_time),
                f"{snapshot.taken_at:%Y-%m-%d %H:%M}",
                snapshot.source,
            ]
            for snapshot in found
        ],
        right=["rows", "columns"],
    )


def _day(moment: datetime | None) -> str:
    from clew.cli.words import day

    return "" if moment is None else day(moment)


@data.command("show", cls=Explained, example="clew data show 5b1e90")
@click.argument("snapshot_id", metavar="ID")
@option("--dataset", purpose=WHICH, help="Look in this dataset only.")
@json_option
def show_data(snapshot_id: str, dataset: str | None, as_json: bool) -> None:
    """Show one snapshot: its columns and rows, or its files, and where it came from.

    ID is the snapshot's id or its first letters; DATASET, DATASET@ID and DATASET@2026-03-01 do as well.
    """
    from clew import datasets
    from clew.cli.records import records_here
    from clew.datasets.folders import folder_or_none

    with records_here() as records:
        folder = folder_or_none(records.store, snapshot_id, dataset)
        if folder is not None:
            answer(as_json, {"folder": folder}, lambda: data_folders.show_folder(folder))
            return
        snapshot = datasets.find_snapshot(records.store, snapshot_id, dataset)
    answer(as_json, {"snapshot": snapshot}, lambda: show_snapshot(snapshot))


def show_snapshot(snapshot: Snapshot) -> None:
    from clew.cli.terminal import say, show_facts, show_table
    from clew.cli.words import counted

    say(f"Snapshot {snapshot.id} of {snapshot.dataset}", style="bold")
    show_facts(
        {
            "rows": f"{snapshot.n_rows:,} in {counted(len(snapshot.parts), 'part')}",
            "erased since": counted(snapshot.n_erased, "row") if snapshot.n_erased else "",
            "time": f"{_day(snapshot.first_time)} to {_day(snapshot.last_time)}",
            "taken": f"{snapshot.taken_at:%Y-%m-%d %H:%M:%S} UTC",
            "source": snapshot.source,
            "code": (snapshot.code or "")[:12],
        }
    )
    say()
    show_table(
        ["column", "type", "role"],
        [[column.name, column.type, _role(snapshot, column.name)] for column in snapshot.columns],
    )


def _role(snapshot: Snapshot, column: str) -> str:
    declaration = snapshot.declaration
    if declaration is None:
        return ""
    roles = {
        declaration.time: "time",
        declaration.key: "key",
        declaration.label: "label",
        declaration.entity: "entity",
    }
    return roles.get(column) or ("not a feature" if column in declaration.not_features else "feature")


for verb in (data_history.diff, data_history.checkout, data_history.log, data_history.verify):
    data.add_command(verb)
