"""Which version answers a request: a stable hash, so that a key or entity always meets the same one."""

from __future__ import annotations

import hashlib


def is_in_share(key: object, share: float, salt: str) -> bool:
    """Whether the request of this key belongs to a canary's share: stable for a key within a rollout.

    Examples
    --------
    >>> is_in_share("A7", 0.0, "r1"), is_in_share("A7", 1.0, "r1")
    (False, True)
    """
    digest = hashlib.blake2b(f"{salt}\0{key}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") < share * 2**64
