"""Runs as people name them: by a version that they made, or by the beginning of their id."""

from __future__ import annotations

from dataclasses import dataclass

from clew.entities import Run, Version
from clew.loop.trace import newest_version, version_name
from clew.registry import get_version
from clew.storage import Store
from clew.tracking import get_run


@dataclass(frozen=True, slots=True)
class Original:
    """A run, and the version that it made; None when it made none."""

    run: Run
    version: Version | None

    @property
    def name(self) -> str:
        """What to call it: the version, or the first letters of the run's id."""
        return self.version.name if self.version else f"run {self.run.id[:12]}"


def original_of(store: Store, reference: str) -> Original:
    """The run that ``busy_hour@7``, ``busy_hour`` (its newest version) or the beginning of an id names.

    Raises
    ------
    NotFound
        When there is none, or several; the message names what exists.
    """
    with store.read() as reader:
        named = version_name(reader, reference) if "@" in reference else newest_version(reader, reference)
    if named is not None:
        version = _version(store, named)
        return Original(get_run(store, version.run), version)
    run = get_run(store, reference)
    with store.read() as reader:
        made = reader.find("versions", {"run": run.id}, ["deployment"], limit=1)
    return Original(run, _version(store, f"{made[0]['deployment']}@{made[0]['number']}") if made else None)


def _version(store: Store, name: str) -> Version:
    deployment, _, number = name.rpartition("@")
    return get_version(store, deployment, int(number))
