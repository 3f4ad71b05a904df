from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from clew.datasets import matured
from clew.entities import Duration

MOMENTS = st.datetimes(datetime(2023, 12, 1), datetime(2024, 6, 1), timezones=st.just(UTC))  # noqa: DTZ001
DELAYS = st.builds(Duration, st.integers(0, 3), st.timedeltas(timedelta(), timedelta(days=40)))


def as_times(moments: list[datetime]) -> np.ndarray[tuple[int], np.dtype[np.datetime64]]:
    return np.array([moment.replace(tzinfo=None) for moment in moments], "datetime64[us]")


@given(moments=st.lists(MOMENTS, max_size=40).map(sorted), delay=DELAYS, now=MOMENTS)
def test_it_counts_the_leading_rows_whose_delay_has_passed(
    moments: list[datetime], delay: Duration, now: datetime
) -> None:
    counted = 0
    while counted < len(moments) and delay.after(moments[counted]) <= now:
        counted += 1
    assert matured(as_times(moments), delay, now) == counted


@given(moments=st.lists(MOMENTS, max_size=20).map(sorted), delay=DELAYS, now=MOMENTS, later=MOMENTS)
def test_no_row_is_unmatured_by_time(
    moments: list[datetime], delay: Duration, now: datetime, later: datetime
) -> None:
    now, later = sorted([now, later])
    assert matured(as_times(moments), delay, now) <= matured(as_times(moments), delay, later)


def test_the_limit_itself_is_matured() -> None:
    times = as_times([datetime(2026, 3, 1), datetime(2026, 3, 1, 0, 0, 0, 1)])  # noqa: DTZ001
    assert matured(times, Duration.parse("1d"), datetime(2026, 3, 2, tzinfo=UTC)) == 1


def test_a_month_after_its_last_day_is_the_next_months_last_day() -> None:
    times = as_times([datetime(2026, 1, 31, 12)])  # noqa: DTZ001
    assert matured(times, Duration.parse("1mo"), datetime(2026, 2, 28, 11, 59, tzinfo=UTC)) == 0
    assert matured(times, Duration.parse("1mo"), datetime(2026, 2, 28, 12, 0, tzinfo=UTC)) == 1


def test_now_may_be_of_any_zone_but_must_have_one() -> None:
    times = as_times([datetime(2026, 3, 1, 12)])  # noqa: DTZ001
    tokyo = timezone(timedelta(hours=9))
    assert matured(times, Duration.parse("0d"), datetime(2026, 3, 1, 20, tzinfo=tokyo)) == 0
    assert matured(times, Duration.parse("0d"), datetime(2026, 3, 1, 21, tzinfo=tokyo)) == 1
    with pytest.raises(ValueError, match="no zone"):
        matured(times, Duration.parse("0d"), datetime(2026, 3, 1))  # noqa: DTZ001


def test_times_of_another_unit_are_understood() -> None:
    times = np.array(["2026-03-01", "2026-03-02"], "datetime64[ns]")
    assert matured(times, Duration.parse("1mo"), datetime(2026, 4, 1, tzinfo=UTC)) == 1
