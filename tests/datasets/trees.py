"""Folders of files for the tests: made from a mapping, and read back into one."""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple, TypeAlias


class Link(NamedTuple):
    """Where a link points."""

    target: bytes


class Program(NamedTuple):
    """A file that may be executed."""

    content: bytes


Content: TypeAlias = "bytes | Link | Program | None"
Tree: TypeAlias = Mapping[bytes, Content]
"""By path: a file's bytes, a link, a program, or None for an empty folder."""


def make(top: Path, tree: Tree) -> Path:
    """Make a folder that holds this."""
    top.mkdir(parents=True, exist_ok=True)
    for name, content in tree.items():
        path = os.fsencode(top) + b"/" + name
        os.makedirs(path if content is None else os.path.dirname(path), exist_ok=True)  # noqa: PTH103, PTH120
        if isinstance(content, Link):
            os.symlink(content.target, path)  # noqa: PTH211
        elif content is not None:
            place = Path(os.fsdecode(path))
            place.write_bytes(content.content if isinstance(content, Program) else content)
            place.chmod(0o755 if isinstance(content, Program) else 0o644)
    return top


def read(top: Path) -> dict[bytes, Content]:
    """What a folder holds."""
    found: dict[bytes, Content] = {}
    start = os.fsencode(top)
    for folder, folders, files in os.walk(start):
        if not folders and not files and folder != start:
            found[folder[len(start) + 1 :]] = None
        for name in [*files, *(each for each in folders if os.path.islink(folder + b"/" + each))]:  # noqa: PTH114
            path = folder + b"/" + name
            found[path[len(start) + 1 :]] = _content(path)
    return found


def _content(path: bytes) -> Content:
    mode = os.lstat(path).st_mode
    if stat.S_ISLNK(mode):
        return Link(os.readlink(path))  # noqa: PTH115
    content = Path(os.fsdecode(path)).read_bytes()
    return Program(content) if mode & stat.S_IXUSR else content
