"""``clew up``. The process that runs this supervises all others, so it loads as little as it can."""

from __future__ import annotations

import sys
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from clew.cli.commands import Explained, option
from clew.cli.values import Moment, json_option, target_argument

if TYPE_CHECKING:
    from clew.server.supervisor import Ready, UpOptions

MOST_URLS = 10
WHERE, CLOCK = "Where it listens", "Its clock"


@click.command("up", cls=Explained, example="clew up --workers 2")
@target_argument
@option("--host", purpose=WHERE, help="The address; by default 127.0.0.1, or what clew.toml says.")
@option(
    "--port",
    type=click.IntRange(0, 65_535),
    metavar="NUMBER",
    purpose=WHERE,
    help="Port of predictions and labels; by default 8750, or what clew.toml says. 0 takes a free one.",
)
@option(
    "--control-port",
    type=click.IntRange(0, 65_535),
    metavar="NUMBER",
    purpose=WHERE,
    help="Port of the control server; by default 8751, or what clew.toml says.",
)
@option(
    "--workers",
    type=click.IntRange(1, 1000),
    metavar="NUMBER",
    purpose=WHERE,
    help="Processes that answer predictions; by default 1, or what clew.toml says.",
)
@option(
    "--clock",
    type=click.Choice(["real", "replay"]),
    purpose=CLOCK,
    help="real goes by itself, replay when POST /clock says so; by default as last time, real at first.",
)
@option("--at", type=Moment(), purpose=CLOCK, help="Where a replay begins; one that stands later goes on.")
@json_option
@click.pass_context
def up(ctx: click.Context, /, target: str | None, as_json: bool, **given: Any) -> None:
    """Run everything: the loop, predictions, the control server.

    TARGET is FILE.py, FILE.py:MODEL, or a model of the project here; without it, all models of clew.toml.
    Models that have no champion get their first. Whatever dies is started again; Ctrl-C lets running
    requests end, a second one does not.

    A second clew up on the same store is refused. Every request needs a token; the first is made at the
    first start.
    """
    from clew.server.supervisor import supervise

    options = _options(target, {name: value for name, value in given.items() if value is not None})
    ctx.exit(supervise(options, _Told(options.store, as_json)))


def _options(target: str | None, given: dict[str, Any]) -> UpOptions:
    from clew.config import resolve_target
    from clew.server.supervisor import UpOptions

    where = Path.cwd()
    found = resolve_target(target, where)
    serving = found.settings.serving
    chosen = {name: getattr(serving, name) for name in ("host", "port", "control_port", "workers")}
    # The processes are started for the project's folder, and find the same file from there.
    path, _, model = (target or "").partition(":")
    if target and (where / path).is_file():
        target = ":".join([str((where / path).resolve()), *filter(None, [model])])
    return UpOptions(root=found.settings.root, store=found.settings.store, target=target, **chosen | given)


def _where_to_ask(ready: Ready) -> str:
    """A line for each model, as far as they fit on a screen."""
    url, names = f"{ready.presence.url}/predict/", list(ready.models) or ["MODEL"]
    shown = names if len(names) <= MOST_URLS else ["MODEL"]
    return f"\n{'':<12} ".join(f"{url}{name}" for name in shown)


class _Told:
    """Prints what happens: for people on stdout, for programs one document when everything is ready."""

    def __init__(self, store: Path, as_json: bool) -> None:
        self._store, self._as_json = store, as_json

    def event(self, at: datetime, what: str, sentence: str) -> None:
        told = sentence if sentence.startswith(what) else f"{what}: {sentence}"
        click.echo(f"{at:%Y-%m-%d %H:%M}  {told}", err=self._as_json)

    def remark(self, sentence: str) -> None:
        click.echo(f"clew up: {sentence}", err=True)

    def ready(self, ready: Ready) -> None:
        from clew.server.presence import TOKEN_FILE

        file = self._store / "run" / TOKEN_FILE
        token = file.read_text(encoding="utf-8").strip() if file.is_file() else None
        if self._as_json:
            self._show_document(ready, file if token else None)
        else:
            self._show(ready, file, token)

    def _show_document(self, ready: Ready, file: Path | None) -> None:
        from clew.cli.documents import print_document

        # Not the token itself: what a program prints often ends in a log.
        print_document({"up": ready.presence, "models": ready.models, "clock": ready.clock, "now": ready.now,
                        "url": ready.presence.url, "control_url": ready.presence.control_url,
                        "token_file": file})  # fmt: skip
        sys.stdout.flush()

    def _show(self, ready: Ready, file: Path, token: str | None) -> None:
        control = ready.presence.control_url
        clock = "real" if ready.clock == "real" else f"replay, at {ready.now:%Y-%m-%d %H:%M} UTC"
        models = [f"{name} version {n}" if n else f"{name} (not live)" for name, n in ready.models.items()]
        lines = {
            "predictions": _where_to_ask(ready),
            "control": control,
            "token": "make one with: clew token create NAME",
            "clock": clock,
            "models": ", ".join(models) or "none yet",
        }
        if token and sys.stdout.isatty():
            # Only where a person reads: a service's output is a log, and a token has no place there.
            lines |= {"control": f"{control}/?token={token}", "token": str(file)}
        elif token:
            lines["token"] = f"in {file}"
        click.echo("Clew is up. Ctrl-C stops it.\n")
        for name, value in lines.items():
            click.echo(f"{name:<12} {value}")
        sys.stdout.flush()
