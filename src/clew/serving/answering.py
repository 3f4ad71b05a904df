"""A loaded version, and asking it."""

from __future__ import annotations

import time
import traceback
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import PurePath
from typing import Any

from clew.errors import DataError
from clew.registry.row_models import RowModel
from clew.serving.rows import Row

AT_ONCE_SECONDS = 0.005
"""What may be asked on the thread that all requests wait for; longer work goes to another thread."""


@dataclass(frozen=True, slots=True)
class Answers:
    """What a version answered to some rows, in their order; `microseconds` is what a row took of it."""

    predicted: list[Any]
    probabilities: list[tuple[float, ...]] | None
    unseen: list[tuple[str, ...]]
    microseconds: int


def cut_answers(
    answers: Answers, classes: Sequence[Any], places: tuple[int, int], threshold: float
) -> Answers:
    """The answers where the positive class is answered from a probability of `threshold` on.

    Parameters
    ----------
    places
        Of the positive and of the other class among `classes`.

    Examples
    --------
    >>> answers = Answers(["paid"], [(0.9, 0.1)], [()], 20)
    >>> cut_answers(answers, ("paid", "missed"), (1, 0), 0.08).predicted
    ['missed']
    """
    positive, other = places
    yes, no = classes[positive], classes[other]
    probabilities = answers.probabilities or ()
    predicted = [yes if each[positive] >= threshold else no for each in probabilities]
    return replace(answers, predicted=predicted)


class WrongRow(Exception):
    """The version cannot take a row: `number` among the rows that it was asked about."""

    def __init__(self, number: int, error: DataError) -> None:
        self.number, self.error = number, error
        super().__init__(str(error))


class ModelFailed(Exception):
    """A model failed in another process; the message says how, without values of users."""


@dataclass(slots=True)
class LoadedVersion:
    """A version of a deployment, ready to be asked.

    Attributes
    ----------
    class_names
        The model's classes as JSON writes them as names; None for numbers.
    seconds_per_row
        What a row took lately.
    has_probabilities
        Whether it gave any for its own example.
    """

    deployment: str
    number: int
    package: str
    model: RowModel
    seconds_per_row: float = 0.0
    has_probabilities: bool = False
    class_names: tuple[str, ...] | None = field(init=False)

    def __post_init__(self) -> None:
        classes = self.model.classes
        self.class_names = None if classes is None else tuple(map(class_name, classes))

    @property
    def name(self) -> str:
        return f"{self.deployment}@{self.number}"

    def is_quick(self, n_rows: int) -> bool:
        """Whether so many rows can be asked about while other requests wait."""
        return self.seconds_per_row * n_rows < AT_ONCE_SECONDS

    def ask(self, rows: Sequence[Row]) -> Answers:
        """Answer the rows.

        Raises
        ------
        WrongRow
            When a row lacks a feature or has a value that the model cannot take.
        Exception
            Whatever the model raises.
        """
        started = time.perf_counter()
        encode = self.model.encode
        encoded: list[Any] = []
        unseen: list[tuple[str, ...]] = []
        for row in rows:
            try:
                one, strange = encode(row)
            except DataError as error:
                raise WrongRow(len(encoded), error) from error
            encoded.append(one)
            unseen.append(strange)
        try:
            predicted, probabilities = self.model.answer(encoded)
        except DataError as error:
            raise WrongRow(error.rows[0] if error.rows else 0, error) from error
        took = (time.perf_counter() - started) / max(1, len(rows))
        # Up at once, down slowly: a version that was slow once is not trusted with everybody's thread soon.
        self.seconds_per_row = max(took, 0.9 * self.seconds_per_row + 0.1 * took)
        return Answers(predicted, probabilities, unseen, round(took * 1e6))


def class_name(value: object) -> str:
    """A class as the name of a JSON field.

    Examples
    --------
    >>> [class_name(value) for value in ("refuse", 1, True, 2.5)]
    ['refuse', '1', 'true', '2.5']
    """
    return str(value).lower() if isinstance(value, bool) else str(value)


def describe_failure(error: BaseException) -> str:
    """What went wrong and where, without values of users, which messages of libraries are full of.

    Examples
    --------
    >>> describe_failure(WrongRow(0, DataError("'x' is 'Miller'", "x")))
    "DataError: column 'x'"
    >>> try:
    ...     int("Miller")
    ... except ValueError as raised:
    ...     describe_failure(raised)
    'ValueError in <module> (<doctest clew.serving.answering.describe_failure[1]>:2)'
    """
    if isinstance(error, WrongRow):
        return f"DataError: column {error.error.column!r}"
    if isinstance(error, ModelFailed):
        return str(error)
    while error.__cause__ is not None:  # a package wraps what its model raised
        error = error.__cause__
    frames = traceback.extract_tb(error.__traceback__)
    if not frames:
        return type(error).__name__
    last = frames[-1]
    return f"{type(error).__name__} in {last.name} ({PurePath(last.filename).name}:{last.lineno})"
