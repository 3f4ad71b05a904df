"""Why a model raised: what is wrong with the rows it was asked about."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pyarrow as pa

from clew.errors import ClewError, DataError, PackageError
from clew.registry.features import N_ROWS_NAMED, FeatureColumn, named_values
from clew.registry.signature import missing, unseen


def explain(error: Exception, columns: Sequence[FeatureColumn], values: Mapping[str, pa.Array]) -> ClewError:
    """The error for a model that raised `error`: about the rows if something is wrong with these."""
    if type(error).__name__ == "NotFittedError":
        return PackageError("The model is not fitted. Return model.fit(train.X, train.y).")
    said = f" The model says: {type(error).__name__}: {_first_line(error)}"
    for column in columns:
        fault = _fault(column, values[column.name])
        if fault is not None:
            sentence, rows = fault
            return DataError(sentence + said, column.name, rows[:N_ROWS_NAMED])
    return PackageError(f"The model raised {type(error).__name__}: {error}")


def _fault(column: FeatureColumn, values: pa.Array) -> tuple[str, list[int]] | None:
    rows = np.flatnonzero(unseen(column, values)).tolist()
    if rows:
        sentence = (
            f"Column {column.name!r} has {named_values(rows, lambda row: values[row].as_py())}, which"
            " training never had. Let the encoder ignore what it does not know:"
            " OneHotEncoder(handle_unknown='ignore') or OrdinalEncoder(handle_unknown='use_encoded_value',"
            " unknown_value=-1)."
        )
        return sentence, rows
    rows = [] if column.has_missing else np.flatnonzero(missing(values)).tolist()
    if rows:
        sentence = (
            f"Column {column.name!r} has no value in {_row_list(rows)}; training had no missing values"
            " there, and the model cannot take them. Put SimpleImputer() into its Pipeline, or send the"
            " value."
        )
        return sentence, rows
    return _infinite(column, values)


def _infinite(column: FeatureColumn, values: pa.Array) -> tuple[str, list[int]] | None:
    if not pa.types.is_floating(values.type):
        return None
    rows = np.flatnonzero(np.isinf(column.numbers(values))).tolist()
    if not rows:
        return None
    return f"Column {column.name!r} is infinite in {_row_list(rows)}, which the model cannot take.", rows


def _row_list(rows: list[int]) -> str:
    shown = ", ".join(map(str, rows[:N_ROWS_NAMED]))
    more = len(rows) - N_ROWS_NAMED
    return f"row{'s' if len(rows) > 1 else ''} {shown}" + (f" and {more:,} more" if more > 0 else "")


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [""])[0][:200]
