"""How a message names the rows at fault."""

from __future__ import annotations

from collections.abc import Sequence

import pyarrow as pa

MAX_NAMED_ROWS = 3
ROW_COUNT_RULE = "the first row is row 0"


def named_rows(rows: Sequence[int], values: Sequence[object] | None = None, n_rows: int | None = None) -> str:
    """Say which rows, and what they hold.

    Parameters
    ----------
    n_rows
        How many rows are at fault in all, when `rows` is only the beginning.

    Examples
    --------
    >>> named_rows([3, 17], ["n/a", None])
    "row 3 ('n/a') and row 17 (null) (the first row is row 0)"
    >>> named_rows([0, 1, 2], n_rows=40)
    'row 0, row 1, row 2 and 37 more (the first row is row 0)'
    """
    shown = [f"row {row}" for row in rows[:MAX_NAMED_ROWS]]
    if values is not None:
        shown = [f"{row} ({as_text(value)})" for row, value in zip(shown, values, strict=False)]
    n_others = (len(rows) if n_rows is None else n_rows) - len(shown)
    if n_others:
        shown.append(f"{n_others} more")
    words = shown[0] if len(shown) == 1 else f"{', '.join(shown[:-1])} and {shown[-1]}"
    return f"{words} ({ROW_COUNT_RULE})"


def as_text(value: object) -> str:
    """A value as it should stand in a message: short, and null for what is missing."""
    if value is None:
        return "null"
    text = repr(value) if isinstance(value, str | int | float | bool | bytes) else f"{value}"
    return text if len(text) <= 60 else f"{text[:57]}..."


def values_at(column: pa.ChunkedArray, rows: Sequence[int]) -> list[object]:
    """What the column holds in these rows, for `named_rows`."""
    # As text where Python's own types cannot hold the value, such as nanoseconds without pandas.
    readable = column.type if not pa.types.is_timestamp(column.type) else pa.string()
    return [column[int(row)].cast(readable).as_py() for row in rows[:MAX_NAMED_ROWS]]
