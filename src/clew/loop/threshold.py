"""Changing a decision threshold: what a person's command does, with or without a loop that lives."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

import msgspec

from clew.entities import Json, ModelDeclaration, checked_threshold
from clew.errors import UsageError
from clew.registry import aliases, fetch_package, get_version
from clew.registry.package_checks import read_own
from clew.registry.thresholds import Cut, change_threshold, cut_of, get_threshold
from clew.storage import Store

if TYPE_CHECKING:
    from clew.loop.commands import Command


@dataclass(frozen=True, slots=True)
class Changed:
    """What came of it, and the generation from which on workers answer by it."""

    result: Json
    generation: int


def cut_in_force(store: Store, declaration: ModelDeclaration) -> Cut | None:
    """The threshold that a deployment answers by."""
    with store.read() as reader:
        return cut_of(declaration, get_threshold(reader, declaration.name))


def threshold_wanted(store: Store, deployment: str, arguments: Mapping[str, Any]) -> Cut | None:
    """The cut that a command asks for; None for the most probable class.

    Raises
    ------
    UsageError
        When it is no threshold, is in force already, or the model does not tell two classes apart.
    """
    wanted = arguments.get("threshold")
    threshold = None if wanted is None else checked_threshold(wanted)
    with store.read() as reader:
        before = get_threshold(reader, deployment)
        declared = (reader.get("deployments", name=deployment) or {}).get("declaration") or {}
    if threshold == before:
        raise UsageError(f"{_named(deployment, before)} already.")
    if threshold is None:
        return None
    if not declared:
        raise UsageError(f"Nothing is known of what {deployment!r} answers: no code declares it.")
    declaration = msgspec.convert(declared, ModelDeclaration)
    if declaration.task == "regression":
        raise UsageError(f"{deployment!r} answers numbers; a threshold decides between two classes.")
    cut = Cut(threshold, declaration.positive)
    champion = aliases(store, deployment).get("champion")
    if champion is not None:
        cut.places(_classes(store, deployment, champion))
    return cut


def set_threshold(
    store: Store, command: Command, now: datetime, refuse: Callable[[Cut], None] = lambda _: None
) -> Changed:
    """Put the threshold of a command in force; done once, however often the command is taken up.

    Parameters
    ----------
    refuse
        Raises where the champion's answers cannot be decided by it.

    Raises
    ------
    UsageError
        As `threshold_wanted` does.
    """
    deployment = command.deployment
    done = _done_by(store, command)
    if done is None:
        cut = threshold_wanted(store, deployment, command.arguments)
        if cut is not None:
            refuse(cut)
        with store.write() as tx:
            before = get_threshold(tx, deployment)
            threshold = None if cut is None else cut.threshold
            generation = change_threshold(
                tx, deployment, threshold, now, actor=command.actor, reason=command.reason,
                evidence={"command": command.id},
            )  # fmt: skip
        done = {"from": before, "to": threshold, "generation": generation}
    sentence = f"{_named(deployment, done['to'])} now"
    result = {"sentence": sentence, "threshold": done["to"], "before": done["from"]}
    return Changed(result, int(done["generation"]))


def threshold_set_by(store: Store, command: Command) -> bool:
    """Whether a command did its work before it broke off."""
    return _done_by(store, command) is not None


def would(store: Store, deployment: str, arguments: Mapping[str, Any]) -> str:
    """What such a command would do, in a sentence without its full stop."""
    cut = threshold_wanted(store, deployment, arguments)
    return f"{_named(deployment, None if cut is None else cut.threshold)}, from the next answer on"


def _named(deployment: str, threshold: float | None) -> str:
    if threshold is None:
        return f"{deployment} answers the most probable class"
    return f"{deployment} answers its positive class from a probability of {threshold:g} on"


def _done_by(store: Store, command: Command) -> Json | None:
    about = {"subject": command.deployment, "action": "change threshold"}
    with store.read() as reader:
        newest = reader.find("audit", about, ["-sequence"], limit=1)
    evidence: Json = newest[0]["evidence"] if newest else {}
    return evidence if evidence.get("command") == command.id else None


def _classes(store: Store, deployment: str, number: int) -> list[Any] | None:
    package = get_version(store, deployment, number).package
    with store.scratch("threshold") as folder:
        fetch_package(store, package, folder / "package")
        classes: list[Any] | None = read_own(folder / "package")["signature"]["classes"]
    return classes
