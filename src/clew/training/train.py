"""``train``: what a user's function gets to learn from."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from clew.entities import Duration
from clew.errors import UsageError

if TYPE_CHECKING:
    from clew.training.journal import JournalWriter

    Array: TypeAlias = np.ndarray[Any, Any]


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
    files: Mapping[str, Path] = field(default_factory=dict, repr=False)
    journal: JournalWriter | None = field(default=None, repr=False)

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

        It costs about a microsecond a number and waits for nobody, so log as often as you like. NaN and
        infinity are recorded as such: a loss that diverges is worth seeing.

        Raises
        ------
        UsageError
            When a value is no number, or `step` no whole number of 64 bits.
        """
        whole = None if step is None else _whole(step)
        numbers = [(name, _number(name, value)) for name, value in values.items()]
        if self.journal is not None:
            for name, number in numbers:
                self.journal.log(name, whole, number)

    def artifact(self, name: str, content: bytes | str | os.PathLike[str]) -> None:
        """Keep a file with the run: ``train.artifact("confusion.png", "/tmp/plot.png")``.

        Parameters
        ----------
        name
            What it is called in the run; slashes make folders. A second file of a name takes its place.
        content
            The path of a file, which is copied now, or bytes.

        Raises
        ------
        UsageError
            When the name could not be a file's everywhere, there is no such file, or it is larger than
            ``clew.toml`` allows.
        """
        if self.journal is not None:
            self.journal.save(name, content)

    def _rows(self, start: int, end: int) -> Train:
        rows = slice(start, end)
        parts = (self.y[rows], self.times[rows], self.keys[rows])
        return Train(_slice_frame(self.X, start, end), *parts, self.label_delay, self.files, self.journal)


def _moment(time: np.datetime64) -> datetime:
    moment: datetime = time.astype("datetime64[us]").item()
    return moment


def _whole(step: Any) -> int:
    if isinstance(step, bool) or not isinstance(step, int | np.integer):
        raise UsageError(f"train.log() got step={step!r}; a step is a whole number.")
    if not -(2**63) <= step < 2**63:
        raise UsageError(f"train.log() got step={step!r}, which does not fit into 64 bits.")
    return int(step)


def _number(name: str, value: Any) -> float:
    try:
        number = value.item() if hasattr(value, "item") else value  # of a tensor or array with one element
        if isinstance(number, bool | str):
            raise TypeError
        return float(number)
    except (TypeError, ValueError, OverflowError):
        raise UsageError(f"train.log() got {name}={value!r}; log numbers.") from None


def _slice_frame(frame: Any, start: int, end: int) -> Any:
    if hasattr(frame, "iloc"):
        return frame.iloc[start:end].reset_index(drop=True)
    if hasattr(frame, "slice"):
        return frame.slice(start, end - start)
    return frame[start:end]
