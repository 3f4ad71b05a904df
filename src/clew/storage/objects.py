"""Immutable bytes under the hash of their content.

An object is created whole or not at all, is never changed, and is checked against its name whenever it
is read. Putting the same bytes again costs a check and mends what a power cut tore.

What nothing names any more is first set aside, where no put finds it and every read still does, and removed
a day later: so whoever stored or found an object and has not yet written the row that names it loses nothing.
"""

from __future__ import annotations

import hashlib
import re
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, nullcontext
from datetime import datetime
from pathlib import Path
from typing import IO, NamedTuple, Protocol

from clew.errors import NotFound, ObjectDamaged, StoreError

_CHUNK_BYTES = 1 << 20

ASIDE = "aside"
"""Below the store, where objects lie that were set aside."""


class StoredObject(NamedTuple):
    """An object in a listing, and since when it lies there."""

    digest: str
    n_bytes: int
    since: datetime


class Batch(Protocol):
    """Objects that become durable together; from several threads at once."""

    def put(self, content: bytes) -> str:
        """Keep these bytes and return their digest."""


class ObjectStore(ABC):
    """Where bytes are kept; a digest is the SHA-256 of the content in lowercase hex."""

    def put(self, content: bytes) -> str:
        """Keep these bytes and return their digest. Repeating it changes nothing, or mends a torn object."""
        return self._put([content], hashlib.sha256(content).hexdigest(), len(content))

    def batch(self) -> AbstractContextManager[Batch]:
        """For keeping many objects: they are there at the end of the ``with`` block, and cost less together.

        When the block is left by an error, some of them may be there.
        """
        return nullcontext(self)

    def put_file(self, path: Path) -> str:
        """Keep a file's bytes and return their digest."""
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
            n_bytes = file.tell()
            file.seek(0)
            return self._put(_unchanged(file, digest), digest, n_bytes)

    def get(self, digest: str) -> bytes:
        """The bytes with this digest.

        Raises
        ------
        NotFound
            When there are none.
        ObjectDamaged
            When what is stored has another hash.
        """
        content = self._read_anywhere(checked(digest))
        found = hashlib.sha256(content).hexdigest()
        if found != digest:
            raise self._damaged(digest, found, len(content))
        return content

    def get_unchecked(self, digest: str) -> bytes:
        """Whatever is stored under this name: to see what of it is right. Raises `NotFound` as `get` does."""
        return self._read_anywhere(checked(digest))

    @abstractmethod
    def path(self, digest: str) -> Path:
        """A local file with these bytes, checked; for reading only. Raises as `get` does."""

    @abstractmethod
    def exists(self, digest: str) -> bool:
        """Whether there is an object of this name that was not set aside; its content is not checked."""

    def start_of(self, digest: str, n_bytes: int) -> bytes:
        """The first bytes of an object, unchecked: enough to see of what kind it is."""
        try:
            return self._start(checked(digest), n_bytes)
        except NotFound:
            self.bring_back(digest)
            return self._start(digest, n_bytes)

    @abstractmethod
    def listing(self, *, aside: bool = False) -> Iterator[StoredObject]:
        """All objects in no order, or all that were set aside."""

    @abstractmethod
    def set_aside(self, digest: str) -> None:
        """Put an object where no put finds it and reads bring it back: storing its bytes makes a new one."""

    @abstractmethod
    def bring_back(self, digest: str) -> None:
        """Put an object that was set aside into its place again, if there is one."""

    @abstractmethod
    def drop(self, digest: str) -> None:
        """Remove an object for good that was set aside, if there is one."""

    @abstractmethod
    def probe(self) -> None:
        """Refuse a place that cannot keep the promise of this class.

        Raises
        ------
        StoreError
            When it cannot be written, or lets a second put replace an object.
        """

    @property
    @abstractmethod
    def name(self) -> str:
        """What to call it in a message."""

    @abstractmethod
    def _put(self, content: Iterable[bytes], digest: str, n_bytes: int) -> str: ...

    @abstractmethod
    def _start(self, digest: str, n_bytes: int) -> bytes: ...

    @abstractmethod
    def _read(self, digest: str) -> bytes: ...

    def _read_anywhere(self, digest: str) -> bytes:
        try:
            return self._read(digest)
        except NotFound:
            self.bring_back(digest)
            return self._read(digest)

    def _missing(self, digest: str) -> NotFound:
        return NotFound(f"{self.name} has no object {digest}. Was it removed, or is this another store?")

    def _damaged(self, digest: str, found: str, n_bytes: int) -> ObjectDamaged:
        return ObjectDamaged(
            f"Object {digest} in {self.name} is damaged: its {n_bytes} bytes have the hash {found}."
            " Put back a copy of it from a backup; storing the same content again mends it too."
        )


def _unchanged(file: IO[bytes], digest: str) -> Iterator[bytes]:
    """What the file holds, in chunks; refused at its end when that no longer has this digest."""
    hashed = hashlib.sha256()
    while chunk := file.read(_CHUNK_BYTES):
        hashed.update(chunk)
        yield chunk
    if hashed.hexdigest() != digest:
        raise StoreError("A file changed while it was being stored; store it again when it rests.")


def object_name(digest: str) -> str:
    """Where an object lies below the store: 256 folders keep each listing short.

    Examples
    --------
    >>> object_name("ab" + "0" * 62)[:8]
    'ab/00000'
    """
    return f"{digest[:2]}/{digest[2:]}"


def digest_at(name: str) -> str | None:
    """The digest of the object that lies there; None for anything else below the store.

    Examples
    --------
    >>> digest_at("ab/" + "0" * 62) == "ab" + "0" * 62, digest_at("tmp/12ab")
    (True, None)
    """
    return name.replace("/", "") if re.fullmatch(r"[0-9a-f]{2}/[0-9a-f]{62}", name) else None


def checked(digest: str) -> str:
    if not re.fullmatch(r"[0-9a-f]{64}", digest):
        raise NotFound(f"{digest!r} is no digest; a digest is 64 lowercase hex digits.")
    return digest
