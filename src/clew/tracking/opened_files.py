"""Files that a training read outside of its code: nobody keeps them, so their hash says what they were."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from clew.storage import Store, Transaction, link


@dataclass(frozen=True, slots=True)
class OpenedFile:
    """A file as it was after the training; `sha256` is None when it was gone or too large to be read."""

    path: str
    sha256: str | None

    @property
    def identity(self) -> str:
        """What the thread calls it: another content is another file."""
        return f"{self.sha256 or UNKNOWN} {self.path}"


UNKNOWN = "unknown"


def link_opened(tx: Transaction, run_id: str, files: Iterable[OpenedFile]) -> None:
    """Record what a run read, in the transaction that closes it."""
    for file in files:
        link(tx, "run", run_id, "read", "file", file.identity)


def opened_files(store: Store, run_id: str) -> tuple[OpenedFile, ...]:
    """What a run read outside of its captured code, by path."""
    where = {"from_kind": "run", "from_id": run_id, "relation": "read", "to_kind": "file"}
    with store.read() as reader:
        found = [opened_file(row["to_id"]) for row in reader.find("edges", where)]
    return tuple(sorted(found, key=lambda file: file.path))


def opened_file(identity: str) -> OpenedFile:
    """The file that an identity in the thread names.

    Examples
    --------
    >>> opened_file("unknown /data/rates of July.csv")
    OpenedFile(path='/data/rates of July.csv', sha256=None)
    """
    digest, _, path = identity.partition(" ")
    return OpenedFile(path, None if digest == UNKNOWN else digest)
