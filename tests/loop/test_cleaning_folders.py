"""``clew gc`` and folders of files: what is needed stays, what is not goes, and nothing in use is taken."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

from clew.datasets.folder_checkout import checkout_folder, folder_in_use
from clew.datasets.folders import list_folders, take_folder, verify_folder
from clew.entities import FolderSnapshot
from clew.loop.folders import keep_folder
from clew.registry import audit_log
from clew.registry.audit_check import verify_audit
from clew.storage import Store, link
from tests.loop.made import NOW
from tests.loop.test_cleaning import TOMORROW, found, local, store, swept

__all__ = ["local", "store"]

A_WEEK_AGO = NOW - timedelta(days=7)


def keep(store: Store, folder: Path, **files: bytes) -> FolderSnapshot:
    folder.mkdir(exist_ok=True)
    for path in folder.iterdir():
        path.unlink()
    for name, content in files.items():
        (folder / name).write_bytes(content)
    return take_folder(store, "images", folder, now=A_WEEK_AGO).snapshot


def digests(store: Store) -> set[str]:
    return {each.digest for each in store.objects.listing()}


def test_packs_of_what_is_needed_stay_and_others_go(store: Store, tmp_path: Path) -> None:
    used = keep(store, tmp_path / "images", one=b"1", shared=b"s")
    with store.write() as tx:
        link(tx, "run", "r" * 32, "used", "folder", used.id)
    unused = keep(store, tmp_path / "images", two=b"2", shared=b"s")
    newest = keep(store, tmp_path / "images", three=b"3", shared=b"s")
    assert found(store)["snapshot of a folder"] == [f"images/{unused.id}"]
    swept(store)
    assert [each.id for each in list_folders(store)] == sorted([used.id, newest.id])
    swept(store, TOMORROW)
    assert digests(store) == {used.manifest, newest.manifest, *used.packs, *newest.packs}
    assert not set(unused.packs) <= digests(store)
    for snapshot in (used, newest):
        assert verify_folder(store, snapshot).is_whole
    assert verify_audit(store).faults == ()


def test_a_pack_of_an_ingest_that_was_killed_is_set_aside_and_found_again(
    store: Store, tmp_path: Path
) -> None:
    snapshot = keep(store, tmp_path / "images", one=b"1")
    with store.write() as tx:  # as if the process had died before it wrote its rows
        tx.delete("folder_snapshots", {"dataset": "images"})
        tx.delete("folder_log", {"dataset": "images"})
    assert found(store) == {"part": [snapshot.manifest], "pack of files": list(snapshot.packs)}
    swept(store)
    assert keep(store, tmp_path / "images", one=b"1").id == snapshot.id
    swept(store, TOMORROW)
    assert verify_folder(store, snapshot).is_whole


def test_files_that_are_laid_out_for_a_training_go_when_it_is_over(local: Store, tmp_path: Path) -> None:
    older = keep(local, tmp_path / "images", one=b"1")
    with folder_in_use(local, older) as path:
        newest = keep(local, tmp_path / "images", two=b"2")
        with folder_in_use(local, newest):
            pass
        swept(local)
        assert (path / "one").read_bytes() == b"1"
    assert "files of a folder" in found(local)
    swept(local)
    assert [each.name for each in (local.folder / "checkouts").iterdir()] == [newest.id]
    checkout_folder(local, newest, tmp_path / "out")


def test_keeping_a_folder_by_hand_is_in_the_audit_log_once(local: Store, tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    taken = keep_folder(local, "images", tmp_path / "images", actor="ana", now=NOW)
    keep_folder(local, "images", tmp_path / "images", actor="ben", now=NOW)
    [entry] = audit_log(local)
    assert (entry.actor, entry.action, entry.subject) == ("ana", "keep folder", "images")
    assert entry.evidence["snapshot"] == taken.snapshot.id
