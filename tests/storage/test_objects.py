from __future__ import annotations

import hashlib
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import obstore
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clew.config import ObjectSettings, Settings
from clew.errors import NotFound, ObjectDamaged, SettingsError, StoreError
from clew.storage import ObjectStore, open_objects
from clew.storage.objects import object_name
from tests.servers import S3Server
from tests.storage import processes
from tests.storage.careless_bucket import careless_bucket
from tests.storage.processes import StartChild

PUT_FOR_EVER = """
store = open_store(settings, now=now)
say("putting")
for n in range(10**9):
    store.objects.put(b"%d" % n + b"x" * 1_000_000)
"""


def bucket_settings(tmp_path: Path, url: str, options: dict[str, str]) -> Settings:
    return Settings(root=tmp_path, store=tmp_path / ".clew", objects=ObjectSettings(url, options))


@pytest.fixture(params=["folder", "bucket"])
def objects(request: pytest.FixtureRequest, tmp_path: Path) -> ObjectStore:
    """An object store of each kind."""
    place = Settings(root=tmp_path, store=tmp_path / ".clew")
    if request.param == "bucket":
        server: S3Server = request.getfixturevalue("s3")
        place = bucket_settings(tmp_path, request.getfixturevalue("s3_url"), server.options)
    opened = open_objects(place)
    opened.probe()
    return opened


@pytest.fixture
def folder(tmp_path: Path) -> ObjectStore:
    opened = open_objects(Settings(root=tmp_path, store=tmp_path))
    opened.probe()
    return opened


def place_of(folder: ObjectStore, digest: str) -> Path:
    return Path(folder.name) / object_name(digest)


def overwrite(place: Path, content: bytes) -> None:
    place.chmod(0o600)
    place.write_bytes(content)


@pytest.mark.parametrize("content", [b"", b"\0", b"weights" * 300_000])
def test_what_was_put_comes_back_under_its_sha256(objects: ObjectStore, content: bytes) -> None:
    digest = objects.put(content)
    assert digest == hashlib.sha256(content).hexdigest()
    assert objects.get(digest) == content
    assert objects.path(digest).read_bytes() == content
    assert objects.exists(digest)


def test_a_file_is_put_as_its_bytes(objects: ObjectStore, tmp_path: Path) -> None:
    file = tmp_path / "model.txt"
    file.write_bytes(b"tree" * 1_000_000)
    assert objects.put_file(file) == objects.put(file.read_bytes())


def test_putting_the_same_bytes_again_changes_nothing(objects: ObjectStore) -> None:
    digest = objects.put(b"weights")
    before = objects.path(digest).stat()
    assert objects.put(b"weights") == digest
    assert objects.path(digest).stat() == before


def test_an_object_that_is_not_there_is_named(objects: ObjectStore) -> None:
    digest = hashlib.sha256(b"nothing").hexdigest()
    assert not objects.exists(digest)
    for ask in (objects.get, objects.path):
        with pytest.raises(NotFound, match=digest):
            ask(digest)


@pytest.mark.parametrize("digest", ["", "ABC", "../../etc/passwd", "0" * 63, "0" * 64 + "\n"])
def test_what_is_no_digest_is_never_a_path(objects: ObjectStore, digest: str) -> None:
    for ask in (objects.get, objects.path, objects.exists):
        with pytest.raises(NotFound, match="no digest"):
            ask(digest)


@given(content=st.binary(min_size=1, max_size=200), data=st.data())
@settings(max_examples=30)
def test_any_flipped_bit_is_noticed_and_mended_by_putting_again(
    tmp_path_factory: pytest.TempPathFactory, content: bytes, data: st.DataObject
) -> None:
    folder = open_objects(Settings(root=Path(), store=tmp_path_factory.mktemp("store")))
    folder.probe()
    digest = folder.put(content)
    folder.path(digest)
    bit = data.draw(st.integers(0, len(content) * 8 - 1))
    flipped = bytearray(content)
    flipped[bit // 8] ^= 1 << bit % 8
    overwrite(place_of(folder, digest), bytes(flipped))
    for ask in (folder.get, folder.path):
        with pytest.raises(ObjectDamaged, match=hashlib.sha256(flipped).hexdigest()):
            ask(digest)
    assert folder.put(content) == digest
    assert folder.get(digest) == folder.path(digest).read_bytes() == content


@pytest.mark.parametrize("torn", [b"", b"weigh", b"weights and more"])
def test_a_torn_object_is_refused_and_then_repaired(folder: ObjectStore, tmp_path: Path, torn: bytes) -> None:
    file = tmp_path / "file"
    file.write_bytes(b"weights")
    digest = folder.put_file(file)
    overwrite(place_of(folder, digest), torn)
    with pytest.raises(ObjectDamaged):
        folder.get(digest)
    assert folder.put_file(file) == digest
    assert folder.get(digest) == b"weights"


@pytest.mark.parametrize("damaged", [b"weigh", b"weightz"])
def test_a_damaged_object_in_a_bucket_is_refused_and_then_repaired(
    s3: S3Server, s3_url: str, tmp_path: Path, damaged: bytes
) -> None:
    bucket = open_objects(bucket_settings(tmp_path, s3_url, s3.options))
    digest = bucket.put(b"weights")
    obstore.put(s3.store(s3_url), object_name(digest), damaged, mode="overwrite")
    for ask in (bucket.get, bucket.path):
        with pytest.raises(ObjectDamaged, match=digest):
            ask(digest)
    assert bucket.put(b"weights") == digest
    assert bucket.get(digest) == b"weights"


def test_a_damaged_local_copy_of_a_buckets_object_is_fetched_anew(
    s3: S3Server, s3_url: str, tmp_path: Path
) -> None:
    bucket = open_objects(bucket_settings(tmp_path, s3_url, s3.options))
    for _ in range(2):
        bucket.probe()
    digest = bucket.put(b"weights")
    overwrite(bucket.path(digest), b"weightz")
    assert bucket.path(digest).read_bytes() == b"weights"


def test_objects_cannot_be_written_by_mistake(folder: ObjectStore) -> None:
    assert folder.path(folder.put(b"weights")).stat().st_mode & 0o222 == 0


def test_a_process_killed_while_putting_leaves_whole_objects_only(
    settings: Settings, start: StartChild
) -> None:
    child = start(settings, PUT_FOR_EVER)
    assert processes.hear(child) == "putting"
    folder = open_objects(settings)
    temporary = Path(folder.name) / "tmp"
    while not list(temporary.iterdir()):
        assert child.poll() is None
    processes.kill(child)
    digests = [path.parent.name + path.name for path in Path(folder.name).glob("[0-9a-f][0-9a-f]/*")]
    assert [hashlib.sha256(folder.get(digest)).hexdigest() for digest in digests] == digests
    folder.probe()
    assert list(temporary.iterdir()) == []
    content = b"0" + b"x" * 1_000_000
    assert folder.get(folder.put(content)) == content


def test_what_another_process_is_putting_is_not_swept(folder: ObjectStore, tmp_path: Path) -> None:
    """The sweep of a second opener runs while the first one reads a pipe that is not yet at its end."""
    read_end, write_end = os.pipe()
    content = b"slow"
    pid = os.fork()
    if pid == 0:
        try:
            os.close(write_end)
            with os.fdopen(read_end, "rb") as pipe:
                folder._put(pipe, hashlib.sha256(content).hexdigest(), len(content))
            os._exit(0)
        finally:
            os._exit(1)
    os.close(read_end)
    temporary = Path(folder.name) / "tmp"
    while not list(temporary.iterdir()):
        assert os.waitpid(pid, os.WNOHANG) == (0, 0)
    folder.probe()
    os.write(write_end, content)
    os.close(write_end)
    assert os.waitpid(pid, 0)[1] == 0
    assert folder.get(hashlib.sha256(content).hexdigest()) == content


def test_a_bucket_that_replaces_what_is_there_is_refused(tmp_path: Path) -> None:
    with careless_bucket() as endpoint:
        options = {"endpoint": endpoint, "region": "x", "allow_http": "true"} | {
            "access_key_id": "a",
            "secret_access_key": "b",
        }
        bucket = open_objects(bucket_settings(tmp_path, "s3://bucket/clew", options))
        with pytest.raises(StoreError, match="second create-only put replace the first"):
            bucket.probe()


def test_a_child_forked_after_the_bucket_was_used_is_told_so_and_does_not_hang(
    s3: S3Server, s3_url: str, tmp_path: Path
) -> None:
    bucket = open_objects(bucket_settings(tmp_path, s3_url, s3.options))
    digest = bucket.put(b"weights")
    said = processes.refusal_in_a_fork(lambda: bucket.get(digest))
    assert "before it forked this one" in said
    assert "'spawn'" in said
    assert bucket.get(digest) == b"weights"


def test_a_bucket_that_cannot_be_used_is_said_so(s3: S3Server, s3_url: str, tmp_path: Path) -> None:
    wrong_key = open_objects(bucket_settings(tmp_path, s3_url, s3.options | {"secret_access_key": "wrong"}))
    with pytest.raises(StoreError, match="the keys under") as caught:
        wrong_key.probe()
    assert s3_url in str(caught.value)


@pytest.mark.parametrize(
    ("url", "options", "words"),
    [("s3://bucket", {"colour": "red"}, "colour"), ("gopher://hole", {}, "gopher://hole")],
)
def test_wrong_object_settings_are_refused(
    tmp_path: Path, url: str, options: dict[str, str], words: str
) -> None:
    with pytest.raises(SettingsError, match=words):
        open_objects(bucket_settings(tmp_path, url, options))


# ---------------------------------------------------------------- set aside


def names(objects: ObjectStore, *, aside: bool = False) -> dict[str, int]:
    return {each.digest: each.n_bytes for each in objects.listing(aside=aside)}


def test_a_listing_names_every_object_and_nothing_else(objects: ObjectStore) -> None:
    assert names(objects) == {}
    stored = {objects.put(content): len(content) for content in (b"", b"one", b"two" * 100)}
    assert names(objects) == stored
    assert names(objects, aside=True) == {}


def test_what_is_set_aside_is_out_of_sight_and_brought_back_by_reading(objects: ObjectStore) -> None:
    by_get, by_path, by_start = (objects.put(content) for content in (b"get", b"path", b"start"))
    for digest in (by_get, by_path, by_start):
        objects.set_aside(digest)
        objects.set_aside(digest)  # as a repeated step of a process that was killed would
        assert not objects.exists(digest)
    assert set(names(objects, aside=True)) == {by_get, by_path, by_start}
    assert objects.get(by_get) == b"get"
    assert objects.path(by_path).read_bytes() == b"path"
    assert objects.start_of(by_start, 3) == b"sta"
    assert objects.exists(by_get)
    assert objects.exists(by_start)


def test_what_is_dropped_is_gone_and_what_is_in_its_place_stays(objects: ObjectStore) -> None:
    gone, stored_anew = objects.put(b"gone"), objects.put(b"anew")
    for digest in (gone, stored_anew):
        objects.set_aside(digest)
    objects.put(b"anew")
    for digest in (gone, stored_anew):
        objects.drop(digest)
        objects.drop(digest)
    assert names(objects, aside=True) == {}
    assert objects.get(stored_anew) == b"anew"
    with pytest.raises(NotFound, match=gone[:12]):
        objects.get(gone)


# -- batches -------------------------------------------------------------------------------------------


def contents(n: int) -> list[bytes]:
    return [b"%d " % number * 100 for number in range(n)]


def test_what_is_put_in_a_batch_is_there_at_its_end(objects: ObjectStore) -> None:
    there = objects.put(b"there")
    with objects.batch() as batch, ThreadPoolExecutor(4) as pool:
        digests = list(pool.map(batch.put, [*contents(150), *contents(150), b"there"]))
    assert digests[:150] == digests[150:300]
    assert digests[300] == there
    assert [objects.get(digest) for digest in digests[:150]] == contents(150)


def test_a_batch_that_fails_leaves_no_file_behind(tmp_path: Path) -> None:
    objects = open_objects(Settings(root=tmp_path, store=tmp_path / ".clew"))
    objects.probe()

    def fail() -> None:
        with objects.batch() as batch:
            for content in contents(3):
                batch.put(content)
            raise KeyError("lost")

    with pytest.raises(KeyError):
        fail()
    assert [path for path in (tmp_path / ".clew").rglob("*") if path.is_file()] == []


def test_a_batch_mends_what_is_torn(tmp_path: Path) -> None:
    objects = open_objects(Settings(root=tmp_path, store=tmp_path / ".clew"))
    objects.probe()
    digest = objects.put(b"whole")
    torn = objects.path(digest)
    torn.chmod(0o600)
    torn.write_bytes(b"wh")
    with objects.batch() as batch:
        batch.put(b"whole")
    assert objects.get(digest) == b"whole"
