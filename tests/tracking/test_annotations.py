from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest

from clew.errors import NotFound, ObjectDamaged, UsageError
from clew.registry.audit import audit_log
from clew.registry.audit_check import verify_audit
from clew.storage import Store
from clew.tracking import (
    checked_artifact_name,
    keep_artifacts,
    list_artifacts,
    note_run,
    read_artifact,
    read_notes,
    read_tags,
    remove_note,
    tag_run,
    tags_of_runs,
    untag_run,
    write_artifacts,
)
from tests.tracking.conftest import NOW
from tests.tracking.test_runs import begin

LATER = NOW + timedelta(hours=1)


def test_tags_are_set_changed_and_taken_away_and_each_change_is_audited(store: Store) -> None:
    run, _ = begin(store)
    tag_run(store, run.id, {"team": "x", "stage": "draft"}, now=NOW, actor="ada", reason="sorting")
    tag_run(store, run.id, {"team": "x", "stage": "final"}, now=LATER, actor="bob")
    untag_run(store, run.id, ["team"], now=LATER, actor="bob")
    assert read_tags(store, run.id) == {"stage": "final"}
    assert tags_of_runs(store, [run.id, "other"]) == {run.id: {"stage": "final"}}
    third, second, first = audit_log(store, f"run {run.id}")
    assert (first.actor, first.action, first.reason) == ("ada", "tag run", "sorting")
    assert second.evidence == {"tags": {"stage": "final"}, "before": {"stage": "draft"}}
    assert (third.action, third.evidence) == ("untag run", {"before": {"team": "x"}})


def test_a_tag_that_changes_nothing_is_no_change(store: Store) -> None:
    run, _ = begin(store)
    for _ in range(2):
        tag_run(store, run.id, {"team": "x"}, now=NOW, actor="ada")
    assert len(audit_log(store, f"run {run.id}")) == 1


def test_a_tag_that_is_not_there_is_refused_with_those_that_are(store: Store) -> None:
    run, _ = begin(store)
    with pytest.raises(NotFound, match="It has none"):
        untag_run(store, run.id, ["team"], now=NOW, actor="ada")
    tag_run(store, run.id, {"team": "x"}, now=NOW, actor="ada")
    with pytest.raises(NotFound, match="Did you mean 'team'"):
        untag_run(store, run.id, ["teem"], now=NOW, actor="ada")


@pytest.mark.parametrize(
    ("tags", "words"),
    [
        ({"": "x"}, "is empty"),
        ({"a": ""}, "is empty"),
        ({"a": "x" * 501}, "501 characters; the longest"),
    ],
)
def test_a_tag_has_a_name_and_a_short_value(tags: dict[str, str], words: str, store: Store) -> None:
    run, _ = begin(store)
    with pytest.raises(UsageError, match=words):
        tag_run(store, run.id, tags, now=NOW, actor="ada")
    assert read_tags(store, run.id) == {}


def test_notes_are_kept_in_order_with_their_authors(store: Store) -> None:
    run, _ = begin(store)
    note_run(store, run.id, " the rows of May came twice\n", now=NOW, actor="ada")
    note_run(store, run.id, "they did not", now=LATER, actor="bob")
    remove_note(store, run.id, 1, now=LATER, actor="ada")
    (left,) = read_notes(store, run.id)
    assert (left.number, left.text, left.actor, left.at) == (2, "they did not", "bob", LATER)
    with pytest.raises(NotFound, match="has no note 7; it has: 2"):
        remove_note(store, run.id, 7, now=LATER, actor="ada")
    removed = audit_log(store, f"run {run.id}")[0]
    assert removed.evidence == {"note": 1, "text": "the rows of May came twice"}
    with pytest.raises(UsageError, match="empty"):
        note_run(store, run.id, "  ", now=NOW, actor="ada")


def test_the_audit_chain_holds_after_all_this(store: Store) -> None:
    run, _ = begin(store)
    tag_run(store, run.id, {"team": "x"}, now=NOW, actor="ada")
    note_run(store, run.id, "note", now=NOW, actor="ada")
    found = verify_audit(store)
    assert (found.n_rows, found.faults) == (2, ())


# -- artifacts -----------------------------------------------------------------------------------------


def test_artifacts_are_files_by_name_and_content(store: Store, tmp_path: Path) -> None:
    run, _ = begin(store)
    (tmp_path / "plot").write_bytes(b"picture")
    keep_artifacts(store, run.id, {"plots/a.png": tmp_path / "plot", "b.txt": b"old"}, now=NOW)
    keep_artifacts(store, run.id, {"b.txt": b"new"}, now=LATER)
    found = list_artifacts(store, run.id)
    assert [(each.name, each.n_bytes, each.at) for each in found] == [
        ("b.txt", 3, LATER),
        ("plots/a.png", 7, NOW),
    ]
    assert read_artifact(store, run.id, "b.txt") == b"new"
    with pytest.raises(NotFound, match=r"Did you mean 'b\.txt'"):
        read_artifact(store, run.id, "b.text")


def test_artifacts_are_written_once_and_nothing_is_overwritten(store: Store, tmp_path: Path) -> None:
    run, _ = begin(store)
    keep_artifacts(store, run.id, {"plots/a.png": b"picture", "b.txt": b"text"}, now=NOW)
    out = tmp_path / "out"
    for _ in range(2):
        write_artifacts(store, run.id, out)
    assert {path.name: path.read_bytes() for path in out.rglob("*") if path.is_file()} == {
        "a.png": b"picture",
        "b.txt": b"text",
    }
    (out / "b.txt").write_bytes(b"mine")
    (out / "plots" / "a.png").unlink()
    with pytest.raises(UsageError, match=r"b\.txt is there and holds something else"):
        write_artifacts(store, run.id, out)
    assert not (out / "plots" / "a.png").exists()


def test_a_damaged_artifact_is_named_and_not_written(store: Store, tmp_path: Path) -> None:
    run, _ = begin(store)
    (kept,) = keep_artifacts(store, run.id, {"b.txt": b"text"}, now=NOW)
    path = store.objects.path(kept.digest)
    path.chmod(0o600)
    path.write_bytes(b"Text")
    with pytest.raises(ObjectDamaged, match=kept.digest[:12]):
        write_artifacts(store, run.id, tmp_path / "out")
    assert list((tmp_path / "out").iterdir()) == []


@pytest.mark.parametrize(
    "name",
    ["", "/etc/passwd", "../up", "a/../../b", "a//b", "./a", "a\\b", "a\nb", "C:a", "n" * 251, 7, "a/"],
)
def test_a_name_that_is_not_safe_everywhere_is_refused(name: object) -> None:
    with pytest.raises(UsageError, match=r"cannot be named .*plots/confusion\.png"):
        checked_artifact_name(name)
