"""Models of the usual libraries: the same answers fresh, after a crash and out of a package."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from clew.entities import ModelDeclaration, RowRange
from clew.errors import PackageError, TrainingFailed, UsageError
from clew.registry import load_package
from clew.training import Child
from tests.training.projects import DATASET, columns, rides, write

MODELS = (
    DATASET.replace("pyarrow", "pandas")
    + """
from lightgbm import LGBMClassifier
from sklearn.linear_model import LogisticRegression

@clew.model(rides, metric="accuracy", margin=0.01)
def boosted(train, n_estimators=20):
    return LGBMClassifier(n_estimators=n_estimators, min_child_samples=5, verbose=-1).fit(train.X, train.y)

@clew.model(rides, metric="accuracy", margin=0.01, not_features=["city"])
def linear(train, C=1.0):
    return LogisticRegression(C=C).fit(train.X, train.y)

@clew.model(rides, metric="accuracy", margin=0.01)
def own(train):
    return Cut(0.5)

@clew.model(rides, metric="accuracy", margin=0.01, allow_code=True)
def own_allowed(train):
    return Cut(0.5)

@clew.model(rides, metric="accuracy", margin=0.01)
def unfitted(train):
    return LogisticRegression()

@clew.model(rides, metric="accuracy", margin=0.01)
def leaves(train):
    import os
    os._exit(3)
"""
)
FIT, LATER = RowRange(0, 200), RowRange(200, 240)


@pytest.fixture(scope="module")
def child(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Child]:
    root = write(tmp_path_factory.mktemp("project"), {"bikes.py": MODELS})
    with Child.start(root, root, tmp_path_factory.mktemp("scratch")) as child:
        yield child


@pytest.fixture(scope="module")
def declared(child: Child) -> dict[str, ModelDeclaration]:
    return {described.model.name: described.model for described in child.describe(["bikes.py"])}


def fit(child: Child, declaration: ModelDeclaration) -> str:
    child.use(rides(), declaration, "bikes.py", columns(rides()))
    return child.fit("one", FIT).model_digest


@pytest.mark.parametrize("model", ["boosted", "linear"])
def test_answers_are_the_same_out_of_a_package(
    child: Child, declared: dict[str, ModelDeclaration], model: str, tmp_path: Path
) -> None:
    fit(child, declared[model])
    fresh = child.predict("one", LATER)
    info = child.package("one", tmp_path / "package", run="r1", metrics={"accuracy": 0.9}, profile_rows=LATER)
    loaded = child.load(tmp_path / "package", expected_digest=info.digest)
    assert child.predict(loaded, LATER).is_same(fresh)
    assert (
        load_package(tmp_path / "package", expected_digest=info.digest)
        .predict(rides().slice(200, 40))
        .is_same(fresh)
    )
    known = [row for row in range(200, 240) if row % 10 != 9]
    share = np.mean(fresh.predicted[[row - 200 for row in known]] == rides()["busy"].take(known).to_numpy())
    assert share > 0.9


def test_fitting_twice_gives_the_same_bits(child: Child, declared: dict[str, ModelDeclaration]) -> None:
    assert fit(child, declared["boosted"]) == fit(child, declared["boosted"])


def test_a_loaded_model_is_loaded_again_after_a_crash(
    child: Child, declared: dict[str, ModelDeclaration], tmp_path: Path
) -> None:
    fit(child, declared["linear"])
    fresh = child.predict("one", LATER)
    info = child.package("one", tmp_path / "package", run="r1")
    child.load(tmp_path / "package", "recorded", expected_digest=info.digest)
    with pytest.raises(TrainingFailed):
        fit(child, declared["leaves"])
    assert child.predict("recorded", LATER).is_same(fresh)
    with pytest.raises(UsageError, match="'recorded' was loaded from a package already"):
        child.package("recorded", tmp_path / "again", run="r1")


def test_a_class_of_the_projects_own_needs_to_be_allowed(
    child: Child, declared: dict[str, ModelDeclaration], tmp_path: Path
) -> None:
    fit(child, declared["own"])
    with pytest.raises(PackageError, match="allow_code"):
        child.package("one", tmp_path / "refused", run="r1")


def test_a_class_of_the_projects_own_is_found_again_by_its_name(
    child: Child, declared: dict[str, ModelDeclaration], tmp_path: Path
) -> None:
    fit(child, declared["own_allowed"])
    fresh = child.predict("one", LATER)
    info = child.package("one", tmp_path / "package", run="r1", code="c1")
    assert info.trusted_types == ("bikes.Cut",)
    assert child.predict(child.load(tmp_path / "package", expected_digest=info.digest), LATER).is_same(fresh)


def test_a_model_that_is_not_fitted_is_refused_at_once(
    child: Child, declared: dict[str, ModelDeclaration]
) -> None:
    with pytest.raises(TrainingFailed, match=r"unfitted\(\) returned a model that cannot be used: "):
        fit(child, declared["unfitted"])
