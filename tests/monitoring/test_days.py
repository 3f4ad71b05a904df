from __future__ import annotations

import json
from datetime import UTC, datetime

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from clew.monitoring import Reference, reference_of
from clew.monitoring.days import bin_days
from clew.monitoring.distances import FlatCounts, merged_neighbours, window_distances
from clew.stats import noise_corrected_total_variation
from clew.stats.bins import Bins, CategoryBins, NumericBins
from clew.stats.distances import noise_in_total_variation, total_variation

DAY = np.timedelta64(1, "D")
MARCH = np.datetime64("2026-03-01", "us")
BINS: dict[str, Bins] = {"age": NumericBins((30.0, 50.0)), "plan": CategoryBins(("basic", "pro"))}


def a_table(n: int, seed: int = 0) -> pa.Table:
    rng = np.random.default_rng(seed)
    age = rng.normal(40, 15, n)
    plan = rng.choice(["basic", "pro", "trial"], n)
    return pa.table(
        {
            "age": pa.array(age, mask=rng.random(n) < 0.1),
            "plan": pa.array(plan, mask=rng.random(n) < 0.1),
        }
    )


def test_counting_agrees_with_counting_each_day_by_itself() -> None:
    table, times = a_table(500), MARCH + np.arange(500) // 60 * DAY
    found = bin_days(BINS, table, times)
    for place, day in enumerate(found.days):
        rows = table.filter(pa.array(times.astype("datetime64[D]") == day))
        assert (
            found.column("age")[place].tolist()
            == BINS["age"].counts(np.array(rows["age"].to_pylist(), dtype=object)).tolist()
        )
        assert (
            found.column("plan")[place].tolist()
            == BINS["plan"].counts(np.array(rows["plan"].to_pylist(), dtype=object)).tolist()
        )
        numbers = rows["age"].drop_null().to_numpy()
        assert (found.lowest[place, 0], found.highest[place, 0]) == (numbers.min(), numbers.max())


@pytest.mark.parametrize("kind", ["dictionary", "chunks", "arrays", "lists"])
def test_the_form_of_the_rows_does_not_matter(kind: str) -> None:
    table, times = a_table(300), MARCH + np.arange(300) // 40 * DAY
    forms = {
        "dictionary": table.set_column(1, "plan", table["plan"].dictionary_encode()),
        "chunks": pa.concat_tables([table.slice(0, 7), table.slice(7, 100), table.slice(107)]),
        "arrays": {"age": table["age"].to_numpy(), "plan": np.array(table["plan"].to_pylist(), dtype=object)},
        "lists": {name: table[name].to_pylist() for name in table.column_names},
    }
    plain, other = bin_days(BINS, table, times), bin_days(BINS, forms[kind], times)
    assert (plain.counts == other.counts).all()
    assert (plain.is_constant == other.is_constant).all()


def test_the_order_of_the_rows_does_not_matter() -> None:
    table, times = a_table(300), MARCH + np.arange(300) // 40 * DAY
    shuffled = np.random.default_rng(1).permutation(300)
    plain, other = bin_days(BINS, table, times), bin_days(BINS, table.take(shuffled), times[shuffled])
    assert (plain.counts == other.counts).all()
    assert np.array_equal(plain.lowest, other.lowest, equal_nan=True)


def test_a_constant_day_and_numbers_outside_the_limits_are_seen() -> None:
    times = MARCH + np.array([0, 0, 1, 1]) * DAY
    rows = {"age": [40.0, 40.0, -5.0, 120.0], "plan": ["new", "old", "pro", None]}
    found = bin_days(BINS, rows, times, limits={"age": (0.0, 110.0)})
    assert found.n_outside.tolist() == [[0, 0], [2, 0]]
    # Two levels that share the bin of other levels are not one value.
    assert found.is_constant.tolist() == [[True, False], [False, True]]


def test_days_can_be_cut_and_filled() -> None:
    times = MARCH + np.array([0, 1, 4]) * DAY
    found = bin_days({"age": BINS["age"]}, {"age": [20.0, 40.0, 60.0]}, times)
    cut = found.between(datetime(2026, 3, 2, tzinfo=UTC), datetime(2026, 3, 5, tzinfo=UTC))
    assert (len(cut), cut.starts(0)) == (1, datetime(2026, 3, 2, tzinfo=UTC))
    assert found.on_every_day().counts.sum(axis=1).tolist() == [1, 1, 0, 0, 1]


def test_no_rows_are_no_days() -> None:
    found = bin_days(BINS, a_table(0), np.array([], dtype="datetime64[us]"))
    assert len(found) == 0
    assert found.counts.shape == (0, 8)


def test_a_missing_column_is_named() -> None:
    with pytest.raises(ValueError, match=r"no columns \['plan'\]; they have age"):
        bin_days(BINS, {"age": [1.0]}, np.array([MARCH]))


def test_rows_and_times_must_belong_together() -> None:
    with pytest.raises(ValueError, match="column 'age' has 2 rows, but there are 1 times"):
        bin_days({"age": BINS["age"]}, {"age": [1.0, 2.0]}, np.array([MARCH]))


COUNTS = st.lists(st.integers(0, 300), min_size=3, max_size=3)
PAIRS = st.tuples(COUNTS, COUNTS)


@given(
    reference=st.tuples(COUNTS, COUNTS), windows=st.lists(st.tuples(COUNTS, COUNTS), min_size=1, max_size=4)
)
def test_distances_of_many_columns_are_those_of_each_column(
    reference: tuple[list[int], list[int]], windows: list[tuple[list[int], list[int]]]
) -> None:
    found = window_distances(FlatCounts.of(reference), np.array(windows).reshape(len(windows), 6))
    for i, window in enumerate(windows):
        for j in (0, 1):
            pair = reference[j], window[j]
            is_known = bool(sum(pair[0]) and sum(pair[1]))
            expected = total_variation(*pair) if is_known else 0.0
            assert found.total_variation[i, j] == pytest.approx(expected)
            assert found.noise[i, j] == pytest.approx(noise_in_total_variation(*pair))
            assert found.corrected[i, j] == pytest.approx(noise_corrected_total_variation(*pair), abs=1e-12)


@given(
    rows=st.lists(st.tuples(st.integers(0, 60), st.integers(0, 60)), min_size=1, max_size=20),
    least=st.integers(1, 40),
)
def test_merged_bins_lose_no_row_and_hold_enough(rows: list[tuple[int, int]], least: int) -> None:
    reference, window = np.array(rows).T
    before, now = merged_neighbours(reference, window, least)
    assert (before.sum(), now.sum()) == (reference.sum(), window.sum())
    if len(before) > 1:
        expected = (before + now) * window.sum() / (reference.sum() + window.sum())
        assert expected.min() >= least - 1e-6


def test_a_reference_keeps_what_is_usual_for_its_days() -> None:
    """A weekday column stands still within a day and is balanced over a week."""
    times = MARCH + np.repeat(np.arange(70), 24) * DAY
    rng = np.random.default_rng(2)
    weekday, noise = np.repeat(np.arange(70) % 7, 24).astype(float), rng.normal(size=70 * 24)
    found = reference_of({"weekday": weekday, "noise": noise}, times)
    assert found.columns[0].has_constant_days
    assert not found.columns[1].has_constant_days
    assert found.columns[0].usual_distance[0] > 0.8
    assert found.columns[0].usual_distance[1] < 0.05
    assert found.columns[1].usual_distance[0] < 0.5


def test_a_reference_goes_through_json() -> None:
    found = reference_of(a_table(900), MARCH + np.arange(900) // 30 * DAY, importance={"age": 0.7})
    read = Reference.from_dict(json.loads(json.dumps(found.to_dict())))
    assert read == found
    assert [column.importance for column in read.columns] == [0.7, 0.0]


def test_counts_by_column_are_laid_out_for_the_monitor() -> None:
    found = reference_of({"a": [1.0, 2.0], "b": ["x", "y"]}, np.array([MARCH, MARCH]))
    assert found.counts_of({"b": [1, 2, 3, 4]}).tolist() == [0, 0, 0, 1, 2, 3, 4]
    with pytest.raises(ValueError, match=r"has no columns \['c'\]; it has a, b"):
        found.counts_of({"c": [1]})
    with pytest.raises(ValueError, match=r"column 'b' has counts of shape \(2,\), not \(4,\)"):
        found.counts_of({"b": [1, 2]})


def test_times_count_alike_whatever_their_unit() -> None:
    moments = MARCH + np.arange(40) * np.timedelta64(6, "h")
    in_us = pa.table({"at": pa.array(moments)})
    in_s = pa.table({"at": in_us["at"].cast(pa.timestamp("s"))})
    reference = reference_of(in_us, moments)
    assert (reference.bin_days(in_s, moments).counts == reference.bin_days(in_us, moments).counts).all()
