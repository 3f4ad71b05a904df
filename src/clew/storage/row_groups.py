"""Which row groups of a Parquet file may hold what is looked for, by their statistics alone."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pyarrow.parquet as pq


def row_groups_with(file: pq.ParquetFile, wanted: Mapping[str, Iterable[Any]]) -> list[int]:
    """Places of the row groups that may hold a row with one of the values in each of the columns.

    A group without statistics of a column may hold any value of it; so may one whose statistics are of
    another type than the values.

    Examples
    --------
    >>> import io
    >>> import pyarrow as pa, pyarrow.parquet as pq
    >>> content = io.BytesIO()
    >>> pq.write_table(pa.table({"n": range(100)}), content, row_group_size=25)
    >>> with pq.ParquetFile(content) as file:
    ...     row_groups_with(file, {"n": [30, 99]}), row_groups_with(file, {"n": ["30"]})
    ([1, 3], [0, 1, 2, 3])
    """
    # Not their places among the columns: a column of lists or structs has several leaves.
    leaves = {file.schema.column(place).path: place for place in range(len(file.schema))}
    places = {leaves[name]: list(values) for name, values in wanted.items()}
    groups = (file.metadata.row_group(number) for number in range(file.num_row_groups))
    return [
        number
        for number, group in enumerate(groups)
        if all(_may_hold(group.column(place).statistics, values) for place, values in places.items())
    ]


def _may_hold(statistics: Any, values: Iterable[Any]) -> bool:
    if statistics is None or not statistics.has_min_max:
        return True
    low, high = statistics.min, statistics.max
    return any(type(value) is not type(low) or low <= value <= high for value in values)
