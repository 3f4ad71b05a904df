from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest

from clew.entities import Finding
from clew.monitoring import ContractMonitor, Reference, reference_of
from clew.monitoring.days import Rows
from clew.stats import bins_from_dict
from clew.stats.arrays import AnyArray, FloatArray

START = datetime(2026, 3, 1, tzinfo=UTC)
DAY = timedelta(days=1)
PER_DAY = 60


def sound_rows(n_days: int, seed: int) -> dict[str, FloatArray | AnyArray]:
    rng = np.random.default_rng(seed)
    n = n_days * PER_DAY
    rent = rng.gamma(3, 200, n)
    rent[rng.random(n) < 0.05] = np.nan
    return {
        "age": rng.integers(18, 90, n).astype(float),
        "rent": rent,
        "plan": rng.choice(["basic", "pro", "trial"], n, p=[0.7, 0.25, 0.05]).astype(object),
        "weekday": np.repeat(np.arange(n_days) % 7, PER_DAY).astype(float),
    }


def times(n_days: int, first: str) -> np.ndarray[tuple[int], np.dtype[np.datetime64]]:
    return np.datetime64(first, "us") + np.repeat(np.arange(n_days), PER_DAY) * np.timedelta64(1, "D")


@pytest.fixture(scope="module")
def reference() -> Reference:
    return reference_of(sound_rows(60, seed=0), times(60, "2026-01-01"))


def check(reference: Reference, rows: Rows, n_days: int = 1) -> tuple[Finding, ...]:
    counted = reference.bin_days(rows, times(n_days, "2026-03-01"))
    return ContractMonitor.start(reference, 0.01).check(counted, START + n_days * DAY)[1]


def test_sound_rows_keep_the_contract(reference: Reference) -> None:
    """Thirty quarters, where 0.3 false findings would be allowed for."""
    n_found = sum(len(check(reference, sound_rows(91, seed), 91)) for seed in range(1, 31))
    assert n_found <= 2


def test_a_column_gone_missing_pages(reference: Reference) -> None:
    rows = sound_rows(1, 1) | {"age": np.full(PER_DAY, np.nan)}
    (found,) = check(reference, rows)
    assert (found.level, found.subject, found.n) == ("page", "age", PER_DAY)
    assert (found.value, found.upper) == (1.0, 1.0)
    assert found.lower > 0.9
    assert found.sentence.startswith(
        "age has missing values in 100 % of 60 rows of 2026-03-01; the reference"
    )


def test_more_missing_values_than_usual_are_a_ticket(reference: Reference) -> None:
    rent = sound_rows(1, 1)["rent"].astype(np.float64)
    rent[:35] = np.nan
    (found,) = check(reference, sound_rows(1, 1) | {"rent": rent})
    assert (found.level, found.subject, found.evidence["fault"]) == ("ticket", "rent", "missing")


def test_levels_nobody_has_seen_page_when_they_are_most(reference: Reference) -> None:
    renamed = np.array(["tariff 1", "tariff 2"] * (PER_DAY // 2), dtype=object)
    (found,) = check(reference, sound_rows(1, 1) | {"plan": renamed})
    assert (found.level, found.subject, found.evidence["fault"]) == ("page", "plan", "unseen")


def test_numbers_outside_the_range_are_a_ticket(reference: Reference) -> None:
    (found,) = check(reference, sound_rows(1, 1) | {"age": sound_rows(1, 1)["age"].astype(float) * 365})
    assert (found.level, found.subject, found.evidence["fault"]) == ("ticket", "age", "range")


def test_a_column_that_stands_still_is_a_ticket(reference: Reference) -> None:
    (found,) = check(reference, sound_rows(1, 1) | {"age": np.full(PER_DAY, 40.0)})
    assert (found.level, found.subject, found.evidence["fault"]) == ("ticket", "age", "constant")
    assert found.sentence == "age has one value only in 100 % of 60 rows of 2026-03-01"


def test_a_column_that_may_stand_still_may(reference: Reference) -> None:
    assert check(reference, sound_rows(1, 1) | {"weekday": np.full(PER_DAY, 3.0)}) == ()


def test_a_few_rows_prove_nothing(reference: Reference) -> None:
    few = {name: values[:2] for name, values in sound_rows(1, 1).items()} | {"age": np.array([40.0, 40.0])}
    counted = reference.bin_days(few, times(1, "2026-03-01")[:2])
    assert ContractMonitor.start(reference, 0.01).check(counted, START + DAY)[1] == ()


def test_columns_with_one_fault_share_a_finding(reference: Reference) -> None:
    nothing = np.full(PER_DAY, np.nan)
    (found,) = check(reference, sound_rows(1, 1) | {"age": nothing, "rent": nothing})
    assert found.subject == "age, rent"
    assert found.sentence.endswith("; so do rent")
    json.dumps(found.evidence)


def test_a_lasting_fault_is_told_once_and_a_new_one_beside_it(reference: Reference) -> None:
    n_days = 10
    rows = sound_rows(n_days, 1)
    rows["age"] = np.full(n_days * PER_DAY, np.nan)
    rows["plan"] = np.where(np.arange(n_days * PER_DAY) < 5 * PER_DAY, rows["plan"], "other")
    found = check(reference, rows, n_days)
    assert [(each.subject, each.window_start) for each in found] == [
        ("age", START),
        ("plan", START + 5 * DAY),
    ]


def test_days_one_by_one_through_json_find_the_same_as_at_once(reference: Reference) -> None:
    rows = sound_rows(10, 1) | {"age": np.full(10 * PER_DAY, np.nan)}
    counted = reference.bin_days(rows, times(10, "2026-03-01"))
    at_once = ContractMonitor.start(reference, 0.01).check(counted, START + 10 * DAY)
    monitor, found = ContractMonitor.start(reference, 0.01), list[Finding]()
    for place in range(10):
        monitor = ContractMonitor.from_dict(json.loads(json.dumps(monitor.to_dict())))
        day = counted.between(START + place * DAY, START + (place + 1) * DAY)
        monitor, more = monitor.check(day, START + 10 * DAY)
        found += more
    assert (monitor.to_dict(), tuple(found)) == (at_once[0].to_dict(), at_once[1])


def test_rows_counted_for_other_columns_are_refused(reference: Reference) -> None:
    other = reference_of({"size": [1.0, 2.0]}, times(1, "2026-01-01")[:2])
    counted = other.bin_days({"size": [1.0]}, times(1, "2026-03-01")[:1])
    with pytest.raises(ValueError, match=r"the rows have the columns \('size',\), the reference"):
        ContractMonitor.start(reference, 0.01).check(counted, START)


def test_a_reference_without_ranges_leaves_ranges_alone() -> None:
    profile = {"columns": {"age": {"bins": {"kind": "numeric", "edges": [50.0]}, "counts": [500, 500, 0]}}}
    found = Reference.from_profile(profile)
    assert found.columns[0].bins == bins_from_dict({"kind": "numeric", "edges": [50.0]})
    rows = {"age": np.random.default_rng(0).normal(50, 1e6, PER_DAY)}
    assert check(found, rows) == ()
