"""``clew audit``."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

import click

from clew.cli.commands import Explained, Verbs, option
from clew.cli.terminal import answer
from clew.cli.values import WHICH, Moment, Place, json_option, limit_option, since_option

if TYPE_CHECKING:
    from clew.entities import AuditEntry
    from clew.registry.audit_bundle import AuditBundle
    from clew.registry.audit_check import ChainCheck

EXIT_CODE_OF_FAULTS = 3
MOST_SHOWN = 20


@click.group("audit", cls=Verbs, example="clew audit list --model busy_hour --since 30d")
def audit() -> None:
    """Look at who changed what, and prove it."""


@audit.command("list", cls=Explained, example='clew audit list --model busy_hour --action "move champion"')
@option("--model", metavar="NAME", purpose=WHICH, help="Only what was done to this model, or this token.")
@option("--actor", metavar="NAME", purpose=WHICH, help="Only what this person, token or part of Clew did.")
@option("--action", metavar="WORDS", purpose=WHICH, help="Only this action, such as 'move champion'.")
@since_option
@option("--until", type=Moment(), purpose=WHICH, help="Only older ones than this time.")
@limit_option
@json_option
def list_entries(
    model: str | None,
    actor: str | None,
    action: str | None,
    since: datetime | None,
    until: datetime | None,
    limit: int,
    as_json: bool,
) -> None:
    """List changes of state, the newest first."""
    from clew import registry
    from clew.cli.records import records_here

    with records_here() as records:
        found = registry.audit_log(
            records.store, model, limit, actor=actor, action=action, since=since, until=until
        )
    answer(as_json, {"entries": found}, lambda: _show_list(found))


def _show_list(found: list[AuditEntry]) -> None:
    from clew.cli.terminal import say, show_table

    if not found:
        say("No row of the audit log fits what was asked for.")
        return
    show_table(
        ["row", "when (UTC)", "who", "what", "of", "why"],
        [
            [each.sequence, f"{each.at:%Y-%m-%d %H:%M}", each.actor, each.action, each.subject, each.reason]
            for each in found
        ],
        right=["row"],
    )


@audit.command("show", cls=Explained, example="clew audit show 7")
@click.argument("number", type=click.IntRange(1))
@json_option
def show_entry(number: int, as_json: bool) -> None:
    """Show one row with its evidence and its place in the chain."""
    from clew.cli.records import records_here
    from clew.registry.audit import audit_entry

    with records_here() as records:
        entry = audit_entry(records.store, number)
    answer(as_json, entry, lambda: _show_entry(entry))


def _show_entry(entry: AuditEntry) -> None:
    import json

    from clew.cli.terminal import say, show_facts

    say(f"row {entry.sequence}: {entry.action} of {entry.subject}", style="bold")
    evidence = {
        name: value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
        for name, value in (entry.evidence or {}).items()
    }
    facts = {"when": f"{entry.at:%Y-%m-%d %H:%M:%S} UTC", "who": entry.actor, "why": entry.reason}
    show_facts(facts | evidence)
    say()
    show_facts({"hash before": entry.before, "hash": entry.hash})


@audit.command("verify", cls=Explained, example="clew audit verify")
@option(
    "--head",
    metavar="HASH",
    purpose="What is checked",
    help="A hash that was written down elsewhere: a row must have it.",
)
@json_option
@click.pass_context
def verify(ctx: click.Context, head: str | None, as_json: bool) -> None:
    """Check that no row was changed, removed, put in or moved.

    Every row holds the hash of the row before and of itself. What that cannot show is a log that was written
    anew from some row on, every hash included; a hash that was written down elsewhere does.

    Ends with 0 when every row is what was written, and with 3 when one is not.
    """
    from clew.cli.records import records_here
    from clew.errors import UsageError
    from clew.registry.audit_check import verify_audit

    checkpoint = None if head is None else head.strip().lower()
    if checkpoint is not None and not (len(checkpoint) == 64 and set(checkpoint) <= set("0123456789abcdef")):
        raise UsageError(f"--head is {head!r}, which is no hash: 64 digits and letters a to f.")
    with records_here() as records:
        check = verify_audit(records.store, checkpoint)
    answer(as_json, check, lambda: _show_check(check, checkpoint))
    ctx.exit(EXIT_CODE_OF_FAULTS if check.faults else 0)


def _show_check(check: ChainCheck, checkpoint: str | None) -> None:
    from clew.cli.terminal import say
    from clew.cli.words import counted

    if check.faults:
        for fault in check.faults[:MOST_SHOWN]:
            say(f"row {fault.sequence} {fault.sentence}" if fault.sequence else fault.sentence)
        if len(check.faults) > MOST_SHOWN:
            say(f"and {len(check.faults) - MOST_SHOWN:,} more, all of them with --json")
        say()
        say("The audit log is not what was written. Compare it with a backup or an export of it.")
        return
    say(f"{counted(check.n_rows, 'row')}, each of them what was written.")
    if checkpoint is not None:
        say(f"Row {check.checkpoint} has the hash that was asked about: nothing up to it was changed since.")
    if check.n_rows:
        say("To prove that later too, write down elsewhere the hash of the newest row:")
        click.echo(check.head)


@audit.command("export", cls=Explained, example="clew audit export --from 2026-01-01 --out audit-2026.zip")
@option("--from", "start", type=Place(), purpose=WHICH, help="The first row: its number, or a time.")
@option("--to", "end", type=Place(), purpose=WHICH, help="The last row: its number, or the time it ends at.")
@option(
    "--out",
    required=True,
    type=click.Path(dir_okay=False, path_type=Path),
    help="The zip file to write.",
    purpose="Output",
)
@option("--force", is_flag=True, purpose="Output", help="Write over a file that is there.")
@json_option
def export(
    start: int | datetime | None, end: int | datetime | None, out: Path, force: bool, as_json: bool
) -> None:
    """Write rows to a file that anybody can verify, without Clew.

    The zip file holds the rows as JSON lines, the hashes before and after them, a page that says how to
    verify them, and a script of a few lines that does it with Python's standard library alone.
    """
    from clew.cli.records import records_here
    from clew.errors import UsageError
    from clew.registry.audit_bundle import export_audit

    if out.exists() and not force:
        raise UsageError(f"{out} exists and is not overwritten. Name another file, or add --force.")
    with records_here() as records:
        bundle = export_audit(records.store, out, start, end)
    answer(as_json, bundle, lambda: _show_bundle(bundle))


def _show_bundle(bundle: AuditBundle) -> None:
    from clew.cli.terminal import say
    from clew.cli.words import counted

    say(f"{counted(bundle.n_rows, 'row')}, {bundle.first} to {bundle.last}, in {bundle.path}")
    say(
        "Who gets it unpacks it and runs: python verify.py HASH, with this hash from another hand than yours:"
    )
    click.echo(bundle.after)
