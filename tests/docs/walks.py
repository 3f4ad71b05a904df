"""Walks through pages, each done once in a test run, however many processes share its work."""

from __future__ import annotations

import fcntl
import pickle
import shutil
from collections.abc import Mapping
from pathlib import Path

from tests.docs.pages import Walk, begins_in


class Walks:
    """Walks that were done, each in a folder below `root`, which parallel test processes share."""

    def __init__(self, root: Path) -> None:
        self.root = root
        root.mkdir(parents=True, exist_ok=True)

    def through(self, page: Path, variables: Mapping[str, str] | None = None) -> Walk:
        """The walk through a page, done now unless it was done before."""
        # The home that a page speaks of, with room beside its project.
        place = self.root / page.stem / "you"
        # One after the other on purpose: a page that several others continue is walked once.
        with (self.root / f"{page.stem}.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            done = self.root / f"{page.stem}.walk"
            if not done.exists():
                walk = self._begun(page, place, variables or {})
                walk.follow(page)
                done.write_bytes(pickle.dumps(walk))
        walk = pickle.loads(done.read_bytes())
        assert isinstance(walk, Walk)
        return walk

    def _begun(self, page: Path, place: Path, variables: Mapping[str, str]) -> Walk:
        shutil.rmtree(place, ignore_errors=True)
        before = begins_in(page)
        if before is None:
            place.mkdir(parents=True)
            return Walk(place, variables)
        walked = self.through(before)
        shutil.copytree(walked.home, place, symlinks=True)
        walk = Walk(place, variables, ids=dict(walked.ids))
        walk.folder = place / walked.folder.relative_to(walked.home)
        return walk
