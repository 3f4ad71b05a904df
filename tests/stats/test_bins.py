from __future__ import annotations

import json
import time
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from clew.stats.bins import CategoryBins, NumericBins, bins_from_dict, category_bins, numeric_bins

numbers = hnp.arrays(np.float64, st.integers(0, 60), elements=st.floats(width=32))
levels = st.lists(st.sampled_from(["a", "b", "c", "d", "", None, float("nan"), 1, 2.5]), max_size=60)


def as_objects(values: list[object]) -> np.ndarray[tuple[int, ...], np.dtype[np.object_]]:
    column = np.empty(len(values), dtype=object)
    column[:] = values
    return column


@given(reference=numbers, first=numbers, second=numbers)
def test_numeric_counts_of_two_windows_add_up_to_those_of_both(
    reference: np.ndarray, first: np.ndarray, second: np.ndarray
) -> None:
    bins = numeric_bins(reference)
    together = bins.counts(np.concatenate([first, second]))
    assert (bins.counts(first) + bins.counts(second) == together).all()
    assert together.sum() == len(first) + len(second)
    assert len(together) == len(bins.labels) == bins.n_bins + 1


@given(reference=levels, first=levels, second=levels)
def test_category_counts_of_two_windows_add_up_to_those_of_both(
    reference: list[object], first: list[object], second: list[object]
) -> None:
    bins = category_bins(as_objects(reference), n_top=3)
    together = bins.counts(as_objects([*first, *second]))
    assert (bins.counts(as_objects(first)) + bins.counts(as_objects(second)) == together).all()
    assert together.sum() == len(first) + len(second)
    assert len(together) == len(bins.labels) == bins.n_bins + 1


@given(values=numbers, seed=st.integers(0, 100))
def test_the_order_of_rows_changes_neither_bins_nor_counts(values: np.ndarray, seed: int) -> None:
    shuffled = np.random.default_rng(seed).permutation(values)
    assert numeric_bins(values) == numeric_bins(shuffled)
    assert (numeric_bins(values).counts(values) == numeric_bins(values).counts(shuffled)).all()


@given(values=levels, seed=st.integers(0, 100))
def test_the_order_of_rows_changes_no_levels(values: list[object], seed: int) -> None:
    shuffled = np.random.default_rng(seed).permutation(as_objects(values))
    assert category_bins(as_objects(values)) == category_bins(shuffled)


@given(reference=numbers, values=numbers)
def test_counts_are_those_of_the_assigned_bins(reference: np.ndarray, values: np.ndarray) -> None:
    bins = numeric_bins(reference)
    counted = np.bincount(bins.assign(values), minlength=bins.n_bins + 1)
    assert (counted == bins.counts(values)).all()


@given(reference=levels, values=levels)
def test_category_counts_are_those_of_the_assigned_bins(
    reference: list[object], values: list[object]
) -> None:
    bins = category_bins(as_objects(reference), n_top=3)
    counted = np.bincount(bins.assign(as_objects(values)), minlength=bins.n_bins + 1)
    assert (counted == bins.counts(as_objects(values))).all()


@given(reference=numbers, values=numbers)
def test_numeric_bins_agree_with_pandas_cut(reference: np.ndarray, values: np.ndarray) -> None:
    bins = numeric_bins(reference)
    finite = values[np.isfinite(values)]
    cut = pd.cut(pd.Series(finite), [-np.inf, *bins.edges, np.inf], right=False, labels=False)
    assert (cut.to_numpy() == bins.assign(finite)).all()


@given(reference=numbers)
def test_numeric_bins_survive_json(reference: np.ndarray) -> None:
    bins = numeric_bins(reference)
    assert bins_from_dict(json.loads(json.dumps(bins.to_dict()))) == bins


@given(reference=levels)
def test_category_bins_survive_json(reference: list[object]) -> None:
    bins = category_bins(as_objects(reference))
    assert bins_from_dict(json.loads(json.dumps(bins.to_dict()))) == bins


def test_a_continuous_reference_fills_sixteen_bins_evenly() -> None:
    values = np.random.default_rng(0).lognormal(size=16_000)
    counts = numeric_bins(values).counts(values)
    assert len(counts) == 17
    assert counts[-1] == 0
    assert counts[:-1].min() >= 999
    assert counts[:-1].max() <= 1001


def test_a_column_of_two_levels_gets_a_bin_for_each_and_one_for_what_is_new_below() -> None:
    bins = numeric_bins(np.repeat([0.0, 1.0], [70, 30]))
    assert bins.edges == (0.0, 1.0)
    assert bins.counts([-5, 0, 0, 1, 7]).tolist() == [1, 2, 2, 0]


def test_infinities_fall_into_the_end_bins_and_missing_values_into_their_own() -> None:
    bins = numeric_bins(np.arange(160.0))
    assert bins.assign([-np.inf, np.inf, np.nan]).tolist() == [0, 15, 16]
    assert bins.assign(as_objects([None, float("nan"), pd.NA, 3])).tolist() == [16, 16, 16, 0]


def test_infinities_and_missing_values_of_the_reference_place_no_edge() -> None:
    clean = np.arange(100.0)
    dirty = np.concatenate([clean, [np.nan, np.inf, -np.inf]])
    assert numeric_bins(clean) == numeric_bins(dirty)


@pytest.mark.parametrize("nothing", [[], [float("nan")] * 5, [np.inf]])
def test_a_reference_without_numbers_still_tells_missing_from_present(nothing: list[float]) -> None:
    bins = numeric_bins(nothing)
    assert bins.counts([1.0, np.nan, 2.0]).tolist() == [2, 1]


def test_only_the_most_frequent_levels_get_a_bin() -> None:
    column = np.repeat([f"level {i:02d}" for i in range(30)], np.arange(30, 0, -1))
    bins = category_bins(column)
    assert bins.levels == tuple(f"level {i:02d}" for i in range(20))
    assert bins.counts(column)[20] == sum(range(1, 11))


def test_a_level_is_the_same_in_arrays_of_text_and_of_objects() -> None:
    bins = category_bins(np.array(["x", "y", "x"]))
    assert bins == category_bins(as_objects(["x", "y", "x"]))
    assert bins.counts(np.array(["x", "new"])).tolist() == [1, 0, 1, 0]


def test_a_missing_level_in_a_list_is_missing_and_not_the_text_nan() -> None:
    column: list[Any] = ["a", float("nan")]
    assert category_bins(["a", "b"]).counts(column).tolist() == [1, 0, 0, 1]
    assert category_bins(["a"]).counts(as_objects(["a", None, pd.NA, pd.NaT])).tolist() == [1, 0, 3]


def test_totals_of_a_database_count_like_its_rows() -> None:
    bins = category_bins(["a", "a", "b"])
    assert bins.counts_of_totals({"a": 7, None: 2, "new": 1}).tolist() == [7, 0, 1, 2]


def test_a_text_among_numbers_is_named_by_row() -> None:
    with pytest.raises(ValueError, match="values: row 2 is 'n/a', which is no number"):
        numeric_bins(as_objects([1, None, "n/a"]))


def test_stored_bins_of_an_unknown_kind_are_refused() -> None:
    with pytest.raises(ValueError, match="stored bins are of kind 'images'"):
        bins_from_dict({"kind": "images"})


def test_edges_and_levels_that_contradict_themselves_are_refused() -> None:
    with pytest.raises(ValueError, match="strictly increasing"):
        NumericBins((1.0, 1.0))
    with pytest.raises(ValueError, match="each may stand there once"):
        CategoryBins(("a", "a"))
    with pytest.raises(ValueError, match="n_bins is 0"):
        numeric_bins([1.0], n_bins=0)
    with pytest.raises(ValueError, match="n_top is 0"):
        category_bins(["a"], n_top=0)


def test_a_table_of_two_hundred_thousand_rows_and_thirty_columns_is_counted_within_a_second() -> None:
    table = np.random.default_rng(0).normal(size=(30, 200_000))
    bins = [numeric_bins(column) for column in table]
    started = time.process_time()
    for column, of_column in zip(table, bins, strict=True):
        of_column.counts(column)
    assert time.process_time() - started < 1.0
