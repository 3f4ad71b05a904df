from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

import pytest

from clew.errors import NotFound, ProjectError, StoreError
from clew.storage import Store
from clew.tracking import CodeTree, capture_code, get_code, materialise_code
from clew.tracking.submodules import Submodule
from tests.tracking.conftest import NOW
from tests.tracking.repositories import git, repository, write

MODEL = "import features\n"


def capture(store: Store, root: Path, *exclude: str) -> CodeTree:
    return capture_code(store, root, exclude=exclude, now=NOW)


def names(tree: CodeTree) -> list[str]:
    return [file.path for file in tree.files]


def written(store: Store, tree: CodeTree, folder: Path) -> dict[str, bytes]:
    materialise_code(store, tree.id, folder)
    files = (path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


# -- what Clew wrote itself ----------------------------------------------------------------------------


REPORT = '<!doctype html><head><meta name="generator" content="clew 0.1.0"></head>'


@pytest.mark.parametrize("has_git", [True, False])
def test_what_clew_wrote_is_no_code_and_changes_no_id(store: Store, tmp_path: Path, has_git: bool) -> None:
    files = {"bikes.py": MODEL, "page.html": "<p>of the project</p>"}
    root = (repository if has_git else write)(tmp_path / "project", files)
    before = capture(store, root)
    write(root, {"out/july.parquet": "", "report.html": REPORT, "up.log": "INFO", ".july.csv.7.part": ""})
    after = capture_code(store, root, written=[str(root / "out" / "july.parquet")], now=NOW)
    assert (after.id, after.is_dirty) == (before.id, before.is_dirty)
    assert names(after) == ["bikes.py", "page.html"]
    assert after.skipped == (
        ("out/july.parquet", "was written by Clew"),
        ("report.html", "was written by Clew"),
    )


def test_what_git_tracks_counts_whoever_wrote_it(store: Store, tmp_path: Path) -> None:
    root = repository(tmp_path / "project", {"bikes.py": MODEL, "answers.csv": "a,b", "report.html": REPORT})
    tree = capture_code(store, root, written=[str(root / "answers.csv")], now=NOW)
    assert names(tree) == ["answers.csv", "bikes.py", "report.html"]


# -- with git ------------------------------------------------------------------------------------------


def test_tracked_and_untracked_files_are_captured_and_ignored_ones_are_not(
    store: Store, tmp_path: Path
) -> None:
    root = repository(tmp_path / "project", {"bikes.py": MODEL, ".gitignore": "notes.txt\n"})
    write(root, {"features.py": "x = 1\n", "sql/rides.sql": "select 1\n", "notes.txt": "private\n"})
    assert names(capture(store, root)) == [".gitignore", "bikes.py", "features.py", "sql/rides.sql"]


def test_the_working_tree_is_captured_not_the_index(store: Store, tmp_path: Path) -> None:
    root = repository(tmp_path / "project", {"bikes.py": "committed\n", "old.py": "x = 1\n"})
    write(root, {"bikes.py": "staged\n"})
    git(root, "add", "bikes.py")
    write(root, {"bikes.py": "edited\n"})
    (root / "old.py").unlink()
    assert written(store, capture(store, root), tmp_path / "out") == {"bikes.py": b"edited\n"}


def test_commit_and_dirtiness_are_recorded(store: Store, tmp_path: Path) -> None:
    root = repository(tmp_path / "project", {"bikes.py": MODEL})
    clean = capture(store, root)
    assert (clean.commit, clean.is_dirty) == (git(root, "rev-parse", "HEAD"), False)
    write(root, {"bikes.py": "changed\n"})
    assert capture(store, root).is_dirty
    git(root, "checkout", "--quiet", "bikes.py")
    write(root, {"new.py": "x = 1\n"})
    assert capture(store, root).is_dirty


def test_a_deleted_tracked_file_makes_it_dirty(store: Store, tmp_path: Path) -> None:
    root = repository(tmp_path / "project", {"bikes.py": MODEL, "other.py": "x = 1\n"})
    (root / "other.py").unlink()
    assert capture(store, root).is_dirty


def test_a_repository_without_a_commit_is_dirty(store: Store, tmp_path: Path) -> None:
    root = write(tmp_path / "project", {"bikes.py": MODEL})
    git(root, "init", "--quiet")
    tree = capture(store, root)
    assert (names(tree), tree.commit, tree.is_dirty) == (["bikes.py"], None, True)


def test_a_tree_that_is_committed_later_is_named_by_its_commit(store: Store, tmp_path: Path) -> None:
    root = repository(tmp_path / "project", {"bikes.py": MODEL})
    write(root, {"features.py": "x = 1\n"})
    before = capture(store, root)
    git(root, "add", "--all")
    git(root, "commit", "--quiet", "--message", "add features")
    after = capture(store, root)
    assert before.id == after.id
    assert get_code(store, after.id).commit == git(root, "rev-parse", "HEAD")
    assert not get_code(store, after.id).is_dirty


def test_the_users_index_is_not_touched(store: Store, tmp_path: Path) -> None:
    root = repository(tmp_path / "project", {"bikes.py": MODEL, "other.py": "x = 1\n"})
    write(root, {"bikes.py": "staged\n"})
    git(root, "add", "bikes.py")
    write(root, {"new.py": "x = 1\n"})
    # Same content, another time: git would like to refresh its index.
    os.utime(root / "other.py", (1, 1))
    status = git(root, "--no-optional-locks", "status", "--porcelain")
    index = (root / ".git" / "index").read_bytes()
    capture(store, root)
    assert (root / ".git" / "index").read_bytes() == index
    assert git(root, "--no-optional-locks", "status", "--porcelain") == status


def test_touching_a_file_does_not_make_it_dirty(store: Store, tmp_path: Path) -> None:
    root = repository(tmp_path / "project", {"bikes.py": MODEL})
    os.utime(root / "bikes.py", (1, 1))
    assert not capture(store, root).is_dirty


def test_only_the_project_of_a_larger_repository_is_captured(store: Store, tmp_path: Path) -> None:
    top = repository(
        tmp_path / "all", {"bikes/bikes.py": MODEL, "bikes/a/b.py": "x = 1\n", "website/site.py": "y = 1\n"}
    )
    write(top, {"bikes/new.py": "", "website/new.py": ""})
    tree = capture(store, top / "bikes")
    assert names(tree) == ["a/b.py", "bikes.py", "new.py"]
    (top / "bikes" / "new.py").unlink()
    assert not capture(store, top / "bikes").is_dirty, (
        "changes elsewhere in the repository are not the project's"
    )


def test_a_project_that_git_ignores_is_captured_as_if_without_git(store: Store, tmp_path: Path) -> None:
    top = repository(tmp_path / "all", {".gitignore": "scratch/\n"})
    root = write(top / "scratch" / "bikes", {"bikes.py": MODEL})
    tree = capture(store, root)
    assert (names(tree), tree.commit, tree.is_dirty) == (["bikes.py"], None, False)


def test_submodules_are_captured(store: Store, tmp_path: Path) -> None:
    other = repository(tmp_path / "other", {"shared.py": "x = 1\n"})
    root = repository(tmp_path / "project", {"bikes.py": MODEL})
    git(root, "-c", "protocol.file.allow=always", "submodule", "--quiet", "add", str(other), "lib")
    captured = capture(store, root)
    assert names(captured) == [".gitmodules", "bikes.py", "lib/shared.py"]
    held = Submodule("lib", git(other, "rev-parse", "HEAD"), str(other))
    assert captured.submodules == get_code(store, captured.id).submodules == (held,)
    write(root, {"lib/shared.py": "x = 2\n", "lib/new.py": "y = 1\n"})
    dirty = capture(store, root)
    assert dirty.is_dirty
    assert written(store, dirty, tmp_path / "out")["lib/shared.py"] == b"x = 2\n"
    assert "lib/new.py" in names(dirty)


def test_a_submodule_that_is_not_checked_out_is_told(store: Store, tmp_path: Path) -> None:
    other = repository(tmp_path / "other", {"shared.py": "x = 1\n"})
    root = repository(tmp_path / "project", {"bikes.py": MODEL})
    git(root, "-c", "protocol.file.allow=always", "submodule", "--quiet", "add", str(other), "lib")
    git(root, "commit", "--quiet", "-m", "with lib")
    git(tmp_path, "clone", "--quiet", str(root), "clone")
    captured = capture(store, tmp_path / "clone")
    assert ("lib", "is a submodule that is not checked out") in captured.skipped
    assert captured.submodules == ()


def test_a_notebook_is_the_same_code_whenever_it_was_run(store: Store, tmp_path: Path) -> None:
    cell: dict[str, Any] = {
        "cell_type": "code",
        "source": "6 * 7",
        "metadata": {},
        "execution_count": None,
        "outputs": [],
    }
    root = write(tmp_path / "project", {"bikes.py": MODEL, "look.ipynb": json.dumps({"cells": [cell]})})
    fresh = capture(store, root)
    ran = cell | {"execution_count": 3, "outputs": [{"output_type": "stream", "text": "42"}]}
    write(root, {"look.ipynb": json.dumps({"cells": [ran]}, indent=1)})
    assert capture(store, root).id == fresh.id
    assert b"42" not in written(store, fresh, tmp_path / "out")["look.ipynb"]
    write(root, {"look.ipynb": json.dumps({"cells": [cell | {"source": "6 * 8"}]})})
    assert capture(store, root).id != fresh.id


def test_variables_of_a_surrounding_git_do_not_mislead(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = repository(tmp_path / "project", {"bikes.py": MODEL})
    other = repository(tmp_path / "other", {"other.py": MODEL})
    monkeypatch.setenv("GIT_DIR", str(other / ".git"))
    monkeypatch.setenv("GIT_INDEX_FILE", str(other / ".git" / "index"))
    assert names(capture(store, root)) == ["bikes.py"]


# -- without git ---------------------------------------------------------------------------------------


def test_without_git_every_file_is_captured_but_caches_and_environments(store: Store, tmp_path: Path) -> None:
    files = {
        "bikes.py": MODEL,
        "sql/rides.sql": "select 1\n",
        "__pycache__/bikes.cpython-311.pyc": "",
        ".clew/clew.sqlite": "",
        "myenv/pyvenv.cfg": "",
        "myenv/lib/site.py": "",
        "node_modules/x.js": "",
    }
    tree = capture(store, write(tmp_path / "project", files))
    assert (names(tree), tree.commit, tree.is_dirty) == (["bikes.py", "sql/rides.sql"], None, False)


def test_the_store_is_not_code(tmp_path: Path, store: Store) -> None:
    write(tmp_path, {"bikes.py": MODEL})  # the store's folder lies beside it
    assert names(capture(store, tmp_path)) == ["bikes.py"]


def test_the_same_files_have_the_same_id_with_and_without_git(store: Store, tmp_path: Path) -> None:
    files = {"bikes.py": MODEL, "pkg/__init__.py": "", "pkg/features.py": "x = 1\n"}
    with_git = capture(store, repository(tmp_path / "one", files))
    without = capture(store, write(tmp_path / "two", files))
    assert with_git.id == without.id


@pytest.mark.parametrize("change", ["content", "name", "executable"])
def test_any_change_gives_another_id(store: Store, tmp_path: Path, change: str) -> None:
    root = write(tmp_path / "project", {"bikes.py": MODEL})
    before = capture(store, root)
    if change == "content":
        write(root, {"bikes.py": "import other\n"})
    elif change == "name":
        (root / "bikes.py").rename(root / "rides.py")
    else:
        (root / "bikes.py").chmod(0o755)
    assert capture(store, root).id != before.id


def test_a_folder_with_too_many_files_is_refused(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("clew.tracking.project_files.MOST_FILES", 3)
    root = write(tmp_path / "home", {f"{n}.py": "" for n in range(4)})
    with pytest.raises(ProjectError, match=r"more than 3 files.*folder of its own"):
        capture(store, root)


# -- what is never captured ----------------------------------------------------------------------------

SECRETS = (
    ".env",
    ".env.production",
    ".envrc",
    "deploy/server.pem",
    "id_rsa",
    "id_ed25519.bak",
    "tls.key",
    ".ssh/config",
)


@pytest.mark.parametrize("is_tracked", [True, False])
def test_secrets_are_never_captured(store: Store, tmp_path: Path, is_tracked: bool) -> None:
    files = dict.fromkeys(SECRETS, "TOKEN=hunter2\n") | {"bikes.py": MODEL}
    root = repository(tmp_path / "project", files) if is_tracked else write(tmp_path / "project", files)
    tree = capture(store, root)
    assert names(tree) == ["bikes.py"]
    assert dict(tree.skipped) == dict.fromkeys(SECRETS, "may hold secrets")
    assert not any(b"hunter2" in path.read_bytes() for path in store.folder.rglob("*") if path.is_file())


def test_a_private_key_under_a_harmless_name_is_left_out(store: Store, tmp_path: Path) -> None:
    key = "-----BEGIN OPENSSH PRIVATE KEY-----\nb3BlbnNz\n"
    tree = capture(store, write(tmp_path / "project", {"bikes.py": MODEL, "deploy/login": key}))
    assert (names(tree), dict(tree.skipped)) == (["bikes.py"], {"deploy/login": "holds a private key"})


@pytest.mark.parametrize(
    "source", ["data/rides.csv", "data/*.csv", "./data/../data/rides.csv", "data", "{root}/data/*.csv"]
)
@pytest.mark.parametrize("is_tracked", [True, False])
def test_declared_data_sources_are_never_captured(
    store: Store, tmp_path: Path, source: str, is_tracked: bool
) -> None:
    files = {"bikes.py": MODEL, "data/rides.csv": "a,b\n1,2\n"}
    root = repository(tmp_path / "project", files) if is_tracked else write(tmp_path / "project", files)
    tree = capture(store, root, source.format(root=root))
    # A folder counts as one, however many files it holds.
    left_out = "data" if source == "data" else "data/rides.csv"
    assert (names(tree), dict(tree.skipped)) == (["bikes.py"], {left_out: "is a declared data source"})


def test_changed_data_do_not_make_the_code_dirty(store: Store, tmp_path: Path) -> None:
    root = repository(tmp_path / "project", {"bikes.py": MODEL, "rides.csv": "a,b\n1,2\n"})
    write(root, {"rides.csv": "a,b\n3,4\n"})
    assert not capture(store, root, "rides.csv").is_dirty


# -- limits --------------------------------------------------------------------------------------------


def test_a_large_untracked_file_is_left_out_and_said(store: Store, tmp_path: Path) -> None:
    root = write(tmp_path / "project", {"bikes.py": MODEL, "notes.txt": "x" * 1_000_001})
    tree = capture(store, root)
    assert names(tree) == ["bikes.py"]
    assert dict(tree.skipped)["notes.txt"] == "has 1.0 MB, above the limit of 1.0 MB for untracked files"
    assert get_code(store, tree.id).skipped == tree.skipped


def test_a_large_tracked_file_is_captured(store: Store, tmp_path: Path) -> None:
    root = repository(tmp_path / "project", {"bikes.py": MODEL, "table.txt": "x" * 1_000_001})
    assert names(capture(store, root)) == ["bikes.py", "table.txt"]


def test_a_python_file_above_the_limit_is_an_error_that_names_it(store: Store, tmp_path: Path) -> None:
    root = write(tmp_path / "project", {"bikes.py": MODEL, "features.py": "#" * 2_000_000})
    with pytest.raises(
        ProjectError, match=r"^features\.py has 2\.0 MB, above the limit of 1\.0 MB.*Commit it to git"
    ):
        capture(store, root)


def test_untracked_files_have_a_limit_in_all_and_python_goes_first(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("clew.tracking.code.MOST_BYTES_IN_ALL", 1_000)
    root = write(tmp_path / "project", {"a.txt": "x" * 900, "b.txt": "x" * 300, "z.py": "#" * 400})
    tree = capture(store, root)
    assert names(tree) == ["b.txt", "z.py"] or names(tree) == ["z.py"]
    assert dict(tree.skipped)["a.txt"] == "brings untracked files above 0.0 MB in all"


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_an_unreadable_python_file_is_an_error(store: Store, tmp_path: Path) -> None:
    root = write(tmp_path / "project", {"bikes.py": MODEL})
    (root / "bikes.py").chmod(0)
    with pytest.raises(ProjectError, match=r"bikes\.py cannot be read: Permission denied"):
        capture(store, root)


# -- links and names -----------------------------------------------------------------------------------


def test_links_inside_the_tree_are_kept_and_links_that_leave_it_are_not_followed(
    store: Store, tmp_path: Path
) -> None:
    write(tmp_path, {"outside/secret.txt": "hunter2\n"})
    root = write(tmp_path / "project", {"pkg/__init__.py": "", "pkg/bikes.py": MODEL})
    (root / "bikes.py").symlink_to("pkg/bikes.py")
    (root / "alias").symlink_to(root / "pkg")  # absolute, to a folder
    (root / "leak.txt").symlink_to(tmp_path / "outside" / "secret.txt")
    (root / "leaks").symlink_to(tmp_path / "outside")
    tree = capture(store, root)
    assert dict(tree.skipped) == dict.fromkeys(["leak.txt", "leaks"], "is a link to outside the project")
    materialise_code(store, tree.id, tmp_path / "out")
    assert (tmp_path / "out" / "bikes.py").readlink() == Path("pkg/bikes.py")
    assert (tmp_path / "out" / "alias" / "bikes.py").read_text(encoding="utf-8") == MODEL
    assert (tmp_path / "out" / "alias").readlink() == Path("pkg")


def test_a_pipe_or_socket_is_left_out(store: Store, tmp_path: Path) -> None:
    root = write(tmp_path / "project", {"bikes.py": MODEL})
    os.mkfifo(root / "pipe")
    assert dict(capture(store, root).skipped) == {"pipe": "is no regular file"}


@pytest.mark.skipif(sys.platform == "darwin", reason="its file names are always UTF-8")
@pytest.mark.parametrize("has_git", [True, False])
def test_names_in_any_encoding_survive(store: Store, tmp_path: Path, has_git: bool) -> None:
    root = (
        repository(tmp_path / "project", {"bikes.py": MODEL})
        if has_git
        else write(tmp_path / "project", {"bikes.py": MODEL})
    )
    odd = [os.fsdecode(b"caf\xe9.sql"), "naïve\n.sql", "🚲 'rides'.sql"]
    for name in odd:
        (root / name).write_bytes(b"select 1\n")
    (root / os.fsdecode(b"gro\xdf.txt")).write_bytes(b"x" * 1_000_001)
    (root / os.fsdecode(b".env\xdf")).write_bytes(b"x")
    tree = capture(store, root)
    assert set(odd) <= set(names(tree))
    assert set(odd) <= written(store, get_code(store, tree.id), tmp_path / "out").keys()
    assert [path for path, _ in tree.skipped] == [".env\\xdf", "gro\\xdf.txt"]


# -- writing it out again ------------------------------------------------------------------------------


def test_materialised_code_is_the_captured_code(store: Store, tmp_path: Path) -> None:
    root = write(tmp_path / "project", {"bikes.py": MODEL, "run.sh": "#!/bin/sh\n", "pkg/empty.py": ""})
    (root / "run.sh").chmod(0o755)
    tree = capture(store, root)
    write(root, {"bikes.py": "edited afterwards\n"})
    assert written(store, tree, tmp_path / "out") == {
        "bikes.py": MODEL.encode(),
        "run.sh": b"#!/bin/sh\n",
        "pkg/empty.py": b"",
    }
    assert os.access(tmp_path / "out" / "run.sh", os.X_OK)
    assert not os.access(tmp_path / "out" / "bikes.py", os.X_OK)
    assert capture(store, tmp_path / "out").id == tree.id


def test_code_is_found_by_the_beginning_of_its_id(store: Store, tmp_path: Path) -> None:
    tree = capture(store, write(tmp_path / "project", {"bikes.py": MODEL}))
    assert get_code(store, tree.id[:10]) == tree
    with pytest.raises(NotFound, match="'123456' does not exist"):
        get_code(store, "123456")


def test_a_folder_in_use_is_not_written_into(store: Store, tmp_path: Path) -> None:
    tree = capture(store, write(tmp_path / "project", {"bikes.py": MODEL}))
    with pytest.raises(StoreError, match="is not empty"):
        materialise_code(store, tree.id, tmp_path / "project")


@pytest.mark.parametrize(
    ("path", "kind", "content"),
    [("../evil.py", "file", b"x"), ("/tmp/evil.py", "file", b"x"), ("a/up", "link", b"../../etc")],
)
def test_a_forged_manifest_cannot_leave_its_folder(
    store: Store, tmp_path: Path, path: str, kind: str, content: bytes
) -> None:
    digest = store.objects.put(content)
    listed = {"path": path, "digest": digest, "bytes": len(content), "kind": kind}
    manifest = store.objects.put(json.dumps({"format": 0, "files": [listed]}).encode())
    with store.write() as tx:
        tx.insert("code_trees", {"id": manifest, "manifest": manifest, "captured_at": NOW})
    with pytest.raises(StoreError, match="leaves its folder"):
        materialise_code(store, manifest, tmp_path / "out" / "deep")
    assert not (tmp_path / "out" / "evil.py").exists()
