"""``clew trace``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from clew.cli.commands import Explained
from clew.cli.terminal import answer
from clew.cli.values import json_option

if TYPE_CHECKING:
    from rich.tree import Tree

    from clew.loop.result import ThreadNode


@click.command("trace", cls=Explained, example="clew trace busy_hour@3")
@click.argument("reference")
@json_option
def trace(reference: str, as_json: bool) -> None:
    """Follow the thread from anything to what made it.

    REFERENCE is a version (MODEL@NUMBER), a model (its champion), or the first letters of the id of a run,
    a snapshot, captured code, an environment, a decision or a backtest.
    """
    from clew.cli.records import records_here

    with records_here() as records:
        node = records.trace(reference)
    answer(as_json, node, lambda: show_thread(node))


def show_thread(node: ThreadNode) -> None:
    """The thread as a tree: each record, what is known about it, and below it what it came from."""
    from rich.tree import Tree

    from clew.cli.terminal import show

    show(_grown(Tree(_label(node), guide_style="dim"), node))


def _grown(tree: Tree, node: ThreadNode) -> Tree:
    for cause in node.causes:
        _grown(tree.add(_label(cause)), cause)
    return tree


def _label(node: ThreadNode) -> Any:
    from rich.text import Text

    label = Text.assemble((node.kind, "bold"), f" {node.id}\n", node.sentence)
    for name, value in node.facts.items():
        if value not in (None, "", [], {}):
            label.append(f"\n{name.replace('_', ' ')}: ", style="dim")
            label.append(_fact(value))
    return label


def _fact(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name} {_fact(inner)}" for name, inner in value.items())
    if isinstance(value, list | tuple):
        return ", ".join(map(_fact, value))
    return f"{value:.6g}" if isinstance(value, float) else str(value)
