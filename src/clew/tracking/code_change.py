"""What differs between two captured trees, file by file and line by line."""

from __future__ import annotations

import difflib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from clew.storage import Store
from clew.tracking.code import CodeFile, get_code

MOST_BYTES_COMPARED = 300_000
"""Lines of longer files are not compared: nobody reads that, and it takes minutes."""


@dataclass(frozen=True, slots=True)
class FileChange:
    """One file that differs.

    Attributes
    ----------
    then_bytes, now_bytes
        Its size; None where there is no such file.
    lines
        A unified diff, without its head; empty where the file is no text, is too long, or only its kind
        (executable, link) changed.
    """

    path: str
    kind: Literal["added", "removed", "changed"]
    then_bytes: int | None
    now_bytes: int | None
    lines: tuple[str, ...] = ()

    @property
    def n_added(self) -> int:
        return sum(line.startswith("+") for line in self.lines)

    @property
    def n_removed(self) -> int:
        return sum(line.startswith("-") for line in self.lines)


def code_change(store: Store, then: str, now: str) -> tuple[FileChange, ...]:
    """The files that differ between two captured trees, by path.

    Raises
    ------
    NotFound
        When one of the trees does not exist.
    """
    return () if then == now else tuple(_changes(store, then, now))


def _changes(store: Store, then: str, now: str) -> Iterator[FileChange]:
    before, after = ({file.path: file for file in get_code(store, tree).files} for tree in (then, now))
    for path in sorted({*before, *after}):
        one, other = before.get(path), after.get(path)
        if one != other:
            kind: Literal["added", "removed", "changed"] = (
                "added" if one is None else "removed" if other is None else "changed"
            )
            then_bytes, now_bytes = (None if file is None else file.n_bytes for file in (one, other))
            yield FileChange(path, kind, then_bytes, now_bytes, _lines(store, one, other))


def _lines(store: Store, then: CodeFile | None, now: CodeFile | None) -> tuple[str, ...]:
    texts = [_text(store, file) for file in (then, now)]
    if texts[0] is None or texts[1] is None:
        return ()
    return tuple(unified(texts[0], texts[1]))


def _text(store: Store, file: CodeFile | None) -> str | None:
    """What a file says; None when it is no text."""
    if file is None:
        return ""
    if file.n_bytes > MOST_BYTES_COMPARED:
        return None
    content = store.objects.get(file.digest)
    try:
        return None if b"\0" in content else content.decode()
    except UnicodeDecodeError:
        return None


def unified(then: str, now: str) -> list[str]:
    """The lines that differ, with three around them, and where they stand.

    Examples
    --------
    >>> unified("a\\nb\\n", "a\\nc\\n")
    ['@@ -1,2 +1,2 @@', ' a', '-b', '+c']
    """
    found = difflib.unified_diff(then.splitlines(), now.splitlines(), lineterm="")
    return list(found)[2:]
