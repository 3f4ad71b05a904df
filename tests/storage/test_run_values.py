"""The search over runs, held against the same search written out over plain Python values."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Mapping
from datetime import timedelta
from typing import Any

import pytest

from clew.storage import Store, Where, run_values
from clew.storage.run_values import ValueCondition, ValueOrder, search_runs, value_names, value_rows
from tests.storage.conftest import NOW

N_RUNS = 120


def runs() -> list[dict[str, Any]]:
    """Runs with what is odd in some: no metric, NaN, infinity, text that is a number."""
    draw = random.Random(7)
    made = []
    for number in range(N_RUNS):
        metrics = {"accuracy": draw.random(), "loss": draw.choice([0.1, 0.5, math.nan, math.inf])}
        if number % 10 == 0:
            del metrics["accuracy"]
        kind = draw.choice(["dart", "Dart", "gbdt", "10"])
        made.append(
            {
                "id": f"{draw.getrandbits(64):016x}",
                "started_at": NOW + timedelta(minutes=number),
                "status": draw.choice(["finished", "failed"]),
                "key": f"{draw.choice(['try', 'backtest'])}/{number}",
                "metric": metrics,
                "param": {"leaves": draw.choice([31, 63]), "kind": kind},
                "tag": {"team": "x"} if number % 3 else {},
            }
        )
    return made


RUNS = runs()


@pytest.fixture
def searched(any_store: Store) -> Store:
    with any_store.write() as tx:
        for run in RUNS:
            row = {name: run[name] for name in ("id", "started_at", "status", "key")}
            tx.insert("runs", {**row, "model": "m", "purpose": "p"})
            for kind in ("metric", "param", "tag"):
                tx.insert_many("run_values", value_rows(run["id"], kind, run[kind]))
    return any_store


def meets(run: Mapping[str, Any], condition: ValueCondition) -> bool:
    holder = run if condition.kind is None else run[condition.kind]
    if condition.name not in holder:
        return False
    value: Any = holder[condition.name]
    if isinstance(condition.value, str):
        value = str(value)
    elif isinstance(value, str):
        value = float(value) if value.isdigit() else None
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return False
    wanted: Any = condition.value
    holds: dict[str, Callable[[], bool]] = {
        "=": lambda: value == wanted,
        "!=": lambda: value != wanted,
        "<": lambda: value < wanted,
        "<=": lambda: value <= wanted,
        ">": lambda: value > wanted,
        ">=": lambda: value >= wanted,
        "like": lambda: value.endswith(wanted[1:]),
        "ilike": lambda: value.lower().endswith(wanted[1:].lower()),
    }
    return bool(holds[condition.op]())


SEARCHES = [
    [ValueCondition("metric", "accuracy", ">", 0.7)],
    [ValueCondition("metric", "accuracy", ">", 0.3), ValueCondition("metric", "accuracy", "<=", 0.6)],
    [ValueCondition("metric", "loss", ">", 0.1)],
    [ValueCondition("metric", "loss", "!=", 0.1), ValueCondition("param", "leaves", "=", 31.0)],
    [ValueCondition("param", "leaves", "=", "31"), ValueCondition("tag", "team", "=", "x")],
    [ValueCondition("param", "kind", "like", "%art")],
    [ValueCondition("param", "kind", "ilike", "%DART"), ValueCondition("metric", "accuracy", "<", 0.9)],
    [ValueCondition("param", "kind", ">", 9.0)],
    [ValueCondition("param", "kind", "like", "%dart"), ValueCondition("metric", "accuracy", "<", 0.05)],
    [ValueCondition("tag", "nothing", "!=", "x")],
    [ValueCondition(None, "status", "=", "failed"), ValueCondition("metric", "accuracy", ">=", 0.5)],
    [ValueCondition(None, "started_at", "<", NOW + timedelta(minutes=30))],
    [],
]


@pytest.mark.parametrize("few", [3, 40, 3_000], ids=["each way", "some by few", "by few"])
def test_every_way_of_searching_finds_what_a_plain_loop_finds(
    few: int, searched: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run_values, "FEW", few)
    newest_first = sorted(RUNS, key=lambda run: run["started_at"], reverse=True)
    with searched.read() as reader:
        for conditions in SEARCHES:
            for limit in (2, 7, None):
                expected = [run["id"] for run in newest_first if all(meets(run, each) for each in conditions)]
                found = [row["id"] for row in search_runs(reader, conditions, limit=limit)]
                assert found == expected[:limit], (conditions, limit)
                tries = [run["id"] for run in newest_first if run["key"].startswith("try/")]
                where = {"key": Where("prefix", "try/")}
                found = [row["id"] for row in search_runs(reader, conditions, where, limit=limit)]
                assert found == [each for each in expected if each in tries][:limit], (conditions, limit)


@pytest.mark.parametrize("few", [3, 3_000])
@pytest.mark.parametrize("is_descending", [True, False])
def test_runs_are_sorted_by_a_metric_and_those_without_it_left_out(
    few: int, is_descending: bool, searched: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run_values, "FEW", few)
    conditions = [ValueCondition("param", "leaves", "=", 31.0)]
    having = [run for run in RUNS if "accuracy" in run["metric"] and run["param"]["leaves"] == 31]
    expected = sorted(having, key=lambda run: run["metric"]["accuracy"], reverse=is_descending)
    order = ValueOrder("metric", "accuracy", is_descending)
    with searched.read() as reader:
        found = search_runs(reader, conditions, order=order, limit=9)
        assert [row["id"] for row in found] == [run["id"] for run in expected[:9]]
        everything = search_runs(reader, order=order)
    assert len(everything) == sum("accuracy" in run["metric"] for run in RUNS)


def test_params_are_sorted_as_numbers_where_they_are_some(searched: Store) -> None:
    with searched.read() as reader:
        found = search_runs(reader, order=ValueOrder("param", "kind", is_descending=False))
    kinds = {run["id"]: run["param"]["kind"] for run in RUNS}
    in_order = list(dict.fromkeys(kinds[row["id"]] for row in found))
    assert in_order == ["10", "Dart", "dart", "gbdt"]


def test_names_are_those_that_runs_have(searched: Store) -> None:
    with searched.read() as reader:
        assert value_names(reader, "metric") == ["accuracy", "loss"]
        assert value_names(reader, "tag") == ["team"]


def test_values_longer_than_an_index_takes_are_searched_by_their_beginning(any_store: Store) -> None:
    long = {"layers": list(range(5_000)), "n" * 600: 1, "big": 10**400}
    with any_store.write() as tx:
        tx.insert("runs", {"id": "r", "key": "k", "model": "m", "purpose": "p", "status": "finished",
                           "started_at": NOW})  # fmt: skip
        tx.insert_many("run_values", value_rows("r", "param", long))
    with any_store.read() as reader:
        condition = ValueCondition("param", "layers", "like", "[0,1,2,%")
        assert [row["id"] for row in search_runs(reader, [condition])] == ["r"]
        assert value_names(reader, "param") == ["big", "layers", "n" * 400]


def test_like_takes_letters_that_glob_would_take_for_wild(any_store: Store) -> None:
    with any_store.write() as tx:
        for name, value in (("a", "50*%[x]"), ("b", "50 other")):
            tx.insert("runs", {"id": name, "key": name, "model": "m", "purpose": "p", "status": "finished",
                               "started_at": NOW})  # fmt: skip
            tx.insert_many("run_values", value_rows(name, "tag", {"t": value}))
    with any_store.read() as reader:
        for pattern, expected in (("50*%", ["a"]), ("50_%[x]", ["a"]), ("50%", ["a", "b"]), ("50?%", [])):
            found = search_runs(reader, [ValueCondition("tag", "t", "like", pattern)])
            assert [row["id"] for row in found] == expected, pattern
