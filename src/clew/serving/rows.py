"""Reading a request's bytes into rows of plain values, or saying where they are none."""

from __future__ import annotations

import re
from typing import Annotated, Any, TypeAlias

import msgspec

from clew.serving.refusals import Refused, malformed, wrong_row
from clew.storage.records import Value

Row: TypeAlias = dict[str, Value]

# The log and the columns of tables hold whole numbers of 64 bits.
_SMALLEST, _LARGEST = -(2**63), 2**63 - 1
_decoder: msgspec.json.Decoder[Any] = msgspec.json.Decoder(
    dict[str, str | Annotated[int, msgspec.Meta(ge=_SMALLEST, le=_LARGEST)] | float | bool | None]
    | list[dict[str, str | Annotated[int, msgspec.Meta(ge=_SMALLEST, le=_LARGEST)] | float | bool | None]]
)
_NAMES = {dict: "an object", list: "a list", str: "text", bool: "true or false", type(None): "null"}


def read_rows(body: bytes, max_rows: int) -> tuple[list[Row], bool]:
    """The rows of a request, and whether it was a list.

    A body is an object, or a list of objects, of names with plain values: text, numbers, true, false, null.
    ``NaN`` and ``Infinity`` are no JSON.

    Raises
    ------
    Refused
        400 with the position where the body is no JSON; 422 with row and field where a value is not plain,
        or when there are more than `max_rows` rows.

    Examples
    --------
    >>> read_rows(b'{"key": "A7", "income": 31000}', max_rows=10)
    ([{'key': 'A7', 'income': 31000}], False)
    """
    try:
        decoded = _decoder.decode(body)
    except msgspec.ValidationError:
        raise _no_rows(body, max_rows) from None
    except msgspec.DecodeError as error:
        raise malformed(_position(str(error), body)) from None
    except UnicodeDecodeError:
        raise malformed(_no_text(body)) from None
    if type(decoded) is dict:
        return [decoded], False
    if len(decoded) > max_rows:
        raise _too_many(len(decoded), max_rows)
    return decoded, True


def _too_many(n_rows: int, max_rows: int) -> Refused:
    return Refused(
        422,
        "TOO_MANY_ROWS",
        f"The request has {n_rows:,} rows, but at most {max_rows:,} are taken at once (serving.max_rows)."
        " Send them in parts.",
    )


_HUGE = re.compile(rb"-?\d+(?:\.\d+)?[eE]\+?\d{3,}")


def _position(message: str, body: bytes) -> str:
    if "out of range" in message:
        huge = _HUGE.search(body)
        where = "" if huge is None else f" at byte {huge.start()}, near {huge[0][:20].decode()!r},"
        return f"The body has a number{where} that is beyond what can be computed with: above 1.8e308."
    found = re.search(r"\(byte (\d+)\)", message)
    if found is None:
        return f"The body is no JSON: it ends at byte {len(body)}, before it is complete."
    position = int(found[1]) - ("trailing" in message)  # it names the byte after the one at fault there
    near = body[max(0, position - 10) : position + 10].decode("utf-8", "replace")
    return (
        f"The body is no JSON at byte {position}, near {near!r}. Numbers that are not known are null: NaN and"
        " Infinity are no JSON."
        if b"NaN" in body or b"Infinity" in body
        else f"The body is no JSON at byte {position}, near {near!r}."
    )


def _no_text(body: bytes) -> str:
    try:
        body.decode()
    except UnicodeDecodeError as error:
        return f"The body is no UTF-8 at byte {error.start}."
    return "The body is no UTF-8."


def _no_rows(body: bytes, max_rows: int) -> Refused:
    """What is wrong with JSON that is not rows of plain values; read again, as errors may take longer."""
    try:
        decoded: Any = msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        return malformed(_position(str(error), body))
    except RecursionError:
        return malformed("The body is nested too deeply: a row is an object of plain values.")
    if not isinstance(decoded, dict | list):
        return wrong_row(
            "WRONG_TYPE",
            f"The body is {_kind(decoded)}, but it must be an object, or a list of objects.",
            row=None,
            field=None,
        )
    is_list = isinstance(decoded, list)
    rows = decoded if isinstance(decoded, list) else [decoded]
    if len(rows) > max_rows:
        return _too_many(len(rows), max_rows)
    for number, row in enumerate(rows):
        if not isinstance(row, dict):
            return wrong_row(
                "WRONG_TYPE",
                f"Row {number} is {_kind(row)}, but it must be an object.",
                row=number,
                field=None,
            )
        for name, value in row.items():
            if not _is_plain(value):
                where = f"Row {number}: " if is_list else ""
                message = (
                    f"{where}{name!r} is {_kind(value)}; a value is text, a number, true, false or null."
                )
                return wrong_row("WRONG_TYPE", message, row=number, field=name, is_list=is_list)
    return malformed("The body is no list of objects with plain values.")


def _is_plain(value: object) -> bool:
    if isinstance(value, int):
        return _SMALLEST <= value <= _LARGEST
    return value is None or isinstance(value, str | float)


def _kind(value: object) -> str:
    if isinstance(value, bool):
        return "true or false"
    if isinstance(value, int):
        return "a number" if _is_plain(value) else "a whole number of more than 64 bits"
    return _NAMES.get(type(value), "a number")
