"""Which files a project reads its tables from, as far as its text and its declarations say."""

from __future__ import annotations

import ast
import glob
from collections.abc import Sequence
from pathlib import Path


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


def names(source: str | None, root: Path, file: Path) -> bool:
    """Whether a source names this file."""
    if source is None or "://" in source:
        return False
    return any(Path(found).resolve() == file for found in glob.glob(str(root / source), recursive=True))  # noqa: PTH207 - may be absolute
