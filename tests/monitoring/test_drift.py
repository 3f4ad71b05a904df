from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest

from clew.entities import Finding
from clew.monitoring import DriftMonitor, Reference, reference_of
from clew.monitoring.days import DayRows
from clew.stats.arrays import FloatArray

START = datetime(2026, 1, 1, tzinfo=UTC)
DAY = timedelta(days=1)
N_COLUMNS = 30


def dated(n_days: int, per_day: int) -> np.ndarray[tuple[int], np.dtype[np.datetime64]]:
    return np.datetime64("2026-01-01", "us") + np.repeat(np.arange(n_days), per_day) * np.timedelta64(1, "D")


def columns_of(values: FloatArray) -> dict[str, FloatArray]:
    return {f"c{i}": column for i, column in enumerate(values.T)}


def split(values: FloatArray, n_reference_days: int, per_day: int) -> tuple[Reference, DayRows]:
    """The reference that the first days make, and the days after it."""
    n, times = n_reference_days * per_day, dated(len(values) // per_day, per_day)
    reference = reference_of(columns_of(values[:n]), times[:n])
    return reference, reference.bin_days(columns_of(values[n:]), times[n:])


def tickets(monitor: DriftMonitor, rows: DayRows) -> list[Finding]:
    found = []
    for place in range(len(rows)):
        day = rows.starts(place)
        monitor, finding = monitor.observe(day, rows.counts[place]).check(day + DAY)
        found += [finding] if finding else []
    return found


@pytest.mark.parametrize("per_day", [25, 100])
def test_false_tickets_without_drift_stay_within_the_budget(per_day: int) -> None:
    """60 quarters of 30 columns at alpha .01: 0.6 false tickets are allowed for, 4 is its 99.7 % limit."""
    rng, n_tickets = np.random.default_rng(per_day), 0
    monitor = None
    for _ in range(60):
        numbers = rng.multinomial(per_day, [1 / 16] * 16, size=(190, N_COLUMNS))
        counts = np.concatenate([numbers, np.zeros((190, N_COLUMNS, 1), dtype=int)], axis=2)
        reference = reference_from(counts[:100].sum(axis=0))
        monitor = DriftMonitor.start(reference, alpha=0.01)
        for i, day in enumerate(counts[100:].reshape(90, -1)):
            monitor, finding = monitor.observe(START + i * DAY, day).check(START + (i + 1) * DAY)
            n_tickets += finding is not None
    assert n_tickets <= 4


def reference_from(counts: np.ndarray[tuple[int, int], np.dtype[np.int64]]) -> Reference:
    stored = {"bins": {"kind": "numeric", "edges": list(range(15))}}
    columns = [{**stored, "name": f"c{i}", "counts": column.tolist()} for i, column in enumerate(counts)]
    return Reference.from_dict({"columns": columns})


def restless(rng: np.random.Generator, n_days: int, per_day: int, share: float) -> FloatArray:
    """Columns whose level wanders from day to day: autocorrelation .8, `share` of the variance."""
    level = rng.normal(size=(n_days, N_COLUMNS))
    for i in range(1, n_days):
        level[i] = 0.8 * level[i - 1] + 0.6 * level[i]
    rows = rng.normal(size=(n_days * per_day, N_COLUMNS))
    return np.sqrt([share]) * level.repeat(per_day, axis=0) + np.sqrt([1 - share]) * rows


def test_days_that_wander_make_few_tickets_when_the_reference_has_seen_them_wander() -> None:
    """No promise holds here, rows of a day being anything but independent; measured are 0 to 1 a quarter.

    With the floor alone it is one ticket in nearly every week.
    """
    rng = np.random.default_rng(0)
    n_knowing = n_ignorant = 0
    for _ in range(4):
        reference, rows = split(restless(rng, 365 + 90, 30, share=0.3), 365, 30)
        n_knowing += len(tickets(DriftMonitor.start(reference, 0.01), rows))
        blank = Reference(tuple(replace(each, usual_distance=(0.0, 0.0, 0.0)) for each in reference.columns))
        n_ignorant += len(tickets(DriftMonitor.start(blank, 0.01), rows))
    assert n_knowing <= 4
    assert n_ignorant > 4 * 4


def shifted_stream(seed: int = 0, shift: float = 0.6) -> tuple[Reference, DayRows]:
    """Ninety days of reference, then 60 days in whose second half columns 3 and 5 have moved."""
    values = np.random.default_rng(seed).normal(size=(150 * 50, 8))
    values[120 * 50 :, 3] += shift
    values[120 * 50 :, 5] += 3 * shift
    return split(values, 90, 50)


def test_one_ticket_names_all_drifted_columns_once() -> None:
    reference, rows = shifted_stream()
    first, *later = tickets(DriftMonitor.start(reference, 0.01), rows)
    moved = datetime(2026, 1, 1, tzinfo=UTC) + 120 * DAY
    assert timedelta() < first.found_at - moved <= 3 * DAY
    assert first.level == "ticket"
    assert first.lower <= first.value <= first.upper
    # The smaller shift needs more days; when it joins, both are named, and after that all is said.
    assert len(later) <= 1
    assert [*(later or [first])][-1].subject == "c5, c3"


def test_what_the_model_leans_on_is_named_first() -> None:
    reference, rows = shifted_stream()
    weighed = reference.with_importance({"c3": 0.9, "c5": 0.1})
    last = tickets(DriftMonitor.start(weighed, 0.01), rows)[-1]
    assert last.subject == "c3, c5"
    assert last.sentence.startswith("2 of 8 columns drifted: c3 (0.")
    assert last.sentence.endswith("rows), then c5")
    assert [each["column"] for each in last.evidence["columns"]] == ["c3", "c5"]
    json.dumps(last.evidence)


def test_a_new_reference_makes_a_new_ticket() -> None:
    reference, rows = shifted_stream()
    monitor = DriftMonitor.start(reference, 0.01)
    assert tickets(monitor, rows)
    assert tickets(DriftMonitor.start(reference.with_importance({"c3": 1.0}), 0.01), rows)


def test_columns_that_join_within_a_week_come_in_one_ticket() -> None:
    values = np.random.default_rng(1).normal(size=(140 * 50, 8))
    for i in range(4):
        values[(100 + i) * 50 :, i] += 3
    found = tickets(DriftMonitor.start((split(values, 90, 50))[0], 0.01), split(values, 90, 50)[1])
    assert [set(each.subject.split(", ")) for each in found] == [{"c0"}, {"c0", "c1", "c2", "c3"}]
    assert found[1].found_at - found[0].found_at == 7 * DAY
    assert sorted(found[1].evidence["new"]) == ["c1", "c2", "c3"]


def test_a_column_that_was_fine_for_four_weeks_is_told_again() -> None:
    values = np.random.default_rng(2).normal(size=(230 * 50, 2))
    for day in (100, 101, 180, 181):
        values[day * 50 : (day + 1) * 50, 1] += 4
    found = tickets(DriftMonitor.start((split(values, 90, 50))[0], 0.01), split(values, 90, 50)[1])
    assert [(each.subject, (each.found_at - START).days) for each in found] == [("c1", 101), ("c1", 181)]


def test_a_slow_small_drift_shows_in_the_merged_weeks() -> None:
    values = np.random.default_rng(3).normal(size=(180 * 40, 3))
    values[100 * 40 :, 1] += 0.45
    (found,) = tickets(DriftMonitor.start(split(values, 90, 40)[0], 0.01), split(values, 90, 40)[1])
    assert found.subject == "c1"
    assert found.window_end - found.window_start >= 7 * DAY


def test_a_day_fed_in_pieces_is_the_day_fed_at_once() -> None:
    reference, rows = shifted_stream()
    whole = pieces = DriftMonitor.start(reference, 0.01)
    for place in range(len(rows)):
        day, counts = rows.starts(place), rows.counts[place]
        whole, expected = whole.observe(day, counts).check(day + DAY)
        first = counts // 3
        pieces = pieces.observe(day + timedelta(hours=5), first)
        pieces, early = pieces.check(day + timedelta(hours=6))
        assert early is None
        pieces, found = pieces.observe(day + timedelta(hours=20), counts - first).check(day + DAY)
        assert found == expected
    assert pieces.to_dict() == whole.to_dict()


def test_asking_twice_finds_nothing_new() -> None:
    reference, rows = shifted_stream(shift=3.0)
    monitor = DriftMonitor.start(reference, 0.01)
    place = 31
    day = rows.starts(place)
    monitor, found = monitor.observe(day, rows.counts[place]).check(day + DAY)
    assert found is not None
    assert monitor.check(day + 2 * DAY) == (monitor, None)


def test_the_monitor_goes_through_json_and_on_as_if_nothing_had_happened() -> None:
    reference, rows = shifted_stream()
    monitor = DriftMonitor.start(reference, 0.01)
    straight = tickets(monitor, rows)
    through_json = []
    for place in range(len(rows)):
        monitor = DriftMonitor.from_dict(json.loads(json.dumps(monitor.to_dict())))
        day = rows.starts(place)
        monitor, finding = monitor.observe(day, rows.counts[place]).check(day + DAY)
        through_json += [finding] if finding else []
    assert through_json == straight


def test_only_the_days_that_windows_reach_are_kept() -> None:
    reference, rows = shifted_stream()
    monitor = DriftMonitor.start(reference, 0.01)
    for place in range(len(rows)):
        monitor = monitor.observe(rows.starts(place), rows.counts[place])
    assert len(monitor.recent) == 30
    last = rows.starts(len(rows) - 1)
    assert (monitor.windows(last)[2] == rows.counts[-28:].sum(axis=0)).all()


def test_a_column_without_rows_is_not_judged() -> None:
    reference, rows = shifted_stream()
    counts = reference.counts_of({"c0": rows.column("c0")[0]})
    _, found = DriftMonitor.start(reference, 0.01).observe(START, counts).check(START + DAY)
    assert found is None


def test_a_stored_profile_is_a_reference() -> None:
    profile = {
        "n_rows": 40,
        "columns": {"age": {"bins": {"kind": "numeric", "edges": [30.0]}, "counts": [10, 29, 1]}},
        "scores": [{"of": "yes", "bins": {"kind": "numeric", "edges": [0.5]}, "counts": [20, 20, 0]}],
        "importance": {"age": 0.25},
    }
    found = Reference.from_profile(profile)
    assert [(each.name, each.importance) for each in found.columns] == [("age", 0.25), ("score of yes", 1.0)]


def test_counts_that_do_not_fit_are_refused() -> None:
    reference, _ = shifted_stream()
    with pytest.raises(ValueError, match=r"counts have shape \(3,\); the reference has"):
        DriftMonitor.start(reference, 0.01).observe(START, [1, 2, 3])
    with pytest.raises(ValueError, match="alpha is 0"):
        DriftMonitor.start(reference, 0)
