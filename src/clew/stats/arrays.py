"""The array types of this room, and the checks every statistic makes on the rows it is given."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]
AnyArray = npt.NDArray[np.generic]


def finite_rows(name: str, values: npt.ArrayLike) -> FloatArray:
    """Return `values` as floats, shape ``(n,)``; refuse NaN and infinity by name and row.

    Examples
    --------
    >>> finite_rows("losses", [0.5, float("nan")])
    Traceback (most recent call last):
    ValueError: losses: row 1 is nan; drop rows without a value before measuring
    """
    rows = np.asarray(values, dtype=np.float64)
    if rows.ndim != 1:
        raise ValueError(f"{name} has shape {rows.shape}; one number a row is needed, shape (n,)")
    finite = np.isfinite(rows)
    if not finite.all():
        i = int(np.argmin(finite))
        raise ValueError(f"{name}: row {i} is {rows[i]}; drop rows without a value before measuring")
    return rows


def rows_between(name: str, values: npt.ArrayLike, lowest: float, highest: float) -> FloatArray:
    """Return finite `values` of which none lies outside ``[lowest, highest]``.

    Examples
    --------
    >>> rows_between("gains", [0.5, -3.0], -1, 1)
    Traceback (most recent call last):
    ValueError: gains: row 1 is -3, outside -1 to 1; divide by the range first
    """
    rows = finite_rows(name, values)
    outside = (rows < lowest) | (rows > highest)
    if outside.any():
        i = int(np.argmax(outside))
        raise ValueError(
            f"{name}: row {i} is {rows[i]:g}, outside {lowest:g} to {highest:g}; divide by the range first"
        )
    return rows


def same_length(**columns: AnyArray | FloatArray | IntArray) -> None:
    """Refuse columns that do not belong to the same rows, with their names and lengths."""
    lengths = {name: len(column) for name, column in columns.items()}
    if len(set(lengths.values())) > 1:
        told = ", ".join(f"{name} has {n}" for name, n in lengths.items())
        raise ValueError(f"the columns are not of the same rows: {told}")


def open_fraction(name: str, value: float) -> float:
    """Refuse a level such as a confidence that is not strictly between 0 and 1."""
    if not 0 < value < 1:
        raise ValueError(f"{name} is {value}; it must lie between 0 and 1, both excluded")
    return float(value)
