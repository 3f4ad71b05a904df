"""``clew data`` of folders of files: the verbs that tables have, too."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from clew.cli import run

Saying = pytest.CaptureFixture[str]


@pytest.fixture
def pages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that was kept twice; in between a file changed, one moved and one came."""
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "pages"
    folder.mkdir()
    for name in ("a", "b", "c"):
        (folder / name).write_text(f"page {name}")
    assert run(["data", "add", "pages"]) == 0
    (folder / "a").write_text("page a, once more")
    (folder / "b").rename(folder / "moved")
    (folder / "new").write_text("a new page")
    assert run(["data", "add", "pages"]) == 0
    return folder


def test_its_history_differences_and_files_are_had_by_its_name(pages: Path, capsys: Saying) -> None:
    capsys.readouterr()
    assert run(["data", "log", "--json"]) == 0
    log = json.loads(capsys.readouterr().out)
    assert (log["folder"], len(log["log"])) == ("pages", 2)
    assert run(["data", "diff", "pages", "--json"]) == 0
    change = json.loads(capsys.readouterr().out)["change"]
    assert (change["added"], change["changed"], change["removed"]) == (["new"], ["a"], [])
    assert run(["data", "diff", log["log"][1]["snapshot"][:12]]) == 0
    assert "b is now moved" in capsys.readouterr().out
    assert run(["data", "checkout", log["log"][1]["snapshot"][:12], "before"]) == 0
    assert (pages.parent / "before" / "b").read_text() == "page b"


def test_what_is_for_tables_is_refused(pages: Path, capsys: Saying) -> None:
    assert run(["data", "diff", "pages", "--report", "x.html"]) == 2
    assert run(["data", "checkout", "pages", "there", "--force"]) == 2
    assert "this is a folder of files" in capsys.readouterr().err
    assert not (pages.parent / "there").exists()


def test_a_damaged_pack_ends_with_1_and_names_the_file(pages: Path, capsys: Saying) -> None:
    assert run(["data", "verify"]) == 0
    assert "is whole: 4 files" in capsys.readouterr().out
    for place in (pages.parent / ".clew" / "objects").rglob("*"):
        content = place.read_bytes() if place.is_file() else b""
        if b"a new page" in content:
            place.chmod(0o600)
            place.write_bytes(content.replace(b"a new page", b"a new pagE"))
    assert run(["data", "verify", "pages"]) == 1
    assert "damaged  new" in capsys.readouterr().out
