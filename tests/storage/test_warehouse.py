"""Reading a database of the user's: real SQLite and PostgreSQL; nothing is written, no password told."""

from __future__ import annotations

import sqlite3
from datetime import UTC, datetime
from pathlib import Path

import pyarrow as pa
import pytest
from sqlalchemy import create_engine, make_url, text

from clew.errors import DataError, SettingsError
from clew.storage.warehouse import read_query


@pytest.fixture
def sqlite_url(tmp_path: Path) -> str:
    with sqlite3.connect(tmp_path / "shop.db") as connection:
        connection.execute("create table visits (id text, at text, spent real, calls integer, note text)")
        rows = [
            (f"V{n}", f"2026-01-{n + 1:02d} 10:00:00", n / 2, n if n % 2 else None, "50% :off")
            for n in range(9)
        ]
        connection.executemany("insert into visits values (?, ?, ?, ?, ?)", rows)
    connection.close()
    return "sqlite:///shop.db"


def test_rows_of_sqlite_come_with_their_types(sqlite_url: str, tmp_path: Path) -> None:
    query = "select id, at, spent, calls from visits where note like '50%' and note <> ':x' order by id"
    table = read_query("shop", sqlite_url, query, tmp_path)
    assert table.num_rows == 9
    assert [str(kind) for kind in table.schema.types] == ["string", "string", "double", "int64"]
    assert table["calls"].to_pylist()[:3] == [None, 1, None]


def test_sqlite_is_never_written(sqlite_url: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="readonly database"):
        read_query("shop", sqlite_url, "delete from visits returning id", tmp_path)
    with pytest.raises(DataError, match="does not exist"):
        read_query("shop", "sqlite:///other.db", "select 1", tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["shop.db"]
    assert read_query("shop", sqlite_url, "select id from visits", tmp_path).num_rows == 9


@pytest.fixture
def filled(postgres_url: str) -> str:
    engine = create_engine(postgres_url)
    with engine.begin() as connection:
        connection.execute(
            text("create table visits (id uuid, at timestamptz, spent numeric, ok boolean, note text)")
        )
        connection.execute(
            text(
                "insert into visits select gen_random_uuid(),"
                " timestamptz '2026-01-01 00:00Z' + n * interval '1 min',"
                " n * 0.5, n % 2 = 0, case when n > 70000 then 'late' end from generate_series(0, 70009) n"
            )
        )
    engine.dispose()
    return make_url(postgres_url).set(drivername="postgresql").render_as_string(hide_password=False)


def test_rows_of_postgresql_come_with_their_types_and_in_pieces(filled: str, tmp_path: Path) -> None:
    query = "select id, at, spent, ok, note from visits where id::text like '%-%' order by at"
    table = read_query("warehouse", filled, query, tmp_path)
    assert table.num_rows == 70_010
    assert table.schema.field("note").type == pa.string()
    assert table["at"][1].as_py() == datetime(2026, 1, 1, 0, 1, tzinfo=UTC)
    assert table["spent"].to_pylist()[:3] == [0.0, 0.5, 1.0]
    assert table["ok"].to_pylist()[:2] == [True, False]
    assert len(table["id"][0].as_py()) == 36


def test_postgresql_is_never_written(filled: str, tmp_path: Path) -> None:
    deleting = "delete from visits returning id"
    for query in (deleting, f"with gone as ({deleting}) select * from gone", "drop table visits"):
        with pytest.raises(DataError):
            read_query("warehouse", filled, query, tmp_path)
    count = read_query("warehouse", filled, "select count(*) as n from visits", tmp_path)
    assert count["n"].to_pylist() == [70_010]


@pytest.mark.parametrize(
    ("query", "said"),
    [
        ("select 1 as a, 2 as a", "two columns named 'a'"),
        ("select id from visits where false", "found no rows"),
        ("select nothing from visits", 'column "nothing" does not exist'),
    ],
)
def test_what_is_wrong_with_a_query_is_told(filled: str, tmp_path: Path, query: str, said: str) -> None:
    with pytest.raises(DataError, match=said):
        read_query("warehouse", filled, query, tmp_path)


def test_a_password_is_never_told(filled: str, tmp_path: Path) -> None:
    url = make_url(filled).set(username="nobody", password="hunter2", port=1)
    with pytest.raises(DataError) as failed:
        read_query("warehouse", url.render_as_string(hide_password=False), "select 1", tmp_path)
    assert "hunter2" not in str(failed.value)
    assert failed.value.__suppress_context__
    with pytest.raises(SettingsError) as refused:
        read_query("warehouse", "no url with hunter2", "select 1", tmp_path)
    assert "hunter2" not in str(refused.value)


def test_another_kind_of_database_is_named(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="'nodb', which nothing that is installed can reach"):
        read_query("warehouse", "nodb://u:p@h/d", "select 1", tmp_path)
