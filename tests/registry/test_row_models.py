"""Single rows are answered as a table of them would be, and read by the same rules."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from lightgbm import LGBMClassifier, LGBMRegressor

from clew.registry import LoadedModel, Signature, load_package, save_package
from clew.registry.row_models import RowModel, open_row_model
from tests.registry.rides import busy, rides, signature_of

SMALL: dict[str, Any] = {"n_estimators": 20, "n_jobs": 1, "verbose": -1}
CLASSES: dict[str, tuple[Any, ...] | None] = {
    "binary": (0, 1),
    "flags": (False, True),
    "words": ("cold", "mild", "warm"),
    "numbers": None,
}


def packaged(folder: Path, model: Any, table: pa.Table, signature: Signature) -> tuple[RowModel, LoadedModel]:
    """A fitted model as it answers rows and as it answers tables."""
    digest = save_package(model, folder, signature=signature, example=table).digest
    return open_row_model(folder, expected_digest=digest), load_package(folder, expected_digest=digest)


def labels_of(table: pa.Table, classes: Sequence[Any] | None) -> np.ndarray:
    return np.arange(table.num_rows) / 7 if classes is None else busy(table, classes)


def fitted_lightgbm(folder: Path, classes: Sequence[Any] | None) -> tuple[RowModel, LoadedModel]:
    table = rides(has_gaps=True)
    signature = signature_of(table, classes)
    model = (LGBMRegressor if classes is None else LGBMClassifier)(**SMALL)
    model.fit(signature.to_frame(table), labels_of(table, classes))
    return packaged(folder, model, table, signature)


@pytest.fixture(scope="module")
def lightgbm_models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[RowModel, LoadedModel]]:
    return {name: fitted_lightgbm(tmp_path_factory.mktemp("p"), of) for name, of in CLASSES.items()}


@pytest.fixture(scope="module")
def lightgbm(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, RowModel]:
    folder = tmp_path_factory.mktemp("package")
    return folder, fitted_lightgbm(folder, (0, 1))[0]


def answers_of(model: RowModel, rows: Sequence[Mapping[str, Any]]) -> tuple[list[Any], Any]:
    return model.answer([model.encode(row)[0] for row in rows])


def assert_same(rows: Sequence[Mapping[str, Any]], by_row: RowModel, loaded: LoadedModel) -> None:
    """One by one and together: the same to the last bit as the rows in a table."""
    schema = pa.schema([(column.name, column.arrow_type) for column in loaded.signature.columns])
    expected = loaded.predict(pa.Table.from_pylist(list(rows), schema))
    together, singly = answers_of(by_row, rows), [answers_of(by_row, [row]) for row in rows]
    assert together[0] == expected.predicted.tolist() == [labels[0] for labels, _ in singly]
    assert [type(label) for label in together[0]] == [type(label) for label in expected.predicted.tolist()]
    if expected.probabilities is None:
        assert together[1] is None
    else:
        assert together[1] == [tuple(row) for row in expected.probabilities.tolist()]
        assert together[1] == [row for _, rows_of in singly for row in rows_of]


ROWS = st.lists(
    st.fixed_dictionaries(
        {
            "warmth": st.none() | st.floats(allow_nan=False, allow_infinity=False),
            "hour": st.none() | st.integers(-(2**63), 2**63 - 1),
            "holiday": st.none() | st.booleans(),
            "city": st.sampled_from(["Bonn", "Kiel", "Ulm", None, "Rom", ""]) | st.text(max_size=3),
        }
    ),
    min_size=1,
    max_size=4,
)


# -- the same answers ----------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", list(CLASSES))
@given(rows=ROWS)
def test_lightgbm_answers_a_row_as_it_does_in_a_table(
    lightgbm_models: dict[str, tuple[RowModel, LoadedModel]], kind: str, rows: list[dict[str, Any]]
) -> None:
    assert_same(rows, *lightgbm_models[kind])


@pytest.mark.parametrize("kind", list(CLASSES))
def test_lightgbm_answers_the_training_rows_as_in_a_table(
    lightgbm_models: dict[str, tuple[RowModel, LoadedModel]], kind: str
) -> None:
    by_row, loaded = lightgbm_models[kind]
    assert by_row.names == ("warmth", "hour", "holiday", "city")
    assert by_row.classes == CLASSES[kind]
    assert_same(rides(has_gaps=True).to_pylist(), by_row, loaded)
