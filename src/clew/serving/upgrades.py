"""After an upgrade of libraries: which Python answers for a version, so that its answers stay what they were.

A version whose libraries are installed here in other releases is asked for its recorded answers first. Where
they differ, or it cannot be loaded, it is served from the environment that it was made in, which is made
again for it. What came of it is recorded once for each version and set of releases.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from clew.entities import Version
from clew.errors import ClewError, PackageError
from clew.registry import fetch_package, record_audit
from clew.registry.package_checks import version_changes
from clew.registry.recorded_answers import read_recorded_answers
from clew.serving.answering import ModelFailed
from clew.serving.own_code import OwnCode, OwnCodeRows
from clew.tracking import fetch_code, get_environment, get_run, make_environment

if TYPE_CHECKING:
    from clew.storage import Reader, Store

log = logging.getLogger("clew.serving")

ACTION = "check after upgrade"
HERE, RECORDED = "here", "recorded"


@dataclass(frozen=True, slots=True)
class Check:
    """What a check found.

    Attributes
    ----------
    verdict
        ``here``: it answers as ever with what is installed; ``recorded``: it is served from its recorded
        environment.
    sentence
        What was found and what follows, for people.
    """

    verdict: str
    sentence: str
    at: datetime


def python_for(
    store: Store, version: Version, folder: Path, code: Path, project_root: Path, now: datetime
) -> Path | None:
    """The interpreter that answers for a version; None for the present one.

    Parameters
    ----------
    folder, code
        The version's package and captured code, laid out.

    Raises
    ------
    PackageError
        When it answers otherwise with what is installed here, and its environment cannot be made.
    """
    changes = version_changes(folder)
    if not changes:
        return None
    own = OwnCode(folder, version.package, code, project_root)
    identity = _identity(version, changes)
    check = get_check(store, identity)
    if check is None:
        check = _check(store, own, version, changes, now)
        _record(store, identity, version, changes, check)
    return None if check.verdict == HERE else _recorded_python(store, version)


def check_champion(store: Store, version: Version, project_root: Path, now: datetime) -> Check | None:
    """What is found about a version, checked now if it was not before; None when its libraries are as ever.

    Raises
    ------
    PackageError
        As `python_for` does.
    """
    with store.scratch("check") as scratch:
        folder, code = scratch / "package", scratch / "code"
        fetch_package(store, version.package, folder)
        if not version_changes(folder):
            return None
        run = get_run(store, version.run)
        if run.code:
            fetch_code(store, run.code, code)
        else:
            code.mkdir()
        python_for(store, version, folder, code, project_root, now)
    with store.read() as reader:
        return newest_check(reader, version.deployment, version.number)


def _identity(version: Version, changes: Mapping[str, tuple[str, str | None]]) -> str:
    facts = [version.name, version.package, sorted(changes.items())]
    return hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:32]


def get_check(store: Store, identity: str) -> Check | None:
    """What was found before; None for nothing."""
    with store.read() as reader:
        row = reader.get("upgrade_checks", id=identity)
    return None if row is None else Check(row["verdict"], row["sentence"], row["checked_at"])


def newest_check(reader: Reader, deployment: str, number: int | None) -> Check | None:
    """What was found last about a version; None when it never had to be checked."""
    where = {"deployment": deployment, "version": number}
    rows = [] if number is None else reader.find("upgrade_checks", where, ["-checked_at"], limit=1)
    return Check(rows[0]["verdict"], rows[0]["sentence"], rows[0]["checked_at"]) if rows else None


def _check(
    store: Store,
    own: OwnCode,
    version: Version,
    changes: Mapping[str, tuple[str, str | None]],
    now: datetime,
) -> Check:
    told = ", ".join(f"{name} {then} then, {here or 'none'} now" for name, (then, here) in changes.items())
    wrong = _difference(own)
    if wrong is None:
        return Check(HERE, f"{version.name} answers as it did ({told})", now)
    try:
        python = _recorded_python(store, version)
    except ClewError as error:
        raise PackageError(
            f"{version.name} is not served: with what is installed here {wrong} ({told}), and its own"
            f" environment cannot be made: {error} Install the recorded releases, or train it again."
        ) from None
    there = _difference(OwnCode(own.package, own.digest, own.code, own.project_root, python))
    if there is not None:
        raise PackageError(
            f"{version.name} is not served: with what is installed here {wrong} ({told}), and in its recorded"
            f" environment, made again, {there}. Train it again: clew retrain {version.deployment}"
        )
    sentence = (
        f"{version.name} is served from its recorded environment: with what is installed {wrong} ({told})"
    )
    return Check(RECORDED, sentence, now)


def _difference(own: OwnCode) -> str | None:
    """What is wrong with a version in the process of `own`, as a part of a sentence; None for nothing."""
    recorded = read_recorded_answers(own.package)
    try:
        with closing(OwnCodeRows(own)) as model:
            if recorded is None:
                return None  # it loads; a package of an earlier release says no more
            return recorded.difference(lambda rows: model.answer([model.encode(row)[0] for row in rows]))
    # Another release may fail in any way, also with another class of error than its own.
    except (ClewError, ModelFailed) as error:
        return f"it cannot be asked: {str(error).rstrip('.')}"


def _recorded_python(store: Store, version: Version) -> Path:
    run = get_run(store, version.run)
    return make_environment(store.folder / "environments", get_environment(store, run.environment))


def _record(
    store: Store,
    identity: str,
    version: Version,
    changes: Mapping[str, tuple[str, str | None]],
    check: Check,
) -> None:
    row: dict[str, Any] = {
        "id": identity,
        "deployment": version.deployment,
        "version": version.number,
        "verdict": check.verdict,
        "sentence": check.sentence,
        "checked_at": check.at,
    }
    evidence = {"version": version.number, "releases": {name: list(pair) for name, pair in changes.items()}}
    with store.write() as tx:
        # Several workers may have checked it at once; they found the same.
        if tx.insert_if_absent("upgrade_checks", row):
            record_audit(
                tx, now=check.at, actor="serving", action=ACTION, subject=version.deployment,
                reason=check.sentence, evidence=evidence | {"verdict": check.verdict},
            )  # fmt: skip
            log.warning("a version was checked after an upgrade", extra={"said": check.sentence})
