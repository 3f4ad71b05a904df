"""Whether the audit log is what was written: which rows were changed, removed, put in or moved."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, fields
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import msgspec

from clew.entities import AuditEntry
from clew.registry.audit import entries_in_order
from clew.storage.chain import NOTHING_BEFORE, Head, hash_of, read_head

if TYPE_CHECKING:
    from clew.storage import Reader, Store

FaultKind: TypeAlias = Literal["changed", "missing", "put in", "moved", "checkpoint"]

_MOST_COMPARED = 200
"""Changed rows among which one is looked for in another's place: the work grows with their square."""


@dataclass(frozen=True, slots=True)
class ChainFault:
    """A row that is not what was written. `sequence` is its number, 0 where that is not known."""

    sequence: int
    kind: FaultKind
    sentence: str


@dataclass(frozen=True, slots=True)
class ChainCheck:
    """What a check of the whole log found.

    Attributes
    ----------
    head
        The newest row's hash: written down elsewhere, it proves later that nothing up to it was changed.
    checkpoint
        The number of the row with the hash that was asked about; None without one, or when no row has it.
    """

    n_rows: int
    newest: int
    head: str
    checkpoint: int | None
    faults: tuple[ChainFault, ...]


def verify_audit(store: Store, checkpoint: str | None = None) -> ChainCheck:
    """Check every row of the log, and whether the chain holds a hash that was written down elsewhere."""
    with store.read() as reader:
        return check_chain(_all_entries(reader), read_head(reader), checkpoint)


def _all_entries(reader: Reader) -> Iterator[AuditEntry]:
    """All entries in order; one whose columns cannot even be read stands there empty, under its number."""
    first, n_at_once = 1, 1000
    while True:
        try:
            for entry in entries_in_order(reader, first, n_at_once):
                yield entry
                first = entry.sequence + 1
        except (ValueError, msgspec.DecodeError):
            if n_at_once == 1:
                while not reader.count("audit", {"sequence": first}):
                    first += 1
                yield AuditEntry(first, datetime.min.replace(tzinfo=UTC), "", "", "", "")
                first += 1
            n_at_once = 1  # so that only the rows that cannot be read are left out
        else:
            return


def check_chain(entries: Iterable[AuditEntry], head: Head, checkpoint: str | None = None) -> ChainCheck:
    """Check entries in the order of their numbers against their own hashes, each other and the chain's end.

    Parameters
    ----------
    head
        The newest row, by what was kept of that elsewhere in the store.
    checkpoint
        A hash that one of the rows must have.
    """
    walk = _Walk(head)
    found: int | None = None
    for entry in entries:
        walk.step(entry)
        found = entry.sequence if entry.hash == checkpoint else found
    walk.end()
    faults = walk.told()
    if checkpoint is not None and found is None:
        sentence = (
            f"no row has the hash {checkpoint[:12]}…: the log was written anew since that was written down,"
            " or it is of another store"
        )
        faults = (ChainFault(0, "checkpoint", sentence), *faults)
    return ChainCheck(walk.n_rows, walk.last, walk.hash, found, faults)


class _Walk:
    """Along the chain: the row before, and what was wrong so far."""

    def __init__(self, head: Head) -> None:
        self.n_rows, self.last, self.hash = 0, 0, NOTHING_BEFORE
        self._head = head
        self._changed: dict[int, AuditEntry] = {}
        self._faults: list[ChainFault] = []

    def step(self, entry: AuditEntry) -> None:
        is_own = hash_of(_row(entry)) == entry.hash
        if entry.sequence > self._head.sequence:
            sentence = "stands behind the newest one that was written: it was put in"
            self._faults.append(ChainFault(entry.sequence, "put in", sentence))
        elif not is_own:
            self._changed[entry.sequence] = entry
        if entry.before != self.hash:
            self._broken(entry)
        self.n_rows, self.last, self.hash = self.n_rows + 1, entry.sequence, entry.hash

    def end(self) -> None:
        if self.last < self._head.sequence:
            self._missing(self.last + 1, self._head.sequence)
        elif self.last == self._head.sequence and self.hash != self._head.hash:
            self._replaced(self.last)

    def told(self) -> tuple[ChainFault, ...]:
        moved = dict(_moved(list(self._changed.values())[:_MOST_COMPARED]))
        for sequence in self._changed:
            if sequence in moved:
                fault = ChainFault(sequence, "moved", f"is the one that was written as row {moved[sequence]}")
            else:
                fault = ChainFault(sequence, "changed", "was changed: its content has another hash")
            self._faults.append(fault)
        return tuple(sorted(self._faults, key=lambda fault: fault.sequence))

    def _broken(self, entry: AuditEntry) -> None:
        """A row that was written behind another one than stands before it."""
        if entry.sequence > self.last + 1:
            self._missing(self.last + 1, entry.sequence - 1)
        elif entry.sequence not in self._changed and self.last > 0:
            self._replaced(self.last)

    def _missing(self, first: int, last: int) -> None:
        which = "is missing" if first == last else f"and all up to row {last} are missing"
        self._faults.append(ChainFault(first, "missing", which))

    def _replaced(self, sequence: int) -> None:
        known = {fault.sequence for fault in self._faults} | self._changed.keys()
        if sequence not in known:
            sentence = "was changed and given a new hash: the chain goes on from another one"
            self._faults.append(ChainFault(sequence, "changed", sentence))


def _moved(changed: list[AuditEntry]) -> Iterator[tuple[int, int]]:
    """Rows that are whole but for their number, with the number that they were written with."""
    for entry in changed:
        row = _row(entry)
        for other in changed:
            if hash_of(row | {"sequence": other.sequence}) == entry.hash:
                yield entry.sequence, other.sequence


def _row(entry: AuditEntry) -> dict[str, Any]:
    return {field.name: getattr(entry, field.name) for field in fields(entry)}
