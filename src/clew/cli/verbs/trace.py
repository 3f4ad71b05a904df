"""``clew trace``."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import click

from clew.cli.commands import Explained, option
from clew.cli.documents import print_lines
from clew.cli.elsewhere import ask_server, server_option
from clew.cli.terminal import answer
from clew.cli.values import json_option, utc_now
from clew.errors import UsageError

_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|\+00:00)")
_DIGEST = re.compile(r"[0-9a-f]{32,}")

if TYPE_CHECKING:
    from rich.text import Text
    from rich.tree import Tree

    from clew.loop.result import ThreadNode


@click.command("trace", cls=Explained, example="clew trace busy_hour@3")
@click.argument("reference")
@option(
    "--forward", is_flag=True, purpose="What", help="Follow it to what was made from it, down to the answers."
)
@option(
    "--format",
    "form",
    type=click.Choice(["tree", "json", "openlineage"]),
    default="tree",
    purpose="Output",
    help="A tree to read, one JSON document, or events of OpenLineage, one a line.",
)
@server_option
@json_option
def trace(reference: str, forward: bool, form: str, server: str | None, as_json: bool) -> None:
    """Follow the thread from anything to what made it, or to what came of it.

    REFERENCE is a version (MODEL@NUMBER), a model (its newest version), or the first letters of the id of a
    run, a snapshot, captured code, an environment, a decision or a backtest; or the whole id of a prediction.
    """
    if form == "openlineage":
        if as_json:
            raise UsageError("--json and --format openlineage are two forms of one answer. Leave one out.")
        print_lines(_events(server, reference, forward))
        return
    node = _told_elsewhere(server, reference, forward) if server else _told_here(reference, forward)
    answer(as_json or form == "json", node, lambda: show_thread(node))


def _told_here(reference: str, forward: bool) -> ThreadNode:
    from clew.cli.records import records_here

    with records_here() as records:
        return records.touched(reference) if forward else records.trace(reference)


def _told_elsewhere(server: str, reference: str, forward: bool) -> ThreadNode:
    from clew.loop.result import ThreadNode

    params = {"forward": "true"} if forward else {}
    return ask_server(server, "GET", _path(reference), ThreadNode, params=params)


def _events(server: str | None, reference: str, forward: bool) -> list[dict[str, Any]]:
    if server:
        params = {"openlineage": "true"} | ({"forward": "true"} if forward else {})
        return ask_server(server, "GET", _path(reference), list[dict[str, Any]], params=params)
    from clew.cli.records import records_here

    with records_here() as records:
        thread = records.touched(reference) if forward else records.trace(reference)
        return records.lineage(thread, utc_now())


def _path(reference: str) -> str:
    from urllib.parse import quote

    return f"/trace/{quote(reference)}"


def show_thread(node: ThreadNode) -> None:
    """The thread as a tree: each record, what is known about it, and below it what comes next on the way.

    A record that is met again is told where it is met first.
    """
    from rich.tree import Tree

    from clew.cli.terminal import show

    show(_grown(Tree(_label(node), guide_style="dim"), node, {(node.kind, node.id)}))


def _grown(tree: Tree, node: ThreadNode, told: set[tuple[str, str]]) -> Tree:
    for other in (*node.causes, *node.effects):
        if (other.kind, other.id) in told:
            tree.add(_name(other).append(", as above", style="dim"))
            continue
        told.add((other.kind, other.id))
        _grown(tree.add(_label(other)), other, told)
    return tree


def _name(node: ThreadNode) -> Text:
    from rich.text import Text

    return Text.assemble((node.kind, "bold"), f" {shortened(node.id)}")


def _label(node: ThreadNode) -> Text:
    label = _name(node).append(f"\n{node.sentence}")
    for name, value in node.facts.items():
        if value not in (None, "", [], {}, node.id):
            label.append(f"\n{name.replace('_', ' ')}: ", style="dim")
            label.append(fact(value))
    return label


def fact(value: Any) -> str:
    """A fact in words: digests by their first letters, times to the minute.

    Examples
    --------
    >>> fact({"rows": 1200, "at": "2026-11-23T19:35:19.904928+00:00", "package": "16403504" * 8})
    'rows 1200, at 2026-11-23 19:35, package 164035041640'
    >>> fact({"city": None})
    'city null'
    """
    if isinstance(value, dict):
        return ", ".join(f"{name} {fact(inner)}" for name, inner in value.items())
    if value is None:
        return "null"
    if isinstance(value, list | tuple):
        return ", ".join(map(fact, value))
    if isinstance(value, str):
        return value[:16].replace("T", " ") if _TIME.fullmatch(value) else shortened(value)
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def shortened(text: str) -> str:
    """A digest by the letters that every command takes for it; anything else as it is."""
    return text[:12] if _DIGEST.fullmatch(text) else text
