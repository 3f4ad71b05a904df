"""What lies in a folder: every name, of which kind it is, and by what the system tells that it changed.

Names are bytes, as the system keeps them: any encoding, or none. Links are never followed, so nothing outside
the folder is looked at and a link in a circle is just a link.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Sequence
from pathlib import Path
from typing import Literal, NamedTuple, TypeAlias

from clew.errors import DataError

FileKind: TypeAlias = Literal["file", "executable", "link", "folder"]

_SHOWN = 8


class Seen(NamedTuple):
    """A name in a folder as one look found it.

    `path` begins below the folder. A folder is listed when it is empty, and then its other facts are zero.
    """

    path: bytes
    kind: FileKind
    size: int
    mtime_ns: int
    ctime_ns: int
    inode: int


class Failed(NamedTuple):
    """A name that could not be looked at or read, and why."""

    path: bytes
    why: str


def scan_folder(top: bytes) -> list[Seen]:
    """Everything in a folder, in the order of the bytes of its names.

    Raises
    ------
    DataError
        Naming all that cannot be listed or kept, such as a folder without permission or a socket.
    """
    found: list[Seen] = []
    failed: list[Failed] = []
    folders = [b""]
    while folders:
        _scan_one(top, folders.pop(), found, folders, failed)
    if failed:
        raise unreadable(top, failed)
    found.sort()
    return found


def _scan_one(
    top: bytes, folder: bytes, found: list[Seen], folders: list[bytes], failed: list[Failed]
) -> None:
    prefix = folder + b"/" if folder else b""
    is_empty = True
    try:
        with os.scandir(top + b"/" + folder) as entries:
            for entry in entries:
                is_empty = False
                path = prefix + entry.name
                if entry.is_dir(follow_symlinks=False):
                    folders.append(path)
                else:
                    _look(path, entry, found, failed)
    except OSError as error:
        failed.append(Failed(folder or b".", error.strerror or str(error)))
        return
    if is_empty and folder:
        found.append(Seen(folder, "folder", 0, 0, 0, 0))


def _look(path: bytes, entry: os.DirEntry[bytes], found: list[Seen], failed: list[Failed]) -> None:
    try:
        seen = entry.stat(follow_symlinks=False)
    except FileNotFoundError:
        return  # gone since it was listed: then it is not in the folder
    except OSError as error:
        failed.append(Failed(path, error.strerror or str(error)))
        return
    kind = kind_of_mode(seen.st_mode)
    if kind is None:
        failed.append(Failed(path, _special(seen.st_mode)))
        return
    found.append(Seen(path, kind, seen.st_size, seen.st_mtime_ns, seen.st_ctime_ns, seen.st_ino))


def kind_of_mode(mode: int) -> FileKind | None:
    """What is kept of a mode: the kind, and whether the owner may execute it; None for what is no file.

    Examples
    --------
    >>> [kind_of_mode(mode) for mode in (0o100644, 0o100755, 0o120777, 0o140755)]
    ['file', 'executable', 'link', None]
    """
    if stat.S_ISREG(mode):
        return "executable" if mode & stat.S_IXUSR else "file"
    return "link" if stat.S_ISLNK(mode) else None


def _special(mode: int) -> str:
    kinds = {stat.S_IFIFO: "a pipe", stat.S_IFSOCK: "a socket", stat.S_IFCHR: "a device"}
    return f"it is {kinds.get(stat.S_IFMT(mode), 'a device')}, which has no content to keep"


def resolved(folder: Path) -> bytes:
    """The folder itself, when a link leads to it.

    Raises
    ------
    DataError
        When it is no folder.
    """
    if not folder.is_dir():
        what = "is a file" if folder.exists() else "does not exist"
        raise DataError(f"{folder} {what}; name a folder.")
    return os.fsencode(folder.resolve())


def shown(path: bytes) -> str:
    """A name for people: what is no text in it is escaped.

    Examples
    --------
    >>> shown("grün.png".encode()), shown(b"gr\\xfcn.png"), shown(b"two\\nlines")
    ('grün.png', 'gr\\\\xfcn.png', 'two\\\\nlines')
    """
    text = path.decode("utf-8", "backslashreplace")
    return text if text.isprintable() else "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)


def listed(paths: Sequence[str]) -> str:
    """The first few of many names."""
    more = f" and {len(paths) - _SHOWN:,} more" if len(paths) > _SHOWN else ""
    return ", ".join(paths[:_SHOWN]) + more


def unreadable(top: bytes, failed: Sequence[Failed]) -> DataError:
    """An error that names everything that could not be read."""
    told = [f"{shown(each.path)} ({each.why})" for each in sorted(failed)]
    n = f"{len(failed):,} names in it" if len(failed) > 1 else "a name in it"
    return DataError(
        f"{shown(top)} cannot be kept, because {n} cannot be read: {listed(told)}. Give yourself the right to"
        " read them, or move them out of the folder."
    )
