"""``train``: what a user's function gets to learn from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from clew.entities import Duration
from clew.errors import UsageError

if TYPE_CHECKING:
    Array: TypeAlias = np.ndarray[Any, Any]

Logged: TypeAlias = tuple[str, int | None, float]


@dataclass(frozen=True, slots=True)
class Train:
    """Labelled rows in the order of their time.

    Attributes
    ----------
    X
        The features, in the frame that the dataset declared. Columns of categories hold the levels seen
        in these rows.
    y
        The labels, shape ``(n_rows,)``, in their own type. Rows whose label is unknown are left out.
    times
        When each row happened, ``datetime64[us]`` in UTC.
    keys
        The key of each row.
    files
        By name the folders that the model declared; each is a version of its own, to be read only.

    Examples
    --------
    >>> days = np.array(["2026-01-01", "2026-01-02", "2026-01-03", "2026-01-04"], "datetime64[us]")
    >>> rows = Train(np.arange(4), np.array([0, 1, 0, 1]), days, np.arange(4), Duration.parse("1d"))
    >>> older, newest = rows.split("1d")
    >>> older.y, newest.y
    (array([0, 1]), array([1]))
    """

    X: Any
    y: Array
    times: Array
    keys: Array
    label_delay: Duration
    logged: list[Logged] = field(default_factory=list, repr=False)
    files: Mapping[str, Path] = field(default_factory=dict, repr=False)

    def __len__(self) -> int:
        return len(self.y)

    def split(self, newest: str | timedelta) -> tuple[Train, Train]:
        """``(fit, valid)``: the rows of the newest `newest` are for validation, older ones to fit on.

        Rows whose label was not yet known when the validation rows begin are in neither part: a model
        made on that day could not have learned from them either. With a label delay of one day, the day
        before the validation rows is left out.

        Raises
        ------
        UsageError
            When either part would be empty, saying how far the rows reach.
        """
        length = Duration.parse(newest, "train.split()")
        start = length.before(_moment(self.times[-1]))
        matured = np.datetime64(self.label_delay.before(start), "us")
        # Strictly later: of rows a day apart, the newest "1d" is one row.
        n_fit, n_older = np.searchsorted(self.times, [matured, np.datetime64(start, "us")], side="right")
        if n_fit == 0 or n_older == len(self):
            raise UsageError(
                f"train.split({str(length)!r}) leaves {n_fit} rows to fit on and {len(self) - n_older} for"
                f" validation, with a label delay of {self.label_delay}; the rows reach from"
                f" {self.times[0]} to {self.times[-1]}."
            )
        return self._rows(0, int(n_fit)), self._rows(int(n_older), len(self))

    def log(self, *, step: int | None = None, **values: float) -> None:
        """Record numbers with the run: ``train.log(loss=0.31, step=12)``.

        Raises
        ------
        UsageError
            When a value is no number, or `step` no whole number.
        """
        whole = None if step is None else _whole(step)
        for name, value in values.items():
            self.logged.append((name, whole, _number(name, value)))

    def _rows(self, start: int, end: int) -> Train:
        rows = slice(start, end)
        parts = (self.y[rows], self.times[rows], self.keys[rows])
        return Train(_slice_frame(self.X, start, end), *parts, self.label_delay, self.logged, self.files)


def _moment(time: np.datetime64) -> datetime:
    moment: datetime = time.astype("datetime64[us]").item()
    return moment


def _whole(step: Any) -> int:
    if isinstance(step, bool) or not isinstance(step, int | np.integer):
        raise UsageError(f"train.log() got step={step!r}; a step is a whole number.")
    return int(step)


def _number(name: str, value: Any) -> float:
    try:
        number = value.item() if hasattr(value, "item") else value  # of a tensor or array with one element
        if isinstance(number, bool | str):
            raise TypeError
        return float(number)
    except (TypeError, ValueError):
        raise UsageError(f"train.log() got {name}={value!r}; log numbers.") from None


def _slice_frame(frame: Any, start: int, end: int) -> Any:
    if hasattr(frame, "iloc"):
        return frame.iloc[start:end].reset_index(drop=True)
    if hasattr(frame, "slice"):
        return frame.slice(start, end - start)
    return frame[start:end]
