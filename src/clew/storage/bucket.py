"""Objects in a bucket: S3, or whatever else obstore reaches by URL.

Creation is a conditional put, so that of two writers one wins and none replaces the other's bytes.
"""

from __future__ import annotations

import hashlib
import itertools
import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import timedelta
from pathlib import Path
from typing import Any

import obstore
from obstore.exceptions import AlreadyExistsError, BaseError, NotFoundError, UnknownConfigurationKeyError
from obstore.store import from_url

from clew.errors import NotFound, ObjectDamaged, SettingsError, StoreError
from clew.storage.folder import FolderObjects
from clew.storage.objects import ASIDE, ObjectStore, StoredObject, checked, digest_at, object_name

# The process that first spoke to a bucket, if any has.
_user_pids: list[int] = []

_CLIENT_OPTIONS = ("allow_http", "connect_timeout", "timeout")


class BucketObjects(ObjectStore):
    """Objects in a bucket, with a local folder for those that are needed as files."""

    def __init__(self, url: str, options: Mapping[str, str], cache: Path) -> None:
        self.url = url
        self._bucket = _connect(url, options)
        self._cache = FolderObjects(cache)

    @property
    def name(self) -> str:
        return self.url

    def exists(self, digest: str) -> bool:
        with self._explained():
            try:
                obstore.head(self._bucket, object_name(checked(digest)))
            except (NotFoundError, FileNotFoundError):
                return False
            return True

    def path(self, digest: str) -> Path:
        try:
            return self._cache.path(digest)
        except (NotFound, ObjectDamaged):  # not here yet, or no longer what it was
            self._cache.put(self.get(digest))
            return self._cache.path(digest)

    def listing(self, *, aside: bool = False) -> Iterator[StoredObject]:
        prefix = f"{ASIDE}/" if aside else ""
        with self._explained():
            for found in itertools.chain.from_iterable(obstore.list(self._bucket, prefix=prefix or None)):
                digest = digest_at(found["path"].removeprefix(prefix))
                if digest is not None and found["path"].startswith(prefix):
                    yield StoredObject(digest, found["size"], found["last_modified"])

    def set_aside(self, digest: str) -> None:
        # Another process may put the same bytes between copy and removal: reads then bring them back.
        if self._copy(object_name(checked(digest)), _aside(digest)):
            with self._explained():
                obstore.delete(self._bucket, object_name(digest))
        self._cache.forget(digest)

    def bring_back(self, digest: str) -> None:
        # The copy aside stays: whoever only reads need not have the right to delete.
        self._copy(_aside(digest), object_name(checked(digest)))

    def drop(self, digest: str) -> None:
        with self._explained(), suppress(NotFoundError, FileNotFoundError):
            obstore.delete(self._bucket, _aside(digest))

    def _copy(self, source: str, target: str) -> bool:
        with self._explained():
            try:
                obstore.copy(self._bucket, source, target)
            except (NotFoundError, FileNotFoundError):
                return False
            return True

    def probe(self) -> None:
        self._cache.probe()
        # The probe stays, so that the next opening needs one request and never the right to delete.
        with self._explained():
            try:
                for _ in range(2):
                    obstore.put(
                        self._bucket, "probe", b"Clew asks whether create-only is kept", mode="create"
                    )
            except AlreadyExistsError:
                return
        raise StoreError(
            f"{self.url} let a second create-only put replace the first, so two processes could overwrite"
            " each other's objects. Use a server that honours If-None-Match: * on PUT (conditional writes)."
        )

    def _start(self, digest: str, n_bytes: int) -> bytes:
        with self._explained():
            try:
                place = object_name(digest)
                return bytes(obstore.get_range(self._bucket, place, start=0, length=n_bytes))
            except (NotFoundError, FileNotFoundError):
                raise self._missing(digest) from None

    def _read(self, digest: str) -> bytes:
        with self._explained():
            try:
                return bytes(obstore.get(self._bucket, object_name(digest)).bytes())
            except (NotFoundError, FileNotFoundError):
                raise self._missing(digest) from None

    def _put(self, content: Iterable[bytes], digest: str, n_bytes: int) -> str:
        place = object_name(digest)
        data = b"".join(content)
        with self._explained():
            try:
                obstore.put(self._bucket, place, data, mode="create")
            except AlreadyExistsError:
                if not self._is_whole(place, data, digest, n_bytes):
                    obstore.put(self._bucket, place, data, mode="overwrite")
        return digest

    def _is_whole(self, place: str, data: bytes, digest: str, n_bytes: int) -> bool:
        there = obstore.head(self._bucket, place)
        if there["size"] != n_bytes:
            return False
        # S3's tag of a plain put is the MD5 of the content: that spares reading it back.
        if (there["e_tag"] or "").strip('"') == hashlib.md5(data, usedforsecurity=False).hexdigest():
            return True
        stored = obstore.get(self._bucket, place).bytes()
        return hashlib.sha256(stored).hexdigest() == digest

    @contextmanager
    def _explained(self) -> Iterator[None]:
        self._refuse_after_fork()
        try:
            yield
        except (BaseError, PermissionError, OSError) as error:
            raise StoreError(
                f"{self.url} failed: {_first_line(error)}. Check that it can be reached, that the bucket"
                " exists, and the keys under [objects] in clew.toml."
            ) from error

    def _refuse_after_fork(self) -> None:
        """The threads behind obstore do not follow into a forked child, which would wait for ever."""
        first_pid = _user_pids[0] if _user_pids else os.getpid()
        if first_pid != os.getpid():
            raise StoreError(
                f"{self.url} was used by process {first_pid} before it forked this one, which therefore"
                " cannot. Start processes by subprocess, or multiprocessing with the method 'spawn'."
            )
        _user_pids[:] = [first_pid]


def _aside(digest: str) -> str:
    return f"{ASIDE}/{object_name(digest)}"


def _connect(url: str, options: Mapping[str, str]) -> Any:
    # Typed loosely: which options there are depends on the kind of bucket, and obstore checks them.
    config: Any = {name: value for name, value in options.items() if name not in _CLIENT_OPTIONS}
    client: Any = {name: options[name] for name in _CLIENT_OPTIONS if name in options}
    if "allow_http" in client:
        client["allow_http"] = str(client["allow_http"]).lower() in ("true", "1", "yes")
    retries: Any = {"max_retries": 4, "retry_timeout": timedelta(seconds=30)}
    try:
        return from_url(url, config=config, client_options=client, retry_config=retries)
    except UnknownConfigurationKeyError as error:
        raise SettingsError(
            f"clew.toml [objects.options] has an unknown option: {_first_line(error)}."
        ) from None
    except (BaseError, ValueError) as error:
        raise SettingsError(f"objects.url is {url!r}, which cannot be used: {_first_line(error)}.") from None


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")
