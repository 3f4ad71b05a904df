"""What a project declares: which model is meant, and which files are most likely its data."""

from __future__ import annotations

import ast
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from clew.entities import ModelDeclaration, Param
from clew.errors import ProjectError, UsageError, did_you_mean
from clew.training import Described


def guessed_sources(root: Path, files: Sequence[str]) -> set[str]:
    """Paths that the project's files give to ``@clew.dataset`` in plain text: most likely what they declare.

    A right guess saves a second capture and a second process; a wrong one only costs these.
    """
    guessed: set[str] = set()
    for file in files:
        path = root / file
        if path.is_file():
            try:
                tree = ast.parse(path.read_bytes())
            except (SyntaxError, ValueError):
                continue  # the child will say what is wrong with the file, in the user's own lines
            guessed |= {source for node in ast.walk(tree) if (source := _source_of(node)) is not None}
    return guessed


def _source_of(node: ast.AST) -> str | None:
    """The path in a call such as ``clew.dataset("rides.parquet", …)``."""
    if not isinstance(node, ast.Call) or ast.unparse(node.func).rpartition(".")[2] != "dataset":
        return None
    source = node.args[0] if node.args else None
    return source.value if isinstance(source, ast.Constant) and isinstance(source.value, str) else None


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
