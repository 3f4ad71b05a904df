"""What a version answered when it was made: rows and answers that lie in its package.

They tell whether another release of a library, or another machine, still answers alike. The rows are
nobody's: each column of the example is moved on by a number of rows of its own.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

from clew.registry.package_files import ANSWERS_FILE

MOST_ROWS = 100
TOLERANCE = 1e-6
"""Of a probability, or of the largest number answered: beyond what another order of additions can do."""

Row: TypeAlias = Mapping[str, Any]
Answer: TypeAlias = Callable[[Sequence[Row]], tuple[Sequence[Any], Sequence[Sequence[float]] | None]]


@dataclass(frozen=True, slots=True)
class RecordedAnswers:
    """Rows, and what was answered for them; `probabilities` is None where the model has none."""

    rows: tuple[Row, ...]
    predicted: tuple[Any, ...]
    probabilities: tuple[tuple[float, ...], ...] | None

    def difference(self, answer: Answer) -> str | None:
        """How `answer` differs from what was recorded, as a part of a sentence; None when it does not.

        Examples
        --------
        >>> recorded = RecordedAnswers(({"x": 1},), (0,), ((0.75, 0.25),))
        >>> recorded.difference(lambda rows: ([0], [(0.75, 0.25)]))
        >>> recorded.difference(lambda rows: ([1], [(0.25, 0.75)]))
        '1 of 1 recorded answers differ, by up to 0.5; the same is up to 1e-06'
        """
        predicted, probabilities = answer(self.rows)
        if self.probabilities is not None and probabilities is not None:
            pairs = zip(self.probabilities, probabilities, strict=True)
            gaps = [max(abs(a - b) for a, b in zip(then, now, strict=True)) for then, now in pairs]
            return _words(gaps, TOLERANCE)
        if any(isinstance(each, float) for each in self.predicted):
            largest = max(abs(each) for each in self.predicted)
            gaps = [abs(then - now) for then, now in zip(self.predicted, predicted, strict=True)]
            return _words(gaps, TOLERANCE * max(largest, 1.0))
        return _words([float(a != b) for a, b in zip(self.predicted, predicted, strict=True)], 0.0)


def _words(gaps: Sequence[float], tolerance: float) -> str | None:
    # Written so that NaN counts as a difference.
    n_otherwise = sum(not gap <= tolerance for gap in gaps)
    if not n_otherwise:
        return None
    return (
        f"{n_otherwise} of {len(gaps)} recorded answers differ, by up to {max(gaps):.3g}; the same is up to"
        f" {tolerance:.3g}"
    )


def read_recorded_answers(folder: Path) -> RecordedAnswers | None:
    """What lies in a package; None in those of earlier releases, and where no rows were known."""
    path = folder / ANSWERS_FILE
    if not path.is_file():
        return None
    told = json.loads(path.read_bytes())
    rows = tuple(dict(zip(told["columns"], values, strict=True)) for values in told["data"])
    probabilities = told["probabilities"]
    return RecordedAnswers(
        rows, tuple(told["predicted"]), None if probabilities is None else tuple(map(tuple, probabilities))
    )


def moved_on(columns: Mapping[str, Sequence[Any]]) -> list[list[Any]]:
    """Rows of values that everybody knows, and that nobody has together.

    Examples
    --------
    >>> moved_on({"a": [1, 2, 3], "b": [4, 5, 6]})
    [[2, 6], [3, 4], [1, 5]]
    """
    moved = []
    for place, values in enumerate(columns.values(), start=1):
        start = place % len(values)
        moved.append([*values[start:], *values[:start]])
    return [list(row) for row in zip(*moved, strict=True)]
