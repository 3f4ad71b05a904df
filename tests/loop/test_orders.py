from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clew.declare import parse_retrain
from clew.loop.orders import Orders
from tests.loop.made import DAY

START = datetime(2026, 1, 1, tzinfo=UTC)  # a Thursday
MICROSECOND = timedelta(microseconds=1)


def orders(*words: str, n_matured: int = 1000) -> Orders:
    return Orders.begin(parse_retrain(words), START, n_matured)


@pytest.mark.parametrize("word", ["auto", "never"])
def test_words_that_order_nothing_never_do(word: str) -> None:
    assert orders(word).due(START + 1000 * DAY, 10**6, has_drifted=True) == ()


# -- every ---------------------------------------------------------------------------------------------


def test_a_candidate_is_ordered_when_the_time_has_passed() -> None:
    every = orders("every 60d")
    assert every.due(START + 60 * DAY - MICROSECOND, 2000, False) == ()
    assert every.due(START + 60 * DAY, 2000, False) == ("60d went by",)


def test_the_time_is_counted_anew_from_each_order() -> None:
    every = orders("every 60d")
    every.due(START + 70 * DAY, 2000, False)
    assert every.due(START + 129 * DAY, 3000, False) == ()
    assert every.due(START + 130 * DAY, 3000, False) == ("60d went by",)


def test_months_are_counted_in_the_calendar() -> None:
    every = orders("every 1mo")
    assert every.due(datetime(2026, 2, 1, tzinfo=UTC) - MICROSECOND, 2000, False) == ()
    assert every.due(datetime(2026, 2, 1, tzinfo=UTC), 2000, False) == ("1mo went by",)


def test_without_a_new_row_there_is_nothing_to_learn_and_the_order_waits() -> None:
    every = orders("every 60d")
    assert every.due(START + 60 * DAY, 1000, False) == ()
    assert every.due(START + 61 * DAY, 1001, False) == ("60d went by",)


# -- rows ----------------------------------------------------------------------------------------------


def test_a_candidate_is_ordered_when_rows_enough_have_matured() -> None:
    rows = orders("rows 5000")
    assert rows.due(START, 5999, False) == ()
    assert rows.due(START, 6000, False) == ("5,000 more rows matured",)
    assert rows.due(START, 10_999, False) == ()
    assert rows.due(START, 11_000, False) == ("5,000 more rows matured",)


@given(st.integers(1, 500), st.lists(st.integers(0, 400), max_size=30))
def test_an_order_by_rows_comes_at_most_once_for_that_many_rows(n: int, arrivals: list[int]) -> None:
    rows, matured, n_ordered = orders(f"rows {n}", n_matured=0), 0, 0
    for arrived in arrivals:
        matured += arrived
        n_ordered += len(rows.due(START, matured, False))
    assert n_ordered <= matured // n
    assert n_ordered >= 1 or matured < n


# -- cron ----------------------------------------------------------------------------------------------


def test_a_candidate_is_ordered_when_the_schedule_comes_round() -> None:
    cron = orders("cron 0 3 * * 1")  # Mondays at three
    monday = datetime(2026, 1, 5, 3, tzinfo=UTC)
    assert cron.due(monday - MICROSECOND, 2000, False) == ()
    assert cron.due(monday, 2000, False) == ("the schedule '0 3 * * 1' came round",)
    assert cron.due(monday + 7 * DAY - MICROSECOND, 3000, False) == ()
    assert cron.due(monday + 7 * DAY, 3000, False) == ("the schedule '0 3 * * 1' came round",)


def test_rounds_that_were_missed_are_one_order() -> None:
    cron = orders("cron 0 3 * * *")
    assert len(cron.due(START + 30 * DAY, 2000, False)) == 1
    assert cron.due(START + 30 * DAY + timedelta(hours=1), 2001, False) == ()


# -- drift ---------------------------------------------------------------------------------------------


def test_a_candidate_is_ordered_when_drift_is_confirmed() -> None:
    drift = orders("drift")
    assert drift.due(START + DAY, 2000, False) == ()
    assert drift.due(START + DAY, 2000, True) == ("drift was confirmed",)


# -- together ------------------------------------------------------------------------------------------


def test_each_word_orders_for_itself() -> None:
    both = orders("every 10d", "rows 500", "drift")
    assert both.due(START + 10 * DAY, 1500, True) == (
        "10d went by",
        "500 more rows matured",
        "drift was confirmed",
    )
    assert both.due(START + 11 * DAY, 2000, False) == ("500 more rows matured",)
