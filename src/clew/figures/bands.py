"""Intervals drawn as a band that breaks where nothing was measured."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeVar

X = TypeVar("X")


def band_outline(
    xs: Sequence[X], lower: Sequence[float | None], upper: Sequence[float | None]
) -> tuple[list[X | None], list[float | None]]:
    """The outline of the area between `lower` and `upper`, for a trace filled towards itself.

    A place where either is None ends a piece of the band; None separates the pieces.

    Examples
    --------
    >>> band_outline([1, 2, 3], [0.1, None, 0.3], [0.2, None, 0.4])
    ([1, 1, None, 3, 3], [0.2, 0.1, None, 0.4, 0.3])
    """
    outline_x: list[X | None] = []
    outline_y: list[float | None] = []
    for piece in _pieces(list(zip(xs, lower, upper, strict=True))):
        if outline_x:
            outline_x.append(None)
            outline_y.append(None)
        outline_x += [x for x, _, _ in piece] + [x for x, _, _ in reversed(piece)]
        outline_y += [high for _, _, high in piece] + [low for _, low, _ in reversed(piece)]
    return outline_x, outline_y


def _pieces(points: list[tuple[X, Any, Any]]) -> list[list[tuple[X, Any, Any]]]:
    pieces: list[list[tuple[X, Any, Any]]] = [[]]
    for point in points:
        if None in point[1:]:
            pieces.append([])
        else:
            pieces[-1].append(point)
    return [piece for piece in pieces if piece]
