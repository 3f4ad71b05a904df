from __future__ import annotations

import math
from datetime import UTC, datetime

import pytest

from clew.errors import UsageError
from clew.storage import Store
from clew.storage.run_values import ValueCondition, ValueOrder
from clew.tracking import (
    find_runs,
    log_metrics,
    parse_order,
    parse_search,
    summarise_metrics,
    tag_run,
    unknown_names,
)
from tests.tracking.conftest import NOW
from tests.tracking.test_runs import begin, close


def test_the_words_of_mlflow_are_read() -> None:
    found = parse_search(
        """metrics.rmse <= .5 AND params.`my param` = '31' and tags."team name" LIKE 'x%'"""
        """ and attributes.status != 'failed' and metric.loss < inf"""
    )
    assert found == (
        ValueCondition("metric", "rmse", "<=", 0.5),
        ValueCondition("param", "my param", "=", "31"),
        ValueCondition("tag", "team name", "like", "x%"),
        ValueCondition(None, "status", "!=", "failed"),
        ValueCondition("metric", "loss", "<", math.inf),
    )


@pytest.mark.parametrize(
    ("text", "condition"),
    [
        ("param.leaves = 31", ValueCondition("param", "leaves", "=", 31.0)),
        ("param.early == true", ValueCondition("param", "early", "=", "true")),
        ("tag.author = 'O''Neil'", ValueCondition("tag", "author", "=", "O'Neil")),
        ("seconds > 1e3", ValueCondition(None, "seconds", ">", 1000.0)),
        ("tag.git-sha <> 'a'", ValueCondition("tag", "git-sha", "!=", "a")),
        (
            "started >= '2026-03-01'",
            ValueCondition(None, "started_at", ">=", datetime(2026, 3, 1, tzinfo=UTC)),
        ),
    ],
)
def test_one_condition_is_read(text: str, condition: ValueCondition) -> None:
    assert parse_search(text) == (condition,)


@pytest.mark.parametrize(
    ("text", "place", "words"),
    [
        ("metric.accuracy 0.9", 17, "an operator is expected"),
        ("metric.accuracy >", 18, "its end at character 18, where a number is expected"),
        ("metric.accuracy > 'high'", 19, "a number is expected"),
        ("metric.accuracy > 0.9 or status = 'x'", 23, "joined by and"),
        ("param.kind = dart", 14, "Text stands in quotes: 'dart'"),
        ("metirc.accuracy > 1", 1, "Did you mean 'metric'"),
        ("sttus = 'failed'", 1, "Did you mean 'status'"),
        ("tag.team = 'x", 12, "never closed"),
        ("started > 'monday'", 11, "a time such as"),
        ("metric.a > 1 and", 17, "a name is expected"),
        ("", 1, "a name is expected"),
        ("metric.a like '1'", 15, "like is not possible"),
        ("(metric.a > 1)", 1, "a name, operator or value is expected"),
    ],
)
def test_an_error_points_at_the_place(text: str, place: int, words: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_search(text)
    said = str(caught.value)
    assert words in said
    assert f"character {place}" in said
    assert f"\n  {text}\n  {' ' * (place - 1)}^" in said


def test_an_order_is_by_one_thing() -> None:
    assert parse_order("metrics.rmse ASC") == ValueOrder("metric", "rmse", is_descending=False)
    assert parse_order("started") == ValueOrder(None, "started_at")
    for text in ("metric.a up", "metric.a desc, metric.b", "0.9"):
        with pytest.raises(UsageError, match="expected"):
            parse_order(text)


def test_runs_are_found_by_params_metrics_and_tags(store: Store) -> None:
    for number, accuracy in enumerate([0.7, 0.8, math.nan]):
        run, _ = begin(store, f"try/{number}")
        close(store, run, metrics={"accuracy": accuracy, "top": math.inf})
    best = find_runs(store, parse_search("metric.accuracy > 0.5 and param.num_leaves = 31"))
    assert sorted(run.metrics["accuracy"] for run in best) == [0.7, 0.8]
    assert best[0].metrics["top"] == math.inf
    tag_run(store, best[0].id, {"team": "x"}, now=NOW, actor="ada")
    assert [run.id for run in find_runs(store, parse_search("tag.team = 'x'"))] == [best[0].id]
    (first,) = find_runs(store, order=parse_order("metric.accuracy"), limit=1, key_prefix="try/")
    assert first.metrics["accuracy"] == 0.8


def test_a_name_that_no_run_has_is_told(store: Store) -> None:
    assert "None has any yet" in unknown_names(store, parse_search("metric.accuracy > 1"))[0]
    close(store, begin(store)[0])
    assert unknown_names(store, parse_search("metric.acuracy > 1 and status = 'x'")) == [
        "No run has a metric 'acuracy'. Did you mean 'accuracy'?"
    ]


def test_an_attempt_made_again_is_found_by_its_new_values_only(store: Store) -> None:
    run, _ = begin(store)
    tag_run(store, run.id, {"team": "x"}, now=NOW, actor="ada")
    begin(store, params={})
    assert find_runs(store, parse_search("param.num_leaves = 31")) == []
    assert [each.id for each in find_runs(store, parse_search("tag.team = 'x'"))] == [run.id]


# -- long series ---------------------------------------------------------------------------------------


def test_a_series_is_told_in_a_few_numbers(store: Store) -> None:
    run, _ = begin(store)
    log_metrics(store, run.id, [("loss", step, 1000.0 - step) for step in range(1000)], NOW)
    log_metrics(store, run.id, [("rate", None, math.nan), ("rate", 7, math.inf)], NOW)
    loss, rate = summarise_metrics(store, run.id, n_points=10)
    assert (loss.name, loss.n, loss.first, loss.last, loss.last_step) == ("loss", 1000, 1000.0, 1.0, 999)
    assert loss.points == (1000.0, *(1001.0 - end for end in range(100, 1001, 100)))
    assert (rate.n, rate.last, rate.last_step) == (2, math.inf, 7)
    assert math.isnan(rate.points[0])
