"""A row of JSON answered by a package's own row path, beside LightGBM's fastest call for one row.

The value counts reading the row (kinds checked, categories to their codes), the call, and label and
probabilities out of what it gives; the floor is the call alone, on numbers that lie ready. All are asked in
turn about the same rows.
"""

from __future__ import annotations

import ctypes
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, cast

import lightgbm
import numpy as np

from benchmarks._credit import applications, packaged, signature_of
from clew.registry import open_row_model

GOAL = 2.0
_FLOAT64, _NORMAL, _FROM_FIRST, _ALL_TREES = 1, 0, 0, -1
_ONE_THREAD = b"num_threads=1"


def fastest_call(model: Any, n_columns: int) -> Callable[[bytes], float]:
    """LightGBM's single-row call, prepared once, on the bytes of a row of float64."""
    library, booster, fast = cast("Any", lightgbm.basic)._LIB, model.booster_, ctypes.c_void_p()
    prepared = library.LGBM_BoosterPredictForMatSingleRowFastInit(
        booster._handle,
        _NORMAL,
        _FROM_FIRST,
        _ALL_TREES,
        _FLOAT64,
        n_columns,
        _ONE_THREAD,
        ctypes.byref(fast),
    )
    assert prepared == 0
    answer = ctypes.c_double()
    into, length = ctypes.byref(answer), ctypes.byref(ctypes.c_int64())
    predict = library.LGBM_BoosterPredictForMatSingleRowFast

    def call(row: bytes) -> float:
        predict(fast, row, length, into)
        return answer.value

    return call


def microseconds(work: Callable[[Any], object], rows: Sequence[Any]) -> float:
    started = time.process_time()
    for row in rows:
        work(row)
    return (time.process_time() - started) / len(rows) * 1e6


def main() -> None:
    n_rows, n_rounds = (50, 1) if "--smoke" in sys.argv else (2000, 15)
    table = applications(n_rows)
    with tempfile.TemporaryDirectory() as folder:
        model, digest = packaged(Path(folder) / "package")
        row_model = open_row_model(Path(folder) / "package", expected_digest=digest)
    frame = signature_of(applications(5000)).to_frame(table)
    codes = frame.assign(**{name: frame[name].cat.codes for name in frame if frame[name].dtype == "category"})
    rows = table.to_pylist()
    numbers = [row.tobytes() for row in codes.to_numpy(np.float64)]
    frames = [frame.iloc[[n]] for n in range(min(n_rows, 100))]
    call = fastest_call(model, frame.shape[1])

    def answer(row: dict[str, Any]) -> tuple[list[Any], Any]:
        encoded, _ = row_model.encode(row)
        return row_model.answer([encoded])

    assert [answer(row)[1][0][1] for row in rows] == [call(row) for row in numbers]
    works: dict[str, tuple[Callable[[Any], object], Sequence[Any]]] = {
        "clew": (answer, rows),
        "LightGBM's single-row call": (call, numbers),
        "its scikit-learn wrapper, one-row DataFrame": (model.predict_proba, frames),
    }
    rounds: dict[str, list[float]] = {name: [] for name in works}
    for _ in range(n_rounds):
        for name, (work, given) in works.items():
            rounds[name].append(microseconds(work, given))
    ours, floor, peer = rounds.values()
    took = {name: round(statistics.median(of_name), 2) for name, of_name in rounds.items()}
    for name, each in took.items():
        print(f"{name:45} {each:9.2f} us a row")
    result = {
        "name": "row prediction",
        "value": round(ratio(ours, floor), 2),
        "unit": "x floor",
        "goal": GOAL,
        "better": "lower",
        "floor": {"LightGBM's single-row call": 1.0},
        "peers": {"its scikit-learn wrapper, one-row DataFrame": round(ratio(peer, floor))},
        "details": {"microseconds": took},
    }
    print(json.dumps(result))


def ratio(times: Sequence[float], floor: Sequence[float]) -> float:
    return statistics.median(a / b for a, b in zip(times, floor, strict=True))


if __name__ == "__main__":
    main()
