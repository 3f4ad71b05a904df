"""``clew.snapshot``: a snapshot as whatever frame is asked for, from a real store, in a plain script."""

from __future__ import annotations

from datetime import date, timedelta
from pathlib import Path
from typing import Any

import duckdb
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import clew
from clew.config import Settings
from clew.datasets import read_rows, take_snapshot
from clew.entities import Snapshot
from clew.errors import ClewError, MissingExtra, NotFound, StoreError, UsageError
from clew.storage import open_store
from tests.datasets.conftest import NOW
from tests.datasets.rides import declare, many_rides

FRAMES = ("pandas", "polars", "pyarrow", "duckdb", "paths")


@pytest.fixture
def taken(tmp_path: Path) -> list[Snapshot]:
    """Of the first and the third of June."""
    rows = many_rides(9000)
    with open_store(Settings(root=tmp_path, store=tmp_path / ".clew"), now=NOW) as store:
        return [
            take_snapshot(
                store,
                declare(),
                rows.slice(0, n),
                source="rides.parquet",
                code=None,
                now=NOW + timedelta(days=days),
            )
            for n, days in ((8000, 0), (9000, 2))
        ]


def as_arrow(frame: Any) -> pa.Table:
    if isinstance(frame, list):
        assert all(isinstance(path, Path) for path in frame)
        return pa.concat_tables([pq.read_table(path) for path in frame])
    if isinstance(frame, pd.DataFrame):
        return pa.Table.from_pandas(frame, preserve_index=False)
    if isinstance(frame, duckdb.DuckDBPyRelation):
        rows = frame.fetchall()
        return pa.table({name: [row[place] for row in rows] for place, name in enumerate(frame.columns)})
    return frame.to_arrow() if isinstance(frame, pl.DataFrame) else frame


@pytest.mark.parametrize("frame", FRAMES)
def test_every_frame_holds_the_same_rows_in_the_same_order(
    tmp_path: Path, taken: list[Snapshot], frame: Any
) -> None:
    with open_store(Settings(root=tmp_path, store=tmp_path / ".clew"), now=NOW) as store:
        expected = read_rows(store, taken[1])
    found = as_arrow(clew.snapshot("rides", frame=frame, project=tmp_path))
    assert found.column_names == expected.column_names
    for name in expected.column_names:
        assert found[name].cast(expected.schema.field(name).type).equals(expected[name])


def test_a_relation_answers_queries_after_the_store_was_closed(tmp_path: Path, taken: list[Snapshot]) -> None:
    relation = clew.snapshot("rides", frame="duckdb", project=tmp_path)
    assert relation.aggregate("count(*), min(id)").fetchall() == [(9000, 0)]


@pytest.mark.parametrize("at", ["2026-06-02", date(2026, 6, 1), NOW, NOW + timedelta(days=1)])
def test_a_time_names_what_was_the_newest_then(tmp_path: Path, taken: list[Snapshot], at: Any) -> None:
    assert len(clew.snapshot("rides", at=at, project=tmp_path)) == 8000


def test_an_id_names_a_snapshot(tmp_path: Path, taken: list[Snapshot]) -> None:
    for snapshot in taken:
        assert len(clew.snapshot("rides", at=snapshot.id[:10], project=tmp_path)) == snapshot.n_rows


def test_an_empty_folder_stays_empty(tmp_path: Path) -> None:
    for ask in (lambda: clew.snapshot("rides", project=tmp_path), lambda: clew.load("m", project=tmp_path)):
        with pytest.raises(NotFound, match="Nothing was recorded here yet"):
            ask()
    assert list(tmp_path.iterdir()) == []


def test_another_frame_is_refused(tmp_path: Path, taken: list[Snapshot]) -> None:
    wrong: Any = "panda"
    with pytest.raises(UsageError, match="Did you mean 'pandas'"):
        clew.snapshot("rides", frame=wrong, project=tmp_path)


def test_a_missing_library_is_named_with_its_extra(
    tmp_path: Path, taken: list[Snapshot], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("clew.datasets.frames.find_spec", lambda _: None)
    with pytest.raises(MissingExtra, match=r"clew\[duckdb\]"):
        clew.snapshot("rides", frame="duckdb", project=tmp_path)


@pytest.mark.parametrize("frame", FRAMES)
def test_a_damaged_part_is_found(tmp_path: Path, taken: list[Snapshot], frame: Any) -> None:
    file = clew.snapshot("rides", frame="paths", project=tmp_path)[0]
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.chmod(0o600)
    file.write_bytes(content)
    with pytest.raises(StoreError, match="is damaged"):
        clew.snapshot("rides", frame=frame, project=tmp_path)


def test_every_error_is_one_of_clew(tmp_path: Path, taken: list[Snapshot]) -> None:
    with pytest.raises(ClewError):
        clew.snapshot("walks", project=tmp_path)
