"""Champions after an upgrade of libraries: what was found is told, once, as a decision of the loop."""

from __future__ import annotations

from datetime import datetime

from clew.entities import Decision
from clew.errors import PackageError
from clew.loop.live.surroundings import Surroundings
from clew.loop.recording import newest_decision, store_decision
from clew.loop.result import Event
from clew.registry import aliases, get_version
from clew.serving.upgrades import RECORDED, check_champion


def check_after_upgrade(around: Surroundings, deployment: str, now: datetime) -> None:
    """Ask the champion for its recorded answers where its libraries are others now, and tell what follows."""
    number = aliases(around.store, deployment).get("champion")
    if number is None:
        return
    version = get_version(around.store, deployment, number)
    try:
        check = check_champion(around.store, version, around.settings.root, now)
    except PackageError as error:
        _tell_once(around, deployment, Decision("cannot be served", now, str(error)))
        return
    if check is not None and check.verdict == RECORDED:
        _tell_once(around, deployment, Decision("another environment", now, check.sentence))


def _tell_once(around: Surroundings, deployment: str, decision: Decision) -> None:
    same = {"deployment": deployment, "kind": decision.kind, "sentence": decision.sentence}
    with around.store.read() as reader:
        is_told = bool(reader.find("decisions", same, limit=1))
        newest = newest_decision(reader, deployment)
    if is_told:
        return
    number = 1 + (newest["sequence"] if newest else 0)
    store_decision(around.store, around.settings.notifications, deployment, number, decision)
    around.on_event(deployment, Event(decision.at, decision.kind, decision.sentence))
