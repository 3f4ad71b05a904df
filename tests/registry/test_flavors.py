"""Every flavor keeps the same contract: fresh, out of a package, by rows, in another process."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.feather as feather
import pytest

from clew.registry import load_package, open_row_model, package_digest, save_package, wrap_model
from clew.registry.package_checks import version_changes
from tests.registry.elsewhere import run_python
from tests.registry.models import CLASSIFIERS, fitted

pytestmark = pytest.mark.filterwarnings("ignore:X does not have valid feature names:UserWarning")

FLAVORS = list(CLASSIFIERS)
KINDS: dict[str, tuple[Any, ...] | None] = {
    "two": (0, 1),
    "three": (0, 1, 2),
    "flags": (False, True),
    "words": ("cold", "mild", "warm"),
    "numbers": None,
}
# XGBoost itself takes no labels but 0, 1, 2, …; converters of ONNX take no flags.
CASES = [
    (flavor, kind)
    for flavor in FLAVORS
    for kind in KINDS
    if (flavor, kind) not in (("xgboost", "words"), ("onnx", "flags"))
]


@pytest.mark.parametrize(("flavor", "kind"), CASES)
def test_a_package_answers_as_the_fresh_model_does(flavor: str, kind: str, tmp_path: Path) -> None:
    model, table, signature = fitted(flavor, KINDS[kind], has_gaps=True)
    fresh = wrap_model(model, signature)
    info = save_package(model, tmp_path, signature=signature, example=table.slice(0, 50))
    loaded = load_package(tmp_path, expected_digest=info.digest)
    assert (info.flavor, loaded.flavor, version_changes(tmp_path)) == (flavor, flavor, {})
    assert loaded.signature == fresh.signature
    assert loaded.predict(table).is_same(fresh.predict(table))
    assert loaded.predict(table).classes == KINDS[kind]


@pytest.mark.parametrize(("flavor", "kind"), CASES)
def test_rows_get_the_answers_of_a_table(flavor: str, kind: str, tmp_path: Path) -> None:
    model, table, signature = fitted(flavor, KINDS[kind], has_gaps=True)
    info = save_package(model, tmp_path, signature=signature, example=table)
    by_row = open_row_model(tmp_path, expected_digest=info.digest)
    by_row.warm()
    expected = load_package(tmp_path, expected_digest=info.digest).predict(table)
    encoded = [by_row.encode(row)[0] for row in table.to_pylist()]
    together, singly = by_row.answer(encoded), [by_row.answer([row]) for row in encoded]
    assert together[0] == expected.predicted.tolist() == [labels[0] for labels, _ in singly]
    if expected.probabilities is not None:
        assert together[1] == [tuple(row) for row in expected.probabilities.tolist()]
        assert together[1] == [row for _, rows in singly for row in rows or ()]
    assert (by_row.names, by_row.classes) == (signature.names, KINDS[kind])


@pytest.mark.parametrize("flavor", FLAVORS)
def test_a_city_that_training_never_had_is_missing_and_flagged(flavor: str, tmp_path: Path) -> None:
    model, table, signature = fitted(flavor, (0, 1), has_gaps=True)
    info = save_package(model, tmp_path, signature=signature, example=table)
    by_row = open_row_model(tmp_path, expected_digest=info.digest)
    row = table.slice(0, 1).to_pylist()[0]
    encoded, unseen = by_row.encode(row | {"city": "Rom"})
    assert unseen == ("city",)
    missing, unseen = by_row.encode(row | {"city": None})
    assert unseen == ()
    assert by_row.answer([encoded]) == by_row.answer([missing])


@pytest.mark.parametrize("flavor", FLAVORS)
@pytest.mark.parametrize("kind", ["two", "three", "numbers"])
def test_no_rows_get_no_answers(flavor: str, kind: str) -> None:
    classes = KINDS[kind]
    model, table, signature = fitted(flavor, classes)
    answers = wrap_model(model, signature).predict(table.slice(0, 0))
    assert len(answers) == 0
    assert classes is None or (
        answers.probabilities is not None and answers.probabilities.shape == (0, len(classes))
    )


ANSWER = """
import sys
from pathlib import Path
import numpy as np, pyarrow.feather
from clew.registry import load_package
place, digest = Path(sys.argv[1]), sys.argv[2]
rows = pyarrow.feather.read_table(place / "rows")
model = load_package(place / "package", expected_digest=digest)
np.save(place / "answers.npy", model.predict(rows).probabilities)
"""


@pytest.mark.parametrize("flavor", FLAVORS)
def test_another_process_answers_to_the_same_bit(flavor: str, tmp_path: Path) -> None:
    model, table, signature = fitted(flavor, (0, 1), has_gaps=True)
    digest = save_package(model, tmp_path / "package", signature=signature, example=table).digest
    feather.write_feather(table, tmp_path / "rows")
    run_python(ANSWER, tmp_path, digest, hash_seed=1)
    expected = wrap_model(model, signature).predict(table).probabilities
    np.testing.assert_array_equal(np.load(tmp_path / "answers.npy"), expected)


@pytest.mark.parametrize("flavor", FLAVORS)
def test_the_same_model_makes_the_same_package(flavor: str, tmp_path: Path) -> None:
    digests = set()
    for name in ("one", "other"):
        model, table, signature = fitted(flavor, (0, 1))
        save_package(model, tmp_path / name, signature=signature, example=table)
        digests.add(package_digest(tmp_path / name))
    assert len(digests) == 1
