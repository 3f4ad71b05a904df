from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from clew.entities import Duration
from clew.monitoring.cohorts import (
    cohorts,
    from_datetime64,
    is_matured,
    matured_at,
    newly_scored,
    to_datetime64,
)

DELAYS = st.builds(
    Duration,
    months=st.integers(0, 14),
    exact=st.timedeltas(min_value=timedelta(), max_value=timedelta(days=40)),
)
MOMENTS = st.timedeltas(timedelta(), timedelta(days=12_000)).map(
    lambda age: datetime(1999, 1, 1, tzinfo=UTC) + age
)


@given(moment=MOMENTS, delay=DELAYS)
def test_maturity_is_event_time_plus_delay_by_the_calendar(moment: datetime, delay: Duration) -> None:
    (found,) = matured_at(np.array([to_datetime64(moment)]), delay)
    assert from_datetime64(found) == delay.after(moment)


@given(moments=st.lists(MOMENTS, max_size=30), delay=DELAYS, data=st.data())
def test_ticks_count_each_labelled_row_once_and_only_when_matured(
    moments: list[datetime], delay: Duration, data: st.DataObject
) -> None:
    times = np.array([to_datetime64(moment) for moment in moments], dtype="datetime64[us]")
    has_label = np.array([data.draw(st.booleans()) for _ in moments], dtype=bool)
    inner = sorted(data.draw(st.lists(MOMENTS, max_size=5)))
    ticks = [datetime(1998, 1, 1, tzinfo=UTC), *inner, datetime(2040, 1, 1, tzinfo=UTC)]
    seen = []
    for since, now in pairwise(ticks):
        found = newly_scored(times, has_label, delay, since, now)
        assert is_matured(times[found], delay, now).all()
        seen += found.tolist()
    assert sorted(seen) == np.flatnonzero(has_label).tolist()


def test_a_label_that_came_before_its_time_does_not_count_yet() -> None:
    """Bad news is early: counting it before its time would make every model look bad."""
    times = np.array(["2026-03-01", "2026-03-09"], dtype="datetime64[us]")
    labelled = np.array([True, True])
    now = datetime(2026, 3, 10, tzinfo=UTC)
    found = newly_scored(times, labelled, Duration.parse("1w"), datetime(2026, 3, 1, tzinfo=UTC), now)
    assert found.tolist() == [0]


def test_a_day_knows_what_of_it_can_be_judged() -> None:
    times = np.array(["2026-03-01T01", "2026-03-01T23", "2026-03-02T05", "2026-03-04"], "datetime64[us]")
    labelled = np.array([True, False, True, True])
    found = cohorts(times, labelled, Duration.parse("1d"), datetime(2026, 3, 3, tzinfo=UTC))
    assert [(each.day.day, each.n_rows, each.n_matured, each.n_scored) for each in found] == [
        (1, 2, 2, 1),
        (2, 1, 0, 0),
        (4, 1, 0, 0),
    ]
    assert [each.is_complete for each in found] == [True, False, False]
    assert [each.label_coverage for each in found] == [0.5, 0.0, 0.0]


def test_no_rows_make_no_cohorts() -> None:
    nothing = np.array([], dtype="datetime64[us]")
    assert (
        cohorts(nothing, np.array([], dtype=bool), Duration.parse("1d"), datetime(2026, 1, 1, tzinfo=UTC))
        == ()
    )


def test_a_moment_without_a_zone_is_refused() -> None:
    with pytest.raises(ValueError, match="has no time zone"):
        to_datetime64(datetime(2026, 3, 1))  # noqa: DTZ001
