"""Who was forgotten: each erasure is a row that names nobody, and yet tells whether a value is the person's.

It keeps a salted hash of the person and of each of their keys. So an erasure that was broken off can be taken
up, rows that were erased stay out of later snapshots, a restored backup loses them again, and whoever knows
the person can check that they were forgotten. Who knows the salts, which lie in the database alone, can try
out names: the hashes hide the person from readers of the audit log and of its exports, not from the owner.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from clew.storage.conditions import Where

if TYPE_CHECKING:
    from clew.storage.rows import Reader, Row

Subject: TypeAlias = Literal["entity", "key"]
Stage: TypeAlias = Literal["begun", "snapshots", "log", "done"]
"""How far it came: what its name says is done."""

_HASH_DIGITS = 32
_LOOKS_LIKE_A_TIME = re.compile(r"\d{4}-\d\d-\d\d")


@dataclass(frozen=True, slots=True)
class Erasure:
    """Somebody to be forgotten, known by hashes.

    Attributes
    ----------
    subject, salt, fingerprint
        What was asked for: an entity, or a key; and its salted hash.
    datasets
        Whose snapshots lose the rows.
    deployments
        Whose log and loop lose them: by deployment its dataset.
    keys
        By dataset the hashes of the person's keys: labels and failures are known by these alone.
    """

    number: int
    subject: Subject
    salt: str
    fingerprint: str
    datasets: tuple[str, ...]
    deployments: Mapping[str, str]
    keys: Mapping[str, frozenset[str]]
    status: Stage
    actor: str
    reason: str
    at: datetime
    done_at: datetime | None = None
    _known: dict[str, str] = field(default_factory=dict, compare=False, repr=False)

    def hash_of(self, value: Any) -> str:
        """The salted hash of a value, the same whatever type it travels as."""
        text = text_of(value)
        if text not in self._known:
            self._known[text] = salted_hash(self.salt, text)
        return self._known[text]

    def is_entity(self, value: Any) -> bool:
        """Whether the value of an entity column is the person."""
        return self.subject == "entity" and value is not None and self.hash_of(value) == self.fingerprint

    def is_key(self, dataset: str, value: Any) -> bool:
        """Whether a key of this dataset is one of the person's."""
        return value is not None and self.hash_of(value) in self.keys.get(dataset, ())

    def sentence(self) -> str:
        """When it was, by whom and why, as the end of a sentence."""
        return f"was erased on {self.at:%Y-%m-%d %H:%M} UTC by {self.actor}: {self.reason}"


def salted_hash(salt: str, text: str) -> str:
    return hashlib.sha256(f"{salt}\0{text}".encode("utf-8", "surrogatepass")).hexdigest()[:_HASH_DIGITS]


def text_of(value: Any) -> str:
    """A value as a person would type it, the same for each way in which it is stored or sent.

    Examples
    --------
    >>> text_of(7), text_of(7.0), text_of("7"), text_of("2026-03-01T12:00:00+01:00")
    ('7', '7', '7', '2026-03-01T11:00:00+00:00')
    """
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    if isinstance(value, str) and _LOOKS_LIKE_A_TIME.match(value):
        try:
            value = datetime.fromisoformat(value) if len(value) > 10 else date.fromisoformat(value)
        except ValueError:
            return str(value)
    if isinstance(value, datetime):
        aware = value.replace(tzinfo=UTC) if value.tzinfo is None else value
        return aware.astimezone(UTC).isoformat()
    return value.isoformat() if isinstance(value, date) else str(value)


def read_erasures(reader: Reader, **where: Any) -> list[Erasure]:
    """Erasures in their order."""
    return [_erasure(row) for row in reader.find("erasures", where, ["number"])]


def erasure_of(reader: Reader, number: int) -> Erasure:
    """The erasure with this number."""
    [erasure] = read_erasures(reader, number=number)
    return erasure


def erasures_since(reader: Reader, number: int | None) -> list[Erasure]:
    """Those that came after this one; all of them when it is None."""
    return read_erasures(reader, number=Where(">", number or 0))


def erasures_of(reader: Reader, dataset: str) -> tuple[Erasure, ...]:
    """Those that keep rows out of a dataset's snapshots."""
    return tuple(each for each in read_erasures(reader) if dataset in each.datasets)


def progress_of(erasures: Iterable[Erasure]) -> list[tuple[int, Stage]]:
    """What is another when an erasure began or came further meanwhile."""
    return [(each.number, each.status) for each in erasures]


def mask(erasure: Erasure, columns: Sequence[tuple[Any, str | None]]) -> Any:
    """Which rows of a table are the person's.

    Parameters
    ----------
    columns
        Columns of Arrow with the dataset whose key they hold; None for one of entities.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    found = pa.chunked_array([pa.repeat(False, len(columns[0][0]))]) if columns else None
    for column, dataset in columns:
        values = column.unique()
        theirs = [
            place
            for place, value in enumerate(values.to_pylist())
            if (erasure.is_entity(value) if dataset is None else erasure.is_key(dataset, value))
        ]
        if theirs:
            found = pc.or_(found, pc.is_in(column, value_set=values.take(pa.array(theirs))))
    return found


def _erasure(row: Row) -> Erasure:
    return Erasure(
        number=row["number"],
        subject=row["subject"],
        salt=row["salt"],
        fingerprint=row["fingerprint"],
        datasets=tuple(row["datasets"] or ()),
        deployments=row["deployments"] or {},
        keys={name: frozenset(each) for name, each in (row["keys"] or {}).items()},
        status=row["status"],
        actor=row["actor"],
        reason=row["reason"],
        at=row["at"],
        done_at=row["done_at"],
    )
