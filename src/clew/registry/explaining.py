"""What each column contributed to an answer, computed by the version that gave it.

Three methods, of which the first that fits the model is taken; each is named in what it gives:

- LightGBM computes Shapley values of its trees itself (Lundberg et al. 2020, Nature Machine Intelligence 2,
  56-67). They and the base add up to the raw score.
- For a linear model on columns of numbers: coefficient times the distance from the reference's median.
- For all others: how far the answer moves when one column alone takes the reference's usual value, a median
  or the most frequent category. These differences need not add up to anything.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from clew.entities import Json
from clew.registry.arrow_rows import ArrowRow
from clew.registry.features import FeatureColumn
from clew.registry.flavors.lightgbm_text import LightGBMModel
from clew.registry.flavors.skops_file import SkopsModel
from clew.registry.models import LoadedModel
from clew.registry.thresholds import positive_place
from clew.stats.bins import level_name

if TYPE_CHECKING:
    from clew.registry.predictions import Predictions
    from clew.storage.records import Value

TREES = "Shapley values of the trees (LightGBM pred_contrib)"
LINEAR = "coefficient × (value - reference median)"
ONE_AT_A_TIME = "difference when the column alone takes its reference value (median, most frequent)"


@dataclass(frozen=True, slots=True)
class Explanation:
    """What a version answers to one row, and what its columns had to do with it.

    Attributes
    ----------
    score
        The probability of the class asked about, or the number.
    contributions
        By column, in `unit`; above zero speaks for the class, or for a greater number.
    base
        What the answer is without them: contributions and base add up to the answer in `unit`; None where
        they need not.
    """

    score: float | None
    contributions: Mapping[str, float] = field(default_factory=dict)
    method: str = ""
    unit: str = ""
    base: float | None = None


def explain_rows(
    model: LoadedModel,
    rows: Sequence[Mapping[str, Value]],
    places: Sequence[int] | None,
    profile: Json | None,
) -> list[Explanation]:
    """Answer rows of JSON again, and say what each column contributed.

    Parameters
    ----------
    places
        For each row that of the class asked about among the model's classes; None for numbers.
    profile
        The reference profile that the version was packaged with; without it only trees are explained.

    Raises
    ------
    DataError
        When the model cannot take a row.
    """
    asked = _Asked.of(model, rows, places)
    engine = model.engine
    explained: list[Explanation] | None = None
    if isinstance(engine, LightGBMModel):
        explained = _by_trees(engine, asked)
    if explained is None and isinstance(engine, SkopsModel) and profile is not None:
        explained = _by_coefficients(engine, asked, profile)
    if explained is None and profile is not None:
        explained = _one_at_a_time(model, asked, profile)
    return explained or [Explanation(score) for score in asked.told]


def places_told(classes: Sequence[Any] | None, positive: Any, predicted: Sequence[Value]) -> list[int] | None:
    """Which class each answer is explained for: of two the positive one, else the one that was answered.

    Examples
    --------
    >>> places_told(("no", "yes"), None, ["no", "yes"]), places_told(("a", "b", "c"), None, ["c"])
    ([1, 1], [2])
    """
    if classes is None:
        return None
    known = list(classes)
    if len(known) == 2:
        return [positive_place(known, positive)[0]] * len(predicted)
    return [known.index(answer) if answer in known else 0 for answer in predicted]


@dataclass(frozen=True, slots=True)
class _Asked:
    """Rows in the model's types, the class that is asked about in each, and the scores."""

    values: Mapping[str, pa.Array]
    places: np.ndarray | None
    scores: np.ndarray

    @classmethod
    def of(
        cls, model: LoadedModel, rows: Sequence[Mapping[str, Value]], places: Sequence[int] | None
    ) -> _Asked:
        values = _columns(model, rows)
        at = None if places is None else np.asarray(places, np.intp)
        return cls(values, at, _scores(model.engine.answer(values), at))

    @property
    def told(self) -> list[float | None]:
        return [None if np.isnan(score) else float(score) for score in self.scores]


def _columns(model: LoadedModel, rows: Sequence[Mapping[str, Value]]) -> dict[str, pa.Array]:
    """The rows in the model's types, read as those of requests are."""
    reader = ArrowRow(model.signature)
    encoded = [reader.encode(row)[0] for row in rows]
    return {
        column.name: pa.array([row[at] for row in encoded], column.arrow_type)
        for at, column in enumerate(model.signature.columns)
    }


def _scores(answers: Predictions, places: np.ndarray | None) -> np.ndarray:
    """The number answered, or the probability of the class asked about; NaN for a model that gives none."""
    if places is None:
        return np.asarray(answers.predicted, np.float64)
    if answers.probabilities is None:
        return np.full(len(answers), np.nan)
    return np.asarray(answers.probabilities[np.arange(len(answers)), places], np.float64)


# -- trees ---------------------------------------------------------------------------------------------


def _by_trees(engine: LightGBMModel, asked: _Asked) -> list[Explanation] | None:
    from lightgbm.basic import LightGBMError  # installed, or the model would not be here

    try:
        given = np.asarray(engine.booster.predict(engine.matrix(asked.values), pred_contrib=True))
    except LightGBMError:
        return None  # trees with linear models in their leaves have none
    names, places = engine.signature.names, asked.places
    shares = given.reshape(len(asked.scores), engine.booster.num_model_per_iteration(), len(names) + 1)
    if places is None:
        of_class, unit = shares[:, 0], "raw number"
    elif shares.shape[1] > 1:
        of_class, unit = shares[np.arange(len(places)), places], "raw score"
    else:  # one output: the log-odds of the second class
        of_class, unit = shares[:, 0] * np.where(places == 1, 1.0, -1.0)[:, None], "log-odds"
    return [
        Explanation(score, dict(zip(names, each[:-1].tolist(), strict=True)), TREES, unit, float(each[-1]))
        for score, each in zip(asked.told, of_class, strict=True)
    ]


# -- linear models -------------------------------------------------------------------------------------


def _by_coefficients(engine: SkopsModel, asked: _Asked, profile: Json) -> list[Explanation] | None:
    columns, model, places = engine.signature.columns, engine.model, asked.places
    flat = np.asarray(getattr(model, "coef_", np.empty(0)), np.float64)
    is_known = places is None or type(model).__name__ in _LOG_ODDS
    if not is_known or flat.ndim > 2 or flat.size != len(columns) or not hasattr(model, "intercept_"):
        return None
    if any(not _is_numeric(column) for column in columns):
        return None
    centre = np.array([_reference_number(profile, column) for column in columns])
    matrix = np.column_stack([column.numbers(asked.values[column.name]) for column in columns])
    sign = np.ones(len(matrix)) if places is None else np.where(places == 1, 1.0, -1.0)
    shares = np.nan_to_num((matrix - centre) * flat.ravel()) * sign[:, None]
    bases = sign * (float(np.ravel(model.intercept_)[0]) + np.nan_to_num(centre * flat.ravel()).sum())
    unit, names = "raw number" if places is None else "log-odds", engine.signature.names
    return [
        Explanation(score, dict(zip(names, each.tolist(), strict=True)), LINEAR, unit, float(base))
        for score, each, base in zip(asked.told, shares, bases, strict=True)
    ]


_LOG_ODDS = ("LogisticRegression", "LogisticRegressionCV")


def _is_numeric(column: FeatureColumn) -> bool:
    kind = column.arrow_type
    is_number = pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_boolean(kind)
    return is_number and column.levels is None


# -- everything else -----------------------------------------------------------------------------------


def _one_at_a_time(model: LoadedModel, asked: _Asked, profile: Json) -> list[Explanation]:
    shares: dict[str, np.ndarray] = {}
    for column in model.signature.columns:
        usual = _reference_value(profile, column)
        if usual is not None:
            instead = pa.array([usual] * len(asked.scores), column.arrow_type)
            moved = model.engine.answer({**asked.values, column.name: instead})
            shares[column.name] = asked.scores - _scores(moved, asked.places)
    unit = "the label's unit" if asked.places is None else "probability"
    return [
        Explanation(score, {name: float(each[at]) for name, each in shares.items()}, ONE_AT_A_TIME, unit)
        for at, score in enumerate(asked.told)
    ]


def _reference_number(profile: Json, column: FeatureColumn) -> float:
    usual = _reference_value(profile, column)
    return np.nan if usual is None else float(usual)


def _reference_value(profile: Json, column: FeatureColumn) -> Any:
    """The usual value of a column as the reference profile's bins know it; None when it knows none.

    A median is the edge of its bin, which is a value that occurred.
    """
    entry = profile["columns"].get(column.name)
    if entry is None or not sum(entry["counts"][:-1]):
        return None
    bins, counts = entry["bins"], np.asarray(entry["counts"][:-1])
    if bins["kind"] == "numeric":
        if not bins["edges"]:
            return None
        middle = int(np.searchsorted(np.cumsum(counts), counts.sum() / 2))
        return _typed(bins["edges"][max(0, min(middle - 1, len(bins["edges"]) - 1))], column)
    level = bins["levels"][int(np.argmax(counts[: len(bins["levels"])]))] if bins["levels"] else None
    return level if level is None else _level(level, column)


def _typed(edge: float, column: FeatureColumn) -> Any:
    kind = column.arrow_type
    if pa.types.is_timestamp(kind) or pa.types.is_date(kind) or pa.types.is_duration(kind):
        wide = (
            pa.duration("us") if pa.types.is_duration(kind) else pa.timestamp("us", getattr(kind, "tz", None))
        )
        return pa.scalar(int(edge), pa.int64()).cast(wide).cast(kind, safe=False).as_py()
    if pa.types.is_boolean(kind):
        return bool(edge)
    return int(edge) if pa.types.is_integer(kind) else edge


def _level(name: str, column: FeatureColumn) -> Any:
    """The value of a level that the profile names as text."""
    known: Sequence[Any] = column.levels or (True, False)
    if pa.types.is_string(column.arrow_type) and column.levels is None:
        return name
    return next((level for level in known if level_name(level) == name), None)
