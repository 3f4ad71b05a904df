"""The reference profile: how the rows were distributed on which a version was judged.

Numbers are counted in bins of equally many reference rows, categories by their most frequent values.
The bins are kept with the counts, so that any later window is counted in the same bins and windows add
up. It holds counts only, no rows.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from clew.entities import Json
from clew.errors import DataError
from clew.registry.features import plain
from clew.registry.frames import Frame, pick_columns
from clew.registry.models import LoadedModel
from clew.registry.predictions import Predictions
from clew.stats.bins import CategoryBins, NumericBins, bins_from_dict, category_bins, level_name, numeric_bins

FORMAT = 0


def reference_profile(
    table: pa.Table,
    predictions: Predictions,
    *,
    categorical: Collection[str] = (),
    labels: npt.ArrayLike | None = None,
    model: LoadedModel | None = None,
) -> Json:
    """Count the rows that a version was judged on, in bins that these rows set.

    Parameters
    ----------
    table
        The feature columns.
    predictions
        What the version answered for these rows.
    categorical
        Columns to count by value although they hold numbers; strings and booleans always are.
    labels
        The truth about these rows, shape ``(n_rows,)``, None or NaN where it is unknown.
    model
        Says which columns are categorical and what they matter to it.

    Returns
    -------
    dict
        ``n_rows``; ``columns``: by name ``bins`` and ``counts``; ``scores``: for each class, or for the
        predicted number, ``of``, ``bins`` and ``counts``; ``predicted`` and ``labels``: the shares of
        classes in the same form, or None; ``importance``: the share of each column, or None.
    """
    by_value = set(categorical) | _categorical_of(model)
    columns = {name: _binned(_values(table, name), name in by_value) for name in table.column_names}
    return {
        "format": FORMAT,
        "n_rows": table.num_rows,
        "columns": columns,
        "scores": [{"of": of, **_counted(numeric_bins(score), score)} for of, score in _scores(predictions)],
        "predicted": _class_shares(predictions.predicted, predictions.classes),
        "labels": None if labels is None else _label_bins(labels, predictions.classes),
        "importance": None if model is None else model.importance,
    }


def profile_counts(
    profile: Json, table: Frame, predictions: Predictions, *, labels: npt.ArrayLike | None = None
) -> Json:
    """Count a window's rows in the bins of a reference profile.

    Returns
    -------
    dict
        ``n_rows``, ``columns`` (counts by name), ``scores`` (a list of counts), ``predicted`` and ``labels``
        (counts or None): counts in the order of the profile's bins, the missing ones last. Counts of two
        windows add up to those of both.

    Raises
    ------
    DataError
        When the table lacks a column of the profile, or has text where the profile has numbers.
    """
    given = pick_columns(table, list(profile["columns"]))
    scores = _scores(predictions)
    return {
        "n_rows": len(predictions),
        "columns": {
            name: _counts(_bins(entry), plain(given[name]), name)
            for name, entry in profile["columns"].items()
        },
        "scores": [
            _bins(entry).counts(score).tolist()
            for entry, (_, score) in zip(profile["scores"], scores, strict=True)
        ],
        "predicted": _counts_of(profile["predicted"], predictions.predicted),
        "labels": None if labels is None else _counts_of(profile["labels"], labels),
    }


def _categorical_of(model: LoadedModel | None) -> set[str]:
    columns = () if model is None else model.signature.columns
    return {column.name for column in columns if column.levels is not None}


def _values(table: pa.Table, name: str) -> pa.Array:
    return plain(table.column(name))


def _binned(values: pa.Array, is_categorical: bool) -> Json:
    if is_categorical or pa.types.is_string(values.type) or pa.types.is_boolean(values.type):
        bins: CategoryBins | NumericBins = category_bins(values.to_pylist())
    else:
        bins = numeric_bins(_numbers(values))
    return {"bins": bins.to_dict(), "counts": _counts(bins, values, "")}


def _totals(values: pa.Array) -> dict[Any, int]:
    counted = pc.value_counts(values)
    return dict(zip(counted.field(0).to_pylist(), counted.field(1).to_pylist(), strict=True))


def _counts(bins: CategoryBins | NumericBins, values: pa.Array, name: str) -> list[int]:
    if isinstance(bins, CategoryBins):
        return list(bins.counts_of_totals(_totals(values)).tolist())
    if pa.types.is_string(values.type):
        raise DataError(f"Column {name!r} has text, but its reference profile counts numbers.", name)
    return list(bins.counts(_numbers(values)).tolist())


def _numbers(values: pa.Array) -> np.ndarray:
    if pa.types.is_timestamp(values.type) or pa.types.is_date(values.type):
        # Microseconds whatever the unit, so that a reference and a window count the same.
        values = values.cast(pa.timestamp("us", getattr(values.type, "tz", None)), safe=False).cast(
            pa.int64()
        )
    elif pa.types.is_duration(values.type):
        values = values.cast(pa.duration("us"), safe=False).cast(pa.int64())
    return np.asarray(values.cast(pa.float64(), safe=False).to_numpy(zero_copy_only=False), np.float64)


def _scores(predictions: Predictions) -> list[tuple[Any, np.ndarray]]:
    if predictions.probabilities is not None and predictions.classes is not None:
        return list(zip(predictions.classes, predictions.probabilities.T, strict=True))
    return [] if predictions.classes is not None else [(None, predictions.predicted)]


def _counted(bins: NumericBins | CategoryBins, values: npt.ArrayLike) -> Json:
    return {"bins": bins.to_dict(), "counts": bins.counts(values).tolist()}


def _class_shares(values: npt.ArrayLike, classes: tuple[Any, ...] | None) -> Json | None:
    if classes is None:
        return None
    return _counted(CategoryBins(tuple(level_name(value) for value in classes)), values)


def _label_bins(labels: npt.ArrayLike, classes: tuple[Any, ...] | None) -> Json | None:
    return _class_shares(labels, classes) or _counted(numeric_bins(labels), labels)


def _bins(entry: Json) -> CategoryBins | NumericBins:
    return bins_from_dict(entry["bins"])


def _counts_of(entry: Json | None, values: npt.ArrayLike) -> list[int] | None:
    return None if entry is None else list(_bins(entry).counts(values).tolist())
