"""``.gitignore`` without git: held against what git itself says of the same folder."""

from __future__ import annotations

from pathlib import Path

import pytest

from clew.tracking.project_files import list_project_files
from tests.tracking.repositories import git, write

TREE = (
    "a.py", "b.txt", "notes.md", "data/x.csv", "data/keep/x.csv", "data/deep/er/y.csv", "out/a.py",
    "out/b/c.txt", "sub/a.py", "sub/out/z.txt", "sub/[odd].txt", "#hash", "!bang", "sp ace.txt", "ab1.dat",
    "ab2.dat", "abx.dat", "sub/deep/out",
)  # fmt: skip
RULES = [
    "*.txt",
    "*.txt\n!b.txt",
    "out/",
    "out",
    "/out/",
    "/a.py",
    "sub/a.py",
    "data/*.csv",
    "data/**/*.csv",
    "**/x.csv",
    "data/**",
    "data/*\n!data/keep/",
    "data/\n!data/keep/x.csv",
    "# a comment\n\\#hash\n\\!bang\n",
    "ab[0-9].dat",
    "ab[!0-9].dat",
    "ab?.dat",
    "\\[odd].txt",
    "sp ace.txt   ",
    "sub/**/out",
    "*\n!*/\n!*.py",
    "/*\n!/sub",
    "[z-a]",
    "/",
    "**",
]


def in_git(root: Path) -> list[str]:
    git(root, "init", "--quiet")
    listed = git(root, "ls-files", "-z", "--others", "--exclude-standard").split("\0")
    return sorted(filter(None, listed))


@pytest.mark.parametrize("rules", RULES)
def test_a_folder_without_git_is_read_as_git_reads_it(tmp_path: Path, rules: str) -> None:
    root = write(tmp_path / "project", dict.fromkeys(TREE, "x") | {".gitignore": rules})
    found = list(list_project_files(root).untracked)
    assert found == in_git(root)


def test_rules_of_a_folder_within_hold_there_and_come_last(tmp_path: Path) -> None:
    files = {".gitignore": "*.txt\n", "sub/.gitignore": "!z.txt\n/a.py\n", "out/.gitignore": "*\n"}
    root = write(tmp_path / "project", dict.fromkeys(TREE, "x") | files)
    found = list(list_project_files(root).untracked)
    assert "sub/out/z.txt" in found
    assert "sub/a.py" not in found
    assert found == in_git(root)
