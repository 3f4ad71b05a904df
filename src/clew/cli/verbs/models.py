"""``clew models``."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from clew.cli.commands import Explained, Verbs, option
from clew.cli.terminal import answer
from clew.cli.values import WHICH, json_option

if TYPE_CHECKING:
    from clew.entities import AuditEntry, GateReport, Version
    from clew.loop.adoption import Adoption
    from clew.registry import ModelSummary
    from clew.storage import Store

ROWS = "What is known of it"


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


@models.command("import", cls=Explained, example="clew models import churn churn.lgb --example rows.csv")
@click.argument("name", metavar="NAME")
@click.argument("source", metavar="FILE")
@option("--example", metavar="FILE", purpose=ROWS, help="Rows that show which columns the model takes.")
@option("--data", metavar="FILE", purpose=ROWS, help="Rows that its reference profile counts.")
@option("--label", metavar="COLUMN", purpose=ROWS, help="The label's column in these rows.")
@option("--reason", default="made elsewhere", purpose=ROWS, help="Why; it stands in the audit log.")
@json_option
def import_model(
    name: str,
    source: str,
    example: str | None,
    data: str | None,
    label: str | None,
    reason: str,
    as_json: bool,
) -> None:
    """Make a model from elsewhere version 1 and champion of NAME.

    FILE is LightGBM's text, XGBoost's .json or .ubj, .skops, .onnx, a folder in MLflow's format
    (mlflow:FOLDER) or a model of its registry (mlflow:models:/churn/7). A pickle is read only where clew.toml
    says allow_pickle = true: once, in a process of its own, and kept in a native format.

    Where the project declares NAME, its dataset shows the columns, and requests are answered over HTTP.
    """
    from pathlib import Path

    from clew.cli.people import actor_here
    from clew.cli.records import records_or_new
    from clew.config import load_settings
    from clew.workspace import open_workspace

    is_project = bool(load_settings(Path.cwd()).models)
    with open_workspace(None, Path.cwd()) if is_project else records_or_new() as workspace:
        adopted = workspace.import_model(
            name,
            source,
            where=Path.cwd(),
            example=example,
            data=data,
            label=label,
            actor=actor_here(),
            reason=reason,
        )
    answer(as_json, adopted, lambda: _show_adopted(adopted))


def _show_adopted(adopted: Adoption) -> None:
    from clew.cli.terminal import say, show_facts

    version, name = adopted.version, adopted.version.deployment
    n_rows = adopted.n_profile_rows
    was = "" if adopted.is_new else ", as it was already"
    say(f"{version.name} is the champion of {name}{was}. Its training is unknown.", style="bold")
    converted = ", and kept as" if adopted.kind == "pickle" else ", kept as"
    show_facts(
        {
            "from": f"{adopted.source} ({adopted.kind}{converted} {version.flavor})",
            "sha256": adopted.digest,
            "columns": ", ".join(adopted.columns),
            "profile": f"{n_rows:,} rows" if n_rows else "none: give --data FILE",
        }
    )
    say()
    if not adopted.is_declared:
        say(
            f"No file of the project declares {name}, so it answers clew predict and clew.load, but no"
            " requests. Declare it with @clew.model to serve it."
        )
    say(f"Where it came from: clew trace {version.name}")
