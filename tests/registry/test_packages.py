"""A package answers as the model did that was put into it, wherever it is read."""

from __future__ import annotations

import importlib.metadata
import json
import math
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.feather as feather
import pytest
from lightgbm import LGBMClassifier, LGBMRegressor
from sklearn.calibration import CalibratedClassifierCV
from sklearn.ensemble import (
    ExtraTreesClassifier,
    HistGradientBoostingClassifier,
    HistGradientBoostingRegressor,
    RandomForestClassifier,
    RandomForestRegressor,
)
from sklearn.linear_model import LogisticRegression, RidgeClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from clew.errors import MissingExtra, PackageError
from clew.registry import PackageInfo, Signature, load_package, package_digest, save_package, wrap_model
from clew.registry.package_checks import version_changes
from tests.registry.elsewhere import change_own, run_python
from tests.registry.rides import busy, encoder, pipeline, rides, signature_of

pytestmark = pytest.mark.filterwarnings("ignore:X does not have valid feature names:UserWarning")

CLASSIFIERS: dict[str, Callable[[], Any]] = {
    "lightgbm": lambda: LGBMClassifier(n_estimators=5, n_jobs=1, verbose=-1),
    "lightgbm in a pipeline": lambda: pipeline(LGBMClassifier(n_estimators=5, n_jobs=1, verbose=-1)),
    "lightgbm, calibrated": lambda: CalibratedClassifierCV(
        LGBMClassifier(n_estimators=5, n_jobs=1, verbose=-1), cv=2
    ),
    "forest": lambda: pipeline(RandomForestClassifier(5, max_depth=4, random_state=0)),
    "extra trees": lambda: pipeline(ExtraTreesClassifier(5, max_depth=4, random_state=0)),
    "boosted histograms": lambda: HistGradientBoostingClassifier(
        categorical_features="from_dtype", max_iter=5
    ),
    "logistic regression": lambda: make_pipeline(encoder(), StandardScaler(), LogisticRegression()),
    "calibrated": lambda: CalibratedClassifierCV(pipeline(RandomForestClassifier(3, max_depth=3)), cv=2),
}
OTHER_LABELS: list[tuple[Any, ...]] = [(0, 1), (False, True), ("cold", "mild", "warm"), (1, 2, 5)]
REGRESSORS: dict[str, Callable[[], Any]] = {
    "lightgbm": lambda: LGBMRegressor(n_estimators=5, n_jobs=1, verbose=-1),
    "forest": lambda: pipeline(RandomForestRegressor(5, max_depth=4, random_state=0)),
    "boosted histograms": lambda: HistGradientBoostingRegressor(
        categorical_features="from_dtype", max_iter=5
    ),
}


def save(model: Any, folder: Path, signature: Signature, **more: Any) -> PackageInfo:
    return save_package(model, folder, signature=signature, example=rides(50, seed=9), **more)


@pytest.mark.parametrize(
    ("name", "classes"),
    [(name, ("no", "yes")) for name in CLASSIFIERS]
    + [(name, classes) for name in ("lightgbm", "forest") for classes in OTHER_LABELS],
)
def test_a_loaded_classifier_answers_like_the_model_itself(
    name: str, classes: tuple[Any, ...], tmp_path: Path
) -> None:
    table = rides()
    signature = signature_of(table, classes)
    X = signature.to_frame(table)
    model = CLASSIFIERS[name]().fit(X, busy(table, classes))
    info = save(model, tmp_path / "package", signature)
    loaded = load_package(tmp_path / "package", expected_digest=info.digest)
    answers = loaded.predict(table)
    assert answers.probabilities is not None
    assert np.abs(answers.probabilities - model.predict_proba(X)).max() <= 1e-12
    assert answers.predicted.tolist() == model.predict(X).tolist()
    assert [type(value) for value in answers.predicted.tolist()[:1]] == [type(classes[0])]
    assert answers.classes == classes
    assert answers.is_same(wrap_model(model, signature).predict(table))


@pytest.mark.parametrize("name", REGRESSORS)
def test_a_loaded_regressor_answers_like_the_model_itself(name: str, tmp_path: Path) -> None:
    table = rides()
    signature = signature_of(table, None)
    X = signature.to_frame(table)
    model = REGRESSORS[name]().fit(X, busy(table, np.linspace(0, 1, 30).tolist()))
    info = save(model, tmp_path / "package", signature)
    answers = load_package(tmp_path / "package", expected_digest=info.digest).predict(table)
    assert answers.probabilities is None
    assert answers.classes is None
    np.testing.assert_array_equal(answers.predicted, model.predict(X))


def test_a_classifier_without_probabilities_answers_labels_alone(tmp_path: Path) -> None:
    table = rides()
    signature = signature_of(table, ("no", "yes"))
    model = pipeline(RidgeClassifier()).fit(signature.to_frame(table), busy(table, ("no", "yes")))
    info = save(model, tmp_path / "package", signature)
    answers = load_package(tmp_path / "package", expected_digest=info.digest).predict(table)
    assert answers.probabilities is None
    assert answers.classes == ("no", "yes")
    assert answers.predicted.tolist() == model.predict(signature.to_frame(table)).tolist()


def test_the_labels_own_type_comes_back_although_the_model_was_fitted_on_another() -> None:
    table = rides()
    signature = signature_of(table, (False, True))
    labels = busy(table, (False, True)).astype(float)
    model = pipeline(LogisticRegression(max_iter=1000)).fit(signature.to_frame(table), labels)
    answers = wrap_model(model, signature).predict(table)
    assert answers.classes == (False, True)
    assert answers.predicted.dtype == np.bool_


@pytest.mark.parametrize("name", ["lightgbm", "forest"])
@pytest.mark.parametrize("classes", [("no", "yes"), ("cold", "mild", "warm")])
def test_an_empty_table_gets_no_answers(name: str, classes: tuple[str, ...]) -> None:
    table = rides()
    signature = signature_of(table, classes)
    model = CLASSIFIERS[name]().fit(signature.to_frame(table), busy(table, classes))
    answers = wrap_model(model, signature).predict(table.slice(0, 0))
    assert answers.probabilities is not None
    assert (len(answers), answers.probabilities.shape) == (0, (0, len(classes)))


def test_an_empty_table_gets_no_numbers() -> None:
    table = rides()
    signature = signature_of(table, None)
    model = REGRESSORS["forest"]().fit(signature.to_frame(table), np.arange(table.num_rows))
    assert len(wrap_model(model, signature).predict(table.slice(0, 0))) == 0


# -- elsewhere -----------------------------------------------------------------------------------------

ANSWER_ELSEWHERE = """
import sys
from pathlib import Path
import numpy as np, pyarrow.feather
from clew.registry import load_package
place = Path(sys.argv[1])
rows = pyarrow.feather.read_table(place / "rows")
for name in sys.argv[2:]:
    folder, digest = name.split(":")
    model = load_package(place / folder, expected_digest=digest)
    np.save(place / f"{folder}.npy", model.predict(rows).probabilities)
"""


def test_another_process_in_another_folder_answers_to_the_same_bit(tmp_path: Path) -> None:
    table = rides(has_gaps=True)
    signature = signature_of(table, ("no", "yes"))
    X, y = signature.to_frame(table), busy(table, ("no", "yes"))
    models = [
        CLASSIFIERS[name]().fit(X, y) for name in ("lightgbm", "lightgbm, calibrated", "boosted histograms")
    ]
    digests = [save(model, tmp_path / str(n), signature).digest for n, model in enumerate(models)]
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    for n in range(len(models)):
        (tmp_path / str(n)).rename(elsewhere / str(n))
    feather.write_feather(table, elsewhere / "rows")
    run_python(ANSWER_ELSEWHERE, elsewhere, *(f"{n}:{digest}" for n, digest in enumerate(digests)))
    for n, model in enumerate(models):
        expected = wrap_model(model, signature).predict(table).probabilities
        np.testing.assert_array_equal(np.load(elsewhere / f"{n}.npy"), expected)


SAVE_HERE = """
import sys
from pathlib import Path
from lightgbm import LGBMClassifier
from sklearn.ensemble import RandomForestClassifier
from clew.registry import save_package
from tests.registry.rides import busy, pipeline, rides, signature_of
table = rides()
signature = signature_of(table, ("no", "yes"))
boosted = LGBMClassifier(n_estimators=5, n_jobs=1, verbose=-1)
digests = []
for model in (boosted, pipeline(RandomForestClassifier(5, random_state=0)), pipeline(boosted)):
    model.fit(signature.to_frame(table), busy(table, ("no", "yes")))
    folder = Path(place) / str(len(digests))
    info = save_package(model, folder, signature=signature, example=table.slice(0, 20))
    digests += [info.digest, info.model_digest]
"""


def test_two_processes_write_the_same_bytes_for_the_same_model(tmp_path: Path) -> None:
    code = "import sys; place = sys.argv[1]" + SAVE_HERE + "print(*digests)"
    # Strings are hashed in another way there, and so sets have another order.
    elsewhere = run_python(code, tmp_path / "elsewhere", hash_seed=1)
    here: dict[str, Any] = {"place": tmp_path / "here"}
    exec(SAVE_HERE, here)
    assert elsewhere.split() == here["digests"]
    assert len(set(here["digests"])) == 6


# -- the package itself --------------------------------------------------------------------------------


@pytest.fixture
def forest(tmp_path: Path) -> tuple[Path, PackageInfo]:
    """A package of a forest, which skops does not trust by itself."""
    table = rides(100)
    signature = signature_of(table)
    model = CLASSIFIERS["forest"]().fit(signature.to_frame(table), busy(table))
    folder = tmp_path / "package"
    return folder, save(model, folder, signature, run="r1", metrics={"log_loss": math.inf})


@pytest.fixture
def boosted() -> tuple[Any, Signature]:
    table = rides(100)
    signature = signature_of(table)
    return CLASSIFIERS["lightgbm"]().fit(signature.to_frame(table), busy(table)), signature


def test_the_metadata_is_a_valid_mlmodel_file(forest: tuple[Path, PackageInfo]) -> None:
    folder, info = forest
    about = json.loads((folder / "MLmodel").read_text())
    assert about["run_id"] == "r1"
    assert about["model_uuid"] == info.model_digest[:32]
    assert about["flavors"]["sklearn"]["skops_trusted_types"] == ["sklearn.tree._tree.Tree"]
    inputs = json.loads(about["signature"]["inputs"])
    assert inputs[0] == {"name": "warmth", "type": "double", "required": True}
    assert [entry["type"] for entry in inputs] == ["double", "long", "boolean", "string"]
    example = json.loads((folder / about["saved_input_example_info"]["artifact_path"]).read_text())
    assert example["columns"] == ["warmth", "hour", "holiday", "city"]
    assert len(example["data"]) == 5
    assert about["clew"]["metrics"] == {"log_loss": None}
    assert about["clew"]["requirements"].keys() == {"numpy", "scikit-learn", "skops"}
    assert "utc_time_created" not in about


def test_the_time_is_kept_when_it_is_given(boosted: tuple[Any, Signature], tmp_path: Path) -> None:
    save(boosted[0], tmp_path / "package", boosted[1], created_at=datetime(2026, 3, 1, 12, tzinfo=UTC))
    about = json.loads((tmp_path / "package" / "MLmodel").read_text())
    assert about["utc_time_created"] == "2026-03-01 12:00:00.000000"


def test_a_profile_lies_beside_the_model_with_the_importances(
    boosted: tuple[Any, Signature], tmp_path: Path
) -> None:
    save(boosted[0], tmp_path / "package", boosted[1], profile={"n_rows": 100})
    profile = json.loads((tmp_path / "package" / "reference_profile.json").read_text())
    assert profile["n_rows"] == 100
    assert sum(profile["importance"].values()) == pytest.approx(1)


@pytest.mark.parametrize("change", ["a byte", "a file more", "a file less"])
def test_a_changed_package_is_refused(change: str, forest: tuple[Path, PackageInfo]) -> None:
    folder, info = forest
    if change == "a byte":
        content = bytearray((folder / "model.skops").read_bytes())
        content[len(content) // 2] ^= 1
        (folder / "model.skops").write_bytes(content)
    elif change == "a file more":
        (folder / "extra.py").write_text("")
    else:
        (folder / "input_example.json").unlink()
    with pytest.raises(PackageError, match="it was changed or is not complete"):
        load_package(folder, expected_digest=info.digest)


def test_without_the_registrys_digest_only_what_skops_trusts_is_loaded(
    forest: tuple[Path, PackageInfo], boosted: tuple[Any, Signature], tmp_path: Path
) -> None:
    with pytest.raises(PackageError, match=r"needs sklearn\.tree\._tree\.Tree, which are trusted only"):
        load_package(forest[0])
    save(boosted[0], tmp_path / "text", boosted[1])
    assert len(load_package(tmp_path / "text").predict(rides(100))) == 100


def test_a_package_of_a_newer_clew_is_refused(forest: tuple[Path, PackageInfo]) -> None:
    folder, _ = forest
    change_own(folder, {"format": 1})
    with pytest.raises(PackageError, match="Install a newer Clew"):
        load_package(folder, expected_digest=package_digest(folder))


@pytest.mark.parametrize("content", [None, "flavors: {}", "[]", "{}"])
def test_a_folder_that_is_no_package_is_refused(content: str | None, tmp_path: Path) -> None:
    if content is not None:
        (tmp_path / "MLmodel").write_text(content)
    with pytest.raises(PackageError, match=r"holds no model|was not written by Clew"):
        load_package(tmp_path)


def test_a_folder_with_files_is_not_written_into(boosted: tuple[Any, Signature], tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(PackageError, match="is not empty"):
        save(boosted[0], tmp_path, boosted[1])


def test_other_versions_than_the_packages_are_told(forest: tuple[Path, PackageInfo]) -> None:
    folder, _ = forest
    assert version_changes(folder) == {}
    change_own(folder, {"requirements": {"skops": "0.1", "no-such-thing": "3"}})
    assert version_changes(folder) == {
        "skops": ("0.1", importlib.metadata.version("skops")),
        "no-such-thing": ("3", None),
    }


@pytest.mark.parametrize(
    ("package", "extra"), [("lightgbm", "lightgbm"), ("skops", "sklearn"), ("pandas", "sklearn")]
)
def test_a_library_that_is_not_installed_is_named_with_its_extra(
    package: str,
    extra: str,
    forest: tuple[Path, PackageInfo],
    boosted: tuple[Any, Signature],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    info = save(boosted[0], tmp_path / "text", boosted[1])
    place = (tmp_path / "text", info) if package == "lightgbm" else forest
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(MissingExtra, match=rf'{package!r}, which is not installed.*"clew\[{extra}\]"'):
        load_package(place[0], expected_digest=place[1].digest).predict(rides(5))
