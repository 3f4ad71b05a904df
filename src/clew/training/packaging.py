"""Packaging a fitted model, in the child that holds it."""

from __future__ import annotations

from pathlib import Path

from clew.entities import Json, RowRange
from clew.registry import PackageInfo, reference_profile, save_package
from clew.training.fitting import Fitted, Rows

N_EXAMPLE_ROWS = 100


def package(data: Rows, fitted: Fitted, header: Json) -> PackageInfo:
    """Write `fitted` into ``header["folder"]`` with the profile of the rows it was judged on."""
    declaration = data.spec.declaration
    part = data.parts(fitted.rows if header["rows"] is None else (RowRange(*header["rows"]),))
    features = part.select(data.features)
    profile = reference_profile(
        features,
        fitted.loaded.predict(features),
        labels=part.column(declaration.dataset.label).to_pylist(),
        model=fitted.loaded,
    )
    return save_package(
        fitted.model,
        Path(header["folder"]),
        signature=fitted.signature,
        example=features.slice(0, N_EXAMPLE_ROWS),
        allow_code=declaration.allow_code,
        code=header["code"],
        metrics=header["metrics"],
        run=header["run"],
        profile=profile,
    )
