"""``clew backup`` and ``clew restore``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from clew.cli.commands import Explained, option
from clew.cli.terminal import answer
from clew.cli.values import json_option, utc_now

if TYPE_CHECKING:
    from clew.loop.backing_up import Restored
    from clew.storage.backups import BackupFolder, Generation

WHAT = "What is done"


@click.command("backup", cls=Explained, example="clew backup /mnt/backups/bikes")
@click.argument("destination", metavar="DEST", type=click.Path(file_okay=False, path_type=Path))
@option("--list", "only_list", is_flag=True, purpose=WHAT, help="Take none; list those that are there.")
@option("--verify", is_flag=True, purpose=WHAT, help="Take none; read every byte of those that are there.")
@json_option
def backup(destination: Path, only_list: bool, verify: bool, as_json: bool) -> None:
    """Copy the whole store into a folder, beside a running clew up.

    The copy is of one moment: rows, objects, the log up to then, and the states of the loops. Objects that an
    earlier backup in DEST has are not copied again. One that is broken off is none. Restore it with clew
    restore.
    """
    from clew.cli.people import actor_here
    from clew.cli.records import records_here
    from clew.loop.backing_up import take_backup
    from clew.server.clock import system_now
    from clew.storage.backups import BackupFolder

    folder = destination.resolve()
    if verify:
        _verify(BackupFolder(folder), as_json)
    elif only_list:
        found = BackupFolder(folder).generations()
        answer(as_json, {"backups": [_told(each) for each in found]}, lambda: _show(found))
    else:
        with records_here() as records:
            wall = utc_now()
            now = system_now(records.store, wall)
            taken = take_backup(records.store, folder, actor=actor_here(), now=now, wall=wall)
        answer(as_json, {"backup": _told(taken)}, lambda: _show_taken(taken, folder))


def _verify(folder: BackupFolder, as_json: bool) -> None:
    found = {each.name: list(folder.faults(each)) for each in folder.generations()}
    answer(as_json, {"backups": found}, lambda: _show_faults(found))
    if any(found.values()):
        click.get_current_context().exit(3)


def _told(generation: Generation) -> dict[str, object]:
    names = ("name", "taken_at", "clew", "store_version", "n_objects", "n_bytes", "n_new_bytes")
    return {name: getattr(generation, name) for name in names}


def _show_taken(taken: Generation, folder: Path) -> None:
    from clew.cli.terminal import say
    from clew.cli.words import size

    say(
        f"Backup {taken.name}: {taken.n_objects:,} objects, {size(taken.n_bytes)}, of which"
        f" {size(taken.n_new_bytes)} were copied."
    )
    say(f"Read it all back: clew backup {folder} --verify")
    say(f"Restore it: clew restore {folder}")


def _show(found: list[Generation]) -> None:
    from clew.cli.terminal import say, show_table
    from clew.cli.words import size

    if not found:
        say("No backup is there.")
        return
    rows = [
        [each.name, each.taken_at[:16].replace("T", " "), f"{each.n_objects:,}", size(each.n_bytes),
         size(each.n_new_bytes), each.clew]
        for each in found
    ]  # fmt: skip
    show_table(["backup", "taken (UTC)", "objects", "size", "copied", "by Clew"], rows, right=["objects"])


def _show_faults(found: dict[str, list[str]]) -> None:
    from clew.cli.terminal import say

    for name, faults in found.items():
        say(f"{name}: {'every byte is what was written' if not faults else 'damaged'}")
        for fault in faults:
            say(f"  {fault}")
    if not found:
        say("No backup is there.")
    elif any(found.values()):
        say()
        say("Remove what is damaged from the folder objects; the next clew backup copies it again.")


@click.command("restore", cls=Explained, example="clew restore /mnt/backups/bikes")
@click.argument("source", metavar="SRC", type=click.Path(file_okay=False, path_type=Path))
@option("--backup", "name", metavar="NAME", purpose=WHAT, help="Which; the newest by default.")
@option("--force", is_flag=True, purpose=WHAT, help="Move a store that is there aside.")
@json_option
def restore(source: Path, name: str | None, force: bool, as_json: bool) -> None:
    """Make the store what it was at a backup.

    It goes into an empty place, or, with --force, a store that is there is moved aside, from where it can be
    moved back. People who were forgotten since are forgotten again, as far as later backups in SRC or the
    store that was there tell of them. clew up goes on from there.
    """
    from clew.cli.people import actor_here
    from clew.config import load_settings
    from clew.loop.backing_up import restore_backup
    from clew.server.presence import held_up

    done = restore_backup(
        source.resolve(),
        name,
        load_settings(Path.cwd()),
        force=force,
        actor=actor_here(),
        clock=utc_now,
        alone=held_up,
    )
    told = {"backup": done.generation.name, "store": str(done.store), "forgotten": done.forgotten}
    before = None if done.before is None else str(done.before)
    answer(as_json, told | {"before": before}, lambda: _show_restored(done))


def _show_restored(done: Restored) -> None:
    from clew.cli.terminal import say

    say(f"{done.store} is what it was at {done.generation.taken_at[:16].replace('T', ' ')} UTC.")
    if done.forgotten:
        say(f"{done.forgotten} erasures of people who were forgotten since were done again.")
    if done.before is not None:
        say(f"The store that was there lies in {done.before}; it may hold people who were forgotten since.")
        say(f"Undo: mv {done.store} {done.store}.restored && mv {done.before} {done.store}")
    say("Go on with: clew up; local tools need a new token: clew token create NAME")
