"""Hypothesis strategies for tables, and the same rows in other clothes."""

from __future__ import annotations

from datetime import UTC, date, datetime
from typing import Any

import pyarrow as pa
from hypothesis import strategies as st

from clew.datasets.casts import INSTANT

FIRST_TIME = datetime(1990, 1, 1)  # noqa: DTZ001 - hypothesis adds the zone
TEXT = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=8)
VALUES: dict[pa.DataType, st.SearchStrategy[Any]] = {
    pa.bool_(): st.booleans(),
    pa.int64(): st.integers(-(2**63), 2**63 - 1),
    pa.float64(): st.floats(allow_nan=False),
    pa.string(): TEXT,
    pa.date32(): st.dates(date(1900, 1, 1), date(2200, 1, 1)),
    INSTANT: st.datetimes(FIRST_TIME, datetime(2100, 1, 1), timezones=st.just(UTC)),  # noqa: DTZ001
}


@st.composite
def tables(draw: st.DrawFn, max_rows: int = 10) -> pa.Table:
    """Tables with ts, id, y and a nullable column of each kept type."""
    n = draw(st.integers(1, max_rows))
    ids = draw(st.lists(TEXT.filter(bool), min_size=n, max_size=n, unique=True))
    times = draw(st.lists(VALUES[INSTANT], min_size=n, max_size=n))
    columns = {"ts": pa.array(times, INSTANT), "id": pa.array(ids, pa.string())}
    columns["y"] = pa.array([draw(st.integers(0, 1)), *([None] * (n - 1))], pa.int64())
    for kind, values in VALUES.items():
        column = draw(st.lists(st.none() | values, min_size=n, max_size=n))
        columns[f"x {kind}"] = pa.array(column, kind)
    return pa.table(columns)


def rechunked(table: pa.Table, sizes: list[int]) -> pa.Table:
    """The same rows in chunks of these sizes, sliced out of a longer table."""
    padded = pa.concat_tables([table.slice(0, 1), table, table.slice(0, 1)]).combine_chunks()
    pieces, start = [], 1
    for size in [*sizes, table.num_rows]:
        pieces.append(padded.slice(start, min(size, table.num_rows + 1 - start)))
        start = min(start + size, table.num_rows + 1)
    return pa.concat_tables(pieces)


def coded(table: pa.Table) -> pa.Table:
    """The same rows with every column of text as a dictionary."""
    return pa.table(
        [c.dictionary_encode() if c.type == pa.string() else c for c in table.columns],
        names=table.column_names,
    )
