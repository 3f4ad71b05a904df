"""Small file systems that a test can fill up or make read-only."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

PAGE_BYTES = 4096


@contextmanager
def small_disk(folder: Path, size: str = "64k", *, is_needed: bool = True) -> Iterator[Path]:
    """A file system of its own at `folder`.

    Where none may be mounted the test is skipped, or goes on in the folder when it does not need one.
    """
    folder.mkdir(parents=True, exist_ok=True)
    refusal = _mount(folder, size)
    if refusal and is_needed:
        pytest.skip(f"no small disk can be mounted here: {refusal}")
    try:
        yield folder
    finally:
        if not refusal:
            subprocess.run(["umount", "-l", str(folder)], check=True)


def _mount(folder: Path, size: str) -> str:
    """Why it may not be mounted; empty when it is."""
    if os.getuid() != 0 or sys.platform != "linux":
        return "that takes root and Linux"
    command = ["mount", "-t", "tmpfs", "-o", f"size={size},mode=700", "tmpfs", str(folder)]
    return subprocess.run(command, check=False, capture_output=True, text=True).stderr.strip()


@contextmanager
def read_only(disk: Path) -> Iterator[None]:
    """Nothing can be written there for the time of the block; no file may be open for writing."""
    subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
    try:
        yield
    finally:
        subprocess.run(["mount", "-o", "remount,rw", str(disk)], check=True)


@contextmanager
def full(disk: Path) -> Iterator[None]:
    """There is no room on the disk for the time of the block."""
    filler = disk / "filler"
    with filler.open("wb", buffering=0) as file:
        try:
            while True:
                file.write(bytes(PAGE_BYTES))
        except OSError:
            pass
    try:
        yield
    finally:
        filler.unlink()
