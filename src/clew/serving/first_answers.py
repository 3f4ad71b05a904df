"""First answers to requests with an ``Idempotency-Key``, kept as files that all workers share.

A request that comes again gets the bytes of its first answer, whichever worker it meets, after restarts too.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from clew.serving.refusals import Refused

N_LOCKS = 64
MAX_KEY_BYTES = 255
KEPT_SECONDS = 86_400.0
"""For how long a first answer is repeated."""


@dataclass(frozen=True, slots=True)
class Claim:
    """A request while nobody else can answer the same one.

    Attributes
    ----------
    answer
        What it was answered before, or None.
    name
        Names the request in the log.
    """

    path: Path
    fingerprint: bytes
    name: str
    answer: bytes | None

    def keep(self, answer: bytes) -> None:
        """Keep the first answer, whole or not at all; to be done before it is given."""
        unfinished = self.path.with_name(f".{self.path.name}.{os.getpid()}")
        # Not synced: it has to outlive its process, not a power cut, which takes the log's last moment too.
        unfinished.write_bytes(self.fingerprint + b"\n" + answer)
        unfinished.replace(self.path)


class FirstAnswers:
    """The folder ``idempotency``."""

    def __init__(self, run_folder: Path) -> None:
        self._folder = run_folder / "idempotency"
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)

    @contextmanager
    def claim(self, key: bytes, path: str, actor: str, body: bytes) -> Iterator[Claim]:
        """Hold the key against every other thread and process, so that of two at once one is answered first.

        Raises
        ------
        Refused
            422 when the key is too long, or was given to another request before.
        """
        if len(key) > MAX_KEY_BYTES:
            message = f"The Idempotency-Key has {len(key)} bytes; at most {MAX_KEY_BYTES} are taken."
            raise Refused(422, "IDEMPOTENCY_KEY_TOO_LONG", message)
        digest = hashlib.sha256(b"\0".join([path.encode(), actor.encode(), key])).hexdigest()
        fingerprint = hashlib.sha256(body).hexdigest().encode()
        file = self._folder / digest
        with self._locked(digest):
            answer = _first(file, fingerprint)
            yield Claim(file, fingerprint, f"k-{digest[:32]}", answer)

    def forget_old(self) -> int:
        """Remove answers that are older than they are kept for; returns how many."""
        marker = self._folder / ".now"
        marker.touch()
        oldest = marker.stat().st_mtime - KEPT_SECONDS
        old = [path for path in self._folder.iterdir() if len(path.name) == 64 and _changed(path) < oldest]
        for path in old:
            path.unlink(missing_ok=True)
        return len(old)

    @contextmanager
    def _locked(self, digest: str) -> Iterator[None]:
        # A few locks for all keys: whoever dies lets go of his, and no lock file has to be removed.
        number = int(digest[:8], 16) % N_LOCKS
        descriptor = os.open(self._folder / f".lock-{number}", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)


def _first(file: Path, fingerprint: bytes) -> bytes | None:
    try:
        kept, _, answer = file.read_bytes().partition(b"\n")
    except FileNotFoundError:
        return None
    if kept != fingerprint:
        message = "This Idempotency-Key was used for another body before. Give each request its own key."
        raise Refused(422, "IDEMPOTENCY_KEY_REUSED", message)
    return answer


def _changed(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except FileNotFoundError:
        return float("inf")
