"""``clew gc``."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

import click

from clew.cli.commands import Explained, option
from clew.cli.terminal import answer
from clew.cli.values import json_option, utc_now

if TYPE_CHECKING:
    from clew.loop.cleaning import Garbage

WHAT = "What is done"


@click.command("gc", cls=Explained, example="clew gc\n  clew gc --yes")
@option("--yes", is_flag=True, purpose=WHAT, help="Do it; else it is only said.")
@option(
    "--at-once",
    is_flag=True,
    purpose=WHAT,
    help="Keep nothing aside for a day; only when nothing else uses the store.",
)
@json_option
def gc(yes: bool, at_once: bool, as_json: bool) -> None:
    """Say what of the store nobody needs, and remove it.

    Needed is what a row or the state of a loop names: everything that a run, a version or a deployment was
    made of. Age does not matter, but for the log: answers, failures and labels go that are older than
    retention in clew.toml says (190 days by default) and that no open label needs. Snapshots that nothing
    used go when there are newer ones; objects that nothing names are set aside for a day, in which any read
    brings them back, and removed by the first clew gc --yes after it. It may run beside clew up and any other
    command.
    """
    from clew.cli.people import actor_here
    from clew.cli.records import records_here
    from clew.loop.cleaning import KEPT_ASIDE, clean, find_garbage
    from clew.server.clock import system_now

    wall = utc_now()
    kept = timedelta(0) if at_once else KEPT_ASIDE
    with records_here() as records:
        store = records.store
        now, settings = system_now(store, wall), records.settings.log
        if settings.is_short:
            click.echo(
                f"Note: log.retention is {settings.retention}; trace, why and status tell nothing of answers"
                " that are older.",
                err=True,
            )
        retention = settings.retention
        if yes:
            actor = actor_here()
            found = clean(store, actor=actor, now=now, wall=wall, kept_aside=kept, retention=retention)
        else:
            found = find_garbage(store, wall=wall, kept_aside=kept, retention=retention, now=now)
    told = [
        {"kind": each.kind, "act": each.act, "why": each.why, "n": len(each.things)}
        | {"n_bytes": each.n_bytes, "things": each.things}
        for each in found
    ]
    answer(as_json, {"dry_run": not yes, "garbage": told}, lambda: _show(found, is_done=yes))


def _show(found: list[Garbage], *, is_done: bool) -> None:
    from clew.cli.terminal import say, show_table
    from clew.cli.words import size

    if not found:
        say("Everything here is needed.")
        return
    show_table(
        ["what", "how many", "size", "done" if is_done else "to do", "why"],
        [
            [each.kind, f"{len(each.things):,}", size(each.n_bytes), _act(each, is_done), each.why]
            for each in found
        ],
        right=["how many", "size"],
    )
    say()
    if not is_done:
        say("Nothing was done. To do it: clew gc --yes")
        return
    if any(each.act == "set aside" for each in found):
        say("What was set aside is removed by the first clew gc --yes that comes a day later or more.")
    say("Every name stands in the audit log: clew audit list --model store")


def _act(garbage: Garbage, is_done: bool) -> str:
    if garbage.act == "set aside":
        return "set aside"
    return "removed" if is_done else "remove"
