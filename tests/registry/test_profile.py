"""The reference profile counts each row once, in bins that later windows share."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta

import numpy as np
import polars as pl
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from lightgbm import LGBMClassifier

from clew.errors import DataError
from clew.registry import LoadedModel, Predictions, profile_counts, reference_profile, wrap_model
from tests.registry.rides import busy, rides, signature_of


def guesses(n_rows: int, seed: int = 0) -> Predictions:
    share = np.random.default_rng(seed).random(n_rows)
    return Predictions(
        np.array(["no", "yes"])[(share > 0.5).astype(int)], np.column_stack((1 - share, share)), ("no", "yes")
    )


@pytest.fixture(scope="module")
def boosted() -> LoadedModel:
    table = rides()
    model = LGBMClassifier(n_estimators=5, n_jobs=1, verbose=-1)
    return wrap_model(model.fit(signature_of(table).to_frame(table), busy(table)), signature_of(table))


def test_numbers_get_sixteen_even_bins_and_words_their_values() -> None:
    table = rides(1600, has_gaps=True)
    profile = reference_profile(table, guesses(1600))
    warmth = profile["columns"]["warmth"]
    assert len(warmth["counts"]) == 17
    n_missing = table["warmth"].null_count
    assert warmth["counts"][-1] == n_missing
    assert max(warmth["counts"][:-1]) - min(warmth["counts"][:-1]) <= 2
    city = profile["columns"]["city"]
    assert sorted(city["bins"]["levels"]) == ["Bonn", "Kiel", "Ulm"]
    assert city["counts"][-1] == table["city"].null_count


def test_of_many_words_the_twenty_most_frequent_are_counted_by_name() -> None:
    words = [f"w{n:02}" for n in range(30) for _ in range(n + 1)]
    entry = reference_profile(pa.table({"x": words}), guesses(len(words)))["columns"]["x"]
    assert entry["bins"]["levels"] == [f"w{n:02}" for n in range(29, 9, -1)]
    assert entry["counts"][20:] == [sum(range(1, 11)), 0]


def test_scores_answers_and_labels_are_counted() -> None:
    answers = guesses(320)
    profile = reference_profile(rides(320), answers, labels=np.array(["yes", "no", None, "yes"] * 80, object))
    assert [score["of"] for score in profile["scores"]] == ["no", "yes"]
    assert all(sum(score["counts"]) == 320 for score in profile["scores"])
    assert profile["predicted"]["counts"] == [
        int((answers.predicted == "no").sum()),
        int((answers.predicted == "yes").sum()),
        0,
        0,
    ]
    assert profile["labels"]["counts"] == [80, 160, 0, 80]


def test_a_regression_counts_the_predicted_number() -> None:
    profile = reference_profile(rides(160), Predictions(np.arange(160.0)), labels=np.arange(160.0))
    (score,) = profile["scores"]
    assert (score["of"], score["counts"]) == (None, [10] * 16 + [0])
    assert profile["predicted"] is None
    assert sum(profile["labels"]["counts"]) == 160


def test_a_classifier_without_probabilities_has_no_scores() -> None:
    profile = reference_profile(rides(4), Predictions(np.array([1, 2, 2, 1]), None, (1, 2)))
    assert profile["scores"] == []
    assert profile["predicted"]["counts"] == [2, 2, 0, 0]


def test_the_model_says_what_matters_and_which_numbers_are_categories(boosted: LoadedModel) -> None:
    table = rides()
    profile = reference_profile(table, boosted.predict(table), model=boosted)
    assert profile["importance"] == boosted.importance
    by_value = reference_profile(table, boosted.predict(table), categorical=["hour"])
    assert by_value["columns"]["hour"]["bins"]["kind"] == "category"
    assert by_value["importance"] is None


def test_a_profile_survives_json_and_holds_no_rows() -> None:
    profile = reference_profile(rides(), guesses(300), labels=guesses(300).predicted)
    assert json.loads(json.dumps(profile)) == profile
    assert len(json.dumps(profile)) < 6000


@given(cut=st.integers(0, 200))
def test_counts_of_two_windows_add_up_to_those_of_both(cut: int) -> None:
    table, answers = rides(200, seed=4, has_gaps=True), guesses(200)
    profile = reference_profile(rides(), guesses(300), labels=guesses(300).predicted)

    def counted(start: int, end: int) -> np.ndarray:
        assert answers.probabilities is not None
        part = Predictions(answers.predicted[start:end], answers.probabilities[start:end], answers.classes)
        found = profile_counts(profile, table.slice(start, end - start), part, labels=part.predicted)
        assert found["n_rows"] == end - start
        counts = [*found["columns"].values(), *found["scores"], found["predicted"], found["labels"]]
        return np.concatenate(counts)

    np.testing.assert_array_equal(counted(0, cut) + counted(cut, 200), counted(0, 200))


def test_the_reference_rows_give_the_reference_counts_from_any_frame() -> None:
    table, answers = rides(has_gaps=True), guesses(300)
    profile = reference_profile(table, answers)
    for frame in (table, table.to_pandas(), pl.from_arrow(table)):
        found = profile_counts(profile, frame, answers)
        assert found["columns"] == {name: entry["counts"] for name, entry in profile["columns"].items()}
        assert found["scores"] == [score["counts"] for score in profile["scores"]]
        assert found["predicted"] == profile["predicted"]["counts"]
        assert found["labels"] is None


def test_times_are_counted_whatever_their_unit() -> None:
    start = datetime(2026, 1, 1, tzinfo=UTC)
    times = pa.array([start + timedelta(hours=n) for n in range(160)], pa.timestamp("us", "UTC"))
    profile = reference_profile(pa.table({"at": times}), Predictions(np.arange(160.0)))
    assert profile["columns"]["at"]["counts"] == [10] * 16 + [0]
    coarse = pa.table({"at": times.cast(pa.timestamp("ms", "UTC"))})
    assert profile_counts(profile, coarse, Predictions(np.arange(160.0)))["columns"]["at"] == [10] * 16 + [0]


def test_a_window_that_lacks_a_column_or_has_words_for_numbers_is_refused() -> None:
    profile = reference_profile(rides(), guesses(300))
    with pytest.raises(DataError, match="no column 'hour'"):
        profile_counts(profile, rides(5).drop_columns(["hour"]), guesses(5))
    words = rides(5).set_column(1, "hour", pa.array(list("abcde")))
    with pytest.raises(DataError, match="'hour' has text, but its reference profile counts numbers"):
        profile_counts(profile, words, guesses(5))
