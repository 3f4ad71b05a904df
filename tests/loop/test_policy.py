from __future__ import annotations

import math
from dataclasses import replace
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clew.entities import Duration, Trigger
from clew.loop.policy import (
    LONGEST_TICK,
    SHORTEST_TICK,
    SMALLEST_WINDOW,
    quarter_rows,
    tick_length,
    window_rows,
)
from tests.loop.made import DAY, declared, policy

YEAR = 365 * DAY

row_counts = st.integers(1, 10**6)
spans = st.timedeltas(timedelta(minutes=1), timedelta(days=4000))


def test_a_window_is_a_third_of_the_first_champion_s_rows() -> None:
    assert window_rows(declared(), 9000, YEAR) == 3000


def test_a_stated_number_of_rows_is_the_window() -> None:
    assert window_rows(declared(train_window=1234), 9000, YEAR) == 1234


@pytest.mark.parametrize(("window", "n_rows"), [("73d", 2000), ("6mo", 5004), ("5mo", 4170)])
def test_a_stated_duration_becomes_rows_at_the_pace_of_the_first_rows(window: str, n_rows: int) -> None:
    assert window_rows(declared(train_window=Duration.parse(window)), 10_000, YEAR) == n_rows


@given(row_counts, spans, st.none() | st.integers(1, 10**7) | st.builds(Duration, st.integers(1, 600)))
def test_a_window_is_never_tiny_nor_longer_than_there_are_rows(
    n_first: int, span: timedelta, window: int | Duration | None
) -> None:
    n_rows = window_rows(declared(train_window=window), n_first, span)
    assert SMALLEST_WINDOW <= n_rows <= max(SMALLEST_WINDOW, n_first)


def test_the_loop_looks_daily_where_rows_are_slow() -> None:
    assert tick_length(3000, 9000, YEAR) == DAY


def test_the_loop_looks_sixteen_times_a_window_where_rows_are_fast() -> None:
    assert tick_length(3000, 9000, timedelta(hours=48)) == timedelta(hours=1)


@given(row_counts, row_counts, spans)
def test_the_loop_looks_between_every_minute_and_every_day(window: int, n: int, span: timedelta) -> None:
    assert SHORTEST_TICK <= tick_length(window, n, span) <= LONGEST_TICK


def test_a_quarter_has_the_rows_of_ninety_one_days() -> None:
    assert quarter_rows(3650, YEAR) == 910


def test_rows_that_all_came_at_once_still_have_a_quarter() -> None:
    assert quarter_rows(100, timedelta()) >= SMALLEST_WINDOW


@pytest.mark.parametrize(("share", "n_rows"), [(0.5, 100), (3.0, 600), (0.0001, 1)])
def test_a_share_of_the_window_is_at_least_a_row(share: float, n_rows: int) -> None:
    assert policy(window=200).rows(share) == n_rows


@pytest.mark.parametrize(
    ("kinds", "is_auto"), [(["auto", "drift"], True), (["drift"], False), (["never"], False)]
)
def test_only_the_word_auto_keeps_challengers(kinds: list[str], is_auto: bool) -> None:
    triggers = tuple(Trigger(kind) for kind in kinds)  # type: ignore[arg-type]
    assert policy(declaration=declared(retrain=triggers)).is_auto is is_auto


def test_where_the_first_champion_had_no_skill_none_is_asked_for() -> None:
    assert replace(policy(), skill=-0.08).skill_floor == -math.inf
    assert replace(policy(), skill=0.6).skill_floor == pytest.approx(0.3)
