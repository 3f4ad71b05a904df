"""Single rows are answered as a table of them would be, and read by the same rules."""

from __future__ import annotations

import gc
import importlib
import json
import math
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from lightgbm import LGBMClassifier, LGBMRegressor
from sklearn.ensemble import RandomForestClassifier, RandomForestRegressor
from sklearn.linear_model import LogisticRegression, RidgeClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer
from sklearn.tree import DecisionTreeClassifier

from clew.entities import FrameKind
from clew.errors import DataError, MissingExtra, PackageError
from clew.registry import (
    FeatureColumn,
    LoadedModel,
    RowModel,
    Signature,
    load_package,
    open_row_model,
    package_digest,
    save_package,
)
from clew.registry.arrow_rows import time_reader
from clew.registry.row_values import RowColumn
from tests.registry.elsewhere import change_own, run_python
from tests.registry.rides import busy, pipeline, rides, signature_of

ROOT = Path(__file__).resolve().parents[2]
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


def test_no_rows_get_no_answers(lightgbm_models: dict[str, tuple[RowModel, LoadedModel]]) -> None:
    assert lightgbm_models["words"][0].answer([]) == ([], [])
    assert lightgbm_models["numbers"][0].answer([]) == ([], None)


@pytest.mark.parametrize("kind", ["int8", "uint64", "float", "bool", "double"])
def test_lightgbm_answers_from_every_type_of_number(kind: str, tmp_path: Path) -> None:
    values = np.random.default_rng(0).integers(0, 2 if kind == "bool" else 100, 200)
    table = pa.table({"x": pa.array(values).cast(pa.type_for_alias(kind))})
    signature = Signature.of(table, (), "pandas", "classification", (0, 1))
    model = LGBMClassifier(**SMALL).fit(signature.to_frame(table), values % 2)
    assert_same(table.to_pylist(), *packaged(tmp_path, model, table, signature))


def test_categories_may_be_numbers_or_flags(tmp_path: Path) -> None:
    table = pa.table({"zone": [3, 1, 2, 1] * 50, "open": [True, False, True, True] * 50, "x": range(200)})
    signature = Signature.of(table, ("zone", "open"), "pandas", "regression")
    model = LGBMRegressor(**SMALL).fit(signature.to_frame(table), np.arange(200) % 7)
    by_row, loaded = packaged(tmp_path, model, table, signature)
    rows: list[dict[str, Any]] = [{"zone": 1.0, "open": 1, "x": True}, {"zone": 9, "open": None, "x": 2.0}]
    assert_same([{"zone": 1, "open": True, "x": 1}, {"zone": 9, "open": None, "x": 2}], by_row, loaded)
    assert by_row.encode(rows[0]) == by_row.encode({"zone": 1, "open": True, "x": 1})
    assert by_row.encode(rows[1])[1] == ("zone",)


def test_a_model_that_saw_one_class_answers_it(tmp_path: Path) -> None:
    table = rides()
    signature = signature_of(table, ("no", "yes"))
    model = LGBMClassifier(**SMALL).fit(signature.to_frame(table), np.array(["yes"] * table.num_rows))
    by_row, loaded = packaged(tmp_path, model, table, signature)
    assert by_row.classes == ("yes",)
    assert_same(table.slice(0, 5).to_pylist(), by_row, loaded)


SCIKIT: dict[str, tuple[Callable[[], Any], tuple[Any, ...] | None]] = {
    "flags": (lambda: pipeline(RandomForestClassifier(5, random_state=0)), (False, True)),
    "words": (lambda: pipeline(RandomForestClassifier(5, random_state=0)), ("cold", "mild", "warm")),
    "no probabilities": (lambda: pipeline(RidgeClassifier()), (0, 1)),
    "numbers": (lambda: pipeline(RandomForestRegressor(5, random_state=0)), None),
}


@pytest.mark.parametrize("kind", list(SCIKIT))
@pytest.mark.parametrize("frame", ["pandas", "polars"])
def test_scikit_learn_answers_a_row_as_it_does_in_a_table(
    kind: str, frame: FrameKind, tmp_path: Path
) -> None:
    make, classes = SCIKIT[kind]
    table = rides()
    signature = signature_of(table, classes, frame)
    model = make().fit(signature.to_frame(table), labels_of(table, classes))
    by_row, loaded = packaged(tmp_path, model, table, signature)
    by_row.warm()
    assert by_row.classes == classes
    assert_same([*table.slice(0, 20).to_pylist(), ULM | {"city": "Rom"}], by_row, loaded)
    assert by_row.encode(ULM | {"city": "Rom"})[1] == ("city",)
    assert len(by_row.answer([])[0]) == 0


def hours_and_days(X: Any) -> Any:
    return np.column_stack([X["at"].dt.hour.to_numpy(), X["day"].astype("datetime64[ns]").dt.day.to_numpy()])


def test_times_are_read_from_iso_text(tmp_path: Path) -> None:
    start = datetime(2011, 1, 31, 9, tzinfo=UTC)
    times = [start + timedelta(hours=7 * n, microseconds=n) for n in range(60)]
    table = pa.table({"at": times, "day": pa.array([at.date() for at in times])})
    signature = Signature.of(table, (), "pandas", "classification", (0, 1))
    labels = np.array([int(at.hour > 12) for at in times])
    steps = (FunctionTransformer(hours_and_days), DecisionTreeClassifier(max_depth=2))
    model = make_pipeline(*steps).fit(signature.to_frame(table), labels)
    folder = tmp_path / "package"
    info = save_package(model, folder, signature=signature, example=table, allow_code=True)
    by_row = open_row_model(folder, code_folder=ROOT, expected_digest=info.digest)
    by_row.warm()
    rows = [{"at": at.isoformat(), "day": at.date().isoformat()} for at in times]
    rows.append({"at": "2011-01-31 10:00+01:00", "day": "2011-01-31"})
    assert answers_of(by_row, rows)[0] == [*labels.tolist(), 0]


# -- values --------------------------------------------------------------------------------------------

ULM: dict[str, Any] = {"warmth": 1.5, "hour": 9, "holiday": False, "city": "Ulm"}
TYPES = [f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)]
TYPES += ["double", "float", "halffloat", "bool", "string"]
EDGES = [2**bits + more for bits in (7, 8, 11, 24, 31, 53, 62) for more in (-1, 0, 1)]
VALUES = (
    st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.sampled_from([*EDGES, *(-edge for edge in EDGES)])
    | st.integers(-3, 3).map(float)
    | st.floats(-60_000, 60_000)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=4)
)


def read_by_arrow(kind: str, value: Any) -> Any:
    """The value as a table's column has it; an error if it is refused or no longer finite."""
    own = FeatureColumn("x", kind).read(pa.array([value]))[0].as_py()
    if isinstance(own, float) and not math.isfinite(own):
        raise DataError("not finite")
    return own


@pytest.mark.parametrize("kind", TYPES)
@given(value=VALUES)
def test_a_value_in_a_row_is_read_as_in_a_table(kind: str, value: Any) -> None:
    try:
        expected = read_by_arrow(kind, value)
    except DataError:
        with pytest.raises(DataError):
            RowColumn("x", kind).reader()(value)
    else:
        own = RowColumn("x", kind).reader()(value)
        assert (type(own), own) == (type(expected), expected)
        assert not isinstance(own, float) or math.copysign(1, own) == math.copysign(1, expected)


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("hour", "3", r"'hour' was int64 in training, but now has '3' \(a string\)\. Send it as int64, or"),
        ("hour", 3.5, r"now has 3\.5 \(a number\)"),
        ("hour", 2**63, r"has 9223372036854775808 \(a whole number\)"),
        ("warmth", math.nan, r"'warmth' was double in training, but now has nan \(not finite\)"),
        (
            "warmth",
            -math.inf,
            r"has -inf \(not finite\)\. Send it as double, or as null when it is not known",
        ),
        ("warmth", 2**53 + 1, "has 9007199254740993"),
        ("warmth", [1.5], r"has \[1\.5\] \(a list\)"),
        ("warmth", {"celsius": 3}, "an object"),
        ("holiday", 2, "was bool in training, but now has 2"),
        ("holiday", "true", r"has 'true' \(a string\)"),
        ("city", True, r"was string in training, but now has True \(true or false\)"),
        ("city", 7, "has 7"),
        ("city", "\ud800", "was string"),
    ],
)
def test_a_value_of_another_kind_is_named_with_its_field(
    lightgbm: tuple[Path, RowModel], field: str, value: Any, message: str
) -> None:
    with pytest.raises(DataError, match=message) as caught:
        lightgbm[1].encode(ULM | {field: value})
    assert caught.value.column == field


def test_a_long_value_is_named_by_its_beginning(lightgbm: tuple[Path, RowModel]) -> None:
    with pytest.raises(DataError) as caught:
        lightgbm[1].encode(ULM | {"hour": "9" * 10_000})
    assert len(str(caught.value)) < 300


def test_a_field_that_is_not_there_is_named_with_what_may_stand_for_it(
    lightgbm: tuple[Path, RowModel],
) -> None:
    row = {"warmht" if name == "warmth" else name: value for name, value in ULM.items()}
    with pytest.raises(DataError, match=r"no field 'warmth'\. Is it meant by 'warmht'\? Send null") as caught:
        lightgbm[1].encode(row)
    assert caught.value.column == "warmth"
    with pytest.raises(DataError, match=r"no field 'warmth'\. Send null"):
        lightgbm[1].encode({})


def test_null_is_a_missing_value_everywhere_and_flagged_nowhere(lightgbm: tuple[Path, RowModel]) -> None:
    encoded, unseen = lightgbm[1].encode(dict.fromkeys(ULM))
    assert unseen == ()
    assert lightgbm[1].answer([encoded])[0][0] in (0, 1)


def test_an_unseen_category_counts_as_missing_and_is_reported(lightgbm: tuple[Path, RowModel]) -> None:
    encoded, unseen = lightgbm[1].encode(ULM | {"city": "Rom"})
    assert unseen == ("city",)
    assert encoded == lightgbm[1].encode(ULM | {"city": None})[0]


def test_fields_that_the_model_does_not_know_are_ignored(lightgbm: tuple[Path, RowModel]) -> None:
    assert lightgbm[1].encode(ULM | {"note": object()}) == lightgbm[1].encode(ULM)


@pytest.mark.parametrize(
    ("kind", "value", "wanted"),
    [
        ("timestamp[us, tz=UTC]", "2011-01-31T09:00:00", "ISO 8601 text with a zone such as '2011-01-31T0"),
        ("timestamp[us]", "2011-01-31T09:00:00Z", "ISO 8601 text without a zone"),
        ("timestamp[s]", 1296464400, "ISO 8601 text without a zone"),
        ("timestamp[us]", "yesterday", "ISO 8601"),
        ("date32[day]", "31.1.2011", "ISO 8601 text such as '2011-01-31'"),
        ("date32[day]", "\ud800", "ISO 8601 text"),
        ("duration[us]", "1 day", "Send it as duration"),
    ],
)
def test_a_time_that_cannot_be_read_is_told_how_to_be_written(kind: str, value: Any, wanted: str) -> None:
    with pytest.raises(DataError, match=wanted) as caught:
        time_reader(FeatureColumn("at", kind))(value)
    assert caught.value.column == "at"


def test_a_value_that_scikit_learn_cannot_take_is_named_by_its_row(tmp_path: Path) -> None:
    table = rides()
    signature = signature_of(table)
    model = pipeline(LogisticRegression(max_iter=1000)).fit(signature.to_frame(table), busy(table))
    by_row, _ = packaged(tmp_path, model, table, signature)
    with pytest.raises(DataError, match=r"'warmth' has no value in row 1;.*SimpleImputer") as caught:
        answers_of(by_row, [ULM, ULM | {"warmth": None}])
    assert (caught.value.column, caught.value.rows) == ("warmth", (1,))


# -- packages ------------------------------------------------------------------------------------------

OPEN = """
import sys
from pathlib import Path
from clew.registry.row_models import open_row_model
folder, digest, code = sys.argv[1:]
model = open_row_model(Path(folder), expected_digest=digest, code_folder=Path(code) if code else None)
model.warm()
print(model.answer([model.encode({"warmth": 1.5, "hour": 9, "holiday": False, "city": "Ulm"})[0]])[0][0])
print(*sorted({"lightgbm", "numpy", "pandas", "pyarrow", "scipy", "sklearn"} & set(sys.modules)))
"""


def test_lightgbm_rows_need_the_library_and_nothing_else(lightgbm: tuple[Path, RowModel]) -> None:
    folder, model = lightgbm
    printed = run_python(OPEN, folder, package_digest(folder), "")
    assert printed == f"{answers_of(model, [ULM])[0][0]}\n\n"


def test_own_code_answers_rows_from_the_captured_code(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    code = tmp_path / "code"
    code.mkdir()
    (code / "warm_rides.py").write_text("def warmth(X):\n    return X[['warmth']]\n")
    monkeypatch.syspath_prepend(str(code))
    warmth = importlib.import_module("warm_rides").warmth
    table = rides()
    signature = signature_of(table, ("no", "yes"))
    model = make_pipeline(FunctionTransformer(warmth), LogisticRegression())
    model.fit(signature.to_frame(table), busy(table, ("no", "yes")))
    place = tmp_path / "package"
    info = save_package(model, place, signature=signature, example=table, allow_code=True, code="c1")
    code.rename(tmp_path / "captured")
    printed = run_python(OPEN, place, info.digest, tmp_path / "captured").splitlines()
    assert printed[0] == "yes"
    with pytest.raises(PackageError, match=r"own warm_rides\.warmth, and no code was given"):
        open_row_model(place, expected_digest=info.digest)


def test_a_package_that_was_changed_is_not_opened(tmp_path: Path) -> None:
    fitted_lightgbm(tmp_path, (0, 1))
    digest = package_digest(tmp_path)
    change_own(tmp_path, {"metrics": {"accuracy": 1.0}})
    with pytest.raises(PackageError, match=r"but the registry has .*: it was changed"):
        open_row_model(tmp_path, expected_digest=digest)


def test_a_flavor_of_a_newer_release_is_named(tmp_path: Path) -> None:
    fitted_lightgbm(tmp_path, (0, 1))
    change_own(tmp_path, {"flavor": "gguf"})
    with pytest.raises(
        PackageError, match="the flavor 'gguf', but this Clew reads lightgbm, onnx, skops, xgb"
    ):
        open_row_model(tmp_path, expected_digest=package_digest(tmp_path))


@pytest.mark.parametrize("text", [b"", b"tree\nnonsense\n", b"num_class=1\n"])
def test_a_text_that_lightgbm_cannot_read_is_refused(text: bytes, tmp_path: Path) -> None:
    fitted_lightgbm(tmp_path, (0, 1))
    (tmp_path / "model.lgb").write_bytes(text)
    with pytest.raises(PackageError, match=r"LightGBM \S+ cannot use the model: "):
        open_row_model(tmp_path, expected_digest=package_digest(tmp_path))


def test_a_model_of_more_columns_than_its_signature_says_is_refused(tmp_path: Path) -> None:
    fitted_lightgbm(tmp_path, (0, 1))
    signature = json.loads((tmp_path / "MLmodel").read_text())["clew"]["signature"]
    change_own(tmp_path, {"signature": signature | {"columns": signature["columns"][:2]}})
    with pytest.raises(PackageError, match="takes 4 columns and answers 1 numbers, which its signature of 2"):
        open_row_model(tmp_path, expected_digest=package_digest(tmp_path))


def test_lightgbm_that_is_not_installed_is_named_with_its_extra(
    lightgbm: tuple[Path, RowModel], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "lightgbm", None)
    with pytest.raises(MissingExtra, match=r"'lightgbm', which is not installed.*\"clew\[lightgbm\]\""):
        open_row_model(lightgbm[0], expected_digest=package_digest(lightgbm[0]))


def test_warming_answers_the_example_or_says_that_there_is_none(tmp_path: Path) -> None:
    by_row, _ = fitted_lightgbm(tmp_path, (0, 1))
    by_row.warm()
    (tmp_path / "input_example.json").write_text('{"columns": ["warmth"], "data": [[1, 2]]}')
    with pytest.raises(PackageError, match="has no example that can be read"):
        by_row.warm()


def test_a_row_of_another_model_is_no_row(lightgbm: tuple[Path, RowModel]) -> None:
    for rows in ([b"12345678"], [lightgbm[1].encode(ULM)[0], b"12345678"]):
        with pytest.raises(ValueError, match=r"of 1 numbers was encoded by another model; .* takes 4"):
            lightgbm[1].answer(rows)


def test_threads_that_ask_at_once_get_their_own_answers(lightgbm: tuple[Path, RowModel]) -> None:
    model = lightgbm[1]
    encoded = [model.encode(row)[0] for row in rides(has_gaps=True).to_pylist()]
    expected = [model.answer([row]) for row in encoded]
    wrong: list[int] = []

    def ask(step: int) -> None:
        asked = [n * step % len(encoded) for n in range(20 * len(encoded))]
        wrong.extend(n for n in asked if model.answer([encoded[n]]) != expected[n])

    threads = [threading.Thread(target=ask, args=(step,)) for step in (1, 7, 11)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_models_that_nobody_holds_take_no_memory(tmp_path: Path) -> None:
    table = rides(3000)
    signature = signature_of(table)
    model = LGBMClassifier(n_estimators=300, n_jobs=1, verbose=-1)
    model.fit(signature.to_frame(table), busy(table))
    digest = save_package(model, tmp_path, signature=signature, example=table).digest

    def open_and_forget(n_times: int) -> int:
        for _ in range(n_times):
            open_row_model(tmp_path, expected_digest=digest).warm()
        gc.collect()
        return int(psutil.Process().memory_info().rss)

    before = open_and_forget(3)
    size = (tmp_path / "model.lgb").stat().st_size
    assert open_and_forget(40) - before < 10 * size
