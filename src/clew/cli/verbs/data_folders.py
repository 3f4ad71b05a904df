"""``clew data add`` and ``clew data folder``: versions of folders of files."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

import click

from clew.cli.commands import Explained, Verbs, option
from clew.cli.terminal import answer
from clew.cli.values import json_option, limit_option, utc_now

if TYPE_CHECKING:
    from clew.datasets.folders import FolderCheck, TakenFolder
    from clew.datasets.manifests import FolderChange
    from clew.entities import FolderSnapshot

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
        say(f"See what changed: clew data folder diff {taken.before.id[:12]} {snapshot.id[:12]}")


@click.group("folder", cls=Verbs, example="clew data folder diff images 3f0c1d")
def folder() -> None:
    """Look at versions of folders of files, and get them back."""


@folder.command("log", cls=Explained, example="clew data folder log images")
@click.argument("name", metavar="NAME")
@limit_option
@json_option
def log(name: str, limit: int, as_json: bool) -> None:
    """Show the history of a folder, the newest first."""
    from clew.cli.records import records_here
    from clew.datasets.folders import find_folder, folder_history

    with records_here() as records:
        called = find_folder(records.store, name).dataset
        history = folder_history(records.store, called)[:limit]
    told = [{"taken_at": at, "snapshot": snapshot, "source": source} for at, snapshot, source in history]
    answer(as_json, {"folder": called, "log": told}, lambda: _show_log(history))


def _show_log(history: list[tuple[datetime, str, str]]) -> None:
    from clew.cli.terminal import show_table

    rows = [[f"{at:%Y-%m-%d %H:%M}", snapshot[:12], source] for at, snapshot, source in history]
    show_table(["taken", "snapshot", "source"], rows)


@folder.command("diff", cls=Explained, example="clew data folder diff 3f0c1d images")
@click.argument("then", metavar="THEN")
@click.argument("now", metavar="NOW")
@json_option
def diff(then: str, now: str, as_json: bool) -> None:
    """Show which files differ between two versions of a folder.

    THEN and NOW are ids of snapshots, or their first letters, or a folder's name for its newest. A file that
    went and one that came with the same content are one that moved.
    """
    from clew.cli.records import records_here
    from clew.datasets.folders import find_folder, read_manifest
    from clew.datasets.manifests import folder_change

    with records_here() as records:
        store = records.store
        both = [find_folder(store, each) for each in (then, now)]
        change = folder_change(*(read_manifest(store, each) for each in both))
    answer(as_json, {"then": both[0], "now": both[1], "change": change}, lambda: show_change(change))


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


@folder.command("checkout", cls=Explained, example="clew data folder checkout 3f0c1d /tmp/images")
@click.argument("reference", metavar="ID|NAME")
@click.argument("destination", type=click.Path(path_type=Path), metavar="DESTINATION")
@json_option
def checkout(reference: str, destination: Path, as_json: bool) -> None:
    """Lay a version's files out in a folder that is not there yet.

    The folder appears whole, by one rename, or not at all.
    """
    from clew.cli.records import records_here
    from clew.cli.terminal import say
    from clew.datasets.folder_checkout import checkout_folder
    from clew.datasets.folders import find_folder

    with records_here() as records:
        snapshot = find_folder(records.store, reference)
        checkout_folder(records.store, snapshot, destination)
    told = {"snapshot": snapshot, "destination": str(destination.absolute())}
    answer(as_json, told, lambda: say(f"{destination} holds {snapshot.dataset} as of {snapshot.id[:12]}."))


@folder.command("verify", cls=Explained, example="clew data folder verify images")
@click.argument("reference", metavar="ID|NAME")
@json_option
def verify(reference: str, as_json: bool) -> int:
    """Check every byte of a version against its hash, and name the files that are damaged.

    Ends with 1 when there are any.
    """
    from clew.cli.records import records_here
    from clew.datasets.folders import find_folder, verify_folder

    with records_here() as records:
        snapshot = find_folder(records.store, reference)
        check = verify_folder(records.store, snapshot)
    answer(as_json, {"snapshot": snapshot, "check": check}, lambda: _show_check(snapshot, check))
    return 0 if check.is_whole else 1


def _show_check(snapshot: FolderSnapshot, check: FolderCheck) -> None:
    from clew.cli.terminal import say, show_columns
    from clew.cli.words import counted

    if check.is_whole:
        say(f"All {counted(check.n_files, 'file')} of {snapshot.dataset} {snapshot.id[:12]} are whole.")
        return
    show_columns([["damaged", path] for path in check.damaged])
    if check.unread:
        say(f"{counted(len(check.unread), 'whole file')} cannot be read: damaged bytes lie in the same pack.")
    say(
        "Where the files are still there as they were, this stores them again: clew data add FOLDER --name"
        f" {snapshot.dataset} --verify. Else put back the object store from a backup."
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
