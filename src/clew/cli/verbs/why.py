"""``clew why``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from clew.cli.answers import show_answers
from clew.cli.commands import Explained, option
from clew.cli.elsewhere import ask_server, server_option
from clew.cli.terminal import answer
from clew.cli.values import WHICH, Moment, Since, json_option

if TYPE_CHECKING:
    from datetime import datetime

    from clew.loop.explained import ExplainedAnswer
    from clew.loop.result import Reason

ANSWERS = "Answers"
NEWEST_ANSWERS = 20


@click.command(
    "why",
    cls=Explained,
    example="clew why busy_hour --kind refused\n  clew why busy_hour --key h17 --at 2026-03-03",
)
@click.argument("reference")
@option("--kind", purpose=WHICH, help="Only decisions of this kind, such as promoted or refused.")
@option("--since", type=Since(), purpose=WHICH, help="Only newer ones: a time, or how long ago, such as 7d.")
@option(
    "--limit", type=click.IntRange(1), metavar="NUMBER", purpose=WHICH, help="At most this many, the newest."
)
@option("--key", purpose=ANSWERS, help="Explain the answers of MODEL about this key.")
@option("--entity", purpose=ANSWERS, help="Explain the answers of MODEL about everything of this entity.")
@option("--at", type=Moment(), purpose=ANSWERS, help="Only answers about this day of event time, in UTC.")
@server_option
@json_option
def why(
    reference: str,
    kind: str | None,
    since: object,
    limit: int | None,
    key: str | None,
    entity: str | None,
    at: datetime | None,
    server: str | None,
    as_json: bool,
) -> None:
    """Say why the loop decided what it decided, or why a key was answered so.

    REFERENCE is a model, a version (MODEL@NUMBER), a backtest, or the id of one decision or prediction. With
    --key or --entity it is a model, and each answer is computed again by the version that gave it: score,
    threshold, what each column contributed, the gate's report, who put the version in office.
    """
    if key is not None or entity is not None:
        about = {"key": key, "entity": entity, "at": at, "limit": limit or NEWEST_ANSWERS}
        explained = _explained_elsewhere(server, reference, about) if server else _explained(reference, about)
        answer(as_json, {"reference": reference, "answers": explained}, lambda: show_answers(explained))
        return
    if at is not None:
        raise click.UsageError("--at goes with --key or --entity", click.get_current_context())
    found = _told_elsewhere(server, reference) if server else _told_here(reference)
    wanted = [reason for reason in found if _is_wanted(reason, kind, since)]
    reasons = wanted[-limit:] if limit else wanted
    kinds = list(dict.fromkeys(reason.kind for reason in found))
    answer(as_json, {"reference": reference, "reasons": reasons}, lambda: show_reasons(reasons, kinds))


def _explained(reference: str, about: dict[str, Any]) -> list[ExplainedAnswer]:
    from clew.cli.records import records_here

    with records_here() as records:
        return records.explain_answers(reference, **about)


def _explained_elsewhere(server: str, reference: str, about: dict[str, Any]) -> list[ExplainedAnswer]:
    from urllib.parse import quote

    import msgspec

    from clew.loop.explained import ExplainedAnswer

    at = about["at"]
    given = about | {"at": None if at is None else at.isoformat()}
    params = {name: value for name, value in given.items() if value is not None}
    told = ask_server(server, "GET", f"/why/{quote(reference)}", dict[str, Any], params=params)
    return msgspec.convert(told["answers"], list[ExplainedAnswer])


def _told_here(reference: str) -> list[Reason]:
    from clew.cli.records import records_here

    with records_here() as records:
        return records.why(reference)


def _told_elsewhere(server: str, reference: str) -> list[Reason]:
    from urllib.parse import quote

    import msgspec

    from clew.loop.result import Reason

    told = ask_server(server, "GET", f"/why/{quote(reference)}", dict[str, Any])
    return msgspec.convert(told["reasons"], list[Reason])


def _is_wanted(reason: Reason, kind: str | None, since: object) -> bool:
    return kind in (None, reason.kind) and (since is None or reason.at >= since)  # type: ignore[operator]


def show_reasons(reasons: list[Reason], kinds: list[str]) -> None:
    """Each decision in a sentence, and below it what it rested on.

    Parameters
    ----------
    kinds
        The kinds of decision there are, for whoever asked for none of them.
    """
    from clew.cli.terminal import say, show_columns

    if not reasons:
        say(f"No decision fits what was asked for; there are: {', '.join(kinds)}.")
        return
    show_columns([line for reason in reasons for line in _lines(reason)])


def _lines(reason: Reason) -> list[list[str]]:
    from clew.cli.words import day

    because = [["", "", f"· {each}"] for each in reason.because]
    return [[day(reason.at), reason.kind, reason.sentence], *because]
