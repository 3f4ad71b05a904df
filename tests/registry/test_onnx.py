"""ONNX graphs: which inputs and outputs are understood, and what is refused."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from skl2onnx import to_onnx
from sklearn.ensemble import RandomForestClassifier, RandomForestRegressor
from sklearn.linear_model import LinearRegression
from sklearn.tree import DecisionTreeClassifier

from clew.errors import DataError, MissingExtra, PackageError
from clew.registry import Signature, load_package, open_row_model, package_digest, save_package, wrap_model
from clew.registry.flavors.onnx_file import take_in
from tests.registry.elsewhere import run_python
from tests.registry.models import as_onnx, fitted
from tests.registry.rides import busy, pipeline, rides, signature_of

FOREST: dict[str, Any] = {"n_estimators": 5, "max_depth": 4, "random_state": 0}


def of_one_table(table: pa.Table, classes: Any) -> tuple[Any, Any, Signature]:
    """A model with one input of four columns, and what it was converted from."""
    signature = signature_of(table, classes)
    matrix = np.column_stack(
        [column.numbers(table[column.name].combine_chunks()) for column in signature.columns]
    )
    final = RandomForestRegressor(**FOREST) if classes is None else RandomForestClassifier(**FOREST)
    labels = table["warmth"].to_numpy() if classes is None else busy(table, classes)
    model = final.fit(matrix.astype(np.float32), labels)
    return (
        to_onnx(model, matrix[:1].astype(np.float32), options={"zipmap": False} if classes else None),
        model,
        signature,
    )


@pytest.mark.parametrize("classes", [("no", "yes"), (0, 1, 2)])
def test_one_table_of_numbers_takes_categories_as_their_positions(classes: Any, tmp_path: Path) -> None:
    table = rides()
    graph, model, signature = of_one_table(table, classes)
    info = save_package(graph, tmp_path, signature=signature, example=table)
    loaded = load_package(tmp_path, expected_digest=info.digest)
    answers = loaded.predict(table)
    matrix = np.column_stack(
        [column.numbers(table[column.name].combine_chunks()) for column in signature.columns]
    )
    assert answers.predicted.tolist() == model.predict(matrix.astype(np.float32)).tolist()
    assert answers.probabilities is not None
    np.testing.assert_allclose(
        answers.probabilities, model.predict_proba(matrix.astype(np.float32)), atol=1e-6
    )
    by_row = open_row_model(tmp_path, expected_digest=info.digest)
    encoded = [by_row.encode(row)[0] for row in table.to_pylist()]
    assert by_row.answer(encoded)[0] == answers.predicted.tolist()


def test_probabilities_may_come_with_names_or_without() -> None:
    table = rides()
    signature = signature_of(table, ("no", "yes"))
    model = pipeline(RandomForestClassifier(**FOREST)).fit(
        signature.to_frame(table), busy(table, ("no", "yes"))
    )
    named, plain = (as_onnx(model, signature, zipmap=zipmap) for zipmap in (True, False))
    assert wrap_model(named, signature).predict(table).is_same(wrap_model(plain, signature).predict(table))
    strange = signature_of(table, ("calm", "busy"))
    with pytest.raises(
        PackageError, match="for the classes 'no', 'yes', but the label's values are 'calm', 'busy'"
    ):
        wrap_model(named, strange).predict(table)


def test_a_path_is_read_when_it_is_returned(tmp_path: Path) -> None:
    table = rides()
    graph, _, signature = of_one_table(table, None)
    (tmp_path / "model.onnx").write_bytes(graph.SerializeToString())
    expected, taken = wrap_model(graph, signature).predict(table), take_in(str(tmp_path / "model.onnx"))
    (tmp_path / "model.onnx").unlink()
    save_package(taken, tmp_path / "package", signature=signature, example=table)
    assert load_package(tmp_path / "package").predict(table).is_same(expected)
    with pytest.raises(PackageError, match=r"model\.onnx cannot be read: No such file"):
        wrap_model(tmp_path / "model.onnx", signature)


def test_a_graph_may_use_some_of_the_columns() -> None:
    table = rides()
    signature = signature_of(table, None)
    frame = signature.to_frame(table)[["warmth"]]
    graph = to_onnx(LinearRegression().fit(frame, np.arange(len(frame))), frame[:1])
    assert wrap_model(graph, signature).signature.names == ("warmth",)


def test_whole_numbers_that_are_missing_are_named(tmp_path: Path) -> None:
    model, table, signature = fitted("onnx", (0, 1))
    info = save_package(model, tmp_path, signature=signature, example=table)
    by_row = open_row_model(tmp_path, expected_digest=info.digest)
    row = table.slice(0, 1).to_pylist()[0]
    encoded = [by_row.encode(each)[0] for each in (row, row | {"hour": None})]
    with pytest.raises(DataError, match="whole numbers for 'hour', which has none in row 1") as caught:
        by_row.answer(encoded)
    assert caught.value.column == "hour"


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"x": pa.array([1.0] * 40)}, r"inputs X \[None, 4\], and the features are x\. Convert it"),
        (
            {f"x{n}": pa.array(np.arange(40).astype("datetime64[us]")) for n in range(4)},
            "is a time, which ONNX",
        ),
    ],
)
def test_a_graph_of_other_inputs_is_refused(columns: Any, message: str) -> None:
    graph, _, _ = of_one_table(rides(), None)
    with pytest.raises(PackageError, match=message):
        wrap_model(graph, Signature.of(pa.table(columns), (), "pandas", "regression"))


def test_other_numbers_than_the_labels_values_are_refused() -> None:
    table = rides()
    graph = of_one_table(table, (0, 1, 2))[0]
    with pytest.raises(PackageError, match="answers 3 numbers a row, but the label has the 2 values 0, 1"):
        wrap_model(graph, signature_of(table, (0, 1))).predict(table)
    with pytest.raises(PackageError, match="it has to answer one number"):
        wrap_model(graph, signature_of(table, None)).predict(table)


def test_labels_alone_are_labels_without_probabilities() -> None:
    import onnx

    table = rides()
    signature = signature_of(table)
    frame = signature.to_frame(table)[["warmth"]]
    graph = to_onnx(DecisionTreeClassifier(max_depth=2).fit(frame, busy(table)), frame[:1])
    kept = [each for each in graph.graph.output if "label" in each.name]
    inner = graph.graph
    alone = onnx.helper.make_model(
        onnx.helper.make_graph(list(inner.node), "labels", list(inner.input), kept, inner.initializer),
        opset_imports=graph.opset_import, ir_version=graph.ir_version,
    )  # fmt: skip
    answers = wrap_model(alone, signature).predict(table)
    assert (answers.probabilities, answers.classes) == (None, (0, 1))


def test_what_is_no_graph_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "model.onnx").write_bytes(b"nonsense")
    with pytest.raises(PackageError, match=r"ONNX Runtime \S+ cannot read the model: "):
        wrap_model(tmp_path / "model.onnx", signature_of(rides()))
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(MissingExtra, match=r"\"clew\[onnx\]\""):
        wrap_model(tmp_path / "model.onnx", signature_of(rides()))


OPEN = """
import sys
from pathlib import Path
from clew.registry.row_models import open_row_model
open_row_model(Path(sys.argv[1]), expected_digest=sys.argv[2]).warm()
print(*sorted({"onnx", "scipy", "skl2onnx", "sklearn"} & set(sys.modules)))
"""


def test_rows_need_onnx_runtime_and_nothing_that_trains(tmp_path: Path) -> None:
    graph, _, signature = of_one_table(rides(), (0, 1))
    save_package(graph, tmp_path, signature=signature, example=rides())
    assert run_python(OPEN, tmp_path, package_digest(tmp_path)) == "\n"
