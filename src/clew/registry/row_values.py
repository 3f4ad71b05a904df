"""One value of a JSON row as a feature column reads it, without Arrow.

The rules are those of :meth:`clew.registry.features.FeatureColumn.read`, value by value: what that reads,
this reads as the same value, and what that refuses, this refuses. One rule is stricter: a number that is
not finite is refused, because JSON has none, and a number that its type rounds to infinity is not taken
for one; what is not known is null.
"""

from __future__ import annotations

import difflib
import math
import struct
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from operator import itemgetter
from typing import Any, TypeAlias

from clew.entities import Json
from clew.errors import DataError

Reader: TypeAlias = Callable[[Any], Any]
"""A given value, never None, as the column's own; raises DataError when it has no such value."""

_BITS = {f"{sign}int{bits}": (sign, bits) for sign in ("", "u") for bits in (8, 16, 32, 64)}
# Whole numbers beyond these are not all there in the type, so that Arrow refuses every one of them.
_MOST_WHOLE = {"double": 2**53, "float": 2**24, "halffloat": 2**63}
_NARROW = {"float": struct.Struct("<f"), "halffloat": struct.Struct("<e")}
_LONGEST_SHOWN = 60
_KINDS = {bool: "true or false", int: "a whole number", float: "a number", str: "a string", list: "a list"}


@dataclass(frozen=True, slots=True)
class RowColumn:
    """A feature as it was in training; see :class:`clew.registry.features.FeatureColumn`.

    Examples
    --------
    >>> hour = RowColumn("hour", "int64")
    >>> hour.reader()(3.0)
    3
    >>> hour.reader()("3")
    Traceback (most recent call last):
        ...
    clew.errors.DataError: Field 'hour' was int64 in training, but now has '3' (a string). ...
    >>> RowColumn("city", "string", ("Bonn", "Ulm")).codes()
    {'Bonn': 0, 'Ulm': 1}
    """

    name: str
    type: str
    levels: tuple[Any, ...] | None = None

    @classmethod
    def from_json(cls, given: Json) -> RowColumn:
        levels = given["levels"]
        return cls(given["name"], given["type"], None if levels is None else tuple(levels))

    @property
    def is_time(self) -> bool:
        return self.type.startswith(("timestamp[", "date", "duration["))

    def reader(self) -> Reader:
        """How a value is read. Not for times: only Arrow knows all the ways in which Arrow reads these."""
        if self.type in _BITS:
            return _whole_reader(self)
        if self.type in _MOST_WHOLE:
            return _number_reader(self)
        return {"bool": _flag_reader, "string": _text_reader}[self.type](self)

    def codes(self) -> dict[Any, int] | None:
        """Positions of the levels by value as read; None when the column is not categorical."""
        return None if self.levels is None else {level: code for code, level in enumerate(self.levels)}

    def wrong(self, given: object) -> DataError:
        kind = _KINDS.get(type(given), "an object" if isinstance(given, Mapping) else type(given).__name__)
        if isinstance(given, float) and not math.isfinite(given):
            kind = "not finite"
        shown = repr(given)
        if len(shown) > _LONGEST_SHOWN:
            shown = f"{shown[:_LONGEST_SHOWN]}…"
        return DataError(
            f"Field {self.name!r} was {self.type} in training, but now has {shown} ({kind})."
            f" Send it as {self._wanted()}, or as null when it is not known.",
            self.name,
        )

    def _wanted(self) -> str:
        if self.type.startswith("timestamp["):
            example = "2011-01-31T09:00:00" + ("Z" if "tz=" in self.type else "")
            zone = "with a zone" if "tz=" in self.type else "without a zone"
            return f"ISO 8601 text {zone} such as '{example}'"
        return "ISO 8601 text such as '2011-01-31'" if self.type.startswith("date") else self.type


def values_getter(names: Sequence[str]) -> Callable[[Mapping[str, Any]], tuple[Any, ...]]:
    """What takes the values of `names` out of a row, in this order; KeyError when the row lacks one."""
    # itemgetter of one name gives the bare value, of several a tuple.
    if len(names) == 1:
        return lambda row: (row[names[0]],)
    return itemgetter(*names)


def missing_field(row: Mapping[str, Any], names: Sequence[str]) -> DataError:
    """The error for a row that lacks one of `names`: of several the first one."""
    name = next(name for name in names if name not in row)
    near = difflib.get_close_matches(name, [other for other in row if other not in names], n=1)
    instead = f" Is it meant by {near[0]!r}?" if near else ""
    return DataError(f"The row has no field {name!r}.{instead} Send null when its value is not known.", name)


def _whole_reader(column: RowColumn) -> Reader:
    sign, bits = _BITS[column.type]
    low, high = (0, 2**bits - 1) if sign else (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1)

    def read(given: Any) -> int:
        if type(given) is int and low <= given <= high:
            return given
        is_whole = isinstance(given, int) or (isinstance(given, float) and given.is_integer())
        if is_whole and low <= given <= high:
            return int(given)
        raise column.wrong(given)

    return read


def _number_reader(column: RowColumn) -> Reader:
    most = _MOST_WHOLE[column.type]
    narrow = _NARROW.get(column.type)

    def read(given: Any) -> float:
        if isinstance(given, float):
            number = given
        elif given is True or given is False:
            if column.type == "halffloat":  # Arrow has no such cast
                raise column.wrong(given)
            number = float(given)
        elif isinstance(given, int) and -most <= given <= most:
            number = float(given)
        else:
            raise column.wrong(given)
        if number - number != 0.0:  # NaN or infinite
            raise column.wrong(given)
        if narrow is None:
            return number
        try:
            return float(narrow.unpack(narrow.pack(number))[0])
        except OverflowError:
            raise column.wrong(given) from None

    return read


def _flag_reader(column: RowColumn) -> Reader:
    def read(given: Any) -> bool:
        if given is True or given is False:
            return given
        if isinstance(given, int | float) and given in (0, 1):
            return bool(given)
        raise column.wrong(given)

    return read


def _text_reader(column: RowColumn) -> Reader:
    def read(given: Any) -> str:
        if isinstance(given, str) and (given.isascii() or _is_encodable(given)):
            return given
        raise column.wrong(given)

    return read


def _is_encodable(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:  # half of a pair, as JSON can write it
        return False
    return True
