"""Folders of files as versions: what is kept, what is read, what is refused, what survives."""

from __future__ import annotations

import hashlib
import os
import random
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from clew.config import ObjectSettings, Settings
from clew.datasets import folder_checkout, folder_reading, folders
from clew.datasets.folder_checkout import checkout_folder, folder_in_use, unneeded_checkouts
from clew.datasets.folders import (
    TakenFolder,
    find_folder,
    folder_history,
    latest_folder,
    list_folders,
    read_manifest,
    take_folder,
    verify_folder,
)
from clew.datasets.manifests import (
    FileEntry,
    Manifest,
    decode_manifest,
    encode_manifest,
    folder_change,
    folder_id,
)
from clew.datasets.packs import PACK_BYTES, Place
from clew.entities import FolderSnapshot
from clew.errors import DataError, NotFound, ObjectDamaged, StoreError, UsageError
from clew.storage import Store, open_store
from clew.storage.objects import object_name
from tests.datasets.conftest import NOW
from tests.datasets.rides import declare, many_rides
from tests.datasets.trees import Content, Link, Program, Tree, make, read
from tests.disks import full, small_disk
from tests.servers import S3Server
from tests.storage import processes
from tests.storage.processes import StartChild

N_KILLS = int(os.environ.get("CLEW_TEST_KILLS", "25"))
ODD: Tree = {
    b"a/plain.txt": b"hello",
    b"a/also.txt": b"hello",
    b"a/empty.txt": b"",
    b"run.sh": Program(b"#!/bin/sh\n"),
    b"Case.txt": b"upper",
    b"case.txt": b"lower",
    "grün.png".encode(): b"composed",
    "gru\u0308n.png".encode(): b"decomposed",
    b"latin-\xfc.png": b"no utf-8",
    b"two\nlines and a \ttab": b"odd",
    b"nothing here": None,
    b"a/nothing there": None,
    b"to file": Link(b"a/plain.txt"),
    b"to folder": Link(b"a"),
    b"outside": Link(b"/etc/passwd"),
    b"nowhere": Link(b"\xff/no such"),
    b"loop": Link(b"."),
    b"a/up": Link(b".."),
}


def keep(store: Store, folder: Path, **given: Any) -> TakenFolder:
    return take_folder(store, "images", folder, now=NOW, **given)


def settle(folder: Path) -> None:
    """Wait until changes of the folder lie so far back that they are believed to be the last."""
    newest = max(path.lstat().st_ctime for path in folder.rglob("*"))
    marker = folder.parent / "marker"
    while True:
        marker.write_bytes(b"")
        if marker.stat().st_ctime > newest + 2.1:
            return
        time.sleep(0.1)


def packs_of(store: Store, snapshot: FolderSnapshot) -> list[Path]:
    return [Path(store.objects.name) / object_name(pack) for pack in snapshot.packs]


def flip_a_bit(path: Path, position: int = -1) -> None:
    content = bytearray(path.read_bytes())
    content[position] ^= 1
    path.chmod(0o600)
    path.write_bytes(content)


@pytest.fixture(params=["folder", "bucket"])
def any_store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store]:
    """A store of each kind of objects."""
    objects = ObjectSettings()
    if request.param == "bucket":
        server: S3Server = request.getfixturevalue("s3")
        objects = ObjectSettings(request.getfixturevalue("s3_url"), server.options)
    with open_store(Settings(root=tmp_path, store=tmp_path / ".clew", objects=objects), now=NOW) as store:
        yield store


# -- what is kept --------------------------------------------------------------------------------------


def test_a_folder_comes_back_as_it_was(any_store: Store, tmp_path: Path) -> None:
    source = make(tmp_path / "images", ODD)
    taken = keep(any_store, source)
    checkout_folder(any_store, taken.snapshot, tmp_path / "out")
    assert read(tmp_path / "out") == read(source) == dict(ODD)
    assert taken.snapshot.n_files == 16
    assert verify_folder(any_store, taken.snapshot).is_whole


NAMES = st.binary(min_size=1, max_size=12).filter(
    lambda name: not set(b"/\0") & set(name) and name not in (b".", b"..")
)
CONTENTS = st.one_of(
    st.binary(max_size=200),
    st.builds(Program, st.binary(max_size=20)),
    st.builds(Link, NAMES),
    st.none(),
)


@given(tree=st.dictionaries(NAMES, CONTENTS, max_size=8), deeper=st.dictionaries(NAMES, CONTENTS, max_size=4))
@hypothesis_settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_whatever_a_folder_holds_comes_back(
    store: Store, tmp_path_factory: pytest.TempPathFactory, tree: Tree, deeper: Tree
) -> None:
    tmp_path = tmp_path_factory.mktemp("folder")
    held: dict[bytes, Content] = {b"0" + name: content for name, content in tree.items()}
    held |= {b"1/2/" + name: content for name, content in deeper.items()}
    source = make(tmp_path / "held", held)
    snapshot = keep(store, source).snapshot
    checkout_folder(store, snapshot, tmp_path / "out")
    assert read(tmp_path / "out") == read(source) == held
    assert keep(store, tmp_path / "out").snapshot.id == snapshot.id


def test_the_name_is_a_hash_over_what_is_listed() -> None:
    entries = [
        FileEntry(b"a/run", "executable", 2, hashlib.sha256(b"ab").digest()),
        FileEntry(b"b\xff", "link", 1, hashlib.sha256(b".").digest()),
        FileEntry(b"c", "folder", 0, hashlib.sha256(b"").digest()),
        FileEntry(b"d.txt", "file", 5, hashlib.sha256(b"hello").digest()),
    ]
    said = b"clew folder 0\0images\0"
    for letter, entry in zip(b"eldf", entries, strict=True):
        said += bytes([letter]) + entry.size.to_bytes(8, "big") + entry.digest
        said += len(entry.path).to_bytes(4, "big") + entry.path
    assert folder_id("images", entries) == hashlib.sha256(said).hexdigest()
    # Pinned: ids never change between releases and machines.
    assert folder_id("images", entries).startswith("f604c77e8878106b98f2ff4f")


def test_an_empty_folder_has_a_version_too(store: Store, tmp_path: Path) -> None:
    snapshot = keep(store, make(tmp_path / "images", {})).snapshot
    checkout_folder(store, snapshot, tmp_path / "out")
    assert (snapshot.n_files, snapshot.packs, read(tmp_path / "out")) == (0, (), {})


def test_the_same_files_have_the_same_name_wherever_and_whenever_they_lie(
    store: Store, tmp_path: Path
) -> None:
    one = keep(store, make(tmp_path / "images", ODD))
    other = keep(store, make(tmp_path / "elsewhere" / "images", dict(sorted(ODD.items(), reverse=True))))
    assert one.snapshot.id == other.snapshot.id
    assert len(list_folders(store)) == len(folder_history(store, "images")) == 1


@pytest.mark.parametrize(
    ("name", "content"),
    [
        (b"a/plain.txt", b"hellO"),
        (b"run.sh", b"#!/bin/sh\n"),
        (b"loop", Link(b"..")),
        (b"Loop", Link(b".")),
        (b"another", None),
    ],
)
def test_any_other_file_gives_another_name(
    store: Store, tmp_path: Path, name: bytes, content: Content
) -> None:
    one = keep(store, make(tmp_path / "images", ODD))
    other = keep(store, make(tmp_path / "other", dict(ODD) | {name: content}))
    assert one.snapshot.id != other.snapshot.id


def test_small_files_share_packs_and_large_ones_run_over_several(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (folder_reading, folders):
        monkeypatch.setattr(module, "PIECE_BYTES", 5 << 20)
    noise = random.Random(0)
    tree = {b"%04d.bin" % n: noise.randbytes(8192) for n in range(1500)}
    tree |= {b"large.bin": noise.randbytes(PACK_BYTES + 3_000_000), b"zeros.bin": bytes(PACK_BYTES + 5)}
    snapshot = keep(store, make(tmp_path / "images", tree)).snapshot
    assert len(snapshot.packs) == 2 + 3 + 2
    sizes = [path.stat().st_size for path in packs_of(store, snapshot)]
    assert max(sizes) <= PACK_BYTES + 8
    checkout_folder(store, snapshot, tmp_path / "out")
    assert read(tmp_path / "out") == tree
    assert verify_folder(store, snapshot).is_whole
    flip_a_bit(packs_of(store, snapshot)[3])
    assert verify_folder(store, snapshot).damaged == ("large.bin",)
    keep(store, tmp_path / "images", is_verified=True)
    assert verify_folder(store, snapshot).is_whole


def test_one_content_is_stored_once(store: Store, tmp_path: Path) -> None:
    content = os.urandom(1_000_000)
    taken = keep(store, make(tmp_path / "images", {b"%d" % n: content for n in range(40)}))
    assert sum(path.stat().st_size for path in set(packs_of(store, taken.snapshot))) < 1_100_000
    make(tmp_path / "images", {b"new": b"new"})
    assert set(taken.snapshot.packs) < set(keep(store, tmp_path / "images").snapshot.packs)


# -- what is read again --------------------------------------------------------------------------------


def test_files_that_were_not_touched_are_not_read_again(store: Store, tmp_path: Path) -> None:
    source = make(tmp_path / "images", ODD)
    settle(source)
    first = keep(store, source)
    assert (first.n_read, first.is_new) == (16, True)
    again = keep(store, source)
    assert (again.n_read, again.is_new, again.snapshot) == (0, False, first.snapshot)
    (source / "a/plain.txt").write_bytes(b"other")
    (source / "more.txt").write_bytes(b"more")
    assert keep(store, source).n_read == 2
    assert keep(store, source, is_verified=True).n_read == 17


def test_a_change_behind_an_old_time_is_found(store: Store, tmp_path: Path) -> None:
    source = make(tmp_path / "images", ODD)
    settle(source)
    first = keep(store, source).snapshot
    file = source / "a/plain.txt"
    before = file.stat()
    file.write_bytes(b"HELLO")
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert file.stat().st_mtime_ns == before.st_mtime_ns
    assert keep(store, source).snapshot.id != first.id


def test_a_file_that_just_changed_is_not_believed_to_have_settled(store: Store, tmp_path: Path) -> None:
    source = make(tmp_path / "images", {b"a": b"a"})
    keep(store, source)
    assert keep(store, source).n_read == 1


def test_a_touched_file_is_read_and_not_stored_again(store: Store, tmp_path: Path) -> None:
    source = make(tmp_path / "images", {b"large": os.urandom(PACK_BYTES + 1), b"small": b"small"})
    first = keep(store, source)
    objects = {each.digest for each in store.objects.listing()}
    for name in ("large", "small"):
        os.utime(source / name)
    assert keep(store, source).snapshot == first.snapshot
    assert {each.digest for each in store.objects.listing()} == objects


def test_going_back_to_an_old_state_gives_the_old_snapshot(store: Store, tmp_path: Path) -> None:
    source = make(tmp_path / "images", {b"a": b"one"})
    one = keep(store, source).snapshot
    (source / "a").write_bytes(b"two")
    two = keep(store, source).snapshot
    (source / "a").write_bytes(b"one")
    assert keep(store, source).snapshot == one
    assert [snapshot for _, snapshot, _ in folder_history(store, "images")] == [one.id, two.id, one.id]
    assert latest_folder(store, "images") == one


def test_a_torn_index_is_as_none(store: Store, tmp_path: Path) -> None:
    source = make(tmp_path / "images", ODD)
    settle(source)
    first = keep(store, source)
    [index] = (store.folder / "folders").iterdir()
    for content in (b"", index.read_bytes()[:-1]):
        index.write_bytes(content)
        again = keep(store, source)
        assert (again.snapshot, again.n_read) == (first.snapshot, 16)


# -- what is refused -----------------------------------------------------------------------------------


def test_everything_that_cannot_be_kept_is_named_at_once(store: Store, tmp_path: Path) -> None:
    source = make(tmp_path / "images", {b"a": b"a"})
    os.mkfifo(source / "pipe")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(os.path.relpath(source / "sock"))
        with pytest.raises(DataError, match=r"2 names in it.*pipe \(it is a pipe.*sock \(it is a socket"):
            keep(store, source)
    assert latest_folder(store, "images") is None


def test_files_and_folders_without_permission_are_named_at_once() -> None:
    # Not below pytest's own folder, which is closed to others.
    with tempfile.TemporaryDirectory() as name:
        place = Path(name)
        place.chmod(0o755)
        source = make(place / "images", {b"secret\xff": b"a", b"other": b"b", b"fine": b"c", b"in/d": b"d"})
        for secret in (b"secret\xff", b"other"):
            os.chmod(os.fsencode(source) + b"/" + secret, 0)  # noqa: PTH101 - a path of bytes
        said = kept_by_nobody(place, source)
        assert "2 names in it" in said
        assert "other (Permission denied), secret\\xff (Permission denied)" in said
        (source / "in").chmod(0)
        assert "in (Permission denied)" in kept_by_nobody(place, source)


def kept_by_nobody(place: Path, source: Path) -> str:
    """What an ordinary user is told; root may read everything, and so goes on as nobody here."""
    done = subprocess.run(
        [sys.executable, "-c", KEEP_BY_NOBODY, place, source],
        check=True,
        capture_output=True,
        text=True,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
    )
    return done.stdout


KEEP_BY_NOBODY = """
import os, sys
from datetime import UTC, datetime
from pathlib import Path
from clew.config import Settings
from clew.datasets.folders import take_folder
from clew.errors import DataError
from clew.storage import open_store
now = datetime(2026, 3, 1, 12, tzinfo=UTC)
root = Path(sys.argv[1])
with open_store(Settings(root=root, store=root / ".clew"), now=now) as store:
    if os.geteuid() == 0:
        for path in (store.folder, *store.folder.rglob("*")):
            path.chmod(0o777)
        os.seteuid(65534)
    try:
        take_folder(store, "images", Path(sys.argv[2]), now=now)
    except DataError as error:
        print(error)
    os.seteuid(os.getuid())
"""


def test_a_file_that_never_holds_still_is_refused_by_name(store: Store, tmp_path: Path) -> None:
    source = make(tmp_path / "images", {b"still": b"still", b"growing": b"x"})
    is_over = threading.Event()

    def grow() -> None:
        with (source / "growing").open("ab", buffering=0) as file:
            while not is_over.is_set():
                file.write(b"x")

    writer = threading.Thread(target=grow)
    writer.start()
    try:
        while True:  # a round may by chance fall between two writes
            try:
                keep(store, source)
            except DataError as error:
                assert "changes while it is read: growing" in str(error)  # noqa: PT017 - the first of many
                break
    finally:
        is_over.set()
        writer.join()
    settled = keep(store, source)
    checkout_folder(store, settled.snapshot, tmp_path / "out")
    assert read(tmp_path / "out") == read(source)


def test_files_that_change_while_they_are_read_are_kept_as_they_are_in_the_end(
    store: Store, tmp_path: Path
) -> None:
    noise = random.Random(1)
    source = make(tmp_path / "images", {b"%04d" % n: noise.randbytes(30_000) for n in range(1500)})

    def change() -> None:
        for n in range(0, 1500, 100):
            (source / f"{n:04}").write_bytes(b"changed")

    writer = threading.Thread(target=change)
    writer.start()
    snapshot = keep(store, source).snapshot
    writer.join()
    final = keep(store, source).snapshot
    checkout_folder(store, final, tmp_path / "out")
    assert read(tmp_path / "out") == read(source)
    # Whatever the first one met, each of its files is one that was there, and none is half of two.
    checkout_folder(store, snapshot, tmp_path / "first")
    for name, content in read(tmp_path / "first").items():
        assert content in (b"changed", b"") or len(content or b"") == 30_000, name


def test_a_folder_and_the_store_in_each_other_are_refused(store: Store, tmp_path: Path) -> None:
    make(tmp_path, {b"a": b"a"})
    for folder in (tmp_path, store.folder, store.folder / "objects"):
        with pytest.raises(UsageError, match="lie in each other"):
            keep(store, folder)


@pytest.mark.parametrize("name", ["", "a/b", "1", ".x", "ä\n", "a b"])
def test_a_name_that_is_none_is_refused(store: Store, tmp_path: Path, name: str) -> None:
    with pytest.raises(UsageError, match="cannot name a folder"):
        take_folder(store, name, make(tmp_path / "images", {}), now=NOW)


def test_the_name_of_a_table_is_refused(store: Store, tmp_path: Path) -> None:
    from clew.datasets import take_snapshot

    take_snapshot(store, declare(), many_rides(3), source="x", code=None, now=NOW)
    with pytest.raises(UsageError, match="'rides' is a table already"):
        take_folder(store, "rides", make(tmp_path / "images", {}), now=NOW)


def test_what_is_no_folder_is_refused(store: Store, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(DataError, match="file is a file"):
        keep(store, tmp_path / "file")
    with pytest.raises(DataError, match="gone does not exist"):
        keep(store, tmp_path / "gone")


def test_a_link_to_a_folder_is_the_folder_itself(store: Store, tmp_path: Path) -> None:
    source = make(tmp_path / "images", ODD)
    (tmp_path / "link").symlink_to("images")
    assert keep(store, tmp_path / "link").snapshot.id == keep(store, source).snapshot.id


# -- finding -------------------------------------------------------------------------------------------


def test_a_snapshot_is_found_by_its_id_or_the_name_of_its_folder(store: Store, tmp_path: Path) -> None:
    source = make(tmp_path / "images", {b"a": b"1"})
    one = keep(store, source).snapshot
    (source / "a").write_bytes(b"2")
    two = keep(store, source).snapshot
    assert find_folder(store, "images") == two
    assert find_folder(store, one.id[:12]) == find_folder(store, one.id[:12], "images") == one
    for reference in ("image", "", "0" * 64):
        with pytest.raises(NotFound):
            find_folder(store, reference)
    with pytest.raises(NotFound, match="Did you mean 'images'"):
        find_folder(store, "image")


# -- differences ---------------------------------------------------------------------------------------


def test_a_difference_names_what_came_went_changed_and_moved(store: Store, tmp_path: Path) -> None:
    source = make(tmp_path / "images", {b"a": b"a", b"b": b"b", b"c": b"c", b"twin": b"b", b"run": b"#!"})
    then = keep(store, source).snapshot
    (source / "a").unlink()
    (source / "b").rename(source / "moved b")
    (source / "c").write_bytes(b"C")
    (source / "run").chmod(0o755)
    make(source, {b"new\xff": b"new"})
    now = keep(store, source).snapshot
    change = folder_change(read_manifest(store, then), read_manifest(store, now))
    assert (change.added, change.removed, change.changed) == (("new\\xff",), ("a",), ("c", "run"))
    assert (change.moved, change.n_same, change.is_none) == ((("b", "moved b"),), 1, False)
    assert folder_change(read_manifest(store, now), read_manifest(store, now)).is_none


# -- a manifest from elsewhere -------------------------------------------------------------------------


@pytest.mark.parametrize("path", [b"/etc/x", b"../x", b"a/../x", b"./x", b"a//x", b"", b"a\0b", b"link/x"])
def test_a_manifest_that_leads_out_of_the_folder_is_refused(path: bytes) -> None:
    digest = hashlib.sha256(b"x").digest()
    entries = (FileEntry(b"link", "link", 1, digest), FileEntry(path, "file", 1, digest))
    places = {digest: Place(("0" * 64,), 8)}
    with pytest.raises(DataError, match=r"no path inside a folder|no folder"):
        decode_manifest(encode_manifest(Manifest(entries, places)), ["0" * 64])


# -- laying out ----------------------------------------------------------------------------------------


def test_a_folder_that_holds_something_is_left_alone(store: Store, tmp_path: Path) -> None:
    snapshot = keep(store, make(tmp_path / "images", ODD)).snapshot
    mine = make(tmp_path / "mine", {b"x": b"x"})
    with pytest.raises(UsageError, match="holds something already"):
        checkout_folder(store, snapshot, mine)
    assert read(mine) == {b"x": b"x"}
    checkout_folder(store, snapshot, make(tmp_path / "empty", {}))
    assert read(tmp_path / "empty") == dict(ODD)
    with pytest.raises(UsageError, match="mkdir -p"):
        checkout_folder(store, snapshot, tmp_path / "no" / "such")


def test_names_that_a_system_without_case_takes_for_one_are_refused_there(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    snapshot = keep(store, make(tmp_path / "images", ODD)).snapshot
    # Hardly any Linux can mount such a system, so here is said that this is one.
    monkeypatch.setattr(folder_checkout, "tells_no_case", lambda _: True)
    with pytest.raises(DataError, match=r"Case.txt and case.txt, gr.+n.png and gr.+n.png\. Nothing"):
        checkout_folder(store, snapshot, tmp_path / "out")
    assert not (tmp_path / "out").exists()
    assert not list(tmp_path.glob(".out*"))


def test_this_system_tells_upper_from_lower_case(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(b"")
    assert folder_checkout.tells_no_case(tmp_path) is (tmp_path / "X").exists()


def test_what_a_killed_process_left_of_laying_out_is_removed(store: Store, tmp_path: Path) -> None:
    snapshot = keep(store, make(tmp_path / "images", ODD)).snapshot
    left = make(tmp_path / ".out.laying-out-abc", {b"files/x": b"x"})
    checkout_folder(store, snapshot, tmp_path / "out")
    assert not left.exists()


def test_a_snapshot_in_use_is_laid_out_once_and_anew_when_it_was_changed(
    store: Store, tmp_path: Path
) -> None:
    snapshot = keep(store, make(tmp_path / "images", ODD)).snapshot
    with folder_in_use(store, snapshot) as path:
        assert {
            name: content for name, content in read(path).items() if not isinstance(content, Program)
        } == {name: content for name, content in ODD.items() if not isinstance(content, Program)}
        assert not (path / "a/plain.txt").stat().st_mode & 0o222
        number = (path / "a/plain.txt").stat().st_ino
        with folder_in_use(store, snapshot) as twin:
            assert twin == path
        assert unneeded_checkouts(store) == []
    with folder_in_use(store, snapshot) as path:
        assert (path / "a/plain.txt").stat().st_ino == number
        (path / "a/plain.txt").chmod(0o644)
        (path / "a/plain.txt").write_bytes(b"HELLO")
    with folder_in_use(store, snapshot) as path:
        assert (path / "a/plain.txt").read_bytes() == b"hello"


# -- damage --------------------------------------------------------------------------------------------


def test_a_flipped_bit_is_found_on_read_and_its_file_named(store: Store, tmp_path: Path) -> None:
    source = make(tmp_path / "images", {b"a": b"first", b"b": b"second", b"c": b"third"})
    snapshot = keep(store, source).snapshot
    [pack] = packs_of(store, snapshot)
    flip_a_bit(pack, pack.read_bytes().index(b"second"))
    check = verify_folder(store, snapshot)
    assert (check.damaged, check.unread, check.is_whole) == (("b",), ("a", "c"), False)
    with pytest.raises(ObjectDamaged):
        checkout_folder(store, snapshot, tmp_path / "out")
    assert not (tmp_path / "out").exists()
    keep(store, source, is_verified=True)
    assert verify_folder(store, snapshot).is_whole
    checkout_folder(store, snapshot, tmp_path / "out")


def test_damage_is_mended_for_older_snapshots_too(store: Store, tmp_path: Path) -> None:
    source = make(tmp_path / "images", {b"a": b"first", b"b": b"second"})
    older = keep(store, source).snapshot
    make(source, {b"c": b"third"})
    newer = keep(store, source).snapshot
    for pack in packs_of(store, newer):
        flip_a_bit(pack)
    keep(store, source, is_verified=True)
    assert verify_folder(store, older).is_whole
    assert verify_folder(store, newer).is_whole


def test_contents_whose_pack_cannot_be_made_again_get_another(store: Store, tmp_path: Path) -> None:
    source = make(tmp_path / "images", {b"a": b"first", b"b": b"second"})
    keep(store, source)
    (source / "a").write_bytes(b"changed")
    newer = keep(store, source).snapshot
    for pack in packs_of(store, newer):
        flip_a_bit(pack)
    keep(store, source, is_verified=True)
    mended = find_folder(store, "images")
    assert mended.id == newer.id
    assert verify_folder(store, mended).is_whole


@pytest.mark.parametrize("what", ["pack", "manifest"])
def test_what_was_lost_is_stored_again_by_repeating(store: Store, tmp_path: Path, what: str) -> None:
    source = make(tmp_path / "images", ODD)
    settle(source)
    snapshot = keep(store, source).snapshot
    lost = (
        packs_of(store, snapshot)[0]
        if what == "pack"
        else Path(store.objects.name) / object_name(snapshot.manifest)
    )
    lost.unlink()
    with pytest.raises(NotFound):
        checkout_folder(store, snapshot, tmp_path / "out")
    assert keep(store, source).snapshot == snapshot
    assert verify_folder(store, snapshot).is_whole
    checkout_folder(store, snapshot, tmp_path / "out")


def test_a_torn_pack_of_an_ingest_that_never_ended_is_mended_by_repeating(
    store: Store, tmp_path: Path
) -> None:
    source = make(tmp_path / "images", {b"a": os.urandom(100_000)})
    snapshot = keep(store, source).snapshot
    [pack] = packs_of(store, snapshot)
    with store.write() as tx:  # as if the process had died before it wrote its rows
        tx.delete("folder_snapshots", {"dataset": "images"})
        tx.delete("folder_log", {"dataset": "images"})
    pack.chmod(0o600)
    with pack.open("r+b") as file:
        file.truncate(50_000)
    assert keep(store, source).snapshot == snapshot
    assert verify_folder(store, snapshot).is_whole


# -- no room, and no warning ---------------------------------------------------------------------------


def test_a_full_disk_is_said_and_leaves_nothing_half(tmp_path: Path) -> None:
    source = make(tmp_path / "images", {b"%d" % n: os.urandom(100_000) for n in range(30)})
    with (
        small_disk(tmp_path / "disk", "2m") as disk,
        open_store(Settings(root=disk, store=disk / ".clew"), now=NOW) as store,
    ):
        with pytest.raises(StoreError, match=r"disk of .* is full.*try again"):
            keep(store, source)
        assert latest_folder(store, "images") is None
        assert list(store.objects.listing()) == []
        for n in range(20):
            (source / str(n)).unlink()
        assert verify_folder(store, keep(store, source).snapshot).is_whole


def test_laying_out_on_a_full_disk_is_said_and_leaves_nothing(store: Store, tmp_path: Path) -> None:
    snapshot = keep(
        store, make(tmp_path / "images", {b"%d" % n: os.urandom(9_000) for n in range(30)})
    ).snapshot
    with small_disk(tmp_path / "disk", "256k") as disk:
        with pytest.raises(StoreError, match="Nothing was laid out"):
            checkout_folder(store, snapshot, disk / "out")
        assert list(disk.iterdir()) == []
        with full(disk), pytest.raises(StoreError, match="Nothing was laid out"):
            checkout_folder(store, snapshot, disk / "out")


KEEP = """
from clew.datasets.folders import take_folder
with open_store(settings, now=now) as store:
    say("ready"); wait()
    say(take_folder(store, "images", Path(given["root"]) / "images", now=now).snapshot.id)
"""


@pytest.mark.timeout(120 + 20 * N_KILLS)
def test_killed_at_any_moment_nothing_is_visible_and_repeating_finishes(
    settings: Settings, tmp_path: Path, start: StartChild
) -> None:
    noise = random.Random(5)
    source = make(tmp_path / "images", {b"%03d" % n: noise.randbytes(50_000) for n in range(400)})
    child = start(settings, KEEP)
    processes.hear(child)
    ready = time.monotonic()
    processes.tell(child)
    older = processes.hear(child)
    seconds = time.monotonic() - ready
    processes.finish(child)
    for kill in range(N_KILLS):
        (source / "new").write_bytes(b"%d" % kill)
        for n in range(200):
            (source / f"{n:03}").write_bytes(noise.randbytes(50_000))
        child = start(settings, KEEP)
        processes.hear(child)
        processes.tell(child)
        time.sleep(noise.uniform(0, seconds))
        processes.kill(child)
        with open_store(settings, now=NOW + timedelta(minutes=kill)) as store:
            newest = latest_folder(store, "images")
            assert newest is not None
            assert verify_folder(store, newest).is_whole
            finished = keep(store, source)
            assert newest.id in (older, finished.snapshot.id)
            assert verify_folder(store, finished.snapshot).is_whole
            older = finished.snapshot.id
    with open_store(settings, now=NOW) as store:
        checkout_folder(store, find_folder(store, older), tmp_path / "out")
    assert read(tmp_path / "out") == read(source)
