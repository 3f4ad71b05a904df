"""The house rules that a machine can check.

Each check is a function from source text (or from names) to what is wrong with it, so that every one is
also shown something guilty: a rule that cannot fail protects nothing.
"""

from __future__ import annotations

import ast
import importlib
import pkgutil
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from types import ModuleType

import pytest

import clew

ROOT = Path(__file__).resolve().parent.parent
SOURCE = ROOT / "src" / "clew"

HEAVY = (
    *("duckdb", "fastapi", "lightgbm", "numpy", "pandas", "plotly", "polars", "pyarrow"),
    *("scipy", "sklearn", "skops", "sqlalchemy"),
)
"""Libraries that nobody should wait for who only asks for help or declares a model."""

VAGUE_NAMES = {"utils", "util", "base", "core", "common", "helpers", "helper", "misc"}

LONG_FILES: dict[str, str] = {
    "declare.py": "what projects write: each word is told, checked and turned into a value in one place",
    "workspace.py": "the composition: a short method for each piece of work",
    "loop/live/model.py": "one class: the life of a deployment, each part of which knows the others",
    "loop/model_loop.py": "one class: what a tick does, and the state that it leaves to the next",
}
"""Files of `src/clew` above 600 lines, each with its reason to be one piece."""

ENVIRONMENT_READERS = {
    "config.py": "reads settings",
    "tracking/children.py": "hands a child its environment",
    "tracking/environment.py": "records the variables that change results",
}


def source_files() -> list[Path]:
    return sorted(SOURCE.rglob("*.py"))


def tracked_files() -> list[Path]:
    names = subprocess.run(
        ["git", "ls-files", "-z"], cwd=ROOT, check=True, capture_output=True, text=True
    ).stdout
    return [path for name in names.split("\0") if name and (path := ROOT / name).is_file()]


def relative(path: Path) -> str:
    return path.relative_to(SOURCE if path.is_relative_to(SOURCE) else ROOT).as_posix()


# ---------------------------------------------------------------- names


def import_every_submodule() -> list[ModuleType]:
    found = pkgutil.walk_packages(clew.__path__, prefix="clew.")
    return [importlib.import_module(each.name) for each in found if not each.name.endswith(".__main__")]


def shadowed_exports(package: ModuleType) -> list[str]:
    """Public names of the package that are not what they promise: something to call."""
    public = [name for name in package.__all__ if not name.startswith("__")]
    return [name for name in public if not callable(getattr(package, name))]


def test_no_submodule_shadows_an_export() -> None:
    assert len(import_every_submodule()) > 5
    assert shadowed_exports(clew) == []


def test_a_submodule_with_the_name_of_an_export_is_noticed() -> None:
    package = ModuleType("package")
    package.__all__ = ["dataset", "model"]  # type: ignore[attr-defined]
    package.dataset, package.model = ModuleType("package.dataset"), len  # type: ignore[attr-defined]
    assert shadowed_exports(package) == ["dataset"]


def test_the_decorators_still_decorate_when_everything_is_imported() -> None:
    import_every_submodule()

    @clew.dataset("rides.csv", time="ts", key="id", label="busy", label_delay="1d")
    def rides(table: object) -> object:
        return table

    @clew.model(rides, metric="accuracy", margin=0.01)
    def busy(train: object, depth: int = 3) -> object:
        return train

    assert (rides.name, busy.name) == ("rides", "busy")


def is_vaguely_named(path: str) -> bool:
    return any(part.split(".")[0].lstrip("_") in VAGUE_NAMES for part in PurePosixPath(path).parts)


def test_every_file_says_by_its_name_what_is_in_it() -> None:
    assert [name for path in tracked_files() if is_vaguely_named(name := relative(path))] == []


@pytest.mark.parametrize("path", ["stats/utils.py", "core/metrics.py", "loop/_helpers.py", "common.js"])
def test_a_vague_name_is_noticed(path: str) -> None:
    assert is_vaguely_named(path)


# ---------------------------------------------------------------- light start


def heavy_modules_after(statement: str) -> list[str]:
    probe = f"{statement}\nimport sys\nprint('loaded:', *sys.modules.keys() & set({HEAVY!r}))"
    done = subprocess.run([sys.executable, "-c", probe], check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout.rpartition("loaded:")[2].split()


def test_importing_clew_loads_no_heavy_library() -> None:
    assert heavy_modules_after("import clew") == []


def test_declaring_a_model_loads_no_heavy_library() -> None:
    assert heavy_modules_after("import clew; clew.dataset, clew.model, clew.ClewError") == []


def test_asking_for_help_loads_no_heavy_library() -> None:
    assert heavy_modules_after("from clew.cli import main; main(['--help'], standalone_mode=False)") == []


def test_a_heavy_library_is_noticed() -> None:
    assert heavy_modules_after("import clew, numpy") == ["numpy"]


# ---------------------------------------------------------------- who may do what


def imported_modules(code: str) -> set[str]:
    """Every module that the code imports, wherever in it."""
    imports = [node for node in ast.walk(ast.parse(code)) if isinstance(node, ast.Import | ast.ImportFrom)]
    plain = {name.name for node in imports if isinstance(node, ast.Import) for name in node.names}
    source = [node for node in imports if isinstance(node, ast.ImportFrom)]
    return plain | {f"{node.module}.{name.name}" for node in source for name in node.names}


def touches_a_store(code: str) -> bool:
    return any(
        name.split(".")[0] in {"alembic", "obstore", "sqlalchemy", "sqlite3"}
        for name in imported_modules(code)
    )


def reads_the_environment(code: str) -> bool:
    names = {"os.environ", "os.environb", "os.getenv"}
    return bool(names & imported_modules(code)) or any(
        ast.unparse(node) in names for node in ast.walk(ast.parse(code)) if isinstance(node, ast.Attribute)
    )


def uses_mocks(code: str) -> bool:
    return any(name.startswith(("unittest.mock", "mock.")) for name in imported_modules(code))


def test_only_storage_touches_a_store() -> None:
    others = [path for path in source_files() if not relative(path).startswith("storage/")]
    assert [relative(path) for path in others if touches_a_store(path.read_text())] == []


@pytest.mark.parametrize(
    "code", ["import sqlalchemy as sa", "def f():\n    from obstore.store import S3Store"]
)
def test_touching_a_store_is_noticed(code: str) -> None:
    assert touches_a_store(code)


def test_only_config_reads_settings_from_the_environment() -> None:
    others = [path for path in source_files() if relative(path) not in ENVIRONMENT_READERS]
    assert [relative(path) for path in others if reads_the_environment(path.read_text())] == []


@pytest.mark.parametrize(
    "code", ["import os\nos.environ['A']", "from os import getenv", "import os\nos.getenv('A')"]
)
def test_reading_the_environment_is_noticed(code: str) -> None:
    assert reads_the_environment(code)


def test_no_test_replaces_a_part_with_a_mock() -> None:
    python = [path for path in tracked_files() if path.suffix == ".py"]
    assert [relative(path) for path in python if uses_mocks(path.read_text())] == []


def test_a_mock_is_noticed() -> None:
    assert uses_mocks("from unittest.mock import patch")
    assert uses_mocks("import unittest.mock")
    assert uses_mocks("from unittest import mock")


# ---------------------------------------------------------------- what is in the repository

# Written in pieces, so that this file does not name them itself.
REGISTRY_HOSTS = [
    ".".join(labels)
    for labels in [
        ("pypi", "org"),
        ("pythonhosted", "org"),
        ("npmjs", "org"),
        ("yarnpkg", "com"),
        ("unpkg", "com"),
        ("jsdelivr", "net"),
        ("debian", "org"),
        ("archive", "ubuntu", "com"),
        ("anaconda", "org"),
        ("anaconda", "com"),
        ("crates", "io"),
        ("proxy", "golang", "org"),
        ("maven", "org"),
        ("rubygems", "org"),
    ]
]
NAMES_A_REGISTRY = re.compile(
    rf"(?<![\w-])(?:{'|'.join(map(re.escape, REGISTRY_HOSTS))})(?![\w-])", re.IGNORECASE
)


def test_no_file_names_the_host_of_a_package_registry() -> None:
    """Where packages come from is the business of the machine that installs, so mirrors keep working."""
    named = {
        relative(path): sorted(set(found))
        for path in tracked_files()
        if (found := NAMES_A_REGISTRY.findall(path.read_text(errors="replace")))
    }
    assert named == {}


@pytest.mark.parametrize("host", REGISTRY_HOSTS)
def test_the_host_of_a_registry_is_noticed(host: str) -> None:
    assert NAMES_A_REGISTRY.search(f"--index-url https://files.{host}/simple")
    assert NAMES_A_REGISTRY.search(f"see {host.upper()}.")
    assert not NAMES_A_REGISTRY.search(f"my{host}s")


def test_no_tracked_file_is_larger_than_a_megabyte() -> None:
    assert [relative(path) for path in tracked_files() if path.stat().st_size > 1_000_000] == []


# ---------------------------------------------------------------- size of the pieces


def function_lengths(code: str) -> Iterator[tuple[str, int]]:
    """Each function and its lines, docstring left out: a long explanation is no long function."""
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node.name, n_lines_of(node) - (n_lines_of(node.body[0]) if ast.get_docstring(node) else 0)


def n_lines_of(node: ast.stmt) -> int:
    assert node.end_lineno is not None
    return node.end_lineno - node.lineno + 1


def test_functions_stay_short() -> None:
    lengths = {
        f"{relative(path)}: {name}": n_lines
        for path in source_files()
        for name, n_lines in function_lengths(path.read_text())
    }
    assert {name: n_lines for name, n_lines in lengths.items() if n_lines > 60} == {}
    n_short = sum(n_lines <= 30 for n_lines in lengths.values())
    assert n_short >= 0.9 * len(lengths)


def test_the_length_of_a_function_leaves_its_docstring_out() -> None:
    code = (
        'def short():\n    """One.\n\n    More.\n    """\n    return 1\n\ndef plain(\n    a,\n):\n    pass\n'
    )
    assert dict(function_lengths(code)) == {"short": 2, "plain": 4}


def test_files_stay_readable() -> None:
    n_lines = {relative(path): path.read_text().count("\n") for path in source_files()}
    assert {name: n for name, n in n_lines.items() if n > 600 and name not in LONG_FILES} == {}
