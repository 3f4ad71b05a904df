"""``clew data add``, and what ``clew data`` says of versions of folders of files."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

import click

from clew.cli.commands import Explained, option
from clew.cli.terminal import answer
from clew.cli.values import json_option, utc_now

if TYPE_CHECKING:
    from clew.datasets.folders import FolderCheck, TakenFolder
    from clew.datasets.manifests import FolderChange
    from clew.entities import FolderSnapshot
    from clew.storage import Store

WHAT = "What is kept"
_SHOWN = 20


@click.command("add", cls=Explained, example="clew data add images\n  clew data add /mnt/scans --name scans")
@click.argument("folder", type=click.Path(path_type=Path), metavar="FOLDER")
@option("--name", metavar="NAME", purpose=WHAT, help="What to call it; by default as the folder is called.")
@option("--verify", is_flag=True, purpose=WHAT, help="Read every file, and store again what the store lost.")
@json_option
def add(folder: Path, name: str | None, verify: bool, as_json: bool) -> None:
    """Keep a folder of files as an immutable version.

    Kept are names, contents, where links point, whether the owner may execute a file, and empty folders; not
    times, owners and other permissions. Links are not followed. Files that were not touched since the last
    time are not read again.
    """
    from clew.cli.people import actor_here
    from clew.cli.records import records_or_new
    from clew.loop.folders import keep_folder
    from clew.server.clock import system_now

    wall = utc_now()
    with records_or_new() as records:
        store = records.store
        called = name or folder.resolve().name
        now = system_now(store, wall)
        taken = keep_folder(store, called, folder, actor=actor_here(), now=now, is_verified=verify)
    told = {"snapshot": taken.snapshot, "is_new": taken.is_new, "n_read": taken.n_read}
    answer(as_json, told, lambda: _show_taken(taken))


def _show_taken(taken: TakenFolder) -> None:
    from clew.cli.terminal import say
    from clew.cli.words import counted, size

    snapshot = taken.snapshot
    what = f"{counted(snapshot.n_files, 'file')}, {size(snapshot.n_bytes)}"
    if not taken.is_new:
        say(f"Nothing changed: {snapshot.dataset} is snapshot {snapshot.id[:12]} ({what}).")
    else:
        say(f"{snapshot.dataset} is now snapshot {snapshot.id[:12]} ({what}; {taken.n_read:,} read).")
    if taken.is_new and taken.before is not None:
        say(f"See what changed: clew data diff {taken.before.id[:12]} {snapshot.id[:12]}")


# -- the same verbs as for tables ----------------------------------------------------------------------


def diff(store: Store, then: str, now: str | None, as_json: bool) -> None:
    """Show which files differ; a file that went and one that came with the same content have moved."""
    from clew.datasets.folders import read_manifest
    from clew.datasets.manifests import folder_change

    both = _both(store, then, now)
    change = folder_change(*(read_manifest(store, each) for each in both))
    answer(as_json, {"then": both[0], "now": both[1], "change": change}, lambda: show_change(change))


def _both(store: Store, then: str, now: str | None) -> tuple[FolderSnapshot, FolderSnapshot]:
    from clew.datasets.folders import find_folder, folder_history
    from clew.errors import NotFound

    older = find_folder(store, then)
    if now is not None or then != older.dataset:
        return older, find_folder(store, now or older.dataset)
    history = folder_history(store, then)
    if len(history) < 2:
        raise NotFound(f"{then} has one snapshot only; there is nothing to compare it with yet.")
    return find_folder(store, history[1][1], then), older


def show_change(change: FolderChange) -> None:
    from clew.cli.terminal import say, show_columns
    from clew.cli.words import counted

    if change.is_none:
        say(f"The same {counted(change.n_same, 'file')}.")
        return
    signs = {"+": change.added, "-": change.removed, "~": change.changed}
    signs[">"] = tuple(f"{old} is now {new}" for old, new in change.moved)
    for sign, paths in signs.items():
        if paths:
            more = [[sign, f"and {len(paths) - _SHOWN:,} more"]] if len(paths) > _SHOWN else []
            show_columns([*([sign, path] for path in paths[:_SHOWN]), *more])
    say(
        f"{len(change.added):,} added, {len(change.removed):,} removed, {len(change.changed):,} changed,"
        f" {len(change.moved):,} moved, {change.n_same:,} the same"
    )


def checkout(store: Store, snapshot: FolderSnapshot, destination: Path, as_json: bool) -> None:
    """Lay a version's files out in a folder that is not there yet: by one rename, or not at all."""
    from clew.cli.terminal import say
    from clew.datasets.folder_checkout import checkout_folder

    checkout_folder(store, snapshot, destination)
    told = {"snapshot": snapshot, "destination": str(destination.absolute())}
    answer(as_json, told, lambda: say(f"{destination} holds {snapshot.dataset} as of {snapshot.id[:12]}."))


def log(store: Store, name: str, limit: int, as_json: bool) -> None:
    """Show the history of a folder, the newest first."""
    from clew.datasets.folders import folder_history

    history = folder_history(store, name)[:limit]
    told = [{"taken_at": at, "snapshot": snapshot, "source": source} for at, snapshot, source in history]
    answer(as_json, {"folder": name, "log": told}, lambda: _show_log(history))


def _show_log(history: list[tuple[datetime, str, str]]) -> None:
    from clew.cli.terminal import show_table

    rows = [[f"{at:%Y-%m-%d %H:%M}", snapshot[:12], source] for at, snapshot, source in history]
    show_table(["taken", "snapshot", "source"], rows)


def show_checks(checks: Mapping[str, FolderCheck]) -> None:
    """By the name of each version what was found in it."""
    from clew.cli.terminal import say, show_columns
    from clew.cli.words import counted

    for name, check in checks.items():
        if check.is_whole:
            say(f"{name} is whole: {counted(check.n_files, 'file')}.")
            continue
        say(f"{name} is damaged.", style="bold")
        show_columns([["damaged", path] for path in check.damaged])
        if check.unread:
            say(f"{counted(len(check.unread), 'whole file')} cannot be read: they lie beside damaged bytes.")
        say(
            "Where the files are still there as they were, this stores them again: clew data add FOLDER"
            f" --name {name.partition('@')[0]} --verify. Else put back the object store from a backup."
        )


# -- beside tables, in `clew data list` and `clew data show` -------------------------------------------


def show_folders(found: list[FolderSnapshot]) -> None:
    from clew.cli.terminal import show_table
    from clew.cli.words import size

    rows = [
        [
            each.dataset,
            each.id[:12],
            f"{each.n_files:,}",
            size(each.n_bytes),
            f"{each.taken_at:%Y-%m-%d %H:%M}",
            each.source,
        ]
        for each in found
    ]
    heads = ["folder", "snapshot", "files", "size", "taken", "source"]
    show_table(heads, rows, right=["files", "size"])


def show_folder(snapshot: FolderSnapshot) -> None:
    from clew.cli.terminal import say, show_facts
    from clew.cli.words import counted, size

    say(f"Snapshot {snapshot.id} of the folder {snapshot.dataset}", style="bold")
    show_facts(
        {
            "files": f"{snapshot.n_files:,} in {counted(len(set(snapshot.packs)), 'pack')}",
            "size": size(snapshot.n_bytes),
            "taken": f"{snapshot.taken_at:%Y-%m-%d %H:%M:%S} UTC",
            "source": snapshot.source,
        }
    )
