from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import numpy as np
import pytest

from clew.config import Settings
from clew.errors import StoreError
from clew.storage import Store, Where, link, open_store
from clew.storage.tables import metadata
from tests.servers import PostgresServer
from tests.storage.conftest import NOW


def finding(number: int, **values: Any) -> dict[str, Any]:
    row = {"id": f"f{number}", "deployment": "churn", "monitor": "drift", "level": "ticket", "subject": "age"}
    return row | {"found_at": NOW + timedelta(hours=number)} | values


def add_findings(store: Store, *rows: dict[str, Any]) -> None:
    with store.write() as tx:
        for row in rows:
            tx.insert("findings", row)


def found_ids(store: Store, **query: Any) -> list[str]:
    with store.read() as reader:
        return [row["id"] for row in reader.find("findings", **query)]


def test_a_row_comes_back_with_times_json_and_numbers_as_they_went_in(any_store: Store) -> None:
    berlin = timezone(timedelta(hours=1))
    evidence = {"bins": [1, 2.5, None], "words": {"ü": "\x00"}, "n": np.int64(3), "share": np.float64(0.25)}
    add_findings(any_store, finding(1, onset=datetime(2026, 1, 1, tzinfo=berlin), n=2**40, evidence=evidence))
    with any_store.read() as reader:
        row = reader.get("findings", id="f1")
    assert row is not None
    assert row["onset"] == datetime(2025, 12, 31, 23, tzinfo=UTC)
    assert row["onset"].utcoffset() == timedelta()
    assert row["evidence"] == {"bins": [1, 2.5, None], "words": {"ü": "\x00"}, "n": 3, "share": 0.25}
    assert (row["n"], row["value"], row["sentence"]) == (2**40, None, None)


def test_every_float_comes_back_as_it_was(any_store: Store) -> None:
    values = [0.1, 0.0, math.inf, -math.inf, math.nan, 5e-324, 1.7976931348623157e308]
    rows = [{"run": "r", "sequence": n, "name": "loss", "value": value} for n, value in enumerate(values)]
    with any_store.write() as tx:
        tx.insert_many("run_metrics", rows)
        for row in rows:
            tx.insert("run_metrics", row | {"run": "s"})
    with any_store.read() as reader:
        found = [row["value"] for row in reader.find("run_metrics")]
    assert [str(each) for each in found] == [str(value) for value in values * 2]


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def four_findings(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Store]:
    """A store of each kind with four findings, for reading."""
    folder = tmp_path_factory.mktemp("store")
    with ExitStack() as stack:
        url = None
        if request.param == "postgresql":
            server: PostgresServer = request.getfixturevalue("postgres")
            url = stack.enter_context(server.fresh_database())
        store = stack.enter_context(open_store(Settings(root=folder, store=folder, database=url), now=NOW))
        add_findings(
            store,
            finding(1, value=0.1),
            finding(2, value=0.2),
            finding(3, value=0.3, subject="income"),
            finding(4, value=0.4, subject="10%_x", sentence="high"),
        )
        yield store


def test_a_naive_time_is_refused(store: Store) -> None:
    with pytest.raises(StoreError, match="has no zone"):
        add_findings(store, finding(1, onset=datetime(2026, 1, 1)))  # noqa: DTZ001


@pytest.mark.parametrize(
    ("where", "expected"),
    [
        ({}, [1, 2, 3, 4]),
        ({"subject": "age"}, [1, 2]),
        ({"subject": None}, []),
        ({"sentence": None}, [1, 2, 3]),
        ({"sentence": Where("!=", None)}, [4]),
        ({"subject": ["age", "income"]}, [1, 2, 3]),
        ({"subject": {"income"}}, [3]),
        ({"subject": ()}, []),
        ({"subject": Where("!=", "age")}, [3, 4]),
        ({"sentence": Where("!=", "high")}, [1, 2, 3]),
        ({"found_at": Where(">", NOW + timedelta(hours=2))}, [3, 4]),
        ({"found_at": Where(">=", NOW + timedelta(hours=2)), "subject": "age"}, [2]),
        ({"found_at": Where("<", NOW + timedelta(hours=2))}, [1]),
        ({"value": Where("<=", 0.2)}, [1, 2]),
        ({"subject": Where("prefix", "a")}, [1, 2]),
        ({"subject": Where("prefix", "Age")}, []),
        ({"subject": Where("prefix", "10%_")}, [4]),
        ({"subject": Where("prefix", "")}, [1, 2, 3, 4]),
    ],
)
def test_conditions_choose_rows(four_findings: Store, where: dict[str, Any], expected: list[int]) -> None:
    assert found_ids(four_findings, where=where) == [f"f{number}" for number in expected]
    with four_findings.read() as reader:
        assert reader.count("findings", where) == len(expected)


def test_rows_come_in_the_order_asked_for_and_by_key_otherwise(any_store: Store) -> None:
    add_findings(
        any_store, finding(2, level="page"), finding(1), finding(3), finding(0, id="F9"), finding(0, id="g")
    )
    assert found_ids(any_store) == ["F9", "f1", "f2", "f3", "g"]
    assert found_ids(any_store, order_by=["level", "-found_at"], limit=3) == ["f2", "f3", "f1"]
    assert found_ids(any_store, order_by=["-id"], limit=2, offset=1) == ["f3", "f2"]


def test_get_refuses_a_key_that_names_several_rows(store: Store) -> None:
    add_findings(store, finding(1), finding(2))
    with store.read() as reader:
        assert reader.get("findings", id="f3") is None
        with pytest.raises(ValueError, match="several rows"):
            reader.get("findings", deployment="churn")


def test_a_wrong_table_or_column_names_the_right_one(store: Store) -> None:
    with store.write() as tx:
        with pytest.raises(ValueError, match="Did you mean 'findings'"):
            tx.find("finding")
        with pytest.raises(ValueError, match="Did you mean 'found_at'"):
            tx.find("findings", {"foundat": 1})
        with pytest.raises(ValueError, match="Did you mean 'key'"):
            tx.insert("meta", {"keys": 1})
        with pytest.raises(ValueError, match="no operator '~'"):
            tx.find("meta", {"key": Where("~", 1)})  # type: ignore[arg-type]


def test_update_says_how_many_rows_it_changed_so_that_it_compares_and_sets(any_store: Store) -> None:
    alias = {"deployment": "churn", "alias": "champion"}
    with any_store.write() as tx:
        tx.insert("aliases", {**alias, "number": 1, "generation": 1, "moved_at": NOW})
        assert tx.update("aliases", {**alias, "number": 1}, {"number": 2, "generation": 2}) == 1
        assert tx.update("aliases", {**alias, "number": 1}, {"number": 3, "generation": 2}) == 0
    with any_store.read() as reader:
        row = reader.get("aliases", **alias)
    assert row == {**alias, "number": 2, "generation": 2, "moved_at": NOW}


def test_insert_if_absent_keeps_the_first_row_by_key_and_by_unique_value(any_store: Store) -> None:
    job = {"id": "j1", "key": "fit", "kind": "fit", "status": "open", "created_at": NOW, "updated_at": NOW}
    with any_store.write() as tx:
        assert tx.insert_if_absent("jobs", job)
        assert not tx.insert_if_absent("jobs", job | {"key": "other"})
        assert not tx.insert_if_absent("jobs", job | {"id": "j2"})
        assert tx.find("jobs")[0] == tx.find("jobs")[0] | job
        assert tx.count("jobs") == 1


def test_a_second_row_of_the_same_key_is_refused_by_name(any_store: Store) -> None:
    add_findings(any_store, finding(1))
    with pytest.raises(StoreError, match="refused a row"):
        add_findings(any_store, finding(2), finding(1))
    assert found_ids(any_store) == ["f1"]


def test_the_texts_of_a_table_are_what_is_stored_and_long_enough(any_store: Store) -> None:
    job = {"id": "j", "key": "k" * 30, "kind": "try", "status": "done", "state": {"digest": "d" * 64}}
    with any_store.write() as tx:
        tx.insert("jobs", job | {"created_at": NOW, "updated_at": NOW})
        tx.insert("jobs", job | {"id": "i", "key": "other", "created_at": NOW, "updated_at": NOW})
        texts = set(tx.texts("jobs", {"id": "j"}, n_least=30))
        assert texts == {"k" * 30, '{"digest":"' + "d" * 64 + '"}'}
        assert len(list(tx.texts("jobs", n_least=64))) == 2


def test_delete_needs_a_condition(store: Store) -> None:
    with store.write() as tx:
        with pytest.raises(ValueError, match="every row"):
            tx.delete("meta", {})
        assert tx.delete("meta", {"key": "nothing"}) == 0


def test_insert_many_adds_all_rows_or_none(any_store: Store) -> None:
    rows = [
        {"run": "r", "sequence": n, "name": "loss", "step": n, "value": n / 3, "at": NOW} for n in range(1000)
    ]
    with any_store.write() as tx:
        tx.insert_many("run_metrics", rows)
        tx.insert_many("run_metrics", [])
    with pytest.raises(StoreError), any_store.write() as tx:
        tx.insert_many("run_metrics", [{**rows[0], "run": "s"}, rows[0]])
    with any_store.read() as reader:
        assert reader.find("run_metrics") == rows


def test_insert_many_refuses_rows_of_another_shape(store: Store) -> None:
    with store.write() as tx, pytest.raises(ValueError, match="row 1 of meta"):
        tx.insert_many("meta", [{"key": "a", "value": "b"}, {"key": "c"}])


def test_a_link_is_one_row_however_often_it_is_made(any_store: Store) -> None:
    for _ in range(2):
        with any_store.write() as tx:
            link(tx, "run", "r1", "used", "snapshot", "s1")
    with any_store.read() as reader:
        edge = {"from_kind": "run", "from_id": "r1", "relation": "used", "to_kind": "snapshot", "to_id": "s1"}
        assert reader.find("edges") == [edge]


def test_text_with_a_nul_can_be_kept_everywhere(any_store: Store) -> None:
    add_findings(any_store, finding(1, sentence="a\0b"))
    with any_store.read() as reader:
        assert reader.find("findings")[0]["sentence"] in ("a\0b", "a␀b")


def test_more_values_than_a_statement_takes_can_be_looked_up(any_store: Store) -> None:
    add_findings(any_store, finding(1), finding(2))
    many = [f"f{number}" for number in range(2, 100_000)]
    assert found_ids(any_store, where={"id": many}) == ["f2"]


def test_every_table_reads_back_empty(any_store: Store) -> None:
    with any_store.read() as reader:
        assert {name: reader.count(name) for name in metadata.tables} == dict.fromkeys(metadata.tables, 0) | {
            "meta": 3
        }
