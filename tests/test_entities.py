from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clew.declare import parse_rollout
from clew.entities import (
    Duration,
    GateCheck,
    GateReport,
    Margin,
    Outcome,
    RolloutStep,
    RowRange,
    Trigger,
    Version,
)
from clew.errors import DeclarationError

YEAR_1990 = datetime(1990, 1, 1, tzinfo=UTC)

moments = st.timedeltas(timedelta(), timedelta(days=40_000)).map(lambda passed: YEAR_1990 + passed)
exact_durations = st.builds(
    Duration.parse, st.builds("{}{}".format, st.integers(0, 400), st.sampled_from("mhdw"))
)
durations = exact_durations | st.builds(Duration, st.integers(0, 60))
lengths = durations.filter(bool)


# -- durations -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("90m", Duration(exact=timedelta(minutes=90))),
        ("36h", Duration(exact=timedelta(hours=36))),
        (" 1d ", Duration(exact=timedelta(days=1))),
        ("2w", Duration(exact=timedelta(days=14))),
        ("3mo", Duration(months=3)),
        ("0d", Duration()),
        (timedelta(seconds=90), Duration(exact=timedelta(seconds=90))),
        (Duration(2), Duration(2)),
    ],
)
def test_a_duration_is_read_in_every_spelling(text: object, expected: Duration) -> None:
    assert Duration.parse(text) == expected


@pytest.mark.parametrize(
    ("wrong", "right"),
    [
        ("1 month", "'1mo'"),
        ("2 months", "'2mo'"),
        ("1 day", "'1d'"),
        ("10 days", "'10d'"),
        ("90 min", "'90m'"),
        ("36 Hours", "'36h'"),
        ("2 wks", "'2w'"),
        ("60 d", "'60d'"),
        ("1D", "'1d'"),
        ("2 years", "'24mo'"),
    ],
)
def test_a_misspelt_duration_is_told_its_right_spelling(wrong: str, right: str) -> None:
    with pytest.raises(DeclarationError, match="Did you mean") as caught:
        Duration.parse(wrong, "label_delay")
    assert str(caught.value).startswith(f"label_delay is {wrong!r}")
    assert right in str(caught.value)


@pytest.mark.parametrize("wrong", ["", "soon", "1.5d", "-1d", "d", 7, None, "30 seconds"])
def test_what_is_no_duration_is_told_how_to_write_one(wrong: object) -> None:
    with pytest.raises(DeclarationError, match="'36h', '1d', '2w', '3mo' months"):
        Duration.parse(wrong)


def test_a_negative_duration_is_refused() -> None:
    with pytest.raises(DeclarationError, match="cannot be negative"):
        Duration.parse(timedelta(days=-1))


@pytest.mark.parametrize("wrong", ["1201mo", "40000d", f"1{'0' * 400}m", timedelta(days=99_999)])
def test_a_duration_beyond_a_century_is_refused(wrong: object) -> None:
    with pytest.raises(DeclarationError, match="longer than a century"):
        Duration.parse(wrong)


@given(durations)
def test_a_printed_duration_is_read_back_as_itself(duration: Duration) -> None:
    assert Duration.parse(str(duration)) == duration


def test_durations_without_a_spelling_of_their_own_still_print() -> None:
    assert str(Duration(1, timedelta(hours=2))) == "1mo+2:00:00"
    assert str(Duration(exact=timedelta(seconds=30))) == "0:00:30"


@pytest.mark.parametrize(
    ("start", "months", "end"),
    [
        ((2026, 1, 31), 1, (2026, 2, 28)),
        ((2028, 1, 31), 1, (2028, 2, 29)),
        ((2028, 2, 29), 12, (2029, 2, 28)),
        ((2100, 1, 31), 1, (2100, 2, 28)),
        ((2026, 12, 31), 2, (2027, 2, 28)),
        ((2026, 5, 15), 8, (2027, 1, 15)),
    ],
)
def test_a_month_later_is_the_same_day_or_the_last_of_a_shorter_month(
    start: tuple[int, int, int], months: int, end: tuple[int, int, int]
) -> None:
    assert Duration(months).after(datetime(*start, 7, tzinfo=UTC)) == datetime(*end, 7, tzinfo=UTC)


def test_before_counts_months_back_over_a_new_year() -> None:
    assert Duration.parse("2mo").before(datetime(2026, 1, 31, tzinfo=UTC)) == datetime(
        2025, 11, 30, tzinfo=UTC
    )


@given(moments, exact_durations)
def test_before_undoes_after_where_no_month_is_involved(moment: datetime, duration: Duration) -> None:
    assert duration.before(duration.after(moment)) == moment


@given(moments, st.integers(0, 600))
def test_before_undoes_after_by_months_to_within_the_length_of_a_month(moment: datetime, n: int) -> None:
    back = Duration(n).before(Duration(n).after(moment))
    assert timedelta() <= moment - back <= timedelta(days=3)


@given(moments, moments, durations)
def test_after_keeps_the_order_of_days(one: datetime, other: datetime, duration: Duration) -> None:
    earlier, later = sorted((one, other))
    assert duration.after(earlier).date() <= duration.after(later).date()


@given(moments, st.integers(1, 2000), lengths.filter(lambda length: str(length)[-1] != "m"))
def test_windows_tile_the_time_without_gap_or_overlap(start: datetime, hours: int, length: Duration) -> None:
    end = start + timedelta(hours=hours)
    windows = list(length.windows(start, end))
    assert (windows[0][0], windows[-1][1]) == (start, end)
    assert all(one[1] == other[0] for one, other in pairwise(windows))
    assert all(opening < closing for opening, closing in windows)


def test_monthly_windows_keep_to_the_last_day_of_months_of_any_length() -> None:
    start = datetime(2027, 12, 31, tzinfo=UTC)
    closings = [closing for _, closing in Duration(1).windows(start, datetime(2028, 4, 15, tzinfo=UTC))]
    days = [(closing.month, closing.day) for closing in closings]
    assert days == [(1, 31), (2, 29), (3, 31), (4, 15)]


def test_there_are_no_windows_in_no_time() -> None:
    now = datetime(2026, 1, 1, tzinfo=UTC)
    assert list(Duration(1).windows(now, now)) == []


def test_windows_without_length_are_refused() -> None:
    now = datetime(2026, 1, 1, tzinfo=UTC)
    with pytest.raises(DeclarationError, match="length above zero"):
        next(Duration().windows(now, now + timedelta(days=1)))


# -- margins -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given_margin", "level", "expected", "shown"),
    [
        (0.01, 0.9, 0.01, "0.01"),
        (2, 50.0, 2.0, "2"),
        ("2%", 50.0, 1.0, "2%"),
        (" 0.5 % ", -40.0, 0.2, "0.5%"),
    ],
)
def test_a_margin_is_absolute_or_a_share_of_the_level(
    given_margin: float | str, level: float, expected: float, shown: str
) -> None:
    margin = Margin.parse(given_margin)
    assert margin.absolute(level) == pytest.approx(expected)
    assert str(margin) == shown
    assert Margin.parse(margin) is margin


@pytest.mark.parametrize("wrong", ["0.01", "two", "-2%", None, True])
def test_a_margin_of_another_kind_is_told_both_ways_to_write_one(wrong: object) -> None:
    with pytest.raises(DeclarationError, match=r"margin=0\.01, or a share of its level, such as margin='2%'"):
        Margin.parse(wrong)  # type: ignore[arg-type]


@pytest.mark.parametrize("wrong", [0, 0.0, "0%", -0.01, float("nan"), float("inf")])
def test_a_margin_leaves_room_for_ties(wrong: float) -> None:
    with pytest.raises(DeclarationError, match="must be above zero"):
        Margin.parse(wrong)


# -- words ---------------------------------------------------------------------------------------------


@given(st.lists(st.tuples(st.integers(1, 999), lengths), min_size=1, max_size=4))
def test_a_printed_rollout_is_read_back_as_itself(stages: list[tuple[int, Duration]]) -> None:
    canaries = (RolloutStep("canary", length, tenths / 10 / 100) for tenths, length in stages)
    steps = (RolloutStep("shadow", Duration.parse("1d")), *canaries)
    assert parse_rollout(", ".join(map(str, steps))) == steps


def test_the_share_of_a_small_canary_is_not_rounded_away() -> None:
    assert str(RolloutStep("canary", Duration.parse("1d"), 0.005)) == "canary 0.5% 1d"


def test_triggers_print_as_they_are_written() -> None:
    triggers = [
        Trigger("auto"),
        Trigger("every", every=Duration.parse("60d")),
        Trigger("rows", rows=5000),
        Trigger("cron", cron="0 3 * * 1"),
    ]
    assert [str(trigger) for trigger in triggers] == ["auto", "every 60d", "rows 5000", "cron 0 3 * * 1"]


def test_a_row_range_is_as_long_as_its_rows() -> None:
    assert len(RowRange(10, 15)) == 5


def test_a_version_is_named_by_its_deployment_and_number() -> None:
    version = Version("busy", 3, "busy", "r1", "p1", datetime(2026, 1, 1, tzinfo=UTC), "lightgbm")
    assert version.name == "busy@3"


# -- the gate's report ---------------------------------------------------------------------------------

outcomes: st.SearchStrategy[Outcome] = st.sampled_from(["pass", "fail", "undecided", "not tested"])


def report(*given_outcomes: Outcome) -> GateReport:
    return GateReport(tuple(GateCheck(f"check {i}", o, "") for i, o in enumerate(given_outcomes)))


@pytest.mark.parametrize(
    ("checks", "expected"),
    [
        (("pass", "undecided", "fail"), "fail"),
        (("pass", "undecided", "not tested"), "undecided"),
        (("not tested", "pass"), "pass"),
        (("not tested", "not tested"), "not tested"),
        ((), "not tested"),
    ],
)
def test_the_worst_check_decides_a_gate(checks: tuple[Outcome, ...], expected: Outcome) -> None:
    assert report(*checks).outcome == expected


@given(st.lists(outcomes))
def test_the_order_of_checks_does_not_change_the_outcome(checks: list[Outcome]) -> None:
    assert report(*checks).outcome == report(*reversed(checks)).outcome == report(*sorted(checks)).outcome
