"""Which files are a project's code: as git sees them, or as a walk finds them.

What is left out is left out for a reason that a user can read. Secrets never count as code, and neither
do declared data sources: these are kept by snapshots. What Clew wrote itself counts only where git tracks it.
"""

from __future__ import annotations

import fnmatch
import glob
import os
import re
import subprocess
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from clew.errors import ProjectError
from clew.tracking.ignore_files import IgnoreRule, is_left_out, rules_of
from clew.tracking.submodules import NONE, Submodule, submodules_of

MOST_FILES = 10_000
DATA = "is a declared data source"

# Folders that hold what can be made again, or what is not the project's.
IGNORED_FOLDERS = {
    ".clew", ".git", ".hg", ".idea", ".ipynb_checkpoints", ".mypy_cache", ".nox", ".pytest_cache",
    ".ruff_cache", ".svn", ".tox", ".venv", ".vscode", "__pycache__", "node_modules",
}  # fmt: skip
IGNORED_NAMES = ("*.log", "*.pyc", "*.pyo", ".DS_Store", ".*.part", "nohup.out")
# How a report of Clew says in its head who wrote it.
_REPORT_MARK = b'<meta name="generator" content="clew '
_HEAD_BYTES = 4096
SECRET_FOLDERS = {".aws", ".gnupg", ".ssh"}
SECRET_NAMES = (
    ".env*", ".git-credentials", ".htpasswd", ".netrc", ".pgpass", ".pypirc", "credentials.json",
    "secrets.toml", "id_dsa*", "id_ecdsa*", "id_ed25519*", "id_rsa*",
    "*.jks", "*.kdbx", "*.key", "*.keystore", "*.p12", "*.pem", "*.pfx", "*.ppk",
)  # fmt: skip
# Variables of a surrounding git, such as a hook's, would point to another index or repository.
_SURROUNDING = (
    "GIT_ALTERNATE_OBJECT_DIRECTORIES", "GIT_COMMON_DIR", "GIT_CONFIG", "GIT_CONFIG_COUNT",
    "GIT_CONFIG_PARAMETERS",
    "GIT_DIR", "GIT_INDEX_FILE", "GIT_NAMESPACE", "GIT_OBJECT_DIRECTORY", "GIT_PREFIX", "GIT_WORK_TREE",
)  # fmt: skip
_OWN_VARIABLES = [
    "env", *(word for name in _SURROUNDING for word in ("-u", name)), "LC_ALL=C", "GIT_OPTIONAL_LOCKS=0",
]  # fmt: skip
PRIVATE_KEY = re.compile(rb"\s*-----BEGIN [A-Z ]*PRIVATE KEY-----")


@dataclass(frozen=True, slots=True)
class ProjectFiles:
    """Candidates for capture, as paths relative to the project's root.

    Attributes
    ----------
    tracked
        Those that git tracks: of any size.
    untracked
        Those within limits: not ignored by git, or found by the walk.
    commit, is_dirty
        Where git's HEAD stands, and whether the files differ from it; None without git.
    skipped
        Paths with the reason why they are left out.
    submodules
        The git submodules among them, checked out or not.
    """

    tracked: tuple[str, ...]
    untracked: tuple[str, ...]
    commit: str | None
    is_dirty: bool
    skipped: tuple[tuple[str, str], ...]
    submodules: tuple[Submodule, ...] = ()


def list_project_files(
    root: Path,
    exclude: Sequence[str] = (),
    not_project: Sequence[Path] = (),
    written: Sequence[str] = (),
) -> ProjectFiles:
    """The files below `root` that are code.

    Parameters
    ----------
    exclude
        Declared data sources: paths or globs relative to `root`, or absolute.
    not_project
        Folders below `root` that are not the project's, such as the store.
    written
        Files that Clew wrote, such as the answers of a batch: left out unless git tracks them.

    Raises
    ------
    ProjectError
        When there are too many files for a project's code.
    """
    other = {path for path in (_below(root, str(folder)) for folder in not_project) if path}
    excluded = _expand(root, exclude)
    # A folder that is data counts as one: it may hold more names than any project's code.
    folders = {path for path in excluded if (root / path).is_dir()}
    other |= folders
    git = _ask_git(root)
    tracked = _outside(folders, git.tracked if git else [])
    untracked = _without_ignored(git.untracked if git else _walk(root, other), other)
    if len(tracked) + len(untracked) > MOST_FILES:
        raise _too_many(root)
    outputs = {path for name in written if (path := _below(root, name))}
    reasons = {path: reason for path in (*tracked, *untracked) if (reason := _refused(path, excluded))}
    reasons |= {path: "was written by Clew" for path in untracked if _is_output(root, path, outputs)}
    reasons |= dict.fromkeys(folders, DATA)
    kept, kept_untracked = (
        tuple(sorted(path for path in paths if path not in reasons)) for paths in (tracked, untracked)
    )
    is_dirty = git is not None and (
        git.commit is None or bool({*_outside(folders, git.changed)} - reasons.keys() or kept_untracked)
    )
    submodules, missing = (git.submodules, git.missing) if git else ((), ())
    reasons |= dict.fromkeys(missing, "is a submodule that is not checked out")
    skipped = tuple(sorted(reasons.items()))
    return ProjectFiles(kept, kept_untracked, git.commit if git else None, is_dirty, skipped, submodules)


# -- git -----------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Git:
    tracked: list[str]
    untracked: list[str]
    commit: str | None
    changed: set[str]
    submodules: tuple[Submodule, ...] = ()
    missing: tuple[str, ...] = ()


def _ask_git(root: Path) -> _Git | None:
    """What git says of `root`; None where it has no say: no repository, or one that ignores this folder."""
    inside = _git(root, "rev-parse", "--is-inside-work-tree")
    if inside is None or inside.strip() != b"true" or _git(root, "check-ignore", "--quiet", ".") is not None:
        return None
    submodules, missing = submodules_of(partial(_git, root)) if (root / ".gitmodules").exists() else NONE
    # Asked apart: submodules are only listed among tracked files.
    tracked = _paths(_git(root, "ls-files", "-z", "--cached", "--recurse-submodules"))
    untracked = _paths(_git(root, "ls-files", "-z", "--others", "--exclude-standard"))
    for each in submodules:
        others = _paths(_git(root / each.path, "ls-files", "-z", "--others", "--exclude-standard"))
        untracked += [f"{each.path}/{path}" for path in others]
    head = _git(root, "rev-parse", "--verify", "--quiet", "HEAD")
    prefix = os.fsdecode(_git(root, "rev-parse", "--show-prefix") or b"").rstrip("\n")
    # Not git diff, which writes the index anew when only a file's time changed.
    changed = _git(root, "status", "--porcelain", "-z", "--no-renames", "--untracked-files=no", "--", ".")
    here = [path for path in dict.fromkeys(tracked) if os.path.lexists(root / path)]
    return _Git(
        here,
        untracked,
        head.decode().strip() if head else None,
        {entry[3:].removeprefix(prefix) for entry in _paths(changed)},
        submodules,
        missing,
    )


def _git(root: Path, *arguments: str) -> bytes | None:
    """What git answers, or None when it is not installed, refuses, or says no.

    The user's index is never written (no optional locks), and no program that the repository's settings
    name is started to watch files.
    """
    answered = subprocess.run(
        [*_OWN_VARIABLES, "git", "-c", "core.fsmonitor=false", *arguments],
        cwd=root,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        check=False,
    )
    return answered.stdout if answered.returncode == 0 else None


def _paths(listed: bytes | None) -> list[str]:
    # fsdecode keeps names that are not UTF-8 as they are.
    return [os.fsdecode(name) for name in (listed or b"").split(b"\0") if name]


# -- a walk --------------------------------------------------------------------------------------------


def _walk(root: Path, other: set[str]) -> list[str]:
    found: list[str] = []
    for path in _files_below(root, root, other):
        found.append(path)
        if len(found) > MOST_FILES:
            raise _too_many(root)
    return found


def _files_below(
    folder: Path, root: Path, other: set[str], rules: tuple[IgnoreRule, ...] = ()
) -> Iterator[str]:
    rules += rules_of(folder, "" if folder == root else f"{os.path.relpath(folder, root)}/")
    for entry in _entries(folder):
        path, is_folder = os.path.relpath(entry.path, root), entry.is_dir(follow_symlinks=False)
        if is_left_out(path, is_folder, rules):
            continue
        if not is_folder:
            yield path
        elif entry.name not in IGNORED_FOLDERS and path not in other and not _is_environment(entry.path):
            yield from _files_below(Path(entry.path), root, other, rules)


def _entries(folder: Path) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            return list(entries)
    except OSError as error:
        raise ProjectError(
            f"{folder} cannot be listed ({error.strerror}), so its code cannot be captured."
        ) from None


def _is_environment(folder: str) -> bool:
    return Path(folder, "pyvenv.cfg").exists()


def _outside(folders: set[str], paths: Iterable[str]) -> list[str]:
    return [path for path in paths if folders.isdisjoint(_folders_of(path))]


def _without_ignored(paths: Iterable[str], other: set[str]) -> list[str]:
    """Leaves out what is nobody's code, also where no ``.gitignore`` says so."""
    given = list(paths)
    folders = other | {_folder(path) for path in given if _name(path) == "pyvenv.cfg"}
    return [path for path in given if not _is_ignored(path, folders)]


def _is_ignored(path: str, folders: set[str]) -> bool:
    return (
        not IGNORED_FOLDERS.isdisjoint(path.split("/")[:-1])
        or any(folder in folders for folder in _folders_of(path))
        or _matches(_name(path), IGNORED_NAMES)
    )


# -- what never counts as code -------------------------------------------------------------------------


def _refused(path: str, excluded: set[str]) -> str | None:
    if _matches(_name(path).lower(), SECRET_NAMES) or not SECRET_FOLDERS.isdisjoint(path.split("/")[:-1]):
        return "may hold secrets"
    if path in excluded or any(folder in excluded for folder in _folders_of(path)):
        return DATA
    return None


def _is_output(root: Path, path: str, outputs: set[str]) -> bool:
    return path in outputs or (path.endswith((".html", ".htm")) and _is_report(root / path))


def _is_report(file: Path) -> bool:
    try:
        with file.open("rb") as opened:
            return _REPORT_MARK in opened.read(_HEAD_BYTES)
    except OSError:
        return False  # whoever reads it as code says what is wrong with it


def _matches(name: str, patterns: Iterable[str]) -> bool:
    return any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns)


def _name(path: str) -> str:
    return path.rpartition("/")[2]


def _folder(path: str) -> str:
    return path.rpartition("/")[0]


def _folders_of(path: str) -> Iterator[str]:
    parts = path.split("/")
    return ("/".join(parts[:n]) for n in range(1, len(parts)))


def _expand(root: Path, sources: Sequence[str]) -> set[str]:
    """The paths below `root` that data sources name, relative to it."""
    named = list(sources)
    for source in sources:
        # glob and not Path.glob, which refuses absolute sources.
        named += glob.glob(source, root_dir=root, recursive=True, include_hidden=True)  # noqa: PTH207
    return {below for path in named if (below := _below(root, path))}


def _below(root: Path, path: str) -> str | None:
    """A path relative to `root`, or None when it does not lie below it."""
    relative = os.path.relpath(root / path, root)
    return None if relative.split("/")[0] in ("..", ".") else relative


def _too_many(root: Path) -> ProjectError:
    return ProjectError(
        f"{root} has more than {MOST_FILES:,} files, too many for a project's code. Put the model's file"
        " into a folder of its own, or let a .gitignore leave out what is not code."
    )
