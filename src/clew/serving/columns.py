"""What a request may hold besides features: key, time, entity, label, as the dataset declares them."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple, TypeAlias

from clew.entities import Column, DatasetDeclaration
from clew.serving.event_times import WrongTime, is_ahead, microseconds_of, moment_of
from clew.serving.refusals import wrong_row
from clew.serving.rows import Row
from clew.storage.records import Value

Kind: TypeAlias = Literal["text", "whole number", "number", "true or false", "anything"]
_TAKES: dict[Kind, tuple[type, ...]] = {
    "text": (str,),
    "whole number": (int,),
    "number": (int, float),
    "true or false": (bool,),
    "anything": (str, int, float, bool),
}


_HELD: dict[Kind, str] = {
    "text": "text",
    "whole number": "whole numbers",
    "number": "numbers",
    "true or false": "true and false",
    "anything": "plain values",
}
MOST_NAMED = 12
"""Fields that a message lists."""


class Subject(NamedTuple):
    """What a row is about: times in microseconds since 1970, UTC."""

    key: Value
    entity: Value
    event_time: int


@dataclass(frozen=True, slots=True)
class Columns:
    """The dataset's own columns and how their values are written in JSON.

    Attributes
    ----------
    zone
        Where the clocks stand by which times without an offset are written.
    others
        All other columns of the dataset in its order: features, and those kept for slices.
    """

    key: str
    time: str
    label: str
    entity: str | None
    zone: str
    key_kind: Kind
    label_kind: Kind
    others: tuple[str, ...]

    @classmethod
    def of(cls, declaration: DatasetDeclaration, schema: Sequence[Column]) -> Columns:
        """The columns of a dataset; without a schema values of any kind are taken."""
        kinds = {column.name: _kind_of(column.type) for column in schema}
        own = {declaration.key, declaration.time, declaration.label, declaration.entity}
        return cls(
            key=declaration.key,
            time=declaration.time,
            label=declaration.label,
            entity=declaration.entity,
            zone=declaration.timezone,
            key_kind=kinds.get(declaration.key, "anything"),
            label_kind=kinds.get(declaration.label, "anything"),
            others=tuple(column.name for column in schema if column.name not in own),
        )

    def subject(self, row: Row, number: int, now: int, *, is_list: bool) -> Subject:
        """What a row is about.

        Raises
        ------
        Refused
            422 naming row and field: a missing key or entity, a key of another kind, a time that is none
            or too far ahead of `now`.
        """
        key = row.get(self.key)
        if key is None:
            raise self._missing(self.key, row, number, is_list)
        if not is_of_kind(key, self.key_kind):
            raise wrong_kind(self.key, key, self.key_kind, number, is_list)
        if key == "":
            raise empty_key(self.key, number, is_list)
        key = self.own_key(key)
        entity: Value = None
        if self.entity is not None:
            if self.entity not in row:
                raise self._missing(self.entity, row, number, is_list)
            entity = row[self.entity]
        given = row.get(self.time)
        event_time = now if given is None else self._event_time(given, number, now, is_list)
        return Subject(key, entity, event_time)

    def own_key(self, key: Value) -> Value:
        """The key as the dataset's column has it: some programs write every number as 7.0."""
        return int(key) if isinstance(key, float) and self.key_kind == "whole number" else key

    def _event_time(self, given: Value, number: int, now: int, is_list: bool) -> int:
        try:
            event_time = microseconds_of(given, self.zone)
        except WrongTime as error:
            message = f"{_where(number, is_list)}{self.time!r} is {given!r}, which {error}."
            raise wrong_row("WRONG_TIME", message, row=number, field=self.time, is_list=is_list) from None
        if is_ahead(event_time, now):
            message = (
                f"{_where(number, is_list)}{self.time!r} is {given!r}, more than 5 minutes ahead of the"
                f" clock, which stands at {moment_of(now).isoformat()}. A time without an offset is one of"
                f" {self.zone}; that is {moment_of(event_time).isoformat()}."
            )
            raise wrong_row("WRONG_TIME", message, row=number, field=self.time, is_list=is_list)
        return event_time

    def _missing(self, name: str, row: Row, number: int, is_list: bool) -> Exception:
        is_null = name in row
        what = "null" if is_null else "missing"
        hint = "" if is_null else f" {self._instead_of(name, row)}"
        purpose = "names what is predicted" if name == self.key else "names whom it belongs to"
        message = f"{_where(number, is_list)}{name!r} is {what}, which {purpose}.{hint}"
        return wrong_row("MISSING_FIELD", message, row=number, field=name, is_list=is_list)

    def _instead_of(self, name: str, row: Row) -> str:
        """A field that may be a misspelling of this one, or else what a row may hold."""
        known = [each for each in (self.key, self.entity, self.time, *self.others) if each is not None]
        near = difflib.get_close_matches(name, [each for each in row if each not in known], n=1)
        if near:
            return f"Is it meant by {near[0]!r}?"
        more = "" if len(known) <= MOST_NAMED else f" and {len(known) - MOST_NAMED} more"
        return f"A row holds: {', '.join(known[:MOST_NAMED])}{more}."


def empty_key(name: str, number: int, is_list: bool) -> Exception:
    message = f"{_where(number, is_list)}{name!r} is an empty text, which names nothing."
    return wrong_row("WRONG_VALUE", message, row=number, field=name, is_list=is_list)


def is_of_kind(value: Value, kind: Kind) -> bool:
    """Whether JSON writes a value of this kind so; true and false are no numbers.

    Examples
    --------
    >>> is_of_kind(3, "number"), is_of_kind(True, "number"), is_of_kind("3", "whole number")
    (True, False, False)
    >>> is_of_kind(3.0, "whole number")
    True
    """
    if isinstance(value, bool):
        return bool in _TAKES[kind]
    if kind == "whole number" and isinstance(value, float):
        return value.is_integer()
    return isinstance(value, _TAKES[kind])


def wrong_kind(name: str, value: Value, kind: Kind, number: int, is_list: bool) -> Exception:
    message = f"{_where(number, is_list)}{name!r} is {value!r}, but the dataset's column holds {_HELD[kind]}."
    return wrong_row("WRONG_TYPE", message, row=number, field=name, is_list=is_list)


def _where(number: int, is_list: bool) -> str:
    return f"Row {number}: " if is_list else ""


def _kind_of(arrow_type: str) -> Kind:
    if arrow_type.startswith(("int", "uint")):
        return "whole number"
    if arrow_type in ("float", "double", "halffloat"):
        return "number"
    if arrow_type == "bool":
        return "true or false"
    # Times and dates too: JSON has no other way to write them.
    return "text"
