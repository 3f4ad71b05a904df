from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from clew.entities import RowRange, Run
from clew.errors import ClewError, TrainingFailed
from clew.loop.fitter import SERVING_ROWS, Fitter, row_losses
from clew.loop.held_out import Rehearsed
from clew.loop.standing import FittedModel
from clew.registry import Predictions
from clew.stats.metrics import metric_named
from clew.tracking import get_run, list_runs, read_artifact, read_metrics
from tests.loop.bikes import Bench


@pytest.fixture(scope="module")
def fitter(shared: Bench) -> Fitter:
    return shared.fitter("shared")


@pytest.fixture(scope="module")
def model(fitter: Fitter) -> FittedModel:
    """A model of the first 300 labelled rows, that may answer from row 340 on."""
    return fitter.fit("level", ((0, 300),), 340)


# -- runs ----------------------------------------------------------------------------------------------


def test_a_fit_is_a_run_with_all_its_causes(shared: Bench, model: FittedModel) -> None:
    run, thread = get_run(shared.store, model.run), shared.thread
    assert (run.status, run.purpose, run.model, run.key) == ("finished", "level", "busy_hour", "shared/fit 1")
    assert (run.snapshot, run.code, run.environment) == (thread.snapshot.id, thread.code, thread.environment)
    assert (run.params, run.seed, run.metrics) == (thread.params, 3, {"n": 300.0})
    assert run.rows == (RowRange(0, 333),)
    assert run.output is not None
    assert shared.store.objects.get(run.output) == b"fitting 300\n"
    assert run.seconds is not None
    assert [(each.name, each.step, each.value) for each in read_metrics(shared.store, run.id)] == [
        ("n", 1, 300.0)
    ]


def test_rows_between_two_pieces_are_left_out(shared: Bench, fitter: Fitter) -> None:
    fit = fitter.fit("pieces", ((0, 90), (180, 270)), 300)
    run = get_run(shared.store, fit.run)
    assert (run.rows, run.metrics) == ((RowRange(0, 99), RowRange(200, 299)), {"n": 180.0})
    assert fit.n_rows == 180


def test_repeating_a_piece_of_work_finds_the_runs_it_made(shared: Bench) -> None:
    first = shared.fitter("again", 100).fit("once", ((0, 100),), 150)
    n_runs = len(list_runs(shared.store))
    other = shared.fitter("again", 100)
    second = other.fit("once", ((0, 100),), 150)
    assert (second, other.nondeterministic) == (first, [])
    assert len(list_runs(shared.store)) == n_runs


def test_work_with_another_prefix_has_runs_of_its_own(shared: Bench) -> None:
    one = shared.fitter("work", 200)
    other = one.keyed("other work")
    other.n_fits = 210
    assert one.fit("once", ((0, 100),), 150).run != other.fit("once", ((0, 100),), 150).run


def test_a_rehearsal_by_a_twin_belongs_to_the_run_of_its_fit(shared: Bench) -> None:
    fitter, seen = shared.fitter("rehearsed", 220), list[FittedModel]()

    def rehearse(run: Run) -> Rehearsed:
        assert run.status == "running"
        seen.append(fitter.twin(run, ((0, 60),), 100))
        accuracy = 1 - float(fitter.scored(seen[0], 100, 200).raw.mean())
        return Rehearsed({"accuracy": accuracy, "n": 3.0}, {"accuracy": (0.7, 0.9)}, {"twin.txt": b"100"})

    n_runs = len(list_runs(shared.store))
    fit = fitter.fit("with a twin", ((0, 200),), 250, rehearse)
    assert len(list_runs(shared.store)) == n_runs + 1
    assert (seen[0].run, seen[0].n_rows) == (fit.run, 60)
    run = get_run(shared.store, fit.run)
    assert run.metrics["n"] == 3, "what the function logs under the same name does not count"
    assert run.intervals == {"accuracy": (0.7, 0.9)}
    assert read_artifact(shared.store, run.id, "twin.txt") == b"100"
    assert run.metrics["accuracy"] == pytest.approx(0.85, abs=0.1)


def test_a_fit_that_fails_is_a_failed_run_with_the_user_s_traceback(shared: Bench) -> None:
    with pytest.raises(TrainingFailed, match="only 20 rows"):
        shared.fitter("failing", 240).fit("tiny", ((0, 20),), 30)
    (run,) = [each for each in list_runs(shared.store) if each.purpose == "tiny"]
    assert run.status == "failed"
    assert run.error is not None
    assert 'raise ValueError(f"only {len(train)} rows")' in run.error


def test_a_fit_that_comes_out_differently_is_noticed(shared: Bench) -> None:
    shared.fitter("shaky", 260, shaky=True).fit("once", ((0, 100),), 150)
    again = shared.fitter("shaky", 260, shaky=True)
    model = again.fit("once", ((0, 100),), 150)
    assert again.nondeterministic == ["fit 261"]
    assert not again.is_repeatable(model)


def test_a_fit_that_comes_out_alike_is_repeatable(fitter: Fitter, model: FittedModel) -> None:
    assert fitter.is_repeatable(model)
    assert fitter.nondeterministic == []


# -- answers -------------------------------------------------------------------------------------------


def test_scores_are_what_the_model_s_own_answers_cost(
    shared: Bench, fitter: Fitter, model: FittedModel
) -> None:
    scored = fitter.scored(model, 350, 400)
    rows = shared.history.rows[350:400]
    answers = shared.child.predict(model.name, RowRange(0, shared.history.table.num_rows))
    assert answers.probabilities is not None
    wrong = answers.predicted[rows] != shared.history.y[350:400]
    assert scored.raw.tolist() == scored.losses.tolist() == wrong.astype(float).tolist()
    assert scored.correct.tolist() == (1 - wrong).tolist()
    assert scored.confidence == pytest.approx(answers.probabilities[rows].max(axis=1))


def test_scores_do_not_depend_on_how_rows_were_asked_for(
    shared: Bench, fitter: Fitter, model: FittedModel
) -> None:
    piecewise = [fitter.scored(model, start, start + 100).raw for start in range(400, 1400, 100)]
    other = shared.fitter("fresh", 300)
    whole = other.scored(other.fit("same", model.pieces, 340), 400, 1400).raw
    assert np.concatenate(piecewise).tolist() == whole.tolist()


def test_a_model_is_good_where_it_learned_and_bad_where_things_turned(
    fitter: Fitter, model: FittedModel
) -> None:
    assert fitter.scored(model, 340, 720).raw.mean() == pytest.approx(0.1, abs=0.05)
    assert fitter.scored(model, 720, 1170).raw.mean() == pytest.approx(0.9, abs=0.05)


def test_losses_are_winsorised_at_the_bound_and_divided_by_it(shared: Bench) -> None:
    other = shared.fitter("bounded", 320)
    model = other.fit("once", ((0, 100),), 150)
    before = other.scored(model, 150, 250)
    other.set_bound(0.5)
    assert other.scored(model, 150, 250).losses.tolist() == before.raw.tolist()
    other.set_bound(4.0)
    assert other.scored(model, 150, 250).losses.tolist() == (before.raw / 4).tolist()


def test_only_rows_that_were_asked_about_have_losses_so_far(shared: Bench) -> None:
    other = shared.fitter("so far", 340)
    model = other.fit("once", ((0, 100),), 150)
    assert np.isnan(other.losses_so_far(model, 150, 250)).all()
    raw = other.scored(model, 200, 250).raw
    assert np.isnan(other.losses_so_far(model, 150, 200)).all()
    assert other.losses_so_far(model, 200, 250).tolist() == raw.tolist()


def test_answers_leave_rows_without_a_label_out(shared: Bench, fitter: Fitter, model: FittedModel) -> None:
    answers = fitter.predictions(model, 0, 27)  # 30 rows of the table, three of them without a label
    everything = shared.child.predict(model.name, RowRange(0, 30))
    rows = shared.history.rows[:27]
    assert answers.is_same(
        Predictions(
            everything.predicted[rows],
            None if everything.probabilities is None else everything.probabilities[rows],
            everything.classes,
        )
    )


def test_flips_are_counted_on_the_rows_where_two_models_differ(
    shared: Bench, fitter: Fitter, model: FittedModel
) -> None:
    turned = fitter.fit("turned", ((750, 1100),), 1150)
    share = fitter.flip_share(model, turned, 0, 500)
    assert share is not None
    assert share > 0.9
    assert fitter.flip_share(model, model, 0, 500) == 0
    assert fitter.flip_share(model, turned, 500, 500) is None


def test_a_model_that_was_let_go_answers_no_more(shared: Bench) -> None:
    other = shared.fitter("forgetful", 360)
    model = other.fit("once", ((0, 100),), 150)
    other.scored(model, 150, 200)
    other.forget(model)
    assert np.isnan(other.losses_so_far(model, 150, 200)).all()
    with pytest.raises(ClewError, match="holds no model"):
        other.scored(model, 150, 200)


# -- packages ------------------------------------------------------------------------------------------


def test_a_package_answers_in_another_process_as_it_did_in_its_own(
    shared: Bench, fitter: Fitter, model: FittedModel
) -> None:
    packaged = fitter.package(model, {"accuracy": 0.9})
    assert (packaged.flavor, packaged.n_bytes > 0) == ("skops", True)
    facts = fitter.served(model, packaged, shared.checker, before=777)
    assert (facts.loads, facts.largest_difference, facts.n) == (True, 0.0, SERVING_ROWS)
    assert (facts.package_bytes, facts.champion_package_bytes) == (packaged.n_bytes, 777)


def test_a_package_of_another_model_is_seen_to_answer_differently(
    shared: Bench, fitter: Fitter, model: FittedModel
) -> None:
    turned = fitter.fit("turned", ((750, 1100),), 1150)
    facts = fitter.served(model, fitter.package(turned, {}), shared.checker, None)
    assert facts.loads
    assert facts.largest_difference > 0.5


def test_a_package_that_is_gone_is_a_finding_and_no_crash(
    shared: Bench, fitter: Fitter, model: FittedModel
) -> None:
    packaged = fitter.package(model, {})
    shared.store.objects.path(packaged.digest).unlink()
    facts = fitter.served(model, packaged, shared.checker, None)
    assert not facts.loads
    assert packaged.digest[:12] in facts.error


# -- row losses ----------------------------------------------------------------------------------------


def test_a_class_that_the_model_never_saw_got_no_chance() -> None:
    log_loss = metric_named("log_loss")
    answers = Predictions(np.array(["no"]), np.array([[0.75, 0.25]]), ("no", "yes"))
    (loss,) = row_losses(log_loss, np.array(["maybe"], dtype=object), answers)
    assert loss == pytest.approx(-np.log(np.finfo(float).eps))
    (loss,) = row_losses(log_loss, np.array(["no"], dtype=object), answers)
    assert loss == pytest.approx(-np.log(0.75))


@pytest.mark.parametrize("answers", [Predictions(np.array([1]), None, (0, 1)), Predictions(np.array([0.5]))])
def test_a_metric_of_probabilities_asks_for_them_by_name(answers: Any) -> None:
    with pytest.raises(
        TrainingFailed, match=r"log_loss is measured on probabilities.*choose metric='accuracy'"
    ):
        row_losses(metric_named("log_loss"), np.array([1]), answers)
