"""``clew data append`` and ``clew data schema``: new rows from a file of their own."""

from __future__ import annotations

import json
import subprocess
import sys
from datetime import timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from clew.datasets import content_digest, latest_snapshot, list_snapshots
from clew.registry import audit_log
from clew.training import tables
from clew.training.project import Project
from clew.workspace import open_records
from tests.loop import streams


def run(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    program = "import sys; from clew.cli import run; sys.exit(run())"
    return subprocess.run(
        [sys.executable, "-P", "-c", program, *words], cwd=folder, capture_output=True, text=True, check=False
    )


def told(folder: Path, *words: str) -> Any:
    done = run(folder, *words, "--json")
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def new_rows(n: int) -> pa.Table:
    """Rows that follow those of the project's table."""
    table = streams.calm(n, seed=1).table()
    later = pc.add(table["at"], pa.scalar(timedelta(days=5_000)))
    columns = {name: table[name] for name in table.column_names}
    return pa.table(columns | {"at": later, "id": [f"n{row}" for row in range(n)]})


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A project whose table is on record."""
    folder = streams.write_project(tmp_path / "project", streams.calm(2_000))
    first = told(folder, "data", "append", "stream", "stream.parquet")
    assert (first["n_before"], first["n_rows"], first["is_in_source"]) == (0, 2_000, True)
    return folder


def test_the_rows_of_a_file_join_the_dataset(project: Path) -> None:
    pq.write_table(new_rows(300), project / "more.parquet")
    dry = told(project, "data", "append", "stream", "more.parquet", "--dry-run")
    assert (dry["n_rows"], dry["snapshot"]) == (300, None)
    with open_records(project) as records:
        [first] = list_snapshots(records.store, "stream")
    done = told(project, "data", "append", "stream", "more.parquet")
    assert (done["before"], done["n_before"], done["is_in_source"]) == (first.id, 2_000, False)
    with open_records(project) as records:
        newest = latest_snapshot(records.store, "stream")
        assert newest is not None
        assert (newest.id, newest.n_rows) == (done["snapshot"], 2_300)
        entry = next(each for each in audit_log(records.store) if each.action == "append")
        assert (entry.subject, entry.reason) == ("dataset/stream", "300 rows of more.parquet")
        assert entry.evidence["snapshot"] == newest.id


def test_what_joined_is_what_a_snapshot_of_the_whole_would_be(project: Path) -> None:
    pq.write_table(new_rows(300), project / "more.parquet")
    appended = told(project, "data", "append", "stream", "more.parquet")["snapshot"]
    whole = pq.read_table(project / "stream.parquet")
    pq.write_table(pa.concat_tables([whole, new_rows(300).cast(whole.schema)]), project / "stream.parquet")
    run(project, "try")
    with open_records(project) as records:
        newest = latest_snapshot(records.store, "stream")
        assert newest is not None
        assert newest.id == appended


def test_rows_that_are_there_are_refused_in_earnest_and_in_trial(project: Path) -> None:
    for words in ((), ("--dry-run",)):
        done = run(project, "data", "append", "stream", "stream.parquet", *words)
        assert done.returncode == 1
        assert "keys that are there already. Append only rows that are new" in done.stderr
    done = run(project, "data", "append", "stream2", "stream.parquet")
    assert "declares no dataset 'stream2'. Did you mean 'stream'?" in done.stderr


def test_a_new_column_is_told_and_listed_as_a_version_of_the_schema(project: Path) -> None:
    wide = new_rows(300).append_column("extra", pa.array([0.5] * 300))
    pq.write_table(wide, project / "wide.parquet")
    dry = run(project, "data", "append", "stream", "wide.parquet", "--dry-run")
    assert "300 rows of wide.parquet can join 2,000 of stream" in dry.stdout
    assert "Its columns change, to version 2: extra is double." in dry.stdout
    assert "stream.parquet does not name wide.parquet" in dry.stdout
    done = run(project, "data", "append", "stream", "wide.parquet")
    assert "300 rows of wide.parquet joined 2,000 of stream: snapshot" in done.stdout
    assert "extra is new (double)" in run(project, "data", "schema", "stream").stdout
    assert [each["number"] for each in told(project, "data", "schema", "stream")["schemas"]] == [1, 2]
    assert "no dataset 'x'" in run(project, "data", "schema", "x").stderr


def test_a_large_file_is_read_piece_by_piece_where_the_function_changes_nothing(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = Project(project, project).dataset("learner.py", "stream")
    out = project / "out.arrow"
    tables.keep_table(spec, project, project, out)
    at_once = content_digest(pa.ipc.open_file(out).read_all())
    monkeypatch.setattr(tables, "_STREAMED_BYTES", 0)
    monkeypatch.setattr(tables, "read_source", None)
    tables.keep_table(spec, project, project, out)
    assert content_digest(pa.ipc.open_file(out).read_all()) == at_once


@pytest.mark.parametrize(
    ("function", "expected"),
    [
        (lambda table: table, True),
        (lambda table: table.head(), False),
        (lambda table, n=1: table, False),  # noqa: ARG005
        (lambda *tables: tables, False),
        (lambda table: pq, False),  # noqa: ARG005
        (print, False),
    ],
)
def test_a_function_that_gives_back_its_table_is_known(function: Any, expected: bool) -> None:
    assert tables.gives_back_its_table(function) is expected
