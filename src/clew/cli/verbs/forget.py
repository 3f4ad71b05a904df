"""``clew forget``."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from clew.cli.commands import Explained, option
from clew.cli.terminal import answer
from clew.cli.values import WHICH, json_option, utc_now
from clew.errors import UsageError

if TYPE_CHECKING:
    from clew.loop.forgetting import Forgetting

WHAT = "What is done"
WHO = "Who is forgotten"


@click.command(
    "forget",
    cls=Explained,
    example='clew forget --entity C1017 --reason "asked for it on 3 March"\n'
    '  clew forget --entity C1017 --reason "asked for it on 3 March" --yes',
)
@option("--entity", purpose=WHO, help="A value of the column that a dataset declares as entity=.")
@option("--key", purpose=WHO, help="A value of the key column, where there is no entity.")
@option("--reason", required=True, purpose=WHAT, help="Why; it stands in the audit log, so name nobody.")
@option("--dataset", purpose=WHICH, help="Only in this dataset, and what its models answered.")
@option("--model", purpose=WHICH, help="Only in what this model was asked and answered.")
@option("--yes", is_flag=True, purpose=WHAT, help="Do it; else it is only said. Nothing brings it back.")
@option(
    "--wait",
    type=click.FloatRange(min=0),
    metavar="SECONDS",
    default=60.0,
    purpose=WHAT,
    help="How long to wait for the loop of a running clew up.",
)
@json_option
def forget(
    entity: str | None,
    key: str | None,
    reason: str,
    dataset: str | None,
    model: str | None,
    yes: bool,
    wait: float,
    as_json: bool,
) -> None:
    """Erase a person from snapshots, log and loops.

    Parts of snapshots, segments and days of the log that hold the person are written anew without them, and
    the old ones removed at once. Snapshots keep their names and say how many rows were erased; the audit log
    keeps what was replaced by what, and a salted hash of the person. It may run beside clew up; where it is
    broken off, the same command goes on.
    """
    from clew.cli.people import actor_here
    from clew.cli.records import records_here
    from clew.loop.forgetting import Person, find_person, forget_person
    from clew.server.clock import system_now
    from clew.server.presence import held_up

    if (entity is None) == (key is None):
        raise UsageError("Say who is to be forgotten, by one of --entity and --key.")
    subject = "entity" if entity is not None else "key"
    person = Person(subject, str(entity if entity is not None else key), dataset, model)  # type: ignore[arg-type]
    with records_here() as records:
        store, wall = records.store, utc_now()
        if yes:
            found = forget_person(
                store,
                person,
                actor=actor_here(),
                reason=reason,
                now=system_now(store, wall),
                wall=wall,
                alone=lambda: held_up(store.folder),
                wait_seconds=wait,
            )
        else:
            found = find_person(store, person)
    answer(as_json, {"dry_run": not yes, "forgetting": found}, lambda: _show(found, is_asked=yes))


def _show(found: Forgetting, *, is_asked: bool) -> None:
    from clew.cli.terminal import say, show_table
    from clew.cli.words import counted, size

    for each in found.before:
        say(f"Before: {each}.")
    if not found.held and found.number is None:
        say("Nothing here is about them.")
        return
    rows = [[each.kind, each.name, f"{each.n_rows:,}", size(each.n_bytes)] for each in found.held]
    if rows:
        show_table(["what", "which", "rows of theirs", "size"], rows, right=["rows of theirs", "size"])
        say()
    replayed = [name for name in found.trained if name.startswith("backtest-")]
    for version, n_rows in found.trained.items():
        if version not in replayed:
            say(f"{version} learned from {n_rows:,} of these rows, and stays as it is.")
    if replayed:
        say(f"So did {counted(len(replayed), 'version')} of backtests, which answer nobody.")
    say("Out of reach from here:")
    for sentence in found.beyond:
        say(f"  {sentence}")
    say()
    if found.status == "done":
        say(f"Erased. What was replaced by what: clew audit list --model 'erasure {found.number}'")
    elif is_asked:
        say(
            "Snapshots and log are without them; the loop of the running clew up is at work, and lets go of"
            " them as soon as it rests. Then give the same command again, which finishes it."
        )
    else:
        say("Nothing was done. To do it, which nothing brings back: the same command with --yes")
