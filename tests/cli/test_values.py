from __future__ import annotations

from datetime import UTC, datetime, timedelta

import click
import pytest
from hypothesis import given
from hypothesis import strategies as st

from clew.cli.values import Moment, Setting, Since, plain_value, utc_now


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("2011-07-01", datetime(2011, 7, 1, tzinfo=UTC)),
        ("2011-07-01T06:00", datetime(2011, 7, 1, 6, tzinfo=UTC)),
        ("2011-07-01T06:00+02:00", datetime(2011, 7, 1, 4, tzinfo=UTC)),
        ("2011-07-01T06:00Z", datetime(2011, 7, 1, 6, tzinfo=UTC)),
    ],
)
def test_a_time_without_a_zone_is_utc(text: str, moment: datetime) -> None:
    assert Moment().convert(text, None, None) == moment


def test_since_takes_a_time_or_how_long_ago() -> None:
    assert Since().convert("2026-01-01", None, None) == datetime(2026, 1, 1, tzinfo=UTC)
    week = utc_now() - Since().convert("7d", None, None)
    assert abs(week - timedelta(days=7)) < timedelta(minutes=1)


@given(st.integers() | st.floats(allow_nan=False, allow_infinity=False))
def test_a_number_stays_the_number_it_is(value: float) -> None:
    _, read = Setting().convert(f"x={value!r}", None, None)
    assert read == value
    assert type(read) is type(value)


@pytest.mark.parametrize("text", ["dart", "1e", "0x10", "NaN", "Infinity", "a=b", ""])
def test_what_is_no_value_of_json_is_text(text: str) -> None:
    assert plain_value(text) == text


@pytest.mark.parametrize(
    ("text", "value"), [("True", True), ("false", False), ("None", None), ("null", None)]
)
def test_pythons_words_and_jsons_both_count(text: str, value: object) -> None:
    assert plain_value(text) is value


@pytest.mark.parametrize("text", ["x", "=3", "two words=3", "3=x"])
def test_a_setting_needs_a_name_and_a_value(text: str) -> None:
    with pytest.raises(click.BadParameter, match="NAME=VALUE"):
        Setting().convert(text, None, None)
