"""Finding runs by what they were given, what they reached and what people tagged them with.

The words are those of MLflow's ``search_runs``: ``metrics.accuracy > 0.9 and params.num_leaves = 31``.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import NoReturn, cast

from clew.entities import Run, RunStatus
from clew.errors import UsageError, did_you_mean
from clew.storage import Store, Where
from clew.storage.run_values import (
    Kind,
    Operator,
    ValueCondition,
    ValueOrder,
    search_runs,
    value_names,
)
from clew.tracking.runs import run_of

_KINDS: dict[str, Kind | None] = {
    "metric": "metric", "metrics": "metric",
    "param": "param", "params": "param", "parameter": "param", "parameters": "param",
    "tag": "tag", "tags": "tag",
    "run": None, "attribute": None, "attributes": None, "attr": None,
}  # fmt: skip
_COLUMNS = {
    "id": "id", "run_id": "id", "model": "model", "purpose": "purpose", "status": "status",
    "seed": "seed", "started": "started_at", "start_time": "started_at", "ended": "ended_at",
    "end_time": "ended_at", "seconds": "seconds", "memory": "peak_memory_bytes", "dataset": "dataset",
    "snapshot": "snapshot", "code": "code", "environment": "environment",
}  # fmt: skip
_OF_NUMBERS = ("seed", "seconds", "peak_memory_bytes")
_OF_TIMES = ("started_at", "ended_at")
_OPERATORS = ("=", "!=", "<", "<=", ">", ">=", "like", "ilike")
_CONSTANTS = ("true", "false", "null")
_TOKEN = re.compile(
    r"""\s*(?:
        (?P<text>'(?:[^']|'')*'|"(?:[^"]|"")*")
      | (?P<number>[-+]?(?:inf(?:inity)?\b|(?:\d+(?:\.\d*)?|\.\d+)(?:e[-+]?\d+)?(?![\w.])))
      | (?P<name>[A-Za-z_]\w*\.(?:`[^`]+`|"[^"]+"|[\w./:@-]+))
      | (?P<word>[A-Za-z_]\w*)
      | (?P<operator><=|>=|!=|<>|==|=|<|>)
    )""",
    re.VERBOSE | re.IGNORECASE,
)


@dataclass(frozen=True, slots=True)
class _Token:
    kind: str
    text: str
    position: int


def parse_search(text: str) -> tuple[ValueCondition, ...]:
    """Read conditions that are joined by ``and``.

    Raises
    ------
    UsageError
        Pointing at the place where something else was expected.

    Examples
    --------
    >>> parse_search("metric.accuracy > 0.9 and tag.team = 'pricing'")[1]
    ValueCondition(kind='tag', name='team', op='=', value='pricing')
    >>> parse_search("metric.accuracy 0.9")
    Traceback (most recent call last):
    clew.errors.UsageError: The search has '0.9' at character 17, where an operator is expected.
      metric.accuracy 0.9
                      ^
    Operators: =, !=, <, <=, >, >=, like, ilike
    """
    return _Reading(text).conditions()


def parse_order(text: str) -> ValueOrder:
    """Read by what runs are sorted: ``metric.rmse asc``; the highest first unless it says ``asc``.

    Examples
    --------
    >>> parse_order("metric.accuracy"), parse_order("seconds asc").is_descending
    (ValueOrder(kind='metric', name='accuracy', is_descending=True), False)
    """
    return _Reading(text).order()


class _Reading:
    """One text, token by token."""

    def __init__(self, text: str) -> None:
        self._text, self._place = text, 0
        self._tokens = self._cut()

    def conditions(self) -> tuple[ValueCondition, ...]:
        found = [self._condition()]
        while (token := self._next()).kind != "end":
            if token.text.lower() != "and":
                hint = "Conditions are joined by and; for another set of runs search once more."
                self._refuse(token, "and or the end is", hint)
            found.append(self._condition())
        return tuple(found)

    def order(self) -> ValueOrder:
        kind, name = self._name()
        token = self._next()
        if token.text.lower() not in ("", "asc", "desc"):
            self._refuse(token, "asc, desc or the end is")
        if token.kind != "end" and (more := self._next()).kind != "end":
            self._refuse(more, "the end is", "Runs are sorted by one thing.")
        return ValueOrder(kind, name, token.text.lower() != "asc")

    def _condition(self) -> ValueCondition:
        kind, name = self._name()
        token = self._next()
        op = {"==": "=", "<>": "!="}.get(token.text, token.text.lower())
        if op not in _OPERATORS:
            self._refuse(token, "an operator is", f"Operators: {', '.join(_OPERATORS)}")
        return ValueCondition(kind, name, cast("Operator", op), self._value(kind, name, op))

    def _name(self) -> tuple[Kind | None, str]:
        token = self._next()
        if token.kind == "word":
            return None, self._column(token, token.text)
        if token.kind != "name":
            self._refuse(token, "a name is", "Names: metric.NAME, param.NAME, tag.NAME, or status, model, …")
        prefix, _, name = token.text.partition(".")
        if prefix.lower() not in _KINDS:
            known = ("metric", "param", "tag", "attribute")
            self._refuse(token, "metric., param. or tag. is", did_you_mean(prefix, known))
        kind = _KINDS[prefix.lower()]
        name = name[1:-1] if name[0] in '`"' else name
        return kind, self._column(token, name) if kind is None else name

    def _column(self, token: _Token, name: str) -> str:
        if name.lower() not in _COLUMNS:
            hint = did_you_mean(name, sorted({*_COLUMNS} - {"run_id", "start_time", "end_time"}))
            self._refuse(token, "metric.NAME, param.NAME, tag.NAME or an attribute is", hint)
        return _COLUMNS[name.lower()]

    def _value(self, kind: Kind | None, name: str, op: str) -> str | float | datetime:
        token = self._next()
        is_number = kind == "metric" or (kind is None and name in _OF_NUMBERS)
        is_like = op in ("like", "ilike")
        if is_like and (is_number or (kind is None and name in _OF_TIMES)):
            self._refuse(token, "a comparison by like is not possible and a number or time is")
        if token.kind == "number" and not is_like and (is_number or kind is not None):
            return float(token.text)
        if is_number:
            self._refuse(token, "a number is")
        if token.kind == "text":
            text = token.text[1:-1].replace(token.text[0] * 2, token.text[0])
            return self._moment(token, text) if kind is None and name in _OF_TIMES else text
        if token.kind == "word" and token.text.lower() in _CONSTANTS and kind is not None:
            return token.text.lower()
        near = f"Text stands in quotes: '{token.text}'" if token.kind in ("word", "name") else ""
        expected = "a value in quotes is" if kind is None or is_like else "a value is"
        return self._refuse(token, expected, near)

    def _moment(self, token: _Token, text: str) -> datetime:
        try:
            moment = datetime.fromisoformat(text)
        except ValueError:
            self._refuse(token, "a time such as '2026-03-01' is")
        return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)

    def _next(self) -> _Token:
        token = self._tokens[self._place]
        self._place = min(self._place + 1, len(self._tokens) - 1)
        return token

    def _cut(self) -> list[_Token]:
        tokens, place, end = [], 0, len(self._text.rstrip())
        while place < end:
            match = _TOKEN.match(self._text, place)
            if match is None or match.lastgroup is None:
                start = place + len(self._text[place:]) - len(self._text[place:].lstrip())
                rest = self._text[start:]
                hint = "The quote is never closed." if rest[0] in "'\"" else ""
                self._refuse(_Token("rest", rest.split()[0], start), "a name, operator or value is", hint)
            tokens.append(_Token(match.lastgroup, match[match.lastgroup], match.start(match.lastgroup)))
            place = match.end()
        return [*tokens, _Token("end", "", end)]

    def _refuse(self, token: _Token, expected: str, hint: str = "") -> NoReturn:
        what = repr(token.text) if token.kind != "end" else "its end"
        pointed = f"  {self._text}\n  {' ' * token.position}^"
        raise UsageError(
            f"The search has {what} at character {token.position + 1}, where {expected} expected.\n{pointed}"
            + (f"\n{hint}" if hint else "")
        )


def find_runs(
    store: Store,
    conditions: Sequence[ValueCondition] = (),
    *,
    model: str | None = None,
    status: RunStatus | None = None,
    purpose: str | None = None,
    since: datetime | None = None,
    key_prefix: str | None = None,
    order: ValueOrder | None = None,
    limit: int | None = 50,
) -> list[Run]:
    """Runs that meet all of `conditions`, the newest first unless `order` says otherwise.

    `key_prefix` begins the key of all runs of a piece of work: ``try/``, ``backtest/``.
    """
    given = {"model": model, "status": status, "purpose": purpose}
    where: dict[str, object] = {name: value for name, value in given.items() if value is not None}
    if key_prefix is not None:
        where["key"] = Where("prefix", key_prefix)
    if since is not None:
        where["started_at"] = Where(">=", since)
    with store.read() as reader:
        return [run_of(row) for row in search_runs(reader, conditions, where, order, limit)]


def unknown_names(store: Store, conditions: Sequence[ValueCondition]) -> list[str]:
    """A sentence about each name in a search that no run has a value under."""
    told = []
    with store.read() as reader:
        for condition in conditions:
            if condition.kind is not None:
                known = value_names(reader, condition.kind)
                if condition.name not in known:
                    there = did_you_mean(condition.name, known) if known else "None has any yet."
                    told.append(f"No run has a {condition.kind} {condition.name!r}. {there}")
    return told
