"""Models with the project's own code, and what no package may bring to life."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.feather as feather
import pytest
import skops.io
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer

from clew.errors import PackageError
from clew.registry import PackageInfo, load_package, package_digest, save_package
from clew.registry.flavors.skops_canonical import canonical_skops
from clew.registry.flavors.trust import check_loadable, check_saveable, origins
from tests.registry.elsewhere import change_own, run_python
from tests.registry.rides import busy, rides, signature_of

PROJECT = '''
import numpy as np


def numbers_only(X):
    return X[["warmth", "hour"]]


class NearestMean:
    """A classifier of the project's own, without a base class."""

    def fit(self, X, y):
        values = X[["warmth", "hour"]].to_numpy()
        self.classes_ = np.unique(y)
        self.means = {str(c): values[np.asarray(y) == c].mean(axis=0) for c in self.classes_}
        return self

    def predict(self, X):
        values = X[["warmth", "hour"]].to_numpy()
        distances = [np.abs(values - self.means[str(c)]).sum(axis=1) for c in self.classes_]
        return self.classes_[np.argmin(distances, axis=0)]


class Outer:
    class Inner(NearestMean):
        pass


def make_local():
    class Local(NearestMean):
        pass

    return Local()


class Forgetful(NearestMean):
    def __getstate__(self):
        return {"classes_": self.classes_, "means": {k: v + 1000 for k, v in list(self.means.items())[:1]} | {
            k: v - 1000 for k, v in list(self.means.items())[1:]}}


class Framed(NearestMean):
    def fit(self, X, y):
        self.frame = X
        return super().fit(X, y)


class Locked(NearestMean):
    def fit(self, X, y):
        import threading
        self.lock = threading.Lock()
        return super().fit(X, y)
'''


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """The project's module, imported from its captured code as a child does that fits."""
    code = tmp_path / "code"
    code.mkdir()
    (code / "ride_model.py").write_text(PROJECT)
    monkeypatch.syspath_prepend(str(code))
    import ride_model  # type: ignore[import-not-found]

    yield ride_model
    del sys.modules["ride_model"]


def fitted(model: Any) -> Any:
    table = rides()
    return model.fit(signature_of(table, ("no", "yes")).to_frame(table), busy(table, ("no", "yes")))


def save(model: Any, folder: Path, *, allow_code: bool = True) -> PackageInfo:
    signature = signature_of(rides(), ("no", "yes"))
    return save_package(
        model, folder, signature=signature, example=rides(40), allow_code=allow_code, code="c1"
    )


def in_pipeline(project: Any) -> Any:
    return make_pipeline(FunctionTransformer(project.numbers_only), LogisticRegression(max_iter=1000))


LOAD = """
import sys
from pathlib import Path
import pyarrow.feather
from clew.registry import load_package
code, rows, *packages = sys.argv[1:]
for package in packages:
    folder, digest = package.split(":")
    model = load_package(Path(folder), expected_digest=digest, code_folder=Path(code))
    print(*model.predict(pyarrow.feather.read_table(rows)).predicted.tolist())
"""


def test_own_code_answers_in_another_process_with_the_captured_code(project: Any, tmp_path: Path) -> None:
    models = fitted(in_pipeline(project)), fitted(project.NearestMean())
    infos = [save(model, tmp_path / str(n)) for n, model in enumerate(models)]
    assert [info.trusted_types for info in infos] == [
        ("ride_model.numbers_only",),
        ("ride_model.NearestMean",),
    ]
    table = rides(60, seed=3)
    feather.write_feather(table, tmp_path / "rows")
    (tmp_path / "code").rename(tmp_path / "captured")
    packages = [f"{tmp_path / str(n)}:{info.digest}" for n, info in enumerate(infos)]
    answers = run_python(LOAD, tmp_path / "captured", tmp_path / "rows", *packages).splitlines()
    X = signature_of(rides(), ("no", "yes")).to_frame(table)
    assert [line.split() for line in answers] == [model.predict(X).tolist() for model in models]


def test_without_allow_code_the_class_is_named_and_the_mend(project: Any, tmp_path: Path) -> None:
    with pytest.raises(PackageError, match=r"own ride_model\.NearestMean to predict.*allow_code=True"):
        save(fitted(project.NearestMean()), tmp_path / "package", allow_code=False)


def test_without_the_code_it_is_asked_for(project: Any, tmp_path: Path) -> None:
    info = save(fitted(project.NearestMean()), tmp_path / "package")
    with pytest.raises(PackageError, match=r"NearestMean, and no code was given.*code_folder="):
        load_package(tmp_path / "package", expected_digest=info.digest)


def test_one_process_does_not_hold_two_versions_of_the_code(project: Any, tmp_path: Path) -> None:
    info = save(fitted(project.NearestMean()), tmp_path / "package")
    other = tmp_path / "other"
    other.mkdir()
    (other / "ride_model.py").write_text(PROJECT)
    path = list(sys.path)
    with pytest.raises(PackageError, match="load this package in a process of its own"):
        load_package(tmp_path / "package", expected_digest=info.digest, code_folder=other)
    sys.path[:] = path


def test_code_that_cannot_be_imported_says_why(project: Any, tmp_path: Path) -> None:
    info = save(fitted(project.NearestMean()), tmp_path / "package")
    (tmp_path / "code" / "ride_model.py").write_text("import no_such_library")
    feather.write_feather(rides(5), tmp_path / "rows")
    package = f"{tmp_path / 'package'}:{info.digest}"
    said = run_python(LOAD, tmp_path / "code", tmp_path / "rows", package, fails=True)
    assert "PackageError: Module ride_model cannot be imported: No module named 'no_such_library'" in said


# -- what cannot be packaged ---------------------------------------------------------------------------


def test_a_lambda_has_no_name_to_load_it_by(tmp_path: Path) -> None:
    model = make_pipeline(FunctionTransformer(lambda X: X[["warmth"]]), LogisticRegression())
    with pytest.raises(PackageError, match=r"<lambda>, which has no name to load it by\. Write it as"):
        save(fitted(model), tmp_path / "package")


def test_a_class_inside_a_function_or_a_class_is_asked_to_move(project: Any, tmp_path: Path) -> None:
    for n, model in enumerate((project.make_local(), project.Outer.Inner())):
        with pytest.raises(PackageError, match=r"has no '(Local|Inner)' at its top level\. Move"):
            save(fitted(model), tmp_path / str(n))


def test_an_attribute_that_cannot_be_stored_is_named(project: Any, tmp_path: Path) -> None:
    with pytest.raises(PackageError, match=r"holds _thread\.lock, which no package may hold"):
        save(fitted(project.Locked()), tmp_path / "lock")
    with pytest.raises(PackageError, match=r"ride_model\.Framed cannot be stored: .*Keep pandas objects"):
        save(fitted(project.Framed()), tmp_path / "frame")


def test_a_model_that_answers_differently_when_read_back_is_refused(project: Any, tmp_path: Path) -> None:
    with pytest.raises(PackageError, match=r"answers differently when it is read back: \d+ of 40 pred"):
        save(fitted(project.Forgetful()), tmp_path / "package")


@pytest.mark.parametrize(
    ("model", "named"),
    [
        ({"a": 1}, "a builtins.dict"),
        (LogisticRegression, "the class LogisticRegression itself"),
        (None, "NoneType"),
    ],
)
def test_what_cannot_predict_is_refused_with_what_can(model: Any, named: str, tmp_path: Path) -> None:
    with pytest.raises(PackageError, match=r"which cannot predict\. Return a fitted") as caught:
        save(model, tmp_path / "package")
    assert named in str(caught.value)


# -- what may come to life -----------------------------------------------------------------------------


def test_types_are_traced_to_where_they_come_from() -> None:
    assert origins(["functools.partial", "sklearn.tree._tree.Tree", "ride_model.NearestMean"]) == {
        "functools.partial": "python",
        "ride_model.NearestMean": "code",
        "sklearn.tree._tree.Tree": "scikit-learn",
    }


@pytest.mark.parametrize("name", ["os.system", "subprocess.Popen", "builtins.eval", "builtins.exec"])
def test_what_reaches_outside_of_the_model_is_never_trusted(name: str) -> None:
    with pytest.raises(PackageError, match="it can reach outside of the model"):
        check_saveable(origins([name]), allow_code=True)
    with pytest.raises(PackageError, match="it can reach outside of the model"):
        check_loadable({name: "python"}, {}, None)


def test_a_harmless_package_does_not_lend_its_name_to_what_it_imports() -> None:
    borrowed = "sklearn.utils._testing.check_output"
    with pytest.raises(PackageError, match="which is really of subprocess"):
        check_loadable({borrowed: "scikit-learn"}, {"scikit-learn": "1"}, None)


def test_a_distribution_must_be_recorded_and_installed() -> None:
    with pytest.raises(PackageError, match="not among the distributions it was made with: numpy"):
        check_loadable({"sklearn.tree._tree.Tree": "scikit-learn"}, {"numpy": "2"}, None)
    with pytest.raises(PackageError, match=r"not installed here\. Run: pip install no-such-thing==3"):
        check_loadable({"nothing.Tree": "no-such-thing"}, {"no-such-thing": "3"}, None)


def test_a_file_with_more_types_than_it_declares_is_not_loaded(project: Any, tmp_path: Path) -> None:
    save(fitted(in_pipeline(project)), tmp_path / "package")
    change_own(tmp_path / "package", {"trusted_types": {}})
    with pytest.raises(PackageError, match=r"holds types that it does not declare.*ride_model\.numbers_only"):
        load_package(tmp_path / "package", expected_digest=package_digest(tmp_path / "package"))


# -- the same bytes ------------------------------------------------------------------------------------


def test_sets_and_shared_arrays_keep_their_content() -> None:
    shared = np.arange(5)
    words = {"model": {"b", "a", "c"}, "first": shared, "second": shared, "raw": b"\x00bytes"}
    data = canonical_skops(skops.io.dumps(words))
    again = skops.io.loads(data)
    assert again["model"] == words["model"]
    assert again["raw"] == words["raw"]
    np.testing.assert_array_equal(again["first"], shared)
    assert canonical_skops(skops.io.dumps(again)) == data


def test_a_class_of_a_script_is_asked_to_move() -> None:
    with pytest.raises(PackageError, match=r"__main__\.Model, which was defined in a script or notebook"):
        check_saveable(origins(["__main__.Model"]), allow_code=True)
