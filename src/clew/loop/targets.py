"""What a person named in a project: which of its models, with which hyperparameters."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from clew.config import ProjectTarget, Settings
from clew.entities import ModelDeclaration, Param
from clew.errors import ProjectError, UsageError, did_you_mean
from clew.training import Described


def chosen(models: Sequence[Described], name: str | None) -> Described:
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
    settings: Settings, declaration: ModelDeclaration, given: Mapping[str, Any]
) -> dict[str, Param]:
    """Every hyperparameter with its value and where that came from."""
    chosen = {name: Param(value, "default") for name, value in declaration.params.items()}
    from_file = settings.params.get(declaration.name, {})
    for source, values in (("clew.toml", from_file), ("command line", given)):
        for name, value in values.items():
            if name not in chosen:
                raise UsageError(
                    f"{declaration.name} has no hyperparameter {name!r} ({source})."
                    f" {did_you_mean(name, chosen)}"
                )
            chosen[name] = Param(value, source)  # type: ignore[arg-type]
    return chosen


def refuse_params_of_nobody(target: ProjectTarget | None, models: Sequence[Described]) -> None:
    """A misspelled ``[params.…]`` would silently leave the defaults."""
    listed = target.settings.models if target else ()
    if target is None or not listed or not set(listed) <= set(target.files):
        return  # of a file that was not asked for nobody knows the models
    names = [described.model.name for described in models]
    for name in target.settings.params:
        if name not in names:
            raise UsageError(
                f"clew.toml has hyperparameters for {name!r}, but the project declares no such model."
                f" {did_you_mean(name, names)}"
            )
