from __future__ import annotations

import gzip
from datetime import UTC, date, datetime
from pathlib import Path

import polars as pl
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest

from clew.datasets import read_source
from clew.errors import DataError


def write(folder: Path, name: str, text: str) -> None:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


def values(table: pa.Table) -> dict[str, list[object]]:
    return {name: table[name].to_pylist() for name in table.column_names}


# -- CSV -----------------------------------------------------------------------------------------------


def test_a_csv_gets_the_types_its_values_have(tmp_path: Path) -> None:
    write(
        tmp_path,
        "a.csv",
        "n,x,flag,day,at,utc,word\n1,0.5,true,2026-03-01,2026-03-01 10:00:00,2026-03-01T10:00:00Z,a\n",
    )
    table = read_source("a.csv", tmp_path)
    assert values(table) == {
        "n": [1],
        "x": [0.5],
        "flag": [True],
        "day": [date(2026, 3, 1)],
        "at": [datetime(2026, 3, 1, 10)],  # noqa: DTZ001 - no zone in the file
        "utc": [datetime(2026, 3, 1, 10, tzinfo=UTC)],
        "word": ["a"],
    }


def test_nothing_is_null_and_quoted_nothing_is_an_empty_text(tmp_path: Path) -> None:
    write(tmp_path, "a.csv", 'id,word,n\n1,,\n2,"",2\n3,NA,NA\n4,x,null\n')
    assert values(read_source("a.csv", tmp_path)) == {
        "id": [1, 2, 3, 4],
        "word": [None, "", "NA", "x"],
        "n": [None, 2, None, None],
    }


@pytest.mark.parametrize("library", ["pyarrow", "polars"])
def test_null_and_empty_text_survive_the_csv_of_other_libraries(tmp_path: Path, library: str) -> None:
    words = {"id": [1, 2, 3], "word": ["", None, "x"]}
    if library == "pyarrow":
        pa.csv.write_csv(pa.table(words), tmp_path / "a.csv")
    else:
        pl.DataFrame(words).write_csv(tmp_path / "a.csv")
    assert values(read_source("a.csv", tmp_path)) == words


def test_numbers_with_leading_zeros_stay_text(tmp_path: Path) -> None:
    write(tmp_path, "a.csv", "zip,n,zero\n01067,10,0\n10115,-7,0\n")
    assert values(read_source("a.csv", tmp_path)) == {
        "zip": ["01067", "10115"],
        "n": [10, -7],
        "zero": [0, 0],
    }


def test_columns_asked_for_as_text_are_text(tmp_path: Path) -> None:
    write(tmp_path, "a.csv", "id,n\n7,1\n8,2\n")
    assert values(read_source("a.csv", tmp_path, text=["id", "other"])) == {"id": ["7", "8"], "n": [1, 2]}


def test_times_of_day_are_text(tmp_path: Path) -> None:
    write(tmp_path, "a.csv", "id,at\n7,12:30\n")
    assert values(read_source("a.csv", tmp_path)) == {"id": [7], "at": ["12:30"]}


@pytest.mark.parametrize("separator", [",", ";", "\t", "|"])
def test_the_separator_is_found_in_the_first_line(tmp_path: Path, separator: str) -> None:
    write(tmp_path, "a.csv", separator.join(["id", "word"]) + "\n" + separator.join(["1", '"a\nb"']) + "\n")
    assert values(read_source("a.csv", tmp_path)) == {"id": [1], "word": ["a\nb"]}


def test_a_compressed_csv_with_a_byte_order_mark_is_read(tmp_path: Path) -> None:
    (tmp_path / "a.csv.gz").write_bytes(gzip.compress("\ufeffid,word\n1,ü\n".encode()))
    assert values(read_source("a.csv.gz", tmp_path)) == {"id": [1], "word": ["ü"]}


# -- where ---------------------------------------------------------------------------------------------


def test_a_path_is_found_from_the_root_or_absolute(tmp_path: Path) -> None:
    write(tmp_path, "data/a.csv", "id\n1\n")
    for source in ("data/a.csv", str(tmp_path / "data" / "a.csv"), "data/*.csv", str(tmp_path / "**/*.csv")):
        assert values(read_source(source, tmp_path)) == {"id": [1]}


def test_files_of_a_glob_follow_each_other_by_name_whatever_the_order_of_columns(tmp_path: Path) -> None:
    pq.write_table(pa.table({"id": [3], "x": [0.5]}), tmp_path / "2026-02.parquet")
    pq.write_table(pa.table({"x": pa.array([1], pa.int32()), "id": [1]}), tmp_path / "2026-01.parquet")
    pq.write_table(pa.table({"x": pa.nulls(1), "id": [4]}), tmp_path / "2026-03.parquet")
    assert values(read_source("*.parquet", tmp_path)) == {"x": [1.0, 0.5, None], "id": [1, 3, 4]}


def test_files_of_a_glob_may_write_text_and_times_differently(tmp_path: Path) -> None:
    at = datetime(2026, 3, 1, tzinfo=UTC)
    words = pa.array(["a"]).dictionary_encode()
    pq.write_table(
        pa.table({"w": words, "t": pa.array([at], pa.timestamp("ms", "UTC"))}), tmp_path / "1.parquet"
    )
    large = pa.array(["b"], pa.large_string())
    pq.write_table(
        pa.table({"w": large, "t": pa.array([at], pa.timestamp("us", "CET"))}), tmp_path / "2.parquet"
    )
    assert values(read_source("?.parquet", tmp_path)) == {"w": ["a", "b"], "t": [at, at]}


def test_folders_named_like_a_column_add_none(tmp_path: Path) -> None:
    (tmp_path / "day=1").mkdir()
    pq.write_table(pa.table({"id": [1]}), tmp_path / "day=1" / "a.parquet")
    assert values(read_source("day=1/a.parquet", tmp_path)) == {"id": [1]}


# -- what can be wrong ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("ride.csv", r"no file 'ride.csv' in .*Did you mean 'rides.csv'\?"),
        ("nowhere/rides.csv", "folder .*nowhere does not exist"),
        ("*.pq", r"No file matches '\*\.pq'"),
        ("data", r"is a folder; .* 'data/\*\.parquet'"),
        ("data/x.csv", "has no Parquet, CSV or JSON lines file"),
        ("notes.txt", "neither Parquet, CSV nor JSON lines by its name"),
        ("empty.csv", "is empty: it has 0 bytes"),
        ("header.csv", "has columns but no rows"),
        ("blank.csv", "empty first line"),
        ("broken.parquet", "broken.parquet cannot be read as Parquet"),
        ("ragged.csv", r"ragged.csv cannot be read as CSV: .*Expected 2 columns, got 3"),
        ("latin.csv", "is not UTF-8 in column 'word'"),
        ("twins.csv", "two columns named 'a'"),
    ],
)
def test_a_source_that_cannot_be_read_says_why(tmp_path: Path, source: str, words: str) -> None:
    (tmp_path / "data").mkdir()
    for name, text in {
        "rides.csv": "id\n1\n",
        "notes.txt": "x",
        "empty.csv": "",
        "header.csv": "id,x\n",
        "blank.csv": "\n\n",
        "broken.parquet": "PAR1 but not really",
        "ragged.csv": "a,b\n1,2\n1,2,3\n",
        "twins.csv": "a,b,a\n1,2,3\n",
    }.items():
        write(tmp_path, name, text)
    (tmp_path / "latin.csv").write_bytes("id,word\n1,ü\n".encode("latin-1"))
    with pytest.raises(DataError, match=f"(?s){words}"):
        read_source(source, tmp_path)


@pytest.mark.parametrize(
    ("second", "words", "column"),
    [
        ("id,labell\n2,1\n", r"2.csv has no column 'label', which 1.csv has. Did you mean 'labell'", "label"),
        ("id,label,extra\n2,1,1\n", r"2.csv has the column 'extra', which 1.csv has not", "extra"),
        ("id,label\nA2,1\n", r"Column 'id' is int64 in 1.csv but string in 2.csv", "id"),
        ("id,label\n2,true\n", r"Column 'label' is int64 in 1.csv but bool in 2.csv", "label"),
        ("id,label\n2,2026-01-01\n", r"Column 'label' is int64 in 1.csv but date32\[day\] in 2.csv", "label"),
    ],
)
def test_files_of_a_glob_that_differ_are_named_with_the_column(
    tmp_path: Path, second: str, words: str, column: str
) -> None:
    write(tmp_path, "1.csv", "id,label\n1,0\n")
    write(tmp_path, "2.csv", second)
    with pytest.raises(DataError, match=words) as caught:
        read_source("*.csv", tmp_path)
    assert caught.value.column == column


def test_times_with_and_without_a_zone_do_not_mix(tmp_path: Path) -> None:
    write(tmp_path, "1.csv", "t\n2026-01-01 10:00:00\n")
    write(tmp_path, "2.csv", "t\n2026-01-01 10:00:00Z\n")
    with pytest.raises(DataError, match="Column 't' is timestamp"):
        read_source("*.csv", tmp_path)
