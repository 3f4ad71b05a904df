"""Models that answer single rows of JSON: what a process that predicts for callers holds.

A LightGBM or XGBoost package is answered by that library alone; neither its Python package nor pandas,
scikit-learn, NumPy or Arrow is imported for it. Any other package is answered by the model as
:func:`clew.registry.load_package` gives it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

from clew.entities import Json
from clew.errors import PackageError
from clew.registry.package_checks import check_package
from clew.registry.package_files import EXAMPLE_FILE

if TYPE_CHECKING:
    from clew.storage.records import Value

Encoded: TypeAlias = Any
"""A row as one model takes it; worth nothing to another model."""


class Engine(Protocol):
    """What answers rows of one flavor."""

    @property
    def names(self) -> tuple[str, ...]: ...

    @property
    def classes(self) -> tuple[Any, ...] | None: ...

    def encode(self, row: Mapping[str, Value]) -> tuple[Encoded, tuple[str, ...]]: ...

    def answer(self, rows: Sequence[Encoded]) -> tuple[list[Value], list[tuple[float, ...]] | None]: ...


class RowModel:
    """A model that answers rows.

    Several threads may ask it at once. What it holds is freed when nobody refers to it any more.

    Attributes
    ----------
    names
        The fields it takes of a row, in the order of the fit: it may use fewer than the dataset has.
    classes
        The class of each probability; None for regression.
    """

    def __init__(self, engine: Engine, folder: Path) -> None:
        self.names, self.classes = engine.names, engine.classes
        self._engine, self._folder = engine, folder

    def encode(self, row: Mapping[str, Value]) -> tuple[Encoded, tuple[str, ...]]:
        """A row as this model takes it, and the names of fields with a category that training never had.

        Such a category counts as missing, and so does null, which is always allowed. Fields that the model
        does not know are ignored.

        Raises
        ------
        DataError
            When a field is not there or has another kind of value than in training; `column` names it.
        """
        return self._engine.encode(row)

    def answer(self, rows: Sequence[Encoded]) -> tuple[list[Value], list[tuple[float, ...]] | None]:
        """For each encoded row the label or number, and the probabilities in the order of the classes.

        Of equally probable classes the first one. None in place of the probabilities for regression, and
        where the model has none.

        Raises
        ------
        DataError
            When the model cannot take a value, such as a missing one: `column` and `rows` name it.
        PackageError
            When the model itself is at fault.
        """
        return self._engine.answer(rows)

    def warm(self) -> None:
        """Answer the package's own example, so that no caller waits for what happens only once.

        Raises
        ------
        DataError, PackageError
            When the model cannot: it could not answer a caller either.
        """
        encoded = [self.encode(row)[0] for row in _example_rows(self._folder)]
        self.answer(encoded)
        for row in encoded:
            self.answer([row])


def open_row_model(folder: Path, *, code_folder: Path | None = None, expected_digest: str) -> RowModel:
    """Read a package to answer single rows; its answers are to the bit those of :func:`load_package`.

    Parameters
    ----------
    code_folder
        The captured code, for a model that needs the project's own; it stays on ``sys.path``.
    expected_digest
        The package's name in the registry.

    Raises
    ------
    PackageError
        When the package was changed, needs types that cannot be trusted, or cannot be read.
    MissingExtra
        When the library of the model is not installed.
    """
    own = check_package(folder, code_folder, expected_digest)
    return RowModel(_engine(folder, own), folder)


def _engine(folder: Path, own: Json) -> Engine:
    # Each is imported when it is needed: a worker takes the memory of its own models only.
    if own["flavor"] == "lightgbm":
        from clew.registry.flavors.lightgbm_rows import LightGBMRows

        return LightGBMRows(folder, own["signature"])
    if own["flavor"] == "xgboost":
        from clew.registry.flavors.xgboost_rows import XGBoostRows

        return XGBoostRows(folder, own["signature"])
    from clew.registry.arrow_rows import ArrowRows
    from clew.registry.packages import load_checked

    return ArrowRows(load_checked(folder, own))


def _example_rows(folder: Path) -> list[dict[str, Value]]:
    try:
        example = json.loads((folder / EXAMPLE_FILE).read_bytes())
        return [dict(zip(example["columns"], values, strict=True)) for values in example["data"]]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise PackageError(f"The package in {folder} has no example that can be read: {error}") from None
