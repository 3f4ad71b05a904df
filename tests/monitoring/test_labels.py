from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest

from clew.entities import Finding
from clew.monitoring import label_finding, reference_of
from clew.monitoring.reference import ColumnReference
from clew.stats.arrays import AnyArray

START = datetime(2026, 3, 1, tzinfo=UTC)
ALPHA = 1e-4
PER_DAY = 50


def dated(n_days: int) -> np.ndarray[tuple[int], np.dtype[np.datetime64]]:
    return np.datetime64("2026-01-01", "us") + np.repeat(np.arange(n_days), PER_DAY) * np.timedelta64(1, "D")


def of_labels(labels: AnyArray) -> ColumnReference:
    return reference_of({"paid": labels}, dated(len(labels) // PER_DAY)).columns[0]


def some_labels(rng: np.random.Generator, n: int) -> AnyArray:
    return rng.choice(["yes", "no"], n, p=[0.9, 0.1]).astype(object)


@pytest.fixture(scope="module")
def reference() -> ColumnReference:
    return of_labels(
        np.random.default_rng(0).choice(["yes", "no"], 60 * PER_DAY, p=[0.9, 0.1]).astype(object)
    )


def look(reference: ColumnReference, labels: Sequence[str | None], n_days: int = 7) -> Finding | None:
    end = START + timedelta(days=n_days)
    return label_finding(
        reference, reference.bins.counts(np.array(labels, dtype=object)), START, end, end, ALPHA
    )


def test_sound_labels_are_believed(reference: ColumnReference) -> None:
    rng = np.random.default_rng(1)
    n_found = sum(look(reference, some_labels(rng, 350).tolist()) is not None for _ in range(2000))
    assert n_found <= 2


def test_labels_that_are_suddenly_all_one_class_page(reference: ColumnReference) -> None:
    found = look(reference, ["yes"] * 350)
    assert found is not None
    assert (found.level, found.n, found.evidence["fault"]) == ("page", 350, "one class")
    assert found.sentence == "all 350 labels of 2026-03-01 to 2026-03-07 are yes; in the reference 90 % are"


def test_a_few_labels_of_the_frequent_class_prove_nothing(reference: ColumnReference) -> None:
    assert look(reference, ["yes"] * 20) is None


def test_swapped_classes_page(reference: ColumnReference) -> None:
    found = look(reference, ["no"] * 315 + ["yes"] * 35)
    assert found is not None
    assert (found.level, found.evidence["fault"]) == ("page", "label shift")
    assert found.lower <= found.value <= found.upper
    assert found.lower < 0.8 < found.upper
    json.dumps(found.evidence)


def test_a_large_shift_that_may_be_the_world_is_a_ticket(reference: ColumnReference) -> None:
    found = look(reference, ["no"] * 160 + ["yes"] * 190)
    assert found is not None
    assert (found.level, found.evidence["fault"]) == ("ticket", "label shift")


def test_a_small_shift_is_left_to_the_risk_monitor(reference: ColumnReference) -> None:
    assert look(reference, ["no"] * 90 + ["yes"] * 260) is None


def test_classes_nobody_knows_page(reference: ColumnReference) -> None:
    found = look(reference, ["1", "0"] * 175)
    assert found is not None
    assert (found.level, found.evidence["fault"]) == ("page", "unknown class")


def test_labels_that_stay_away_are_a_ticket(reference: ColumnReference) -> None:
    found = look(reference, [None] * 350)
    assert found is not None
    assert (found.level, found.evidence["fault"]) == ("ticket", "missing labels")
    assert found.sentence.startswith("350 of 350 matured rows of 2026-03-01 to 2026-03-07 have no label")


def test_a_day_of_one_class_is_fine_where_days_are_like_that() -> None:
    """Nights are never busy: such days are in the reference, so they prove nothing about the feed."""
    labels = np.repeat(np.where(np.arange(60) % 2, "busy", "idle"), PER_DAY).astype(object)
    reference = of_labels(labels)
    assert look(reference, ["busy"] * PER_DAY, n_days=1) is None
    week = look(reference, ["busy"] * (7 * PER_DAY), n_days=7)
    assert week is not None
    assert week.level == "page"


def test_numbers_have_labels_too() -> None:
    rng = np.random.default_rng(2)
    reference = of_labels(rng.normal(100, 10, 60 * PER_DAY))
    end = START + timedelta(days=7)
    in_other_unit = reference.bins.counts(rng.normal(1, 0.1, 350))
    found = label_finding(reference, in_other_unit, START, end, end, ALPHA)
    assert found is not None
    assert found.level == "page"
    in_same_unit = reference.bins.counts(rng.normal(100, 10, 350))
    assert label_finding(reference, in_same_unit, START, end, end, ALPHA) is None


def test_no_rows_say_nothing(reference: ColumnReference) -> None:
    assert look(reference, []) is None


def test_counts_of_other_bins_are_refused(reference: ColumnReference) -> None:
    with pytest.raises(ValueError, match=r"counts have shape \(2,\), the reference has 4 bins"):
        label_finding(reference, [1, 2], START, START, START, ALPHA)
