"""What a person named in a project: which of its models, and which data its files declare."""

from __future__ import annotations

import ast
from collections.abc import Sequence
from pathlib import Path

from clew.errors import ProjectError, did_you_mean
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
