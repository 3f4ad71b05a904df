from __future__ import annotations

import pickle
from typing import get_args

import numpy as np
import pytest
import sklearn.metrics
from hypothesis import given
from hypothesis import strategies as st

from clew.entities import MetricName
from clew.stats.metrics import METRICS, PROBABILITY_FLOOR, metric_named

RNG = np.random.default_rng(11)
CLASSES = np.array(["bird", "cat", "dog"])
Y = RNG.choice(CLASSES, size=400)
PROBABILITIES = RNG.dirichlet([0.3, 0.5, 0.7], size=400)
PREDICTED = CLASSES[PROBABILITIES.argmax(axis=1)]
NUMBERS = RNG.normal(50, 10, size=400)
GUESSES = NUMBERS + RNG.standard_t(3, size=400)


def test_every_metric_that_can_be_declared_can_be_measured() -> None:
    assert set(get_args(MetricName)) <= set(METRICS)


def test_accuracy_agrees_with_scikit_learn() -> None:
    losses = metric_named("accuracy").row_losses(Y, PREDICTED)
    assert metric_named("accuracy").value(losses) == pytest.approx(
        sklearn.metrics.accuracy_score(Y, PREDICTED)
    )


def test_log_loss_agrees_with_scikit_learn_even_at_probability_zero() -> None:
    shares = np.vstack([PROBABILITIES, [[0.0, 0.0, 1.0]]])
    truth = np.append(Y, "bird")
    losses = metric_named("log_loss").row_losses(truth, probabilities=shares, classes=CLASSES)
    assert metric_named("log_loss").value(losses) == pytest.approx(sklearn.metrics.log_loss(truth, shares))
    assert losses[-1] == -np.log(PROBABILITY_FLOOR)


def test_brier_score_agrees_with_scikit_learn_for_two_and_for_three_classes() -> None:
    brier = metric_named("brier_score")
    three = brier.value(brier.row_losses(Y, probabilities=PROBABILITIES, classes=CLASSES))
    assert three == pytest.approx(sklearn.metrics.brier_score_loss(Y, PROBABILITIES, scale_by_half=True))
    p = RNG.random(300)
    is_true = RNG.random(300) < p
    two = brier.row_losses(is_true, probabilities=np.column_stack([1 - p, p]), classes=[False, True])
    assert brier.value(two) == pytest.approx(sklearn.metrics.brier_score_loss(is_true, p))


@pytest.mark.parametrize(
    ("name", "reference"),
    [
        ("rmse", sklearn.metrics.root_mean_squared_error),
        ("mae", sklearn.metrics.mean_absolute_error),
    ],
)
def test_errors_of_a_regression_agree_with_scikit_learn(name: str, reference: object) -> None:
    assert callable(reference)
    metric = metric_named(name)
    assert metric.value(metric.row_losses(NUMBERS, GUESSES)) == pytest.approx(reference(NUMBERS, GUESSES))


@given(name=st.sampled_from(sorted(METRICS)), loss=st.floats(0, 1))
def test_value_and_loss_are_each_others_inverse(name: str, loss: float) -> None:
    metric = METRICS[name]
    assert metric.loss_of_value(metric.value_of_loss(loss)) == pytest.approx(loss)


@given(
    name=st.sampled_from(sorted(METRICS)),
    level=st.floats(0.2, 0.9),
    margin=st.floats(0, 0.1),
    more=st.floats(0, 0.1),
)
def test_a_greater_margin_allows_at_least_as_much_loss(
    name: str, level: float, margin: float, more: float
) -> None:
    metric = METRICS[name]
    assert -1e-12 <= metric.loss_margin(level, margin) <= metric.loss_margin(level, margin + more) + 1e-12


def test_margin_of_rmse_in_units_of_loss_depends_on_the_level() -> None:
    rmse = metric_named("rmse")
    assert rmse.loss_margin(3.0, 0.5) == pytest.approx(3.5**2 - 3.0**2)
    assert metric_named("accuracy").loss_margin(0.9, 0.01) == pytest.approx(0.01)


def test_bound_of_a_regression_ignores_one_absurd_row() -> None:
    mae, rmse = metric_named("mae"), metric_named("rmse")
    errors = np.abs(RNG.normal(size=2000))
    with_one_absurd = np.append(errors, 1e9)
    assert mae.loss_bound(with_one_absurd) == pytest.approx(mae.loss_bound(errors), rel=0.05)
    assert rmse.loss_bound(errors**2) == pytest.approx(mae.loss_bound(errors) ** 2)
    assert mae.loss_bound(errors) == pytest.approx(2 * 2.576, rel=0.1)


def test_bounds_of_a_classification_are_the_same_for_every_reference() -> None:
    assert metric_named("accuracy").loss_bound([]) == metric_named("brier_score").loss_bound([0.3]) == 1
    assert metric_named("log_loss").loss_bound([0.1, 30.0]) == pytest.approx(-np.log(0.01))


def test_a_reference_without_errors_still_gives_a_bound_to_divide_by() -> None:
    assert metric_named("mae").loss_bound(np.zeros(50)) == 1
    with pytest.raises(ValueError, match="reference_losses has no rows"):
        metric_named("rmse").loss_bound([])


@pytest.mark.parametrize("unknown", [None, float("nan")])
def test_an_unknown_label_is_refused_by_row_and_never_taken_for_a_class(unknown: object) -> None:
    labels = np.array(["a", unknown, "b"], dtype=object)
    with pytest.raises(ValueError, match="y: row 1 is"):
        metric_named("accuracy").row_losses(labels, ["a", "a", "b"])


def test_a_label_outside_the_classes_is_named() -> None:
    with pytest.raises(ValueError, match=r"y: row 0 is fish, which is none of the classes 'cat', 'dog'"):
        metric_named("log_loss").row_losses(["fish"], probabilities=[[0.5, 0.5]], classes=["cat", "dog"])


@pytest.mark.parametrize("row", [[0.9, 0.3], [-0.1, 1.1], [float("nan"), 0.5]])
def test_what_is_no_distribution_is_refused_by_row(row: list[float]) -> None:
    with pytest.raises(ValueError, match="probabilities: row 1 is"):
        metric_named("log_loss").row_losses([0, 1], probabilities=[[0.5, 0.5], row], classes=[0, 1])


def test_text_against_numbers_is_a_mistake_and_not_an_accuracy_of_zero() -> None:
    with pytest.raises(ValueError, match="both as text or as numbers"):
        metric_named("accuracy").row_losses(["1", "0"], [1, 0])


def test_whole_numbers_of_any_type_are_the_same_class() -> None:
    losses = metric_named("brier_score").row_losses(
        np.array([1.0, 0.0]), probabilities=[[0.2, 0.8], [0.9, 0.1]], classes=np.array([0, 1])
    )
    assert losses == pytest.approx([0.04, 0.01])


def test_metrics_say_what_they_need_and_what_they_lack() -> None:
    with pytest.raises(ValueError, match="log_loss is measured on probabilities, which were not given"):
        metric_named("log_loss").row_losses([0], predicted=[0])
    with pytest.raises(ValueError, match="y has 2, predicted has 1"):
        metric_named("mae").row_losses([1.0, 2.0], [1.0])
    with pytest.raises(ValueError, match="mae of no rows is not defined"):
        metric_named("mae").value([])


@pytest.mark.parametrize(
    ("typed", "meant"), [("acuracy", "accuracy"), ("logloss", "log_loss"), ("RMSE", "rmse")]
)
def test_a_misspelt_metric_is_answered_with_the_right_one(typed: str, meant: str) -> None:
    with pytest.raises(ValueError, match="there is no metric") as raised:
        metric_named(typed)
    assert meant in str(raised.value)


def test_metrics_pickle() -> None:
    assert pickle.loads(pickle.dumps(METRICS)) == METRICS
