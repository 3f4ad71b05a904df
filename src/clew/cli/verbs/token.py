"""``clew token``."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from clew.cli.commands import Explained, Verbs, option
from clew.cli.terminal import answer
from clew.cli.values import json_option, utc_now

if TYPE_CHECKING:
    from clew.server.tokens import TokenInfo
    from clew.storage import Store

WHAT = "What is done"
_LATER = "A worker is busy and goes by it a little later; see: clew status"


@click.group("token", cls=Verbs, example="clew token create ada")
def token() -> None:
    """Say who may ask a running system."""


@token.command("list", cls=Explained, example="clew token list")
@json_option
def list_tokens(as_json: bool) -> None:
    """List tokens by name, never their secrets."""
    from clew.cli.records import records_here
    from clew.server import tokens

    with records_here() as records:
        found = tokens.list_tokens(records.store)
    answer(as_json, {"tokens": found}, lambda: _show_tokens(found))


def _show_tokens(found: list[TokenInfo]) -> None:
    from clew.cli.terminal import say, show_table

    if not found:
        say("There is no token yet. Make one with: clew token create NAME; the first clew up makes one too.")
        return
    show_table(
        ["name", "made", "revoked"],
        [
            [
                each.name,
                f"{each.created_at:%Y-%m-%d %H:%M}",
                f"{each.revoked_at:%Y-%m-%d %H:%M}" if each.revoked_at else "",
            ]
            for each in found
        ],
    )


@token.command("create", cls=Explained, example="clew token create ci-deploy")
@click.argument("name")
@json_option
def create_token(name: str, as_json: bool) -> None:
    """Make a token and print it, this once.

    NAME is who will use it; it stands in the audit log beside whatever is done with the token. Only a digest
    of the token is kept.
    """
    from clew.cli.people import actor_here
    from clew.cli.records import records_or_new
    from clew.server import tokens
    from clew.server.clock import system_now

    with records_or_new() as records:
        now = system_now(records.store, utc_now())
        made = tokens.create_token(records.store, name, actor=actor_here(), now=now)
        is_known = _wait_until_known(records.store)

    def show() -> None:
        click.echo(made)
        click.echo(
            f"That is the token of {name}; it is shown only now. Send it as: Authorization: Bearer TOKEN",
            err=True,
        )
        if not is_known:
            click.echo(_LATER, err=True)

    answer(as_json, {"name": name, "token": made}, show)


def _wait_until_known(store: Store) -> bool:
    """Workers of a running system hear of it within a moment; the command ends when they have."""
    from clew.server import tokens
    from clew.server.presence import running_up

    return running_up(store) is None or tokens.wait_until_known(store)


@token.command("revoke", cls=Explained, example="clew token revoke ci-deploy")
@click.argument("name")
@option("--dry-run", is_flag=True, purpose=WHAT, help="Say what would be done, and do nothing.")
@json_option
def revoke_token(name: str, dry_run: bool, as_json: bool) -> None:
    """Take a token away.

    Requests with it are refused at once. To undo that, make one of the same name: clew token create NAME.
    """
    from clew.cli.people import actor_here
    from clew.cli.records import records_here
    from clew.server import tokens
    from clew.server.clock import system_now

    with records_here() as records:
        now = system_now(records.store, utc_now())
        revoked = tokens.revoke_token(records.store, name, actor=actor_here(), now=now, dry_run=dry_run)
        is_known = dry_run or _wait_until_known(records.store)
    said = (
        f"would revoke the token of {name}, made {revoked.created_at:%Y-%m-%d %H:%M} UTC. Nothing was done."
        if dry_run
        else f"The token of {name} is revoked. Undo: clew token create {name}"
    )
    if not is_known:
        click.echo(_LATER, err=True)
    answer(as_json, {"token": revoked, "dry_run": dry_run}, lambda: click.echo(said))
