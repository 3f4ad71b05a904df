"""``clew promote``, ``rollback``, ``pause``, ``resume``, ``retrain``, ``retire``.

Where ``clew up`` runs, the verb writes its order down and waits until it is executed there; where it does
not, it executes it itself. With ``--server`` the order goes to a running system elsewhere.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import datetime
from typing import TYPE_CHECKING, Any, TypeVar

import click

from clew.cli.commands import Explained, option
from clew.cli.elsewhere import ask_server, refuse_elsewhere, server_option
from clew.cli.terminal import answer
from clew.cli.values import json_option, utc_now
from clew.errors import ClewError, StoreBusy

if TYPE_CHECKING:
    from clew.loop.commands import Command
    from clew.storage import Store

F = TypeVar("F", bound=Callable[..., Any])

WHAT = "What is done"
LOOK_SECONDS = 0.05


class CommandRefused(ClewError):
    """The running system refused what was ordered, for the reason that it told."""

    def __init__(self, code: str, message: str, exit_code: int) -> None:
        self.error_code, self.exit_code = code, exit_code
        super().__init__(message)


def _shared(command: F) -> F:
    for decorate in (
        json_option,
        server_option,
        option(
            "--wait",
            type=click.FloatRange(min=0),
            metavar="SECONDS",
            default=60.0,
            purpose=WHAT,
            help="How long to wait for a running clew up to do it.",
        ),
        option("--reason", required=True, purpose=WHAT, help="Why; it stands in the audit log."),
        click.argument("model"),
    ):
        command = decorate(command)
    return command


def _dry_run(command: F) -> F:
    return option("--dry-run", is_flag=True, purpose=WHAT, help="Say what would be done, and do nothing.")(
        command
    )


def _expected(command: F) -> F:
    return option(
        "--expected",
        type=click.IntRange(1),
        metavar="VERSION",
        purpose=WHAT,
        help="The champion that you saw: if it is another by now, nothing is done. By default the one that"
        " there is when the command starts.",
    )(command)


@click.command("promote", cls=Explained, example='clew promote busy_hour 3 --reason "reviewed by hand"')
@_dry_run
@_expected
@_shared
@click.argument("version", metavar="[VERSION]", type=click.IntRange(1), required=False)
def promote(model: str, version: int | None, expected: int | None, **given: Any) -> None:
    """Make a version the champion of its model.

    Without VERSION it is the candidate that is being rolled out, or the newest version. A rollout that runs
    ends with it. A model that was retired comes back into service. Of two people who promote at once, the
    second is refused and told who was first.
    """
    _steer("promote", model, {"version": version, "expected": expected}, **given)


@click.command("rollback", cls=Explained, example='clew rollback busy_hour --reason "too many complaints"')
@_dry_run
@option(
    "--to",
    type=click.IntRange(1),
    metavar="VERSION",
    purpose=WHAT,
    help="By default the one before; while a version is rolled out, the champion as it is.",
)
@_expected
@_shared
def rollback(model: str, to: int | None, expected: int | None, **given: Any) -> None:
    """Go back to an earlier champion.

    While a version is being rolled out, that ends, and the champion stays. The version that is left does not
    come back unless a person promotes it.
    """
    _steer("rollback", model, {"to": to, "expected": expected}, **given)


@click.command("pause", cls=Explained, example='clew pause busy_hour --reason "the source is being moved"')
@_shared
def pause(model: str, **given: Any) -> None:
    """Let the loop leave a model alone; it answers on.

    No check, fit or rollout step of it is made until clew resume.
    """
    _steer("pause", model, {}, **given)


@click.command("resume", cls=Explained, example='clew resume busy_hour --reason "the source is back"')
@_shared
def resume(model: str, **given: Any) -> None:
    """Let the loop go on with a model.

    What became due in the meantime is done now.
    """
    _steer("resume", model, {}, **given)


@click.command("retrain", cls=Explained, example='clew retrain busy_hour --reason "new bike stations"')
@_shared
def retrain(model: str, **given: Any) -> None:
    """Order a candidate, which has to earn its place.

    It is fitted, meets the gate and is rolled out like any other; for this clew up must run.
    """
    _steer("retrain", model, {}, **given)


@click.command("retire", cls=Explained, example='clew retire busy_hour --reason "replaced by busy_day"')
@_dry_run
@_shared
def retire(model: str, **given: Any) -> None:
    """Take a model out of service; promote undoes it.

    Requests for it are refused from then on. Its versions, log and records stay.
    """
    _steer("retire", model, {}, **given)


def _steer(
    verb: str,
    model: str,
    arguments: dict[str, Any],
    *,
    reason: str,
    wait: float,
    server: str | None,
    as_json: bool,
    dry_run: bool = False,
) -> None:
    from clew.cli.records import records_here
    from clew.loop.commands import preview

    given = {name: value for name, value in arguments.items() if value is not None}
    if server is not None:
        if dry_run:
            refuse_elsewhere(click.get_current_context(), server, "What would be done")
        given = _champion_there(server, verb, model) | given
        _show(_executed_elsewhere(server, verb, model, given | {"reason": reason}, wait), as_json)
        return
    with records_here() as records:
        given = _champion_here(records.store, verb, model) | given
        if dry_run:
            sentence = preview(records.store, verb, model, given)
            answer(as_json, {"would": sentence}, lambda: click.echo(f"{sentence}. Nothing was done."))
            return
        done = _executed(records.store, verb, model, given, reason, wait)
    _show(done, as_json)


MOVING = ("promote", "rollback")
"""Whoever gives these saw a champion: when it is another by the time they are done, somebody was faster."""


def _champion_here(store: Store, verb: str, model: str) -> dict[str, Any]:
    from clew.registry import aliases

    return {"expected": aliases(store, model).get("champion")} if verb in MOVING else {}


def _champion_there(server: str, verb: str, model: str) -> dict[str, Any]:
    if verb not in MOVING:
        return {}
    known = ask_server(server, "GET", "/models", dict[str, Any])["models"]
    champions = {each["deployment"]: each["aliases"].get("champion") for each in known}
    seen = champions.get(model)
    return {} if seen is None else {"expected": seen}


def _executed(
    store: Store, verb: str, model: str, arguments: dict[str, Any], reason: str, wait_seconds: float
) -> Command:
    from clew.cli.people import actor_here
    from clew.loop.commands import ask, execute_here, outcome
    from clew.server.clock import system_now
    from clew.server.presence import running_up

    now = system_now(store, utc_now())
    command = ask(store, verb, model, arguments, actor_here(), reason, now)
    give_up = time.monotonic() + wait_seconds
    while (done := outcome(store, command)).status == "waiting":
        # Asked again each time: a system that is ended meanwhile leaves its orders to whoever waits.
        if running_up(store) is None:
            if execute_here(store, command, now).status == "waiting":
                return outcome(store, command)  # nothing runs that could do it
        elif time.monotonic() > give_up:
            return done
        else:
            time.sleep(LOOK_SECONDS)
    return done


def _executed_elsewhere(
    server: str, verb: str, model: str, order: dict[str, Any], wait_seconds: float
) -> Command:
    from urllib.parse import quote

    from clew.loop.commands import Command

    give_up = time.monotonic() + wait_seconds
    done = ask_server(server, "POST", f"/models/{quote(model, safe='')}/{verb}", Command, json=order)
    while done.status == "waiting" and time.monotonic() < give_up:
        time.sleep(LOOK_SECONDS)
        done = ask_server(server, "GET", f"/commands/{done.id}", Command)
    return done


def _show(done: Command, as_json: bool) -> None:
    if done.status == "refused":
        refusal = done.result
        raise CommandRefused(refusal["code"], refusal["message"], refusal["exit_code"])
    if done.status == "waiting":
        raise StoreBusy(
            f"{done.verb} stands as command {done.id}, and is done as soon as clew up runs and its loop is at"
            " rest. See: clew status"
        )
    answer(as_json, done, lambda: click.echo(_sentence(done)))


def _sentence(done: Command) -> str:
    """What came of it; a model's name stays as it is, also where a sentence begins with it."""
    sentence = str(done.result.get("sentence", f"{done.verb} is done"))
    if not sentence.startswith(f"{done.deployment} "):
        sentence = f"{sentence[0].upper()}{sentence[1:]}"
    due = done.result.get("next_tick")
    when = (
        "" if due in (None, "None") else f", which is due at {datetime.fromisoformat(due):%Y-%m-%d %H:%M} UTC"
    )
    return f"{sentence}{when}."
