"""Locks that the kernel lets go when their process dies, and the clearing of what dead ones left.

Process numbers are not used: they are given again, and mean nothing across containers that share a
folder.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path


@contextmanager
def folder_lock(folder: Path) -> Iterator[None]:
    """Let one process at a time through, among all that name this folder."""
    descriptor = os.open(folder / "open.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


@contextmanager
def scratch_folder(parent: Path, name: str) -> Iterator[Path]:
    """A fresh folder, removed afterwards; `sweep` removes it when this process dies before that."""
    path, descriptor = _claimed_folder(parent, name)
    try:
        yield path
    finally:
        os.close(descriptor)
        shutil.rmtree(path, ignore_errors=True)


def _claimed_folder(parent: Path, name: str) -> tuple[Path, int]:
    while True:
        path = Path(tempfile.mkdtemp(prefix=f"{name}-", dir=parent))
        descriptor = claim(path)
        if descriptor is not None:
            return path, descriptor


def claim(path: Path) -> int | None:
    """Hold a file or folder of ours against `sweep`; None when a sweep took it first."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except (FileNotFoundError, PermissionError):
        return None
    with suppress(BlockingIOError):
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if path.exists():
            return descriptor
    os.close(descriptor)
    return None


@contextmanager
def hold(path: Path) -> Iterator[bool]:
    """Hold a file or folder, beside others, against whoever would `claim` it; False when it is gone."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        yield False
        return
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH)
        yield _is_still(path, descriptor)
    finally:
        os.close(descriptor)


def _is_still(path: Path, descriptor: int) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except FileNotFoundError:
        return False


def leftovers(folder: Path) -> list[Path]:
    """What processes that are no more left in `folder`."""
    found = []
    for path in sorted(folder.iterdir()):
        descriptor = claim(path)
        if descriptor is not None:
            os.close(descriptor)
            found.append(path)
    return found


def sweep(folder: Path) -> None:
    """Remove what processes that are no more left in `folder`; what a living one holds stays."""
    _sweep(folder.iterdir())


def sweep_named(folder: Path, name: str) -> None:
    """Remove what processes that are no more left of their scratch folders of this name."""
    _sweep(path for path in folder.iterdir() if path.name.startswith(f"{name}-"))


def _sweep(paths: Iterable[Path]) -> None:
    for path in list(paths):
        remove_unclaimed(path)


def remove_unclaimed(path: Path) -> None:
    """Remove a file or folder unless somebody holds it."""
    descriptor = claim(path)
    if descriptor is None:
        return
    try:
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)
    finally:
        os.close(descriptor)
