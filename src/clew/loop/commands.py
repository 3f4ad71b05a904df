"""What people tell a deployment: rows that the running system carries out, or that are carried out at once.

A command is written down with its actor and reason before anything is done, and its outcome after.
"""

from __future__ import annotations

import logging
import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal, TypeAlias, get_args

from clew.entities import AuditEntry, Json, Route
from clew.errors import AliasMoved, ClewError, NotFound, StoreBusy, StoreError, UsageError, did_you_mean
from clew.loop.threshold import set_threshold, threshold_set_by, threshold_wanted, would
from clew.registry import aliases, audit_log, get_version, list_versions, record_audit
from clew.registry.alias_moves import move_alias_within
from clew.registry.routes import get_route, move_route
from clew.storage import Reader, Store, Transaction

log = logging.getLogger("clew.loop")

Verb: TypeAlias = Literal["promote", "rollback", "pause", "resume", "retrain", "retire", "threshold"]
VERBS: tuple[str, ...] = get_args(Verb)
Status: TypeAlias = Literal["waiting", "done", "refused"]
LiveStage: TypeAlias = Literal["running", "paused", "retired"]
STATUS_SET_BY: dict[str, LiveStage] = {"pause": "paused", "resume": "running", "retire": "retired"}


@dataclass(frozen=True, slots=True)
class Command:
    """One command of a person.

    `result` says in a sentence what came of it; of one that was refused in a message, with the error's code,
    HTTP status and exit code.
    """

    id: str
    deployment: str
    verb: str
    arguments: Json
    actor: str
    reason: str
    status: Status
    asked_at: datetime
    result: Json
    done_at: datetime | None = None


def ask(
    store: Store,
    verb: str,
    deployment: str,
    arguments: Mapping[str, Any],
    actor: str,
    reason: str,
    now: datetime,
) -> str:
    """Write a command down; returns its id.

    Raises
    ------
    UsageError
        When there is no such verb, or no reason was given.
    NotFound
        When there is no such live deployment.
    """
    if verb not in VERBS:
        raise UsageError(f"There is no command {verb!r}. {did_you_mean(verb, VERBS)}")
    if not reason.strip():
        raise UsageError(f"{verb} needs a reason, which is kept with what it changes: --reason 'why'.")
    with store.write() as tx:
        # In the order of their ids, as a replay's clock may stand while several are given.
        identity = f"{tx.count('commands') + 1:08d}{secrets.token_hex(4)}"
        known = [row["name"] for row in tx.find("deployments", {"kind": "live"})]
        if deployment not in known:
            raise NotFound(f"There is no live model {deployment!r}. {did_you_mean(deployment, known)}")
        row = {
            "id": identity,
            "deployment": deployment,
            "verb": verb,
            "arguments": dict(arguments),
            "actor": actor,
            "reason": reason.strip(),
            "status": "waiting",
            "asked_at": now,
        }
        tx.insert("commands", row)
    return identity


def waiting(store: Store, deployment: str | None = None) -> list[Command]:
    """Commands that nobody has carried out yet, the oldest first."""
    where = {"status": "waiting"} | ({} if deployment is None else {"deployment": deployment})
    with store.read() as reader:
        return [_command(row) for row in reader.find("commands", where, ["asked_at", "id"])]


def outcome(store: Store, identity: str) -> Command:
    """The command with this id, and what came of it.

    Raises
    ------
    NotFound
        When there is none.
    """
    with store.read() as reader:
        row = reader.get("commands", id=identity)
    if row is None:
        raise NotFound(f"There is no command {identity!r}.")
    return _command(row)


def carry_out(store: Store, command: Command, act: Callable[[Command], Json], now: datetime) -> Command:
    """Do what a command says, and write down what came of it: a refusal is an outcome, too.

    Raises
    ------
    StoreError
        When another program holds the store, or it failed behind the move of the champion: the command goes
        on waiting, and is taken up where it broke off.
    """
    status: Status = "refused"
    try:
        status, result = "done", act(command)
    except StoreError as error:
        if isinstance(error, StoreBusy) or champion_moved_by(store, command):
            raise
        result = _refusal(error)
    except ClewError as error:
        result = _refusal(error)
    # A command that fails in a way that nobody foresaw must not be tried for ever: those behind it wait.
    except Exception as error:
        log.exception("a command failed", extra={"command": command.id, "verb": command.verb})
        words = f"{command.verb} failed inside Clew: {type(error).__name__}. Its log says where."
        result = _refusal(ClewError(words))
    with store.write() as tx:
        values = {"status": status, "result": result, "done_at": now}
        tx.update("commands", {"id": command.id, "status": "waiting"}, values)
    return outcome(store, command.id)


def _refusal(error: ClewError) -> Json:
    return {
        "message": str(error),
        "code": error.error_code,
        "status": error.http_status,
        "exit_code": error.exit_code,
    }


def execute_here(store: Store, identity: str, now: datetime) -> Command:
    """Carry a command out on the records alone, when no system runs that would.

    The next ``clew up`` goes on from what it finds. ``retrain`` has to wait for it, unless it cannot be.
    """
    command = outcome(store, identity)
    with store.read() as reader:
        is_retired = status_of(reader, command.deployment) == "retired"
    if command.status != "waiting" or (command.verb == "retrain" and not is_retired):
        return command
    return carry_out(store, command, lambda each: act_on_records(store, each, now), now)


def preview(store: Store, verb: str, deployment: str, arguments: Mapping[str, Any]) -> str:
    """What a command would do, in a sentence without its full stop; nothing is done.

    Raises
    ------
    ClewError
        As carrying it out would.
    """
    refuse_what_cannot_be(store, verb, deployment, arguments)
    ending = rollout_to_end(store, verb, deployment, arguments)
    if ending is not None:
        return f"the rollout of version {ending} of {deployment} would end, and its champion stay"
    if verb in ("promote", "rollback"):
        number, before = version_to_promote(store, verb, deployment, arguments)
        return f"champion of {deployment} would be version {number} instead of {before or 'none'}"
    with store.read() as reader:
        route = get_route(reader, deployment)
    answering = f"version {route.champion}" if route and route.champion else "nobody"
    if verb == "threshold":
        return would(store, deployment, arguments)
    return {
        "pause": f"{deployment} would be left alone, without retrains and releases; {answering} answers on",
        "resume": f"{deployment} would be looked after again; {answering} answers for it",
        "retrain": f"a candidate of {deployment} would be fitted at the next look; {answering} answers",
        "retire": f"nobody would answer for {deployment} any more; {answering} does now",
    }[verb]


def status_of(reader: Reader, deployment: str) -> LiveStage:
    """Whether a deployment is looked after, left alone, or out of service."""
    route = get_route(reader, deployment)
    if route is not None and route.stage == "retired":
        return "retired"
    return "paused" if is_paused(reader, deployment) else "running"


def status_after(verb: str, deployment: str, status: LiveStage) -> LiveStage:
    """Where a deployment stands after a command, which may be given with or without a running system.

    Raises
    ------
    UsageError
        When it is retired: only ``promote`` brings it back, as somebody must say who answers.

    Examples
    --------
    >>> status_after("pause", "churn", "running"), status_after("promote", "churn", "retired")
    ('paused', 'running')
    >>> status_after("promote", "churn", "paused")
    'paused'
    """
    if status == "retired" and verb == "retire":
        raise UsageError(f"{deployment!r} is retired already: nobody answers for it.")
    if status == "retired" and verb != "promote":
        raise UsageError(
            f"{deployment!r} is retired: nobody answers for it or looks after it, so there is nothing to"
            f" {verb}. Put a version in office first: clew promote {deployment} VERSION --reason '…'"
        )
    if status == "retired":
        return "running"
    return STATUS_SET_BY.get(verb, status)


def refuse_what_cannot_be(store: Store, verb: str, deployment: str, arguments: Mapping[str, Any]) -> None:
    """Raise before anything is done what carrying a command out would raise.

    Raises
    ------
    UsageError, NotFound, AliasMoved
        As `status_after`, `version_to_promote` and `champion_as_expected` do.
    """
    with store.read() as reader:
        status_after(verb, deployment, status_of(reader, deployment))
    ends_rollout = rollout_to_end(store, verb, deployment, arguments) is not None
    if verb in ("promote", "rollback") and not ends_rollout:
        version_to_promote(store, verb, deployment, arguments)
    else:
        champion_as_expected(store, deployment, arguments)
    if verb == "threshold":
        threshold_wanted(store, deployment, arguments)


def has_begun(store: Store, command: Command) -> bool:
    """Whether a command did something before it broke off: it is finished then, whatever it finds."""
    if champion_moved_by(store, command) or rollout_ended_by(store, command):
        return True
    if threshold_set_by(store, command):
        return True
    return _recorded(store, command, command.verb) is not None


def is_paused(reader: Reader, deployment: str) -> bool:
    """Whether the last word of people on it was to leave it alone."""
    where = {"deployment": deployment, "status": "done", "verb": [*STATUS_SET_BY]}
    last = reader.find("commands", where, ["-done_at", "-id"], limit=1)
    return bool(last and last[0]["verb"] == "pause")


def rollout_to_end(store: Store, verb: str, deployment: str, arguments: Mapping[str, Any]) -> int | None:
    """The candidate whose rollout a command ends: ``rollback`` that names no version, while there is one."""
    if verb != "rollback" or arguments.get("to") is not None:
        return None
    with store.read() as reader:
        route = get_route(reader, deployment)
    return None if route is None else route.candidate


def rollout_ended_by(store: Store, command: Command) -> int | None:
    """The candidate whose rollout a command ended before it broke off; None when it ended none."""
    ended = _recorded(store, command, "end rollout")
    return None if ended is None else int(ended.evidence["version"])


def newest_champion_move(store: Store, deployment: str) -> AuditEntry | None:
    """How the champion moved last; None when it never did."""
    return next(iter(audit_log(store, deployment, 1, action="move champion")), None)


def champion_moved_by(store: Store, command: Command) -> tuple[int, int | None] | None:
    """Whom a command put in office before it broke off, and who was it before; None when it moved nobody."""
    move = _recorded(store, command, "move champion")
    return None if move is None else (move.evidence["to"], move.evidence["from"])


def record_status(store: Store, command: Command, now: datetime) -> None:
    """Write into the audit log that a person paused, resumed, retired or wants to retrain; once a command."""
    if _recorded(store, command, command.verb) is not None:
        return
    with store.write() as tx:
        _record(tx, command, now)


def _record(tx: Transaction, command: Command, now: datetime) -> None:
    record_audit(
        tx, now=now, actor=command.actor, action=command.verb, subject=command.deployment,
        reason=command.reason, evidence={"command": command.id},
    )  # fmt: skip


def _recorded(store: Store, command: Command, action: str) -> AuditEntry | None:
    """The newest act of this kind on the deployment, when it was this command's."""
    newest = next(iter(audit_log(store, command.deployment, 1, action=action)), None)
    return newest if newest is not None and newest.evidence.get("command") == command.id else None


def version_to_promote(
    store: Store, verb: str, deployment: str, arguments: Mapping[str, Any]
) -> tuple[int, int | None]:
    """The version that ``promote`` or ``rollback`` puts in office, and who is in it now.

    Without a version, ``promote`` takes the candidate that is rolled out, or the newest version;
    ``rollback`` the champion before this one.

    Raises
    ------
    UsageError
        When there is nothing to go back to, or it is in office already.
    NotFound
        When there is no such version.
    AliasMoved
        When the champion is another one than ``expected`` says.
    """
    champion = champion_as_expected(store, deployment, arguments)
    wanted = arguments.get("version" if verb == "promote" else "to")
    if wanted is None:
        is_back = verb == "rollback"
        wanted = _champion_before(store, deployment, champion) if is_back else _newest(store, deployment)
    number = get_version(store, deployment, int(wanted)).number
    with store.read() as reader:
        route = get_route(reader, deployment)
    if number == champion and not (route and route.stage == "retired"):
        raise UsageError(f"Version {number} of {deployment!r} is champion already.")
    return number, champion


def champion_as_expected(store: Store, deployment: str, arguments: Mapping[str, Any]) -> int | None:
    """Who is champion, unless whoever gave the command saw another one.

    Raises
    ------
    AliasMoved
        When the champion is another one than ``expected`` says.
    """
    champion = aliases(store, deployment).get("champion")
    expected = arguments.get("expected", champion)
    if expected != champion:
        newest = newest_champion_move(store, deployment)
        mover = f"by {newest.actor} at {newest.at:%Y-%m-%d %H:%M} UTC ({newest.reason})" if newest else ""
        raise AliasMoved(deployment, "champion", expected, champion, mover)
    return champion


def moved_sentence(deployment: str, number: int, before: int | None) -> Json:
    """What came of a command that moved the champion."""
    sentence = f"the champion of {deployment} is version {number} now"
    if before == number:
        sentence = f"version {number} answers for {deployment} again"
    elif before is not None:
        sentence += f", after version {before}"
    return {"sentence": sentence, "version": number, "before": before}


def _newest(store: Store, deployment: str) -> int:
    with store.read() as reader:
        route = get_route(reader, deployment)
    if route is not None and route.candidate is not None:
        return route.candidate
    versions = list_versions(store, deployment)
    if not versions:
        raise UsageError(f"{deployment!r} has no version yet. Train one with: clew try")
    return versions[-1].number


def _champion_before(store: Store, deployment: str, champion: int | None) -> int:
    """Whom the champion followed, when it was not itself put back: what was rolled back stays away."""
    for entry in audit_log(store, deployment, limit=None):
        before, to = entry.evidence.get("from"), entry.evidence.get("to")
        was_put_back = entry.evidence.get("verb") == "rollback"
        if entry.action == "move champion" and to == champion and before is not None and not was_put_back:
            return int(before)
    raise UsageError(
        f"{deployment!r} has had no other champion to go back to. Put any version in office with:"
        f" clew promote {deployment} VERSION --reason '…'"
    )


def act_on_records(store: Store, command: Command, now: datetime) -> Json:
    """Do what a command says where no loop lives: move the records that the loop goes on from.

    Raises
    ------
    ClewError
        When it cannot be, as `refuse_what_cannot_be` says, or needs a loop that lives.
    """
    deployment = command.deployment
    if not has_begun(store, command):
        refuse_what_cannot_be(store, command.verb, deployment, command.arguments)
    ending = rollout_to_end(store, command.verb, deployment, command.arguments)
    if ending is not None:
        raise UsageError(
            f"Version {ending} of {deployment!r} is being rolled out, and no loop lives that could end that."
            f" Start it first: clew up; or say which version is to be champion: --to N."
        )
    if command.verb == "threshold":
        return set_threshold(store, command, now).result
    is_move = command.verb in ("promote", "rollback")
    return (_move_champion if is_move else _move_status)(store, command, now)


def _move_champion(store: Store, command: Command, now: datetime) -> Json:
    deployment = command.deployment
    number, before = champion_moved_by(store, command) or version_to_promote(
        store, command.verb, deployment, command.arguments
    )
    evidence = {"command": command.id, "verb": command.verb}
    about = {"actor": command.actor, "reason": command.reason}
    with store.write() as tx:
        after = status_after(command.verb, deployment, status_of(tx, deployment))
        tx.update("checkpoints", {"deployment": deployment}, {"status": after})
        move_alias_within(
            tx, deployment, "champion", number, expected=before, evidence=evidence, now=now, **about
        )
        move_route(tx, Route(deployment, 0, number), now, **about)
    return moved_sentence(deployment, number, before)


def _move_status(store: Store, command: Command, now: datetime) -> Json:
    deployment, is_done = command.deployment, _recorded(store, command, command.verb) is not None
    with store.write() as tx:
        status = status_of(tx, deployment)
        if is_done:
            return {"sentence": f"{deployment} is {status}"}
        after = status_after(command.verb, deployment, status)
        tx.update("checkpoints", {"deployment": deployment}, {"status": after})
        if after == "retired":
            there = get_route(tx, deployment)
            retired = Route(deployment, 0, there.champion if there else None, stage="retired")
            move_route(tx, retired, now, actor=command.actor, reason=command.reason)
        _record(tx, command, now)
    return {"sentence": f"{deployment} is {after}"}


def _command(row: Mapping[str, Any]) -> Command:
    return Command(
        id=row["id"],
        deployment=row["deployment"],
        verb=row["verb"],
        arguments=row["arguments"] or {},
        actor=row["actor"],
        reason=row["reason"] or "",
        status=row["status"],
        asked_at=row["asked_at"],
        result=row["result"] or {},
        done_at=row["done_at"],
    )
