"""What may stand behind an option: times, durations, hyperparameters; and options that verbs share."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

import click

from clew.cli.commands import option

if TYPE_CHECKING:
    from clew.entities import Duration

    _ParamType = click.ParamType[Any]
else:
    _ParamType = click.ParamType

F = TypeVar("F", bound=Callable[..., Any])

_PYTHON_WORDS = {"true": True, "false": False, "none": None, "null": None}


def utc_now() -> datetime:
    """The clock of the command line, read once by each command."""
    return datetime.now(UTC)


class Moment(_ParamType):
    """A time: ``2011-07-01`` or ``2011-07-01T06:00+02:00``; without a zone it is UTC."""

    name = "TIME"

    def convert(
        self, value: str | datetime, param: click.Parameter | None, ctx: click.Context | None
    ) -> datetime:
        if isinstance(value, datetime):
            return value
        try:
            moment = datetime.fromisoformat(value)
        except ValueError:
            self.fail(f"{value!r} is no time. Write 2011-07-01 or 2011-07-01T06:00.", param, ctx)
        return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)


class Length(_ParamType):
    """A duration: ``90m``, ``36h``, ``1d``, ``2w``, ``3mo``."""

    name = "DURATION"

    def convert(
        self, value: str | Duration, param: click.Parameter | None, ctx: click.Context | None
    ) -> Duration:
        from clew.entities import Duration
        from clew.errors import DeclarationError

        try:
            length = Duration.parse(value, "it")
        except DeclarationError as error:
            self.fail(str(error), param, ctx)
        if not length:
            self.fail(f"it is {value!r}, but it must be longer than nothing, such as '7d'.", param, ctx)
        return length


class Since(_ParamType):
    """A time, or how long ago as a duration."""

    name = "TIME|DURATION"

    def convert(
        self, value: str | datetime, param: click.Parameter | None, ctx: click.Context | None
    ) -> datetime:
        from clew.entities import Duration
        from clew.errors import DeclarationError

        with suppress(DeclarationError):
            return Duration.parse(value).before(utc_now())
        try:
            return Moment().convert(value, None, None)
        except click.BadParameter as error:
            self.fail(f"{error.message[:-1]}, or how long ago, such as 7d.", param, ctx)


class Place(_ParamType):
    """A row of the audit log: its number, or a time."""

    name = "NUMBER|TIME"

    def convert(
        self, value: str | int | datetime, param: click.Parameter | None, ctx: click.Context | None
    ) -> int | datetime:
        if isinstance(value, int | datetime):
            return value
        return int(value) if value.isdecimal() else Moment().convert(value, param, ctx)


class Setting(_ParamType):
    """A hyperparameter: ``num_leaves=63``, ``learning_rate=0.05``, ``boosting=dart``, ``layers=[64,32]``."""

    name = "NAME=VALUE"

    def convert(
        self, value: str | tuple[str, Any], param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[str, Any]:
        if isinstance(value, tuple):
            return value
        name, equals, text = value.partition("=")
        if not equals or not name.strip().isidentifier():
            self.fail(f"{value!r} is not of the form NAME=VALUE, such as num_leaves=63.", param, ctx)
        return name.strip(), plain_value(text.strip())


class Axis(_ParamType):
    """Values of a hyperparameter: ``num_leaves=31,63``, ``layers=[64,32],[32]``."""

    name = "NAME=VALUE,…"

    def convert(
        self, value: str | tuple[str, list[Any]], param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[str, list[Any]]:
        if isinstance(value, tuple):
            return value
        name, text = Setting().convert(value, param, ctx)[0], value.partition("=")[2]
        texts = split_values(text)
        if not all(texts):
            self.fail(f"{value!r} has an empty value; write num_leaves=31,63.", param, ctx)
        values = [plain_value(each) for each in texts]
        return name, [each for place, each in enumerate(values) if each not in values[:place]]


def split_values(text: str) -> list[str]:
    """Cut at the commas that stand in no bracket and no quotes.

    Examples
    --------
    >>> split_values('31, [64,32], "a,b"')
    ['31', '[64,32]', '"a,b"']
    """
    found, depth, is_quoted = [""], 0, False
    for letter in text:
        is_quoted ^= letter == '"'
        depth += 0 if is_quoted else (letter in "[{") - (letter in "]}")
        if letter == "," and not depth and not is_quoted:
            found.append("")
        else:
            found[-1] += letter
    return [each.strip() for each in found]


def plain_value(text: str) -> Any:
    """What the text means: a number, true, false, null, a JSON list or mapping; else the text itself.

    Examples
    --------
    >>> [plain_value(text) for text in ("63", "0.05", "True", "dart", "[64, 32]", "NaN")]
    [63, 0.05, True, 'dart', [64, 32], 'NaN']
    """
    if text.lower() in _PYTHON_WORDS:
        return _PYTHON_WORDS[text.lower()]
    try:
        return json.loads(text, parse_constant=_refuse_constant)
    except ValueError:
        return text


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON")


# -- options that several verbs have -------------------------------------------------------------------

TRAINING = "What is trained"
WHICH = "Which ones"


def json_option(command: F) -> F:
    return option(
        "--json",
        "as_json",
        is_flag=True,
        purpose="Output",
        help="Print one JSON document on stdout, for programs.",
    )(command)


def target_argument(command: F) -> F:
    return click.argument("target", metavar="[TARGET]", required=False)(command)


def set_option(command: F) -> F:
    return option(
        "--set",
        "settings",
        type=Setting(),
        multiple=True,
        purpose=TRAINING,
        help="A hyperparameter's value; may be given several times.",
    )(command)


def seed_option(command: F) -> F:
    return option(
        "--seed",
        type=click.IntRange(0, 2**31 - 1),
        metavar="NUMBER",
        default=0,
        purpose=TRAINING,
        help="Seed of every random choice; the same seed gives the same result.",
    )(command)


def again_option(command: F) -> F:
    return option(
        "--again",
        is_flag=True,
        purpose=TRAINING,
        help="Do it anew although nothing changed since last time.",
    )(command)


def limit_option(command: F) -> F:
    return option(
        "--limit",
        type=click.IntRange(1),
        metavar="NUMBER",
        default=20,
        purpose=WHICH,
        help="At most this many, the newest.",
    )(command)


def since_option(command: F) -> F:
    return option(
        "--since", type=Since(), purpose=WHICH, help="Only newer ones: a time, or how long ago, such as 7d."
    )(command)
