"""What people say of runs afterwards: tags to find them by, notes to read. Each change is an audit row."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from clew.entities import Json
from clew.errors import NotFound, UsageError, did_you_mean
from clew.storage import Store, Transaction
from clew.storage.chain import append_to_chain
from clew.storage.run_values import value_rows

LONGEST_TAG = 250
LONGEST_TAG_VALUE = 500
LONGEST_NOTE = 100_000


@dataclass(frozen=True, slots=True)
class Note:
    """A text about a run; `number` counts those of the run from 1."""

    number: int
    text: str
    actor: str
    at: datetime


def tag_run(
    store: Store, run_id: str, tags: Mapping[str, str], *, now: datetime, actor: str, reason: str = ""
) -> None:
    """Set tags of a run; a tag that is there gets the new value.

    Raises
    ------
    UsageError
        When a name or value is empty or too long.
    """
    for name, value in tags.items():
        _check(f"The tag {name!r}", name, LONGEST_TAG)
        _check(f"The value of the tag {name!r}", value, LONGEST_TAG_VALUE)
    with store.write() as tx:
        before = _tags(tx, run_id)
        changed = {name: value for name, value in tags.items() if before.get(name) != value}
        for row in value_rows(run_id, "tag", changed):
            tx.delete("run_values", {"run": run_id, "kind": "tag", "name": row["name"]})
            tx.insert("run_values", row)
        if changed:
            known = {name: before[name] for name in changed if name in before}
            _audit(tx, run_id, "tag run", {"tags": changed, "before": known}, now, actor, reason)


def untag_run(
    store: Store, run_id: str, names: Sequence[str], *, now: datetime, actor: str, reason: str = ""
) -> None:
    """Take tags away from a run.

    Raises
    ------
    NotFound
        When it has no such tag, naming those it has.
    """
    with store.write() as tx:
        before = _tags(tx, run_id)
        for name in names:
            if name not in before:
                there = did_you_mean(name, before) if before else "It has none."
                raise NotFound(f"Run {run_id[:12]} has no tag {name!r}. {there}")
            tx.delete("run_values", {"run": run_id, "kind": "tag", "name": name})
        evidence = {"before": {name: before[name] for name in names}}
        _audit(tx, run_id, "untag run", evidence, now, actor, reason)


def note_run(store: Store, run_id: str, text: str, *, now: datetime, actor: str) -> Note:
    """Add a note to a run.

    Raises
    ------
    UsageError
        When it is empty or longer than 100,000 characters.
    """
    _check("The note", text.strip(), LONGEST_NOTE)
    with store.write() as tx:
        newest = tx.find("run_notes", {"run": run_id}, ["-number"], limit=1)
        number = newest[0]["number"] + 1 if newest else 1
        note = Note(number, text.strip(), actor, now)
        row = {"run": run_id, "number": number, "text": note.text, "actor": actor, "at": now}
        tx.insert("run_notes", row)
        _audit(tx, run_id, "note run", {"note": number, "text": note.text[:LONGEST_TAG_VALUE]}, now, actor)
    return note


def remove_note(store: Store, run_id: str, number: int, *, now: datetime, actor: str) -> None:
    """Take a note away from a run.

    Raises
    ------
    NotFound
        When it has no such note, naming those it has.
    """
    with store.write() as tx:
        there = {row["number"]: row["text"] for row in tx.find("run_notes", {"run": run_id})}
        if number not in there:
            known = ", ".join(map(str, there)) or "none"
            raise NotFound(f"Run {run_id[:12]} has no note {number}; it has: {known}.")
        tx.delete("run_notes", {"run": run_id, "number": number})
        evidence = {"note": number, "text": there[number][:LONGEST_TAG_VALUE]}
        _audit(tx, run_id, "remove note", evidence, now, actor)


def read_tags(store: Store, run_id: str) -> dict[str, str]:
    """Tags of a run by name."""
    with store.read() as reader:
        rows = reader.find("run_values", {"run": run_id, "kind": "tag"})
    return {row["name"]: row["text"] for row in rows}


def tags_of_runs(store: Store, run_ids: Sequence[str]) -> dict[str, dict[str, str]]:
    """Tags by run, of those that have any."""
    found: dict[str, dict[str, str]] = {}
    with store.read() as reader:
        for row in reader.find("run_values", {"run": list(run_ids), "kind": "tag"}):
            found.setdefault(row["run"], {})[row["name"]] = row["text"]
    return found


def read_notes(store: Store, run_id: str) -> list[Note]:
    """Notes of a run, the oldest first."""
    with store.read() as reader:
        rows = reader.find("run_notes", {"run": run_id}, ["number"])
    return [Note(row["number"], row["text"], row["actor"], row["at"]) for row in rows]


def _tags(tx: Transaction, run_id: str) -> dict[str, str]:
    return {row["name"]: row["text"] for row in tx.find("run_values", {"run": run_id, "kind": "tag"})}


def _check(what: str, text: str, longest: int) -> None:
    if not text:
        raise UsageError(f"{what} is empty.")
    if len(text) > longest:
        more = " What is longer fits into a note: clew runs note" if longest == LONGEST_TAG_VALUE else ""
        raise UsageError(f"{what} has {len(text):,} characters; the longest has {longest:,}.{more}")


def _audit(
    tx: Transaction, run_id: str, action: str, evidence: Json, now: datetime, actor: str, reason: str = ""
) -> None:
    told = {"actor": actor, "action": action, "subject": f"run {run_id}", "reason": reason}
    append_to_chain(tx, {"at": now, **told, "evidence": evidence})
