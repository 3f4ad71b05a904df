from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.dummy import DummyClassifier, DummyRegressor
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.multiclass import OneVsRestClassifier
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from clew.loop.baselines import (
    MOST_LEVELS,
    MOST_ROWS,
    Design,
    baseline_losses,
    dummy_loss,
    with_unseen_classes,
)
from clew.stats.metrics import metric_named

ACCURACY, LOG_LOSS, BRIER = map(metric_named, ("accuracy", "log_loss", "brier_score"))
RMSE, MAE = map(metric_named, ("rmse", "mae"))
CITIES = np.array(["Bonn", "Kiel", "Ulm", "Trier"], dtype=object)


def columns(n: int, seed: int = 0) -> list[np.ndarray]:
    """Two numbers of very different size, and a category."""
    rng = np.random.default_rng(seed)
    return [rng.normal(5.0, 1.0, n), rng.normal(0.0, 1e4, n), CITIES[rng.integers(0, 4, n)]]


def signal(given_columns: list[np.ndarray]) -> np.ndarray:
    warmth, wind, city = given_columns
    shift: np.ndarray = warmth - 5 + wind / 1e4 + np.where(city == "Kiel", 1.5, 0.0)
    return shift


def classes(given_columns: list[np.ndarray], names: list[str], seed: int = 1) -> np.ndarray:
    noise = np.random.default_rng(seed).logistic(size=len(given_columns[0]))
    edges = np.quantile(signal(given_columns), np.arange(1, len(names)) / len(names))
    return np.array(names, dtype=object)[np.searchsorted(edges, signal(given_columns) + noise)]


def split(n: int = 1500) -> tuple[list[np.ndarray], list[np.ndarray]]:
    rows = columns(n)
    return [column[: n // 2] for column in rows], [column[n // 2 :] for column in rows]


def by_scikit_learn(before: list[np.ndarray], now: list[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """The same design by scikit-learn's own preparation."""
    numbers, words = [0, 1], [2]
    scaler = StandardScaler().fit(np.column_stack([before[i] for i in numbers]))
    coder = OneHotEncoder(sparse_output=False, handle_unknown="ignore")
    coder.fit(np.column_stack([before[i] for i in words]))

    def matrix(rows: list[np.ndarray]) -> np.ndarray:
        scaled = scaler.transform(np.column_stack([rows[i] for i in numbers]))
        return np.hstack([scaled, coder.transform(np.column_stack([rows[i] for i in words]))])

    return matrix(before), matrix(now)


# -- against scikit-learn ------------------------------------------------------------------------------


@pytest.mark.parametrize("metric", [ACCURACY, LOG_LOSS, BRIER])
def test_two_classes_cost_what_they_cost_scikit_learn(metric: Any) -> None:
    before, now = split()
    train_y, y = classes(before, ["no", "yes"]), classes(now, ["no", "yes"], seed=2)
    dummy, linear = baseline_losses(metric, before, train_y, now, y)
    X, X_now = by_scikit_learn(before, now)
    for losses, model in (
        (dummy, DummyClassifier(strategy="prior")),
        (linear, LogisticRegression(max_iter=500)),
    ):
        model.fit(X, train_y)
        theirs = metric.row_losses(
            y, model.predict(X_now), model.predict_proba(X_now), np.asarray(model.classes_)
        )
        assert losses.mean() == pytest.approx(theirs.mean(), abs=2e-3)
    assert linear.mean() < dummy.mean() - 0.05


def test_several_classes_cost_what_they_cost_one_line_each_in_scikit_learn() -> None:
    before, now = split()
    names = ["low", "middle", "high"]
    train_y, y = classes(before, names), classes(now, names, seed=2)
    _, linear = baseline_losses(LOG_LOSS, before, train_y, now, y)
    X, X_now = by_scikit_learn(before, now)
    model = OneVsRestClassifier(LogisticRegression(max_iter=500)).fit(X, train_y)
    theirs = LOG_LOSS.row_losses(y, None, model.predict_proba(X_now), model.classes_)
    assert linear.mean() == pytest.approx(theirs.mean(), abs=2e-3)


@pytest.mark.parametrize("offset", [0.0, 1e6, -1e6])
def test_numbers_cost_what_they_cost_scikit_learn_wherever_they_lie(offset: float) -> None:
    before, now = split()
    noise = np.random.default_rng(3).normal(size=(2, 750))
    train_y, y = offset + signal(before) + noise[0], offset + signal(now) + noise[1]
    dummy, linear = baseline_losses(RMSE, before, train_y, now, y)
    X, X_now = by_scikit_learn(before, now)
    for losses, model in ((dummy, DummyRegressor()), (linear, Ridge(alpha=1.0))):
        theirs = RMSE.row_losses(y, model.fit(X, train_y).predict(X_now))
        assert losses.mean() == pytest.approx(theirs.mean(), rel=1e-3)
    assert linear.mean() < dummy.mean() / 2


def test_the_best_constant_for_absolute_errors_is_the_median() -> None:
    before, now = split()
    train_y, y = np.exp(signal(before)), np.exp(signal(now))
    dummy, _ = baseline_losses(MAE, before, train_y, now, y)
    theirs = MAE.row_losses(
        y, DummyRegressor(strategy="median").fit(before[0][:, None], train_y).predict(y[:, None])
    )
    assert dummy.mean() == pytest.approx(theirs.mean())


@settings(max_examples=25)
@given(st.integers(0, 10**6), st.integers(60, 400), st.floats(0.02, 0.5), st.floats(0, 6))
def test_any_two_classes_cost_what_they_cost_scikit_learn(
    seed: int, n: int, share: float, pull: float
) -> None:
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, 3))
    chance = 1 / (1 + np.exp(-(np.log(share / (1 - share)) + pull * x[:, 0])))
    y = (rng.random(n) < chance).astype(int)
    y[:2] = (0, 1)
    _, linear = baseline_losses(LOG_LOSS, list(x.T), y, list(x.T), y)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        X = StandardScaler().fit_transform(x)
        model = LogisticRegression(max_iter=2000, tol=1e-8).fit(X, y)
    theirs = LOG_LOSS.row_losses(y, None, model.predict_proba(X), model.classes_)
    assert linear.mean() == pytest.approx(theirs.mean(), abs=5e-3)


# -- what data are like --------------------------------------------------------------------------------


def test_missing_numbers_count_as_the_mean() -> None:
    before, now = split()
    holes = [now[0].copy(), now[1], now[2]]
    holes[0][::3] = np.nan
    filled = [np.where(np.isnan(holes[0]), before[0].mean(), holes[0]), now[1], now[2]]
    train_y, y = classes(before, ["no", "yes"]), classes(now, ["no", "yes"])
    _, with_holes = baseline_losses(LOG_LOSS, before, train_y, holes, y)
    _, by_hand = baseline_losses(LOG_LOSS, before, train_y, filled, y)
    assert with_holes == pytest.approx(by_hand)


@pytest.mark.parametrize("nothing", [np.nan, np.inf, -np.inf])
def test_a_column_without_any_number_changes_nothing(nothing: float) -> None:
    before, now = split()
    train_y, y = signal(before), signal(now)
    _, without = baseline_losses(RMSE, before, train_y, now, y)
    _, beside = baseline_losses(
        RMSE, [*before, np.full(len(train_y), nothing)], train_y, [*now, np.full(len(y), nothing)], y
    )
    assert beside == pytest.approx(without)


@pytest.mark.parametrize("constant", [0.0, 0.1, -3.3e7])
def test_a_column_that_was_constant_changes_nothing_even_when_it_moves(constant: float) -> None:
    before, now = split()
    train_y, y = signal(before), signal(now)
    _, without = baseline_losses(RMSE, before, train_y, now, y)
    stuck, moved = np.full(len(train_y), constant), np.full(len(y), constant + 1)
    _, beside = baseline_losses(RMSE, [*before, stuck], train_y, [*now, moved], y)
    assert beside == pytest.approx(without)


def test_words_never_seen_before_are_none_of_the_known() -> None:
    before, now = split()
    train_y, y = signal(before), signal(now)
    elsewhere = [now[0], now[1], np.full(len(y), "Paris", dtype=object)]
    _, losses = baseline_losses(RMSE, before, train_y, elsewhere, y)
    assert np.isfinite(losses).all()


def test_only_the_most_frequent_words_have_an_indicator() -> None:
    words = np.array([f"w{i}" for i in range(500)] + ["often"] * 50 + ["seldom"] * 20, dtype=object)
    design = Design.of([words])
    assert design.levels[0] is not None
    assert len(design.levels[0]) == MOST_LEVELS
    assert design.levels[0][:2] == ("often", "seldom")
    assert design.matrix([words]).shape == (570, 1 + MOST_LEVELS)


def test_a_label_never_seen_before_gets_no_chance() -> None:
    before, now = split()
    train_y, y = classes(before, ["no", "yes"]), classes(now, ["no", "yes"])
    y[:10] = "maybe"
    dummy, linear = baseline_losses(LOG_LOSS, before, train_y, now, y)
    assert linear[:10] == pytest.approx(-np.log(np.finfo(float).eps))
    assert dummy[10:].max() < 1
    wrong, _ = baseline_losses(ACCURACY, before, train_y, now, y)
    assert wrong[:10].tolist() == [1.0] * 10


def test_labels_of_one_class_leave_nothing_to_learn() -> None:
    before, now = split()
    train_y, y = np.full(750, "no", dtype=object), np.full(750, "no", dtype=object)
    dummy, linear = baseline_losses(LOG_LOSS, before, train_y, now, y)
    assert dummy == pytest.approx(0.0)
    assert linear == pytest.approx(0.0)


@pytest.mark.parametrize("y", [np.array([0, 1, 1, 0]), np.array([False, True, True, False])])
def test_labels_may_be_numbers_or_truth_values(y: np.ndarray) -> None:
    x = [np.array([0.0, 1.0, 1.0, 0.0])]
    dummy, linear = baseline_losses(ACCURACY, x, y, x, y)
    assert (dummy.mean(), linear.mean()) == (0.5, 0.0)


def test_only_the_newest_rows_are_learned_from() -> None:
    n = MOST_ROWS + 500
    x, y = np.zeros(n), np.repeat([9.0, 1.0], [500, MOST_ROWS])
    dummy, _ = baseline_losses(RMSE, [x], y, [x[:3]], np.ones(3))
    assert dummy.tolist() == [0.0, 0.0, 0.0]


# -- the constant on the very rows ---------------------------------------------------------------------


@given(st.lists(st.sampled_from(["a", "b", "c"]), min_size=1, max_size=60))
def test_the_best_constant_class_errs_on_all_other_classes(labels: list[str]) -> None:
    most = max(labels.count(label) for label in labels)
    assert dummy_loss(ACCURACY, np.array(labels, dtype=object)) == pytest.approx(1 - most / len(labels))


@given(st.lists(st.sampled_from([0, 1, 2]), min_size=1, max_size=60))
def test_the_best_constant_chances_cost_the_entropy(labels: list[int]) -> None:
    shares = np.bincount(labels) / len(labels)
    entropy = -sum(share * np.log(share) for share in shares if share)
    assert dummy_loss(LOG_LOSS, np.array(labels)) == pytest.approx(entropy, abs=1e-12)


@given(st.lists(st.floats(-100, 100), min_size=1, max_size=60), st.floats(-100, 100))
def test_no_constant_number_costs_less_than_the_best(numbers: list[float], other: float) -> None:
    y = np.array(numbers)
    for metric in (RMSE, MAE):
        theirs = metric.row_losses(y, predicted=np.full(len(y), other)).mean()
        assert dummy_loss(metric, y) <= theirs + 1e-9


def test_unseen_classes_get_columns_of_zeros_behind_the_known() -> None:
    shares = np.array([[0.25, 0.75], [0.5, 0.5]])
    widened, names = with_unseen_classes(shares, ["no", "yes"], np.array(["zz", "maybe"], dtype=object))
    assert names == ["no", "yes", "maybe", "zz"]
    assert widened.tolist() == [[0.25, 0.75, 0.0, 0.0], [0.5, 0.5, 0.0, 0.0]]
    same, known = with_unseen_classes(shares, ["no", "yes"], np.array(["no", "yes"], dtype=object))
    assert (same is shares, known) == (True, ["no", "yes"])
