"""Contents of many files in few objects: packs of 8 MiB, and large files in pieces of their own.

A pack is eight bytes that say what it is, and contents one after the other; a manifest says where
each begins.
A content that is longer than a pack has packs of its own, in which it runs on from one to the next.
"""

from __future__ import annotations

import hashlib
import mmap
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from clew.errors import ObjectDamaged
from clew.storage import ObjectStore

MAGIC = b"CLWPACK0"
PACK_BYTES = 8 << 20
PIECE_BYTES = 64 << 20


class Place(NamedTuple):
    """Where a content is kept: it begins at `offset` of the first pack, and runs on in the others."""

    packs: tuple[str, ...]
    offset: int


NOWHERE = Place((), 0)
"""Of what is empty."""


def put_pack(objects: ObjectStore, contents: Sequence[bytes]) -> list[Place]:
    """Store contents as one pack; where each of them lies."""
    if not contents:
        return []
    digest = objects.put(b"".join((MAGIC, *contents)))
    places, offset = [], len(MAGIC)
    for content in contents:
        places.append(Place((digest,), offset))
        offset += len(content)
    return places


class PackReader:
    """Reads contents out of packs, each of which is checked against its name when it is opened.

    One pack is open at a time: read contents in the order of their packs.
    """

    def __init__(self, objects: ObjectStore) -> None:
        self._objects = objects
        self._digest = ""
        self._bytes: bytes | mmap.mmap = b""

    def chunks(self, place: Place, size: int) -> Iterator[bytes]:
        """A content of `size` bytes, pack by pack.

        Raises
        ------
        ObjectDamaged
            When a pack is not what it was, or ends too early.
        NotFound
            When a pack was lost.
        """
        left, offset = size, place.offset
        for digest in place.packs:
            chunk = self._open(digest)[offset : offset + left]
            left, offset = left - len(chunk), len(MAGIC)
            yield chunk
            if not left:
                return
        if left:
            raise ObjectDamaged(
                f"Pack {place.packs[-1] if place.packs else ''} ends {left:,} bytes too early."
            )

    def read(self, place: Place, size: int) -> bytes:
        return b"".join(self.chunks(place, size))

    def _open(self, digest: str) -> bytes | mmap.mmap:
        if digest != self._digest:
            self._bytes, self._digest = _mapped(self._objects.path(digest)), digest
        return self._bytes


def _mapped(path: Path) -> bytes | mmap.mmap:
    with path.open("rb") as file:
        return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)


def sha256_of(content: bytes) -> bytes:
    return hashlib.sha256(content).digest()
