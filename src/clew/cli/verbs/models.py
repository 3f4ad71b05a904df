"""``clew models``."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from clew.cli.commands import Explained, Verbs, option
from clew.cli.terminal import answer
from clew.cli.values import WHICH, json_option

if TYPE_CHECKING:
    from clew.entities import AuditEntry, GateReport, Version
    from clew.registry import ModelSummary
    from clew.storage import Store


@click.group("models", cls=Verbs, example="clew models show busy_hour")
def models() -> None:
    """Look at models and their versions."""


@models.command("list", cls=Explained, example="clew models list --backtests")
@option("--model", purpose=WHICH, help="Only this model.")
@option("--backtests", is_flag=True, purpose=WHICH, help="Those that backtests simulated too.")
@option(
    "--limit", type=click.IntRange(1), metavar="NUMBER", default=50, purpose=WHICH, help="At most this many."
)
@json_option
def list_models(model: str | None, backtests: bool, limit: int, as_json: bool) -> None:
    """List models, with their versions and where their aliases point."""
    from clew import registry
    from clew.cli.records import records_here

    with records_here() as records:
        summaries = registry.list_models(records.store, kind=None if backtests else "live")
    found = [each for each in summaries if model in (None, each.model)][:limit]
    answer(as_json, {"models": found}, lambda: show_models(found))


def show_models(found: list[ModelSummary]) -> None:
    from clew.cli.terminal import say, show_table

    if not found:
        say("No model fits what was asked for. Make one with: clew try")
        return
    show_table(
        ["name", "model", "kind", "versions", "newest", "aliases"],
        [
            [
                each.deployment,
                each.model,
                each.kind,
                each.n_versions,
                each.newest or "",
                ", ".join(f"{alias} {number}" for alias, number in each.aliases.items()),
            ]
            for each in found
        ],
        right=["versions", "newest"],
    )


@models.command("show", cls=Explained, example="clew models show busy_hour@3")
@click.argument("name", metavar="NAME[@NUMBER]")
@json_option
def show_model(name: str, as_json: bool) -> None:
    """Show the versions of a model, or one version with its gate and history."""
    from clew.cli.records import records_here

    deployment, at, number = name.rpartition("@")
    with records_here() as records:
        if at and number.isdigit():
            _version(records.store, deployment, int(number), as_json)
        else:
            _versions(records.store, name, as_json)


def _versions(store: Store, deployment: str, as_json: bool) -> None:
    from clew import registry

    versions = registry.list_versions(store, deployment)
    aliases = registry.aliases(store, deployment)
    answer(
        as_json,
        {"name": deployment, "versions": versions, "aliases": aliases},
        lambda: _show_versions(deployment, versions, aliases),
    )


def _show_versions(deployment: str, versions: list[Version], aliases: dict[str, int]) -> None:
    from clew.cli.terminal import say, show_table
    from clew.cli.words import number

    say(deployment, style="bold")
    names = {
        at: ", ".join(sorted(alias for alias in aliases if aliases[alias] == at)) for at in aliases.values()
    }
    show_table(
        ["version", "made", "alias", "kind", "metrics", "run"],
        [
            [
                version.number,
                f"{version.created_at:%Y-%m-%d %H:%M}",
                names.get(version.number, ""),
                version.flavor,
                ", ".join(f"{name} {number(value)}" for name, value in version.metrics.items()),
                version.run[:12],
            ]
            for version in versions
        ],
        right=["version"],
    )


def _version(store: Store, deployment: str, number: int, as_json: bool) -> None:
    from clew import registry

    version = registry.get_version(store, deployment, number)
    gate = registry.get_gate(store, deployment, number)
    history = registry.audit_log(store, subject=version.name)
    answer(
        as_json,
        {"version": version, "gate": gate, "history": history},
        lambda: _show_version(version, gate, history),
    )


def _show_version(version: Version, gate: GateReport | None, history: list[AuditEntry]) -> None:
    from clew.cli.terminal import say, show_facts, show_gate
    from clew.cli.words import day, number

    say(version.name, style="bold")
    show_facts(
        {
            "made": f"{version.created_at:%Y-%m-%d %H:%M} UTC by run {version.run[:12]}",
            "kind": version.flavor,
            "metrics": ", ".join(f"{name} {number(value)}" for name, value in version.metrics.items()),
            "package": version.package,
        }
    )
    if gate is not None:
        say()
        show_gate(gate)
    for entry in reversed(history):
        say(f"{day(entry.at)}  {entry.action} by {entry.actor}: {entry.reason}")
    say()
    say(f"Where it came from: clew trace {version.name}")


@models.command("diff", cls=Explained, example="clew models diff busy_hour@3 busy_hour@7")
@click.argument("then", metavar="A")
@click.argument("now", metavar="B")
@json_option
def diff_models(then: str, now: str, as_json: bool) -> None:
    """Show what differs between the trainings of two versions, and only that.

    A and B are versions (MODEL@NUMBER or MODEL@ALIAS), or the first letters of the ids of runs.
    """
    from clew.cli.verbs.runs import show_difference

    show_difference(then, now, as_json)
