"""JSON lines as a source, plain and packed."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pyarrow as pa
import pytest

from clew.datasets import read_source, take_snapshot
from clew.errors import DataError
from clew.storage import Store
from tests.datasets.conftest import NOW
from tests.datasets.rides import declare, many_rides

ROWS = [
    {"id": 1, "ts": "2026-01-01T00:00:00Z", "y": True, "x": 0.5, "zip": "01067"},
    {"id": 2, "ts": "2026-01-01T01:00:00Z", "y": None, "x": 2, "zip": ""},
    {"id": 3, "ts": "2026-01-01T02:00:00Z", "y": False},
]


def write(file: Path, rows: list[dict[str, object]]) -> None:
    content = "".join(f"{json.dumps(row)}\n" for row in rows).encode()
    file.write_bytes(gzip.compress(content) if file.suffix == ".gz" else content)


@pytest.mark.parametrize("name", ["a.jsonl", "a.ndjson", "a.jsonl.gz", "a.ndjson.gz"])
def test_lines_are_rows_and_what_an_object_lacks_is_null(tmp_path: Path, name: str) -> None:
    write(tmp_path / name, ROWS)
    table = read_source(name, tmp_path)
    assert table["zip"].to_pylist() == ["01067", "", None]
    assert table["x"].to_pylist() == [0.5, 2.0, None]
    assert table["y"].to_pylist() == [True, None, False]


def test_text_that_looks_like_times_stays_text_where_it_is_declared_so(tmp_path: Path) -> None:
    write(tmp_path / "a.jsonl", [{"id": 1, "word": "2026-01-01"}])
    assert read_source("a.jsonl", tmp_path, text=["word"])["word"].to_pylist() == ["2026-01-01"]


def test_the_same_rows_are_the_same_snapshot_as_from_parquet(store: Store, tmp_path: Path) -> None:
    rows = many_rides(500)
    plain = [row | {"ts": row["ts"].isoformat()} for row in rows.to_pylist()]
    write(tmp_path / "rides.jsonl", plain)
    ids = {
        take_snapshot(store, declare(), table, source="x", code=None, now=NOW).id
        for table in (rows, read_source("rides.jsonl", tmp_path))
    }
    assert len(ids) == 1


def test_many_files_join(tmp_path: Path) -> None:
    write(tmp_path / "a1.jsonl", ROWS[:1])
    write(tmp_path / "a2.jsonl", [ROWS[0] | {"x": 3}])
    assert read_source("a*.jsonl", tmp_path)["x"].type == pa.float64()


@pytest.mark.parametrize("content", ['{"a": 1}\n{"a": "x"}\n', "[1, 2]\n", '{"a": 1\n'])
def test_what_is_no_table_is_refused_by_the_file(tmp_path: Path, content: str) -> None:
    (tmp_path / "bad.jsonl").write_text(content)
    with pytest.raises(DataError, match=r"bad\.jsonl cannot be read as JSON lines"):
        read_source("bad.jsonl", tmp_path)
