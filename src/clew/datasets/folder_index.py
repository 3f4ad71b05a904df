"""What is known of a folder's files without reading them again, beside the store and for this machine alone.

A file is taken for unchanged when size, times and number are what they were. Its change time is among them,
which no program can set back; a file that changed within two seconds before the look is not trusted, since
another change might not have moved its time.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec

from clew.datasets.folder_scan import Seen
from clew.storage import Store

_FORMAT = 0
_DIGEST_BYTES = 32
_SETTLED_NS = 2_000_000_000
_NOT_TRUSTED = -1


class _Kept(msgspec.Struct, array_like=True, frozen=True):
    format: int
    snapshot: str
    seen: bytes
    digests: bytes


@dataclass(frozen=True, slots=True)
class FolderIndex:
    """The files of a folder at the last look, in order, and the hash of each content.

    Attributes
    ----------
    snapshot
        The snapshot that was taken of them.
    """

    snapshot: str
    seen: bytes
    digests: bytes

    def is_of(self, seen: Sequence[Seen]) -> bool:
        """Whether nothing changed at all."""
        return self.seen == _encoded(seen)

    def known(self) -> dict[Seen, bytes]:
        """The hash of every file whose content is known as long as it looks like this."""
        found = msgspec.msgpack.decode(self.seen, type=list[Seen])
        return dict(zip(found, _split(self.digests), strict=True))


def load_index(store: Store, dataset: str, top: bytes) -> FolderIndex | None:
    """What is known of the folder; None when that is nothing."""
    try:
        content = _place(store, dataset, top).read_bytes()
        head, body = content[:_DIGEST_BYTES], content[_DIGEST_BYTES:]
        if hashlib.sha256(body).digest() != head:
            return None  # torn by a power cut: then the files are read again
        kept = msgspec.msgpack.decode(body, type=_Kept)
    except (FileNotFoundError, msgspec.DecodeError):
        return None
    return FolderIndex(kept.snapshot, kept.seen, kept.digests) if kept.format == _FORMAT else None


def save_index(
    store: Store,
    dataset: str,
    top: bytes,
    snapshot: str,
    found: Sequence[tuple[Seen, bytes]],
    looked_at_ns: int,
) -> None:
    """Remember files and the hashes of their contents.

    Parameters
    ----------
    looked_at_ns
        When the folder was looked at, by the clock that stamps files.
    """
    settled = looked_at_ns - _SETTLED_NS
    seen = [each if each.ctime_ns < settled else each._replace(inode=_NOT_TRUSTED) for each, _ in found]
    kept = _Kept(_FORMAT, snapshot, _encoded(seen), b"".join(digest for _, digest in found))
    body = msgspec.msgpack.encode(kept)
    place = _place(store, dataset, top)
    place.parent.mkdir(mode=0o700, exist_ok=True)
    with store.scratch("index") as scratch:
        (scratch / "index").write_bytes(hashlib.sha256(body).digest() + body)
        (scratch / "index").replace(place)


def clock_of_files_ns(store: Store) -> int:
    """What time it is for the system that stamps files."""
    with store.scratch("clock") as scratch:
        return scratch.stat().st_ctime_ns


def _place(store: Store, dataset: str, top: bytes) -> Path:
    return store.folder / "folders" / hashlib.sha256(dataset.encode() + b"\0" + top).hexdigest()[:32]


def _encoded(seen: Sequence[Seen]) -> bytes:
    return msgspec.msgpack.encode(seen)


def _split(digests: bytes) -> list[bytes]:
    return [digests[first : first + _DIGEST_BYTES] for first in range(0, len(digests), _DIGEST_BYTES)]
