from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from clew.entities import ModelDeclaration, Param, RowRange
from clew.errors import DataError, MissingExtra, NotFound, TrainingFailed, UsageError
from clew.training import Child, Fit, Listener, Logged
from tests.training.conftest import StartChild
from tests.training.projects import columns, project, rides

# One project with many models: each line of tests below fits one of them in the same child.
MODELS = '''
def model(function):
    return clew.model(rides, metric="accuracy", margin=0.01)(function)

@model
def busy_hour(train, cut=0.0, shape=(1, 2), note=None):
    print("fitting", cut, shape)
    return Cut(cut)

@model
def sees(train):
    """Fits only if train is what it should be."""
    import numpy as np, pyarrow as pa
    assert train.X.column_names == ["warmth", "city"], train.X.column_names
    assert pa.types.is_dictionary(train.X["city"].type)
    assert train.y.dtype == np.int64 and set(train.y) == {0, 1}
    assert train.times.dtype == "datetime64[us]" and (np.diff(train.times) > np.timedelta64(0)).all()
    assert train.keys.tolist()[:3] == ["h0", "h1", "h2"] and "h9" not in train.keys
    assert len(train) == len(train.y) == len(train.keys) == len(train.times) == train.X.num_rows
    train.y[0] = 0  # nobody else's memory
    return Cut(0.0)

@model
def splits(train, newest="2d"):
    fit, valid = train.split(newest)
    valid.log(n_fit=len(fit), n_valid=len(valid))
    fit.log(loss=0.5, step=1)
    return Cut(0.0)

@model
def logs(train, bad=None):
    import numpy as np
    train.log(loss=0.5, step=1)
    train.log(loss=np.float32(0.25), accuracy=np.array([0.75]), step=np.int64(2))
    train.log(note=float("nan"))
    if bad == "value": train.log(loss="low")
    if bad == "step": train.log(loss=1, step=1.5)
    return Cut(0.0)

@model
def draws(train, random_state=7):
    import random, numpy as np
    return Cut(random.random() + np.random.random() + np.random.default_rng(random_state).random() - 1.5)

@model
def unsteady(train):
    import os
    return Cut(int.from_bytes(os.urandom(1), "big") / 128 - 1)

@model
def hashes(train):
    return Cut(hash("a string") % 1000 / 1000)

@model
def returns_none(train):
    Cut(0.0)

@model
def returns_parts(train):
    return {"cut": 0.0}

class Strange(Cut):
    def predict(self, X):
        return self.not_there

@model
def returns_strange(train):
    return Strange(0.0)

@model
def raises(train):
    return deeper(train)

def deeper(train):
    raise ValueError("no rides\\non mondays")

@model
def raises_deep_in_a_library(train):
    import json
    json.loads("x")

@model
def raises_from(train):
    try:
        deeper(train)
    except ValueError as error:
        raise KeyError("rides") from error

@model
def exits(train):
    import sys
    sys.exit("enough")

@model
def interrupts(train):
    raise KeyboardInterrupt

@model
def needs_polars(train):
    import sys
    sys.modules["polars"] = None
    import polars

@model
def first_label(train):
    print(type(train.y[0]).__name__, sorted(set(train.y.tolist())))
    return Constant(train.y[0])

class Constant:
    def __init__(self, value):
        self.value = value
    def predict(self, X):
        return [self.value] * len(X)

@clew.model(rides, metric="mae", margin=0.01)
def level(train):
    return Constant(train.y.mean())
'''


@pytest.fixture(scope="module")
def child(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Child]:
    root = project(tmp_path_factory.mktemp("project"), MODELS)
    with Child.start(root, root, tmp_path_factory.mktemp("scratch")) as child:
        yield child


@pytest.fixture(scope="module")
def declared(child: Child) -> dict[str, ModelDeclaration]:
    return {described.model.name: described.model for described in child.describe(["bikes.py"])}


@pytest.fixture
def use(child: Child, declared: dict[str, ModelDeclaration]) -> Any:
    def use(model: str, table: pa.Table | None = None) -> Child:
        rows = rides() if table is None else table
        child.use(rows, declared[model], "bikes.py", columns(rows))
        return child

    return use


def fit(child: Child, rows: RowRange | list[RowRange] | None = None, **given: Any) -> Fit:
    return child.fit("one", RowRange(0, 200) if rows is None else rows, **given)


def logged_by(child: Child, **given: Any) -> list[Logged]:
    """What the function logged, as the parent hears of it."""
    heard: list[Logged] = []
    fit(child, listener=Listener(heard.extend, lambda _: None), **given)
    return heard


def failure(child: Child, rows: RowRange | list[RowRange] | None = None, **given: Any) -> TrainingFailed:
    with pytest.raises(TrainingFailed) as caught:
        fit(child, rows, **given)
    return caught.value


# -- what a function gets and gives --------------------------------------------------------------------


def test_a_function_gets_labelled_rows_in_their_own_types(use: Any) -> None:
    fitted = fit(use("sees"))
    assert (fitted.n_rows, fitted.classes) == (180, (0, 1))


def test_a_fit_tells_what_it_took(use: Any) -> None:
    fitted = fit(use("busy_hour"))
    assert fitted.output == b"fitting 0.0 (1, 2)\n"
    assert 0 <= fitted.seconds < 5
    assert 10**6 < fitted.peak_memory_bytes < 10**9
    assert fitted.params == {"cut": 0.0, "shape": [1, 2], "note": None}


def test_predictions_are_the_models_own(use: Any) -> None:
    child = use("busy_hour")
    fit(child, params={"cut": 0.25})
    warmth = rides()["warmth"].to_numpy()
    assert (child.predict("one", RowRange(200, 240)).predicted == (warmth[200:240] > 0.25)).all()
    table = rides().slice(10, 20).select(["warmth", "city"])
    assert (child.predict("one", table).predicted == (warmth[10:30] > 0.25)).all()
    assert len(child.predict("one", RowRange(5, 5))) == 0


def test_several_fits_live_side_by_side_until_released(use: Any) -> None:
    child = use("busy_hour")
    for n in range(3):
        child.fit(f"cut {n}", RowRange(0, 100), {"cut": float(n)})
    n_busy = [int(child.predict(f"cut {n}", RowRange(0, 240)).predicted.sum()) for n in range(3)]
    assert n_busy == sorted(n_busy, reverse=True)
    assert len(set(n_busy)) == 3
    child.release("cut 1")
    child.release("cut 1")
    with pytest.raises(NotFound, match=r"holds no model 'cut 1'\. Did you mean 'cut 2'"):
        child.predict("cut 1", RowRange(0, 1))


def test_older_fits_predict_on_newer_rows(use: Any) -> None:
    child = use("busy_hour")
    fit(child)
    longer = rides(300)
    use("busy_hour", longer)
    assert len(child.predict("one", RowRange(0, 300))) == 300


def test_rows_between_may_be_left_out(use: Any) -> None:
    child = use("sees")
    fitted = fit(child, [RowRange(0, 30), RowRange(100, 200)])
    assert fitted.n_rows == 27 + 90
    assert fitted.model_digest != fit(child, RowRange(0, 130)).model_digest


def test_rows_beyond_the_table_are_refused(use: Any) -> None:
    with pytest.raises(UsageError, match="Rows 0 to 999 were asked for, of 240"):
        fit(use("busy_hour"), RowRange(0, 999))


def test_what_is_logged_comes_back_in_order(use: Any) -> None:
    logged = logged_by(use("logs"))
    assert [row[:3] for row in logged[:3]] == [("loss", 1, 0.5), ("loss", 2, 0.25), ("accuracy", 2, 0.75)]
    assert logged[3][:2] == ("note", None)
    assert np.isnan(logged[3].value)
    assert 0 < logged[0].seconds < logged[3].seconds < 60


@pytest.mark.parametrize(
    ("bad", "words"), [("value", "loss='low'; log numbers"), ("step", "step=1.5; a step is a whole number")]
)
def test_logging_something_else_than_numbers_fails(use: Any, bad: str, words: str) -> None:
    assert words in str(failure(use("logs"), params={"bad": bad}))


def test_a_split_leaves_out_rows_whose_labels_were_not_known(use: Any) -> None:
    logged = logged_by(use("splits"))
    n_fit, n_valid = (row.value for row in logged[:2])
    # Row 198 is the newest with a label. Validation begins after row 150, fitting ends with row 126, a day
    # before it; each tenth of both has no label.
    assert (n_fit, n_valid) == (127 - 12, 48 - 4)
    assert logged[2][:3] == ("loss", 1, 0.5)


def test_a_split_that_leaves_nothing_is_told(use: Any) -> None:
    told = str(failure(use("splits"), params={"newest": "3w"}))
    assert (
        "train.split('3w') leaves 0 rows to fit on and 180 for validation, with a label delay of 1d" in told
    )
    assert "the rows reach from 2026-01-01T00:00:00.000000 to 2026-01-09T06:00:00.000000" in told


# -- parameters and seeds ------------------------------------------------------------------------------


def test_parameters_override_defaults_and_lists_become_the_tuples_they_stand_for(use: Any) -> None:
    given = {"cut": Param(0.5, "clew.toml"), "shape": [3, 4]}
    fitted = fit(use("busy_hour"), params=given)
    assert fitted.output == b"fitting 0.5 (3, 4)\n"
    assert fitted.params == {"cut": 0.5, "shape": [3, 4], "note": None}


def test_an_unknown_parameter_is_refused(use: Any) -> None:
    with pytest.raises(UsageError, match=r"busy_hour\(\) has no hyperparameter 'cutt'. Did you mean 'cut'\?"):
        fit(use("busy_hour"), params={"cutt": 1})


def test_the_same_seed_gives_the_same_model_and_another_seed_another(use: Any) -> None:
    child = use("draws")
    first, again, other = (fit(child, seed=seed).model_digest for seed in (1, 1, 2))
    assert first == again != other


def test_a_function_that_takes_a_seed_gets_it_unless_it_is_set(use: Any) -> None:
    child = use("draws")
    assert fit(child, seed=11).params == {"random_state": 11}
    assert fit(child, seed=11, params={"random_state": 5}).params == {"random_state": 5}


def test_hashes_of_strings_do_not_differ_between_processes(use: Any) -> None:
    child = use("hashes")
    here = fit(child).model_digest
    child.close()
    assert fit(child).model_digest == here


def test_a_function_that_is_not_deterministic_shows_in_the_digest(use: Any) -> None:
    child = use("unsteady")
    assert len({fit(child).model_digest for _ in range(8)}) > 1


# -- what goes wrong -----------------------------------------------------------------------------------


FAILURES = {
    "returns_none": "returns_none() returned None. End it with: return the fitted model.",
    "returns_parts": (
        "returns_parts() returned 'dict', which has no predict(). End it with: return the fitted model."
    ),
    "raises": "raises() raised ValueError: no rides\non mondays (bikes.py, line 87)",
    "raises_from": "raises_from() raised KeyError: 'rides' (bikes.py, line 99)",
    "exits": "exits() called sys.exit() (bikes.py, line 104)",
    "interrupts": "interrupts() raised KeyboardInterrupt (bikes.py, line 108)",
}


@pytest.mark.parametrize("model", FAILURES)
def test_a_function_that_fails_is_told_and_the_child_goes_on(use: Any, model: str) -> None:
    assert str(failure(use(model))) == FAILURES[model]
    assert fit(use("busy_hour")).n_rows == 180


def test_the_traceback_has_the_users_own_frames_only(use: Any) -> None:
    assert failure(use("raises_deep_in_a_library")).traceback.splitlines() == [
        "Traceback (most recent call last):",
        '  File "bikes.py", line 92, in raises_deep_in_a_library',
        '    json.loads("x")',
        "json.decoder.JSONDecodeError: Expecting value: line 1 column 1 (char 0)",
    ]


def test_causes_are_told_too(use: Any) -> None:
    told = failure(use("raises_from")).traceback
    assert told.index("ValueError: no rides") < told.index("direct cause") < told.index("KeyError: 'rides'")
    assert "/" not in told, "no path but the user's own file names"


def test_a_model_that_cannot_predict_fails_the_fit(use: Any) -> None:
    told = failure(use("returns_strange"))
    assert str(told).startswith("returns_strange() returned a model that cannot be used: ")
    assert "'Strange' object has no attribute 'not_there'" in str(told)
    assert 'File "bikes.py", line 76, in predict' in told.traceback


def test_a_missing_package_in_the_function_is_told_with_its_extra(use: Any) -> None:
    with pytest.raises(MissingExtra, match=r'needs the package \'polars\'.*pip install "clew\[polars\]"'):
        fit(use("needs_polars"))


def test_one_class_only_is_told(use: Any) -> None:
    busy = rides()["busy"].to_pylist()
    table = rides().set_column(4, "busy", pa.array([0 if value is not None else None for value in busy]))
    assert str(failure(use("busy_hour", table))) == (
        "busy_hour() cannot learn to tell classes apart: all 180 labelled rows of rows 0 to 200 have"
        " busy = 0. Fit on more rows."
    )


def test_no_label_at_all_is_told(use: Any) -> None:
    table = rides().set_column(4, "busy", pa.nulls(240, pa.int64()))
    assert "none of the 200 rows has a label in column 'busy'" in str(failure(use("busy_hour", table)))
    assert "none of the 0 rows" in str(failure(use("busy_hour"), rows=RowRange(7, 7)))


def test_a_prediction_on_a_table_without_a_feature_is_refused(use: Any) -> None:
    child = use("busy_hour")
    fit(child)
    with pytest.raises(DataError, match="no column 'warmth'"):
        child.predict("one", rides().select(["city"]))


def test_fitting_before_rows_are_in_use_is_refused(start: StartChild, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"no rows yet; call use\(\) first"):
        start(project(tmp_path / "p")).fit("one", RowRange(0, 1))


# -- labels and frames ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("labels", "printed"),
    [
        (pa.array([True, False, None, True]), "bool [False, True]"),
        (pa.array(["no", "yes", "no", None]), "str ['no', 'yes']"),
        (pa.array(["no", "yes", "no", None]).dictionary_encode(), "str ['no', 'yes']"),
        (pa.array([1, 2, None, 3], pa.int8()), "int8 [1, 2, 3]"),
        (pa.array([0.0, 1.0, float("nan"), None]), "float64 [0.0, 1.0]"),
    ],
)
def test_labels_keep_their_type(use: Any, labels: pa.Array, printed: str) -> None:
    child = use("first_label", rides(4).set_column(4, "busy", labels))
    fitted = fit(child, RowRange(0, 4))
    assert fitted.output.decode().strip() == printed
    predicted = child.predict("one", RowRange(0, 4))
    assert predicted.predicted[0].item() == labels[0].as_py()
    assert predicted.classes == fitted.classes


def test_labels_that_are_no_classes_are_told(use: Any) -> None:
    table = rides(4).set_column(4, "busy", pa.array([1, 2, 3, 4], pa.date32()))
    told = str(failure(use("first_label", table), RowRange(0, 4)))
    assert told.startswith(
        "first_label() cannot learn the classes in 'busy', which are of type date32[day]. "
    )


def test_numbers_are_predicted_too(use: Any) -> None:
    child = use("level")
    fitted = fit(child)
    predictions = child.predict("one", RowRange(0, 2))
    assert (fitted.classes, predictions.classes, predictions.probabilities) == (None, None, None)
    known = [value for value in rides()["busy"].to_pylist()[:200] if value is not None]
    assert predictions.predicted[0] == np.mean(known)


@pytest.mark.parametrize("frame", ["pandas", "polars"])
def test_features_come_in_the_declared_frame(start: StartChild, tmp_path: Path, frame: str) -> None:
    model = f"""
    @clew.model(rides, metric="accuracy", margin=0.01)
    def busy_hour(train):
        fit, valid = train.split("2d")
        assert type(train.X).__module__.startswith({frame!r})
        assert len(fit.X) == len(fit) and len(valid.X) == len(valid)
        print(train.X["city"].dtype)
        return Cut(0.0)
    """
    root = project(tmp_path / "p", model)
    path = root / "bikes.py"
    path.write_text(path.read_text(encoding="utf-8").replace('"pyarrow"', repr(frame)), encoding="utf-8")
    child = start(root)
    child.use(rides(), child.describe(["bikes.py"])[0].model, "bikes.py", columns(rides()))
    assert fit(child).output.decode().split("(")[0] in ("category\n", "Enum")
