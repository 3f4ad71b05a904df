"""Packages: a model in a folder, in its library's own format and never as pickle."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from clew.entities import Json
from clew.errors import DataError, PackageError
from clew.registry.flavors import lightgbm_text, onnx_file, skops_file, xgboost_file
from clew.registry.mlmodel import describe, example_rows, recorded_answers, write_json
from clew.registry.models import Answering, LoadedModel, wrap_model
from clew.registry.package_checks import check_package, read_own
from clew.registry.package_files import ANSWERS_FILE, EXAMPLE_FILE, MLMODEL_FILE, PROFILE_FILE, package_digest
from clew.registry.signature import Signature

_NATIVE: Mapping[str, Callable[[Path, Signature], Answering]] = {
    lightgbm_text.NAME: lightgbm_text.load,
    onnx_file.NAME: onnx_file.load,
    xgboost_file.NAME: xgboost_file.load,
}


@dataclass(frozen=True)
class PackageInfo:
    """What came out of packaging.

    Attributes
    ----------
    trusted_types
        Types that are neither Clew's nor trusted by skops itself; a loader trusts exactly these.
    model_digest
        Names the fitted model alone: the same for two fits that came out the same, whatever their runs.
    digest
        Names the package: what :func:`store_package` returns and :func:`load_package` expects.
    """

    flavor: str
    trusted_types: tuple[str, ...]
    model_digest: str
    digest: str


def save_package(
    model: Any,
    folder: Path,
    *,
    signature: Signature,
    example: pa.Table,
    allow_code: bool = False,
    code: str | None = None,
    metrics: Mapping[str, float] | None = None,
    run: str = "",
    profile: Json | None = None,
    created_at: datetime | None = None,
) -> PackageInfo:
    """Write a fitted model into an empty folder, read it back, and hold its answers against the model's.

    Parameters
    ----------
    signature
        What the training rows were; the package keeps the columns that the model uses of it.
    example
        Some rows of features: the first few are kept, all are used to check the package.
    allow_code
        Whether the model may need the project's own code to predict.
    code
        The captured code that the model was fitted by.
    profile
        The reference profile of the rows it was judged on; the model's importances are added to it.
    created_at
        Kept in the package if given; without it the same model gives the same bytes.

    Raises
    ------
    PackageError
        When the model is of a kind that cannot be kept, needs code that it may not, or answers differently
        when read back.
    """
    folder.mkdir(parents=True, exist_ok=True)
    if any(folder.iterdir()):
        raise PackageError(f"{folder} is not empty; a package needs a folder of its own.")
    wrapped = wrap_model(model, signature)
    saved = wrapped.engine.save(folder, allow_code)
    about = describe(
        saved,
        wrapped.flavor,
        wrapped.signature,
        code=code,
        metrics=metrics or {},
        run=run,
        created_at=created_at,
    )
    write_json(folder / MLMODEL_FILE, about)
    write_json(folder / EXAMPLE_FILE, example_rows(wrapped.signature, example))
    if profile is not None:
        # The profile was counted from rows and answers; what the columns matter to it, the model knows best.
        write_json(folder / PROFILE_FILE, profile | {"importance": wrapped.importance})
    if example.num_rows:
        _write_answers(wrapped, folder, example)
    _check_answers(model, wrapped, folder, sorted(saved.trusted_types), example)
    return PackageInfo(
        wrapped.flavor, tuple(sorted(saved.trusted_types)), saved.model_digest, package_digest(folder)
    )


def _write_answers(wrapped: LoadedModel, folder: Path, example: pa.Table) -> None:
    try:
        write_json(folder / ANSWERS_FILE, recorded_answers(wrapped, example))
    except DataError:
        # A model of the project's own may refuse rows that nobody has. It is then known by loading alone.
        return


def load_package(
    folder: Path, *, code_folder: Path | None = None, expected_digest: str | None = None
) -> LoadedModel:
    """Read a package; nothing is unpickled, and only declared types come to life.

    Parameters
    ----------
    code_folder
        The captured code, for a model that needs the project's own classes or functions. It is put on
        ``sys.path`` for good: one process holds one version of a project's code.
    expected_digest
        The package's name in the registry. Without it only what skops trusts by itself is loaded.

    Raises
    ------
    PackageError
        When the package was changed, needs types that cannot be trusted, or cannot be read.
    MissingExtra
        When the library of the model is not installed.
    """
    own = check_package(folder, code_folder, expected_digest)
    return load_checked(folder, own)


def load_checked(folder: Path, own: Json) -> LoadedModel:
    """Read a package of which :func:`check_package` said `own`."""
    signature = Signature.from_json(own["signature"])
    return _load_model(folder, own["flavor"], signature, sorted(own["trusted_types"]))


def package_model_digest(folder: Path) -> str:
    """The `PackageInfo.model_digest` that the package says of itself."""
    digest: str = read_own(folder)["model_digest"]
    return digest


def _load_model(folder: Path, flavor: str, signature: Signature, trusted: list[str]) -> LoadedModel:
    if flavor == skops_file.NAME:
        return LoadedModel(skops_file.load(folder, signature, trusted))
    if flavor not in _NATIVE:
        known = ", ".join(sorted([*_NATIVE, skops_file.NAME]))
        raise PackageError(
            f"The package has the flavor {flavor!r}, but this Clew reads {known}. Install a newer Clew."
        )
    return LoadedModel(_NATIVE[flavor](folder, signature))


def _check_answers(
    model: Any, wrapped: LoadedModel, folder: Path, trusted: list[str], example: pa.Table
) -> None:
    if example.num_rows == 0:
        return
    if isinstance(wrapped.engine, lightgbm_text.LightGBMModel):
        lightgbm_text.check_same_answers(model, wrapped.engine, example)
    if isinstance(wrapped.engine, xgboost_file.XGBoostModel):
        xgboost_file.check_same_answers(model, wrapped.engine, example)
    before = wrapped.predict(example)
    after = _load_model(folder, wrapped.flavor, wrapped.signature, trusted).predict(example)
    if not before.is_same(after):
        n_changed = int(np.sum(before.predicted != after.predicted))
        raise PackageError(
            f"The model answers differently when it is read back: {n_changed} of {len(before)} predictions"
            " changed, or their probabilities did. Its predict must depend on nothing but what fit stored in"
            " its attributes."
        )
