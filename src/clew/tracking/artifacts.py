"""Files that a training made: each an object of the store, under its name in the run."""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path, PurePosixPath
from typing import Any

from clew.errors import NotFound, UsageError, did_you_mean
from clew.storage import Store

LONGEST_NAME = 250
_RESERVED = set('<>:"|?*\\')


@dataclass(frozen=True, slots=True)
class Artifact:
    """A file of a run; `digest` is the SHA-256 of its bytes."""

    name: str
    digest: str
    n_bytes: int
    at: datetime


def checked_artifact_name(name: Any) -> str:
    """The name itself, if a file can have it below a folder on any system.

    Raises
    ------
    UsageError
        When it is no text, empty or too long, reaches outside the folder, or has letters that some file
        systems refuse.

    Examples
    --------
    >>> checked_artifact_name("plots/confusion.png")
    'plots/confusion.png'
    """
    text = name if isinstance(name, str) else ""
    parts = PurePosixPath(text).parts
    wrong = (
        "is no text" if not isinstance(name, str)
        else "is empty" if not parts
        else f"has more than {LONGEST_NAME} letters" if len(text.encode(errors="replace")) > LONGEST_NAME
        else "lies outside of the run" if text.startswith("/") or ".." in parts
        else "has letters that not every system takes in a file's name"
        if not text.isprintable() or _RESERVED & set(text)
        else "is written in another way than this" if "/".join(parts) != text
        else ""
    )  # fmt: skip
    if wrong:
        raise UsageError(f"An artifact cannot be named {name!r}: it {wrong}. Write: plots/confusion.png")
    return text


def keep_artifacts(
    store: Store, run_id: str, files: Mapping[str, Path | bytes], *, now: datetime
) -> list[Artifact]:
    """Keep files with a run: their bytes first, then in one step their names.

    What is kept under a name already makes way.
    """
    kept: list[Artifact] = []
    if not files:
        return kept
    for name, content in files.items():
        put = store.objects.put if isinstance(content, bytes) else store.objects.put_file
        n_bytes = len(content) if isinstance(content, bytes) else content.stat().st_size
        kept.append(Artifact(checked_artifact_name(name), put(content), n_bytes, now))  # type: ignore[arg-type]
    with store.write() as tx:
        for each in kept:
            tx.delete("run_artifacts", {"run": run_id, "name": each.name})
            row = {"run": run_id, "name": each.name, "digest": each.digest, "n_bytes": each.n_bytes}
            tx.insert("run_artifacts", {**row, "at": now})
    return kept


def list_artifacts(store: Store, run_id: str) -> list[Artifact]:
    """Files of a run, by name."""
    with store.read() as reader:
        rows = reader.find("run_artifacts", {"run": run_id}, ["name"])
    return [Artifact(row["name"], row["digest"], row["n_bytes"], row["at"]) for row in rows]


def read_artifact(store: Store, run_id: str, name: str) -> bytes:
    """The bytes of one file, verified.

    Raises
    ------
    NotFound
        When the run has none of this name, naming those it has.
    """
    there = {each.name: each for each in list_artifacts(store, run_id)}
    if name not in there:
        hint = did_you_mean(name, there) if there else "It has none."
        raise NotFound(f"Run {run_id[:12]} has no artifact {name!r}. {hint}")
    return store.objects.get(there[name].digest)


def write_artifacts(store: Store, run_id: str, folder: Path) -> list[Artifact]:
    """Write all files of a run below `folder`, every byte verified. Those that lie there already stay.

    Raises
    ------
    UsageError
        When a file of the name with other bytes lies there, before any is written.
    """
    artifacts = list_artifacts(store, run_id)
    places = {folder / checked_artifact_name(each.name): each for each in artifacts}
    new = {place: each for place, each in places.items() if not _is_there(place, each)}
    for place, each in new.items():
        place.parent.mkdir(parents=True, exist_ok=True)
        # Beside its place and then moved there: whoever sees the file sees all of it.
        unfinished = place.with_name(f".{place.name[:80]}.{secrets.token_hex(4)}")
        try:
            unfinished.write_bytes(store.objects.get(each.digest))
            unfinished.replace(place)
        finally:
            unfinished.unlink(missing_ok=True)
    return artifacts


def _is_there(place: Path, artifact: Artifact) -> bool:
    if not place.exists():
        return False
    if place.is_file():
        with place.open("rb") as file:
            if hashlib.file_digest(file, "sha256").hexdigest() == artifact.digest:
                return True
    raise UsageError(f"{place} is there and holds something else than the artifact. Name another folder.")
