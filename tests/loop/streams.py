"""Generated streams whose truth is known, as small real projects: a Parquet file and the file that declares.

All are binary labels drawn from a logistic model of five normal features, forty rows a day from the first of
January 2024 on. What differs is how the truth moves.
"""

from __future__ import annotations

import textwrap
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TypeAlias

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

Array: TypeAlias = "np.ndarray[tuple[int, ...], np.dtype[np.float64]]"

BEGIN = datetime(2024, 1, 1, tzinfo=UTC)
ROWS_A_DAY = 40
FIRST_DAYS = 100
"""Days that the first champion learns from."""

SHARPNESS = 5.0
"""Odds of a label grow by e to this power with each unit of score: about 88 % of labels follow its sign."""

LABEL_DELAY = timedelta(days=2)


@dataclass(frozen=True, slots=True)
class Stream:
    """Rows in order of time.

    Attributes
    ----------
    X
        Features, shape ``(n, 5)``.
    y
        Labels 0 and 1, shape ``(n,)``.
    angle
        By how much the truth has turned at each row, in radians, shape ``(n,)``: half a circle where every
        label is the opposite. Broken labels are no truth, and turn nothing.
    changes
        The first row of each new truth; for broken labels the first broken row and the first after them.
    """

    X: Array
    y: np.ndarray
    angle: Array
    changes: tuple[int, ...] = ()

    def __len__(self) -> int:
        return len(self.y)

    def time_of(self, row: float) -> datetime:
        return BEGIN + timedelta(days=row / ROWS_A_DAY)

    def row_at(self, moment: datetime) -> int:
        """The first row that is not before `moment`."""
        return -((BEGIN - moment) // timedelta(days=1 / ROWS_A_DAY))

    def turned(self, start: datetime, end: datetime) -> float:
        """How far apart the truths of the rows from `start` to `end` lie, in radians."""
        return float(np.ptp(self.angle[self.row_at(start) : self.row_at(end)]))

    def table(self) -> pa.Table:
        times = np.datetime64("2024-01-01", "us") + np.arange(len(self)) * np.timedelta64(36, "m")
        features = {f"x{place}": self.X[:, place] for place in range(self.X.shape[1])}
        keys = [f"r{place:06d}" for place in range(len(self))]
        at = pa.array(times).cast(pa.timestamp("us", "UTC"))
        return pa.table({"at": at, "id": keys, **features, "y": self.y})


def start_of_life(shift_days: int = 0) -> datetime:
    """When the first champion goes live."""
    return BEGIN + timedelta(days=FIRST_DAYS + shift_days)


# -- truths ------------------------------------------------------------------------------------------------


def calm(n_rows: int, seed: int = 0) -> Stream:
    """The truth stays as it is."""
    return _drawn(n_rows, seed, lambda days: 0.0 * days)


def flipping(n_rows: int, seed: int = 0) -> Stream:
    """At four moments, evenly spread over life, every label turns into its opposite."""
    stream, first = calm(n_rows, seed), FIRST_DAYS * ROWS_A_DAY
    changes = tuple(first + (n_rows - first) * fifth // 5 for fifth in (1, 2, 3, 4))
    is_flipped = np.searchsorted(changes, np.arange(n_rows), side="right") % 2 == 1
    y = np.where(is_flipped, 1 - stream.y, stream.y)
    return replace(stream, y=y, angle=np.pi * is_flipped, changes=changes)


def turning(n_rows: int, seed: int = 0) -> Stream:
    """From the start of life on the truth turns steadily, by three eighths of a circle in all."""
    n_days = n_rows / ROWS_A_DAY - FIRST_DAYS
    return _drawn(n_rows, seed, lambda days: np.clip((days - FIRST_DAYS) / n_days, 0, 1) * 0.75 * np.pi)


def seasonal(n_rows: int, seed: int = 0) -> Stream:
    """The truth swings to and fro once a year."""
    return _drawn(n_rows, seed, lambda days: 0.9 * np.sin(2 * np.pi * days / 365))


def broken(n_rows: int, how: str, seed: int = 0) -> Stream:
    """For thirty days the labels are wrong: ``"constant"``, or ``"permuted"`` among these rows."""
    stream, first = calm(n_rows, seed), FIRST_DAYS * ROWS_A_DAY
    start = first + (n_rows - first) * 2 // 5
    end = start + 30 * ROWS_A_DAY
    y = stream.y.copy()
    random = np.random.default_rng(seed + 7)
    y[start:end] = 0 if how == "constant" else random.permutation(y[start:end])
    return replace(stream, y=y, changes=(start, end))


def scrambled(stream: Stream, row: int, seed: int) -> Stream:
    """The same up to the time of `row`, and anything after it.

    Features from `row` on are drawn anew, and so are all labels that were not complete by then, also those
    of rows before it; neither holds any truth.
    """
    random, X, y = np.random.default_rng(seed), stream.X.copy(), stream.y.copy()
    unmatured = row - LABEL_DELAY // timedelta(days=1) * ROWS_A_DAY
    X[row:] = random.normal(2.0, 3.0, size=X[row:].shape)
    y[unmatured:] = random.integers(0, 2, len(y) - unmatured)
    return replace(stream, X=X, y=y)


def _drawn(n_rows: int, seed: int, angle: Callable[[Array], Array]) -> Stream:
    random = np.random.default_rng(seed + 1000)
    X = random.normal(size=(n_rows, 5))
    turn = angle(np.arange(n_rows) / ROWS_A_DAY)
    score = np.cos(turn) * X[:, 0] + np.sin(turn) * X[:, 1] + 0.2 * X[:, 4]
    chance = 1 / (1 + np.exp(-SHARPNESS * score))
    return Stream(X, (random.random(n_rows) < chance).astype(np.int64), turn)


# -- projects ----------------------------------------------------------------------------------------------

DATASET = """
import clew
import numpy as np
from sklearn.linear_model import LogisticRegression

@clew.dataset("stream.parquet", time="at", key="id", label="y", label_delay="2d")
def stream(table):
    return table
"""
LEARNER = """
@clew.model(stream, metric="accuracy", margin=0.01)
def learner(train):
    return LogisticRegression().fit(train.X, train.y)
"""


def write_project(
    folder: Path, rows: Stream | pa.Table, model: str = LEARNER, dataset: str = DATASET
) -> Path:
    """Make `folder` a project with these rows; the file that declares is ``learner.py``."""
    folder.mkdir(parents=True, exist_ok=True)
    pq.write_table(rows.table() if isinstance(rows, Stream) else rows, folder / "stream.parquet")
    (folder / "clew.toml").write_text('models = ["learner.py"]\n', encoding="utf-8")
    code = textwrap.dedent(dataset) + textwrap.dedent(model)
    (folder / "learner.py").write_text(code, encoding="utf-8")
    return folder
