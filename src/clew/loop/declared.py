"""What a project declares: which model is meant, with which hyperparameters."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from clew.entities import ModelDeclaration, Param
from clew.errors import ProjectError, UsageError, did_you_mean
from clew.training import Described


def chosen_model(models: Sequence[Described], name: str | None) -> Described:
    """The model that was named, or the only one.

    Raises
    ------
    ProjectError
        When there is no such model, or one has to be named; the message names those that exist.
    """
    by_name = {described.model.name: described for described in models}
    if name is not None and name in by_name:
        return by_name[name]
    if name is not None:
        raise ProjectError(f"The project declares no model {name!r}. {did_you_mean(name, by_name)}")
    if len(models) > 1:
        raise ProjectError(
            f"The project declares {len(models)} models: {', '.join(by_name)}. Name one, such as:"
            f" {models[0].file}:{models[0].model.name}"
        )
    return models[0]


def params_of(
    declaration: ModelDeclaration, from_file: Mapping[str, Any], given: Mapping[str, Any]
) -> dict[str, Param]:
    """Every hyperparameter with its value and where that came from.

    Raises
    ------
    UsageError
        When the model has none of a name.
    """
    chosen = {name: Param(value, "default") for name, value in declaration.params.items()}
    for source, values in (("clew.toml", from_file), ("command line", given)):
        for name, value in values.items():
            if name not in chosen:
                raise UsageError(
                    f"{declaration.name} has no hyperparameter {name!r} ({source})."
                    f" {did_you_mean(name, chosen)}"
                )
            chosen[name] = Param(value, source)  # type: ignore[arg-type]
    return chosen
