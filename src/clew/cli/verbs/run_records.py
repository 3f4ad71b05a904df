"""``clew runs tag``, ``note`` and ``artifacts``: what people say of runs, and files that runs made."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from clew.cli.commands import Explained, option
from clew.cli.terminal import answer
from clew.cli.values import json_option, utc_now

if TYPE_CHECKING:
    from clew.tracking import Note


@click.command("tag", cls=Explained, example="clew runs tag 3f9a2c team=pricing stage=shortlist")
@click.argument("run_id", metavar="ID")
@click.argument("tags", metavar="[NAME=VALUE]...", nargs=-1)
@option("--remove", metavar="NAME", multiple=True, purpose="What is changed", help="Take a tag away.")
@option("--reason", default="", purpose="What is changed", help="Why, for the audit log.")
@json_option
def tag(run_id: str, tags: tuple[str, ...], remove: tuple[str, ...], reason: str, as_json: bool) -> None:
    """Set tags of a training, or take some away; without any, show them.

    Tags are what clew runs list --where finds it by, as tag.NAME. A tag that is there gets the new value.
    """
    from clew import tracking
    from clew.cli.people import actor_here
    from clew.cli.records import records_here
    from clew.cli.terminal import say, show_facts

    given = dict(_named(each) for each in tags)
    both = given.keys() & set(remove)
    if both:
        raise click.UsageError(f"The tag {min(both)!r} is both set and removed.")
    with records_here() as records:
        store, run = records.store, tracking.get_run(records.store, run_id)
        about = {"now": utc_now(), "actor": actor_here(), "reason": reason}
        if remove:
            tracking.untag_run(store, run.id, remove, **about)  # type: ignore[arg-type]
        if given:
            tracking.tag_run(store, run.id, given, **about)  # type: ignore[arg-type]
        there = tracking.read_tags(store, run.id)

    def show() -> None:
        if there:
            show_facts(there)
        else:
            say(f"Run {run.id[:12]} has no tags. Give it one: clew runs tag {run.id[:12]} NAME=VALUE")

    answer(as_json, {"run": run.id, "tags": there}, show)


def _named(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals:
        raise click.UsageError(f"{text!r} is not of the form NAME=VALUE, such as team=pricing.")
    return name.strip(), value.strip()


@click.command("note", cls=Explained, example='clew runs note 3f9a2c "the rows of May were sent twice"')
@click.argument("run_id", metavar="ID")
@click.argument("text", metavar="[TEXT]", required=False)
@option(
    "--remove", type=click.IntRange(1), metavar="NUMBER", purpose="What is changed", help="Take a note away."
)
@json_option
def note(run_id: str, text: str | None, remove: int | None, as_json: bool) -> None:
    """Write a note to a training, or take one away; without any, show them."""
    from clew import tracking
    from clew.cli.people import actor_here
    from clew.cli.records import records_here
    from clew.cli.terminal import say

    with records_here() as records:
        store, run = records.store, tracking.get_run(records.store, run_id)
        if remove is not None:
            tracking.remove_note(store, run.id, remove, now=utc_now(), actor=actor_here())
        if text is not None:
            tracking.note_run(store, run.id, text, now=utc_now(), actor=actor_here())
        there = tracking.read_notes(store, run.id)

    def show() -> None:
        for each in there:
            say(note_line(each))
        if not there:
            say(f'Run {run.id[:12]} has no notes. Write one: clew runs note {run.id[:12]} "TEXT"')

    answer(as_json, {"run": run.id, "notes": there}, show)


def note_line(each: Note) -> str:
    """A note with who wrote it and when."""
    return f"{each.number}. {each.text}  ({each.actor}, {each.at:%Y-%m-%d %H:%M})"


@click.command("artifacts", cls=Explained, example="clew runs artifacts 3f9a2c --out plots")
@click.argument("run_id", metavar="ID")
@option(
    "--out",
    type=click.Path(file_okay=False, path_type=Path),
    metavar="DIR",
    purpose="Output",
    help="Write the files below this folder.",
)
@json_option
def artifacts(run_id: str, out: Path | None, as_json: bool) -> None:
    """List the files that a training kept with train.artifact, or write them into a folder.

    Every byte is held against its hash. A file that lies there already with other bytes is left alone, and
    nothing is written then.
    """
    from clew import tracking
    from clew.cli.records import records_here
    from clew.cli.terminal import say, show_table
    from clew.cli.words import counted, size

    with records_here() as records:
        run = tracking.get_run(records.store, run_id)
        if out is None:
            found = tracking.list_artifacts(records.store, run.id)
        else:
            found = tracking.write_artifacts(records.store, run.id, out)

    def show() -> None:
        if not found:
            say(f"Run {run.id[:12]} kept no files. A training function does: train.artifact(NAME, PATH)")
            return
        rows = [[each.name, size(each.n_bytes), each.digest] for each in found]
        show_table(["name", "size", "SHA-256"], rows, right=["size"])
        if out is not None:
            say()
            say(f"{counted(len(found), 'file')} in {out}")

    answer(as_json, {"run": run.id, "artifacts": found, "folder": out}, show)
