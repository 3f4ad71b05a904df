"""``clew.sql`` as a user writes it: a project whose table is a query, trained by the command line."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

import clew
from clew.config import load_settings
from clew.declare import SqlQuery, sql
from clew.errors import DeclarationError, SettingsError

MODEL = """
import clew
from sklearn.linear_model import LogisticRegression


@clew.dataset(clew.sql("warehouse", file="features.sql"), time="at", key="id", label="y", label_delay="1d")
def visits(table):
    return table


@clew.model(visits, metric="accuracy", margin=0.02)
def leaves(train):
    return LogisticRegression().fit(train.X, train.y)
"""
SECRET = "sqlite:///shop.db?note=hunter2"


@pytest.fixture
def project(tmp_path: Path) -> Path:
    with closing(sqlite3.connect(tmp_path / "shop.db")) as connection, connection:
        connection.execute("create table visits (id integer, at text, x real, y integer)")
        rows = [
            (n, f"2026-01-{n // 24 + 1:02d} {n % 24:02d}:00:00", (n * 37 % 100) / 100, int(n * 37 % 100 > 50))
            for n in range(700)
        ]
        connection.executemany("insert into visits values (?, ?, ?, ?)", rows)
    (tmp_path / "model.py").write_text(MODEL)
    (tmp_path / "features.sql").write_text("select id, at, x, y from visits where x <> 0.5\n")
    (tmp_path / "clew.toml").write_text(
        'models = ["model.py"]\n[connections]\nwarehouse = "$WAREHOUSE_URL"\n'
    )
    return tmp_path


def typed(project: Path, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [Path(sys.executable).with_name("clew"), *words],
        cwd=project,
        env={**os.environ, "WAREHOUSE_URL": SECRET},
        capture_output=True,
        text=True,
        check=False,
    )


def test_a_query_is_a_table_and_is_recorded_with_the_run(project: Path) -> None:
    done = typed(project, "try")
    assert done.returncode in (0, 3, 4), done.stderr
    assert "sql://warehouse/features.sql" in typed(project, "data", "list").stdout
    # The query's text lies among the captured code; what the connection leads to lies nowhere.
    kept = [path.read_bytes() for path in (project / ".clew").rglob("*") if path.is_file()]
    assert any(content == (project / "features.sql").read_bytes() for content in kept)
    assert not any(b"hunter2" in content for content in kept)
    # Nor is the database itself taken for code.
    assert (project / "shop.db").read_bytes() not in kept


def test_a_connection_that_is_not_there_is_told(project: Path) -> None:
    (project / "clew.toml").write_text('models = ["model.py"]\n[connections]\nware = "$WAREHOUSE_URL"\n')
    done = typed(project, "try")
    assert done.returncode == 2
    assert "clew.toml has no connection 'warehouse'. Did you mean 'ware'" in done.stderr


def test_a_query_file_that_is_not_there_is_told(project: Path) -> None:
    (project / "features.sql").unlink()
    done = typed(project, "try")
    assert done.returncode == 1
    assert "There is no file 'features.sql' among the captured code" in done.stderr


def test_a_url_in_place_of_a_name_is_refused_and_not_repeated() -> None:
    with pytest.raises(DeclarationError) as refused:
        sql("postgresql://me:hunter2@host/db", "select 1")
    assert "hunter2" not in str(refused.value)


@pytest.mark.parametrize("file", ["/etc/features.sql", "../features.sql"])
def test_a_query_outside_the_project_is_refused(file: str) -> None:
    with pytest.raises(DeclarationError, match="inside the project"):
        clew.sql("warehouse", file=file)


def test_one_of_text_and_file_is_needed() -> None:
    for given in ({}, {"query": "select 1", "file": "a.sql"}):
        with pytest.raises(DeclarationError, match="one of them"):
            clew.sql("warehouse", **given)
    assert sql("warehouse", "select 1") == SqlQuery("warehouse", None, "select 1")


def test_a_connection_that_is_no_url_is_refused_and_not_repeated(tmp_path: Path) -> None:
    (tmp_path / "clew.toml").write_text('[connections]\nwarehouse = "hunter2"\n')
    with pytest.raises(SettingsError) as refused:
        load_settings(tmp_path, {})
    assert "connections.warehouse is no database URL" in str(refused.value)
    assert "hunter2" not in str(refused.value)
