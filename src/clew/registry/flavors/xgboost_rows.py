"""Rows for XGBoost packages, answered by XGBoost's library without its Python package.

Its Python package imports SciPy, and pandas and scikit-learn where they are installed, and takes many times
as long for a row as the library does.
"""

from __future__ import annotations

import ctypes
import json
import weakref
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from clew.entities import Json
from clew.errors import PackageError
from clew.registry.flavors.native_library import native_library
from clew.registry.number_rows import NumberRows

if TYPE_CHECKING:
    from clew.storage.records import Value

MODEL_FILE = "model.ubj"
_LIBRARY_FILES = {"Linux": "libxgboost.so", "Windows": "xgboost.dll", "Darwin": "libxgboost.dylib"}
_PREDICTION = (
    b'{"type": 0, "training": false, "iteration_begin": 0, "iteration_end": 0, "missing": NaN,'
    b' "strict_shape": true, "cache_id": 0}'
)


class XGBoostRows(NumberRows):
    """A Booster that answers rows; see :class:`clew.registry.row_models.RowModel`.

    Raises
    ------
    PackageError
        When XGBoost cannot read the model, or it is not the one that the signature describes.
    MissingExtra
        When XGBoost is not installed.
    """

    def __init__(self, folder: Path, signature: Json) -> None:
        super().__init__(signature)
        self._booster = _Booster((folder / MODEL_FILE).read_bytes())
        self.require_shape(self._booster.n_columns, self._booster.n_outputs)

    def answer(self, rows: Sequence[bytes]) -> tuple[list[Value], list[tuple[float, ...]] | None]:
        self.require_length(rows)
        return self.labelled(self._booster.predict(rows), self._booster.n_outputs)


class _Booster:
    """A model in XGBoost's memory. Each thread gets its answers in memory of its own."""

    def __init__(self, content: bytes) -> None:
        self._library = library = native_library("xgboost", _LIBRARY_FILES, "XGBGetLastError")
        self._handle = handle = ctypes.c_void_p()
        # Not at the end of the process, which frees everything at once.
        weakref.finalize(self, _free, library, handle).atexit = False
        self._check(library.XGBoosterCreate(None, ctypes.c_uint64(0), ctypes.byref(handle)))
        size = ctypes.c_uint64(len(content))
        self._check(library.XGBoosterLoadModelFromBuffer(handle, content, size))
        # A worker is one of several processes on the machine: threads would only take turns.
        self._check(library.XGBoosterSetParam(handle, b"nthread", b"1"))
        n_columns = ctypes.c_uint64()
        self._check(library.XGBoosterGetNumFeature(handle, ctypes.byref(n_columns)))
        self.n_columns, self.n_outputs = n_columns.value, self._count_outputs()
        self._interface = b'{"data": [%d, true], "shape": [%d, ' + str(self.n_columns).encode()
        self._interface += b'], "typestr": "<f8", "version": 3}'

    def _count_outputs(self) -> int:
        size, text = ctypes.c_uint64(), ctypes.c_char_p()
        save = self._library.XGBoosterSaveJsonConfig
        self._check(save(self._handle, ctypes.byref(size), ctypes.byref(text)))
        about = json.loads(text.value or b"{}")["learner"]["learner_model_param"]
        return max(1, int(about["num_class"]), int(about["num_target"]))

    def predict(self, rows: Sequence[bytes]) -> list[float]:
        """The outputs of each row, one row after another."""
        if not rows:
            return []
        matrix = b"".join(rows)
        address = ctypes.cast(ctypes.c_char_p(matrix), ctypes.c_void_p).value
        shape, n_dimensions = ctypes.POINTER(ctypes.c_uint64)(), ctypes.c_uint64()
        answer = ctypes.POINTER(ctypes.c_float)()
        self._check(
            self._library.XGBoosterPredictFromDense(
                self._handle, self._interface % (address, len(rows)), _PREDICTION, None,
                ctypes.byref(shape), ctypes.byref(n_dimensions), ctypes.byref(answer),
            )
        )  # fmt: skip
        return answer[: self.n_outputs * len(rows)]

    def _check(self, code: int) -> None:
        if code != 0:
            said = self._library.XGBGetLastError().decode(errors="replace").partition("\n")[0]
            raise PackageError(f"XGBoost cannot use the model: {said}")


def _free(library: ctypes.CDLL, handle: ctypes.c_void_p) -> None:
    if handle.value is not None:
        library.XGBoosterFree(handle)
