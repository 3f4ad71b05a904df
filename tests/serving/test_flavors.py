"""Models of every flavor behind the HTTP door of a real worker."""

from __future__ import annotations

import pytest

from clew.registry import wrap_model
from tests.registry.models import CLASSIFIERS, fitted
from tests.serving.workers import Place


@pytest.mark.parametrize("flavor", list(CLASSIFIERS))
def test_a_worker_answers_as_the_model_does(flavor: str, place: Place) -> None:
    model, table, signature = fitted(flavor, (0, 1))
    place.serve(model, classes=(0, 1))
    worker = place.start()
    rows = [{"ride": f"r{n}", **row} for n, row in enumerate(table.slice(0, 20).to_pylist())]
    expected = wrap_model(model, signature).predict(table.slice(0, 20))
    assert expected.probabilities is not None
    answers = worker.predict(rows).json()
    assert [list(answer["probabilities"].values()) for answer in answers] == expected.probabilities.tolist()
    assert [worker.predict(row).json()["prediction"] for row in rows] == expected.predicted.tolist()
