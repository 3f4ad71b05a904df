from __future__ import annotations

from pathlib import Path

import pytest

from clew.errors import NotFound
from clew.storage import Store
from clew.tracking import FileChange, capture_code, code_change
from clew.tracking.code_change import MOST_BYTES_COMPARED
from tests.tracking.conftest import NOW


def captured(store: Store, root: Path, files: dict[str, bytes]) -> str:
    root.mkdir(exist_ok=True)
    for name, content in files.items():
        (root / name).write_bytes(content)
    return capture_code(store, root, now=NOW).id


def test_files_are_told_by_what_happened_to_them(store: Store, tmp_path: Path) -> None:
    then = captured(store, tmp_path / "a", {"gone.py": b"x = 1\n", "kept.py": b"y = 1\n", "m.py": b"a\nb\n"})
    now = captured(store, tmp_path / "b", {"kept.py": b"y = 1\n", "m.py": b"a\nc\nd\n", "new.py": b"z = 1\n"})
    gone, changed, new = code_change(store, then, now)
    assert gone == FileChange("gone.py", "removed", 6, None, ("@@ -1 +0,0 @@", "-x = 1"))
    assert (changed.path, changed.kind, changed.n_added, changed.n_removed) == ("m.py", "changed", 2, 1)
    assert changed.lines == ("@@ -1,2 +1,3 @@", " a", "-b", "+c", "+d")
    assert new == FileChange("new.py", "added", None, 6, ("@@ -0,0 +1 @@", "+z = 1"))


def test_the_same_code_has_no_changes(store: Store, tmp_path: Path) -> None:
    tree = captured(store, tmp_path / "a", {"m.py": b"a\n"})
    assert code_change(store, tree, tree) == ()


@pytest.mark.parametrize(
    "content", [b"\0\1", "Größe".encode("latin-1"), b"long\n" * (MOST_BYTES_COMPARED // 4)]
)
def test_what_is_no_text_or_too_long_is_told_by_its_size(
    content: bytes, store: Store, tmp_path: Path
) -> None:
    then = captured(store, tmp_path / "a", {"m.dat": b"short\n"})
    now = captured(store, tmp_path / "b", {"m.dat": content})
    assert code_change(store, then, now) == (FileChange("m.dat", "changed", 6, len(content)),)


def test_a_file_that_became_executable_is_told(store: Store, tmp_path: Path) -> None:
    then = captured(store, tmp_path / "a", {"run.sh": b"true\n"})
    (tmp_path / "a" / "run.sh").chmod(0o755)
    now = captured(store, tmp_path / "a", {})
    assert code_change(store, then, now) == (FileChange("run.sh", "changed", 5, 5),)


def test_code_that_does_not_exist_is_told(store: Store, tmp_path: Path) -> None:
    tree = captured(store, tmp_path / "a", {"m.py": b"a\n"})
    with pytest.raises(NotFound, match="Captured code 'ffff' does not exist"):
        code_change(store, tree, "ffff")
