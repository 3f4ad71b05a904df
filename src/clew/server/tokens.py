"""Tokens: who may ask. A token is a name and a secret; the store keeps only the secret's SHA-256.

The name stands as the actor in the audit log. The first token is made at the first start and lies in
``run/token``, which only the owner of the store can read, until it is revoked; later ones are shown once,
when they are made. Making or revoking one takes a number of the routes' sequence, so that workers hear of it
as they hear of a route.
"""

from __future__ import annotations

import hashlib
import os
import re
import secrets
import time
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from clew.errors import Conflict, NotFound, UsageError, did_you_mean
from clew.registry.audit import record_audit
from clew.registry.routes import next_generation, routing_generation
from clew.server.presence import TOKEN_FILE, run_folder
from clew.serving import fleet

if TYPE_CHECKING:
    from clew.storage import Reader, Store, Transaction

FIRST_NAME = "admin"
"""The name of the token that the first start makes."""


@dataclass(frozen=True, slots=True)
class TokenInfo:
    """What may be told of a token: all but its secret. `revoked_at` is None while it counts."""

    name: str
    created_at: datetime
    revoked_at: datetime | None


def digest_of(token: str) -> str:
    """What the store keeps of a token: the SHA-256 of its text, in hexadecimal."""
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).hexdigest()


def name_of(reader: Reader, token: str) -> str | None:
    """The name of the token, or None when there is no such token or it was revoked."""
    # Found by its digest: how long that takes tells nothing about a secret.
    rows = reader.find("tokens", {"digest": digest_of(token), "revoked_at": None}, limit=1)
    return rows[0]["name"] if rows else None


def has_token(store: Store) -> bool:
    """Whether there is a token that counts."""
    with store.read() as reader:
        return reader.count("tokens", {"revoked_at": None}) > 0


def list_tokens(store: Store) -> list[TokenInfo]:
    """All tokens by name, the revoked ones too."""
    with store.read() as reader:
        rows = reader.find("tokens")
    return [TokenInfo(row["name"], row["created_at"], row["revoked_at"]) for row in rows]


def ensure_first_token(store: Store, now: datetime) -> bool:
    """Make the first token of a store that never had one; whether it did.

    The file is written first: a start that is killed between the two makes another one at the next start.
    """
    with store.read() as reader:
        has_had_one = reader.count("tokens") > 0
    if has_had_one:
        _remove_dead_file(store)
        return False
    token = secrets.token_urlsafe(32)
    _write_private(run_folder(store.folder) / TOKEN_FILE, token)
    with store.write() as tx:
        if tx.count("tokens"):
            raise Conflict("Another process has just made the first token of this store. Start again.")
        _insert(tx, FIRST_NAME, token, now=now, actor="clew up", reason="first start")
    return True


def create_token(store: Store, name: str, *, actor: str, now: datetime) -> str:
    """Make a token and hand it out, this once. A name that was revoked may be used again.

    Raises
    ------
    UsageError
        When the name is none, or belongs to a token that counts.
    """
    if not re.fullmatch(r"[\w.@+-]{1,64}", name):
        raise UsageError(
            f"{name!r} is no name for a token; write up to 64 letters, digits and . _ - + @, such as ada or"
            " ci-deploy."
        )
    token = secrets.token_urlsafe(32)
    with store.write() as tx:
        there = tx.get("tokens", name=name)
        if there is not None and there["revoked_at"] is None:
            raise UsageError(
                f"There is a token named {name!r} already. Choose another name, or first: clew token revoke"
                f" {name}"
            )
        if there is not None:
            tx.delete("tokens", {"name": name})
        _insert(tx, name, token, now=now, actor=actor, reason="asked for")
    return token


def revoke_token(store: Store, name: str, *, actor: str, now: datetime, dry_run: bool = False) -> TokenInfo:
    """Take a token away, and the file of the first one with it; `wait_until_known` says when it is refused.

    Raises
    ------
    NotFound
        When no token that counts has this name.
    """
    with store.write() as tx:
        row = tx.get("tokens", name=name)
        if row is None or row["revoked_at"] is not None:
            known = [each["name"] for each in tx.find("tokens", {"revoked_at": None})]
            state = "was revoked already" if row else "does not exist"
            raise NotFound(f"The token {name!r} {state}. {did_you_mean(name, known)}")
        if not dry_run:
            tx.update("tokens", {"name": name}, {"revoked_at": now})
            record_audit(tx, now=now, actor=actor, action="revoke token", subject=name, reason="asked for")
            next_generation(tx)
    _remove_dead_file(store)
    return TokenInfo(name, row["created_at"], None if dry_run else now)


def wait_until_known(store: Store, seconds: float = 5.0) -> bool:
    """Wait until every running worker goes by the tokens of this moment; False when some did not in time."""
    with store.read() as reader:
        generation = routing_generation(reader)
    give_up = time.monotonic() + seconds
    while any(worker.generation < generation for worker in fleet.running(store)):
        if time.monotonic() > give_up:
            return False
        time.sleep(0.02)
    return True


def _remove_dead_file(store: Store) -> None:
    """A file whose token does not count any more would only mislead whoever reads it."""
    file = run_folder(store.folder) / TOKEN_FILE
    try:
        token = file.read_text(encoding="utf-8").strip()
    except FileNotFoundError:
        return
    with store.read() as reader:
        name = name_of(reader, token)
    if name is None:
        file.unlink(missing_ok=True)


def _insert(tx: Transaction, name: str, token: str, *, now: datetime, actor: str, reason: str) -> None:
    tx.insert("tokens", {"name": name, "digest": digest_of(token), "created_at": now, "revoked_at": None})
    record_audit(tx, now=now, actor=actor, action="create token", subject=name, reason=reason)
    next_generation(tx)


def _write_private(path: Path, content: str) -> None:
    fresh = path.with_name(f"{path.name}.new")
    fresh.unlink(missing_ok=True)
    # O_EXCL and the mode at creation: there is no moment at which somebody else could open it.
    descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(content + "\n")
        file.flush()
        os.fsync(file.fileno())
    fresh.replace(path)
