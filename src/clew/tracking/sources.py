"""Where a project's data lie: what its decorators were given, or most likely will be."""

from __future__ import annotations

import ast
import glob
from collections.abc import Iterator, Sequence
from pathlib import Path

from clew.entities import ModelDeclaration


def guessed_sources(root: Path, files: Sequence[str]) -> set[str]:
    """Paths that the project's files give to decorators in plain text: most likely what they declare.

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
            guessed |= {source for node in ast.walk(tree) for source in _sources_of(node)}
    return guessed


def declared_sources(model: ModelDeclaration) -> Iterator[str]:
    if model.dataset.source is not None:
        yield model.dataset.source
    yield from model.files.values()


def names(source: str | None, root: Path, file: Path) -> bool:
    """Whether a source names this file."""
    if source is None or "://" in source:
        return False
    return any(Path(found).resolve() == file for found in glob.glob(str(root / source), recursive=True))  # noqa: PTH207 - may be absolute


def _sources_of(node: ast.AST) -> Iterator[str]:
    """The paths in calls such as ``clew.dataset("rides.parquet")`` and ``clew.model(files="images")``."""
    if not isinstance(node, ast.Call):
        return
    called = ast.unparse(node.func).rpartition(".")[2]
    given: Sequence[ast.expr | None] = []
    if called == "dataset":
        given = node.args[:1]
    elif called == "model":
        files = [word.value for word in node.keywords if word.arg == "files"]
        given = [each for file in files for each in (file.values if isinstance(file, ast.Dict) else [file])]
    for source in given:
        if isinstance(source, ast.Constant) and isinstance(source.value, str):
            yield source.value
