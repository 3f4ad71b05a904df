"""Capturing a project's code: its files as objects, their list as one manifest whose digest is the id.

The same files give the same id, with git or without it. The git commit is recorded beside it.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import stat
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from clew.entities import Json
from clew.errors import NotFound, ProjectError, StoreError
from clew.storage import Store, Where, link
from clew.tracking.project_files import PRIVATE_KEY, ProjectFiles, list_project_files
from clew.tracking.submodules import Submodule

MOST_BYTES_A_FILE = 1_000_000
MOST_BYTES_IN_ALL = 50_000_000
FORMAT = 0


@dataclass(frozen=True, slots=True)
class CodeFile:
    """One captured file. Of a symbolic link (always to inside the tree) the content is its target."""

    path: str
    digest: str
    n_bytes: int
    is_executable: bool = False
    is_link: bool = False


@dataclass(frozen=True, slots=True)
class CodeTree:
    """Captured code.

    Attributes
    ----------
    id
        SHA-256 of the manifest: of paths, contents, executable bits and links.
    commit, is_dirty
        The git commit it was captured at, and whether the files differed from it; None without git.
    skipped
        What was left out, with the reason.
    submodules
        The git submodules whose files are among these, each with its commit and where it came from.
    """

    id: str
    commit: str | None
    is_dirty: bool
    files: tuple[CodeFile, ...]
    skipped: tuple[tuple[str, str], ...]
    submodules: tuple[Submodule, ...] = ()


@dataclass(frozen=True, slots=True)
class _Read:
    file: CodeFile
    content: bytes


def capture_code(
    store: Store, root: Path, *, exclude: Sequence[str] = (), written: Sequence[str] = (), now: datetime
) -> CodeTree:
    """Keep the code below `root`: what git tracks, and other files that no ``.gitignore`` leaves out.

    Files that git does not track count up to 1 MB each and 50 MB in all. ``.env`` files, keys and the
    data sources `exclude` are never kept, tracked or not; files that Clew wrote, such as `written`, are not
    kept unless git tracks them. The user's git index is not touched.

    Raises
    ------
    ProjectError
        When a Python file is beyond the limits, or cannot be read: the code would not run.
    """
    root = root.resolve()
    listed = list_project_files(root, exclude, [store.folder.resolve()], written)
    reads, skipped = _read_files(root, listed)
    files = tuple(read.file for read in reads)
    manifest = _manifest(files)
    tree = CodeTree(
        hashlib.sha256(manifest).hexdigest(),
        listed.commit,
        listed.is_dirty,
        files,
        tuple(sorted((_readable(path), reason) for path, reason in (*listed.skipped, *skipped))),
        listed.submodules,
    )
    _record(store, tree, manifest, reads, now)
    return tree


def get_code(store: Store, code_id: str) -> CodeTree:
    """The captured code with this id, or with an id that begins so.

    Raises
    ------
    NotFound
        When no captured code has such an id, or several have.
    """
    with store.read() as reader:
        rows = reader.find("code_trees", {"id": Where("prefix", code_id)}, order_by=["id"], limit=3)
    if len(rows) != 1:
        several = (
            f"begins the ids {', '.join(row['id'][:12] for row in rows)}; give more of it" if rows else ""
        )
        raise NotFound(f"Captured code {code_id!r} {several or 'does not exist in this store'}.")
    row = rows[0]
    skipped = tuple((path, reason) for path, reason in row["skipped"] or ())
    where = {"from_kind": "code", "from_id": row["id"], "to_kind": "submodule"}
    with store.read() as reader:
        submodules = tuple(Submodule.parse(edge["to_id"]) for edge in reader.find("edges", where, ["to_id"]))
    files = _files_of(store, row["manifest"])
    return CodeTree(row["id"], row["commit"], bool(row["is_dirty"]), files, skipped, submodules)


def fetch_code(store: Store, code_id: str, folder: Path) -> None:
    """Lay captured code out in `folder`, whole or not at all; what lies there already stays.

    Raises
    ------
    NotFound
        When there is no such code.
    """
    if folder.exists():
        return
    folder.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    # Beside the folder and moved at the end: a process killed here leaves no half of it behind.
    with tempfile.TemporaryDirectory(prefix=f"{folder.name}.", dir=folder.parent) as unfinished:
        whole = Path(unfinished) / "code"
        materialise_code(store, code_id, whole)
        # Somebody else may have been quicker, with the same files.
        with contextlib.suppress(OSError):
            whole.rename(folder)
    if not folder.is_dir():
        raise StoreError(f"The captured code {code_id[:12]} could not be laid out in {folder}.")


def materialise_code(store: Store, code_id: str, folder: Path) -> None:
    """Write captured code into the folder `folder`, which must be empty or not exist.

    Raises
    ------
    NotFound
        When there is no such code.
    StoreError
        When the folder is not empty, or a captured path would leave it.
    """
    files = get_code(store, code_id).files
    if folder.exists() and any(folder.iterdir()):
        raise StoreError(f"{folder} is not empty; captured code is written into a folder of its own.")
    folder.mkdir(parents=True, exist_ok=True)
    # Links last: no file is ever written through one.
    for file in sorted(files, key=lambda file: file.is_link):
        path = _safe_path(folder, file.path)
        path.parent.mkdir(parents=True, exist_ok=True)
        content = store.objects.get(file.digest)
        if file.is_link:
            target = os.fsdecode(content)
            _safe_path(folder, f"{file.path}/../{target}")
            path.symlink_to(target)
        else:
            path.write_bytes(content)
            path.chmod(0o755 if file.is_executable else 0o644)


# -- reading -------------------------------------------------------------------------------------------


def _read_files(root: Path, listed: ProjectFiles) -> tuple[list[_Read], list[tuple[str, str]]]:
    reads: list[_Read] = []
    skipped: list[tuple[str, str]] = []
    n_untracked_bytes = 0
    # Python first, so that data beside it does not use up what code may take.
    untracked = sorted(listed.untracked, key=lambda path: (not path.endswith(".py"), path))
    limited = set(untracked)
    for path in (*listed.tracked, *untracked):
        try:
            read = _read(root, path, MOST_BYTES_A_FILE if path in limited else None)
            if path in limited:
                n_untracked_bytes += read.file.n_bytes
                if n_untracked_bytes > MOST_BYTES_IN_ALL:
                    raise _Skip(f"brings untracked files above {_size(MOST_BYTES_IN_ALL)} in all")
        except _Skip as reason:
            if path.endswith(".py") and not reason.is_harmless:
                raise _missing_python(path, str(reason)) from None
            skipped.append((path, str(reason)))
        else:
            reads.append(read)
    return sorted(reads, key=lambda read: os.fsencode(read.file.path)), skipped


class _Skip(Exception):
    """Why a file is left out; a harmless reason does not keep a Python file's project from running."""

    def __init__(self, reason: str, is_harmless: bool = False) -> None:
        self.is_harmless = is_harmless
        super().__init__(reason)


def _read(root: Path, path: str, most_bytes: int | None) -> _Read:
    full = root / path
    try:
        status = full.lstat()
        if stat.S_ISLNK(status.st_mode):
            return _of(path, _link_target(root, path), is_link=True)
        if not stat.S_ISREG(status.st_mode):
            raise _Skip("is no regular file", is_harmless=True)
        if most_bytes is not None and status.st_size > most_bytes:
            raise _Skip(
                f"has {_size(status.st_size)}, above the limit of {_size(most_bytes)} for untracked files"
            )
        content = full.read_bytes()
    except FileNotFoundError:
        raise _Skip("vanished while it was read", is_harmless=True) from None
    except OSError as error:
        raise _Skip(f"cannot be read: {error.strerror}") from None
    if PRIVATE_KEY.match(content):
        raise _Skip("holds a private key", is_harmless=True)
    if path.endswith(".ipynb"):
        content = without_outputs(content)
    return _of(path, content, is_executable=bool(status.st_mode & stat.S_IXUSR))


def without_outputs(notebook: bytes) -> bytes:
    """A notebook's code and text, whatever running it left behind; what is no notebook stays as it is.

    Examples
    --------
    >>> cell = b'{"cell_type": "code", "execution_count": 7, "outputs": [{"text": "42"}], "source": "6 * 7"}'
    >>> without_outputs(b'{"cells": [' + cell + b']}').split()
    [b'{"cells":', b'[{"cell_type":', b'"code",', b'"execution_count":', b'null,', b'"outputs":', b'[],',
     b'"source":', b'"6', b'*', b'7"}]}']
    """
    try:
        told = json.loads(notebook)
        for cell in told["cells"]:
            if cell["cell_type"] == "code":
                cell |= {"execution_count": None, "outputs": []}
    except (ValueError, KeyError, TypeError):
        return notebook
    return json.dumps(told, sort_keys=True, ensure_ascii=False, indent=None).encode()


def _of(path: str, content: bytes, is_executable: bool = False, is_link: bool = False) -> _Read:
    digest = hashlib.sha256(content).hexdigest()
    return _Read(CodeFile(path, digest, len(content), is_executable, is_link), content)


def _link_target(root: Path, path: str) -> bytes:
    """Where a link leads, relative to it; links that lead out of the tree are left out."""
    real = Path(os.path.realpath(root / path))
    if not real.is_relative_to(root):
        raise _Skip("is a link to outside the project", is_harmless=True)
    return os.fsencode(os.path.relpath(real, os.path.realpath((root / path).parent)))


def _missing_python(path: str, reason: str) -> ProjectError:
    return ProjectError(
        f"{path} {reason}. Without it the captured code would not run. Commit it to git, which lifts the"
        " limits; or let a .gitignore leave it out if no model needs it."
    )


def _size(n_bytes: int) -> str:
    return f"{n_bytes / 1e6:.1f} MB"


def _readable(path: str) -> str:
    """A path as text that can be stored and shown, whatever bytes its name has."""
    return os.fsencode(path).decode("utf-8", "backslashreplace")


# -- the manifest --------------------------------------------------------------------------------------


def _manifest(files: Iterable[CodeFile]) -> bytes:
    listed = [
        {"path": file.path, "digest": file.digest, "bytes": file.n_bytes, "kind": _kind(file)}
        for file in files
    ]
    # Escapes, also of bytes that are no UTF-8, so that every name has one spelling.
    text = json.dumps(
        {"format": FORMAT, "files": listed}, sort_keys=True, separators=(",", ":"), ensure_ascii=True
    )
    return text.encode("ascii")


def _kind(file: CodeFile) -> str:
    return "link" if file.is_link else "executable" if file.is_executable else "file"


def _files_of(store: Store, manifest: str) -> tuple[CodeFile, ...]:
    content = json.loads(store.objects.get(manifest))
    if content["format"] != FORMAT:
        raise StoreError(
            f"Captured code {manifest[:12]} has format {content['format']}; this Clew reads {FORMAT}."
        )
    return tuple(map(_file_of, content["files"]))


def _file_of(listed: Json) -> CodeFile:
    kind = listed["kind"]
    return CodeFile(listed["path"], listed["digest"], listed["bytes"], kind == "executable", kind == "link")


def _safe_path(folder: Path, path: str) -> Path:
    if path.startswith("/") or os.path.normpath(path).split("/")[0] == "..":
        raise StoreError(
            f"Captured code has the path {path!r}, which leaves its folder; nothing was written there."
        )
    return folder / path


def _record(store: Store, tree: CodeTree, manifest: bytes, reads: Iterable[_Read], now: datetime) -> None:
    with store.read() as reader:
        known = reader.get("code_trees", id=tree.id)
    if known is None:
        for read in reads:
            store.objects.put(read.content)
        store.objects.put(manifest)
        with store.write() as tx:
            if tx.insert_if_absent("code_trees", _row(tree, now)):
                for each in tree.submodules:
                    link(tx, "code", tree.id, "holds", "submodule", each.identity)
    elif tree.commit and not tree.is_dirty and (known["is_dirty"] or known["commit"] is None):
        # Captured before it was committed: now there is a commit to name it by.
        with store.write() as tx:
            tx.update("code_trees", {"id": tree.id}, {"commit": tree.commit, "is_dirty": False})


def _row(tree: CodeTree, now: datetime) -> Json:
    return {
        "id": tree.id,
        "manifest": tree.id,
        "commit": tree.commit,
        "is_dirty": tree.is_dirty,
        "n_files": len(tree.files),
        "n_bytes": sum(file.n_bytes for file in tree.files),
        "captured_at": now,
        "skipped": [list(skip) for skip in tree.skipped],
    }
