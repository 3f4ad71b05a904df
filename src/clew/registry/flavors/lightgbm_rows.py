"""Rows for LightGBM packages, answered by LightGBM's library without its Python package.

Importing lightgbm brings pandas, scikit-learn and SciPy along where they are installed: some 200 MB in each
process that predicts. The library alone takes a few.
"""

from __future__ import annotations

import ctypes
import weakref
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

from clew.entities import Json
from clew.errors import PackageError
from clew.registry.flavors.native_library import native_library
from clew.registry.number_rows import NumberRows

if TYPE_CHECKING:
    from clew.storage.records import Value

MODEL_FILE = "model.lgb"
_LIBRARY_FILES = {"Linux": "lib_lightgbm.so", "Windows": "lib_lightgbm.dll", "Darwin": "lib_lightgbm.dylib"}
_FLOAT64, _ROW_MAJOR, _NORMAL, _FROM_FIRST, _ALL_TREES = 1, 1, 0, 0, -1
# A worker is one of several processes on the machine: threads would only take turns. LightGBM keeps the
# number for the whole process.
_PARAMETERS = b"num_threads=1"


class LightGBMRows(NumberRows):
    """A Booster that answers rows; see :class:`clew.registry.row_models.RowModel`.

    Made for one thread that predicts, and safe in several: LightGBM answers single rows of one model one
    after another, and each call has an answer of its own to write to.

    Raises
    ------
    PackageError
        When LightGBM cannot read the model, or it is not the one that the signature describes.
    MissingExtra
        When LightGBM is not installed.
    """

    def __init__(self, folder: Path, signature: Json) -> None:
        super().__init__(signature)
        self._booster = _Booster((folder / MODEL_FILE).read_bytes())
        self.require_shape(self._booster.n_columns, self._booster.n_outputs)

    def answer(self, rows: Sequence[bytes]) -> tuple[list[Value], list[tuple[float, ...]] | None]:
        self.require_length(rows)
        booster = self._booster
        numbers = booster.predict_one(rows[0]) if len(rows) == 1 else booster.predict_many(rows)
        return self.labelled(numbers, booster.n_outputs)


class _Booster:
    """A model in LightGBM's memory."""

    def __init__(self, text: bytes) -> None:
        self._library = library = native_library("lightgbm", _LIBRARY_FILES, "LGBM_GetLastError")
        handle, fast, n_iterations = ctypes.c_void_p(), ctypes.c_void_p(), ctypes.c_int()
        # Not at the end of the process, which frees everything at once.
        weakref.finalize(self, _free, library, handle, fast).atexit = False
        self._check(
            library.LGBM_BoosterLoadModelFromString(text, ctypes.byref(n_iterations), ctypes.byref(handle))
        )
        n_columns, n_outputs = ctypes.c_int(), ctypes.c_int64()
        self._check(library.LGBM_BoosterGetNumFeature(handle, ctypes.byref(n_columns)))
        count = library.LGBM_BoosterCalcNumPredict
        self._check(count(handle, 1, _NORMAL, _FROM_FIRST, _ALL_TREES, ctypes.byref(n_outputs)))
        prepare = library.LGBM_BoosterPredictForMatSingleRowFastInit
        prediction = (_NORMAL, _FROM_FIRST, _ALL_TREES, _FLOAT64, n_columns, _PARAMETERS)
        self._check(prepare(handle, *prediction, ctypes.byref(fast)))
        self._handle, self._fast = handle, fast
        self.n_columns, self.n_outputs = n_columns.value, n_outputs.value
        self._one_answer = ctypes.c_double * self.n_outputs
        self._predict_one = library.LGBM_BoosterPredictForMatSingleRowFast

    def predict_one(self, row: bytes) -> list[float]:
        answer = self._one_answer()
        self._check(self._predict_one(self._fast, row, ctypes.byref(ctypes.c_int64()), answer))
        return answer[:]

    def predict_many(self, rows: Sequence[bytes]) -> list[float]:
        """The outputs of each row, one row after another."""
        if not rows:
            return []
        answer = (ctypes.c_double * (self.n_outputs * len(rows)))()
        shape = (ctypes.c_int32(len(rows)), ctypes.c_int32(self.n_columns), _ROW_MAJOR)
        prediction = (_NORMAL, _FROM_FIRST, _ALL_TREES, _PARAMETERS, ctypes.byref(ctypes.c_int64()), answer)
        predict = self._library.LGBM_BoosterPredictForMat
        self._check(predict(self._handle, b"".join(rows), _FLOAT64, *shape, *prediction))
        return answer[:]

    def _check(self, code: int) -> None:
        if code != 0:
            said = self._library.LGBM_GetLastError().decode(errors="replace")
            raise PackageError(f"LightGBM {version('lightgbm')} cannot use the model: {said}")


def _free(library: ctypes.CDLL, handle: ctypes.c_void_p, fast: ctypes.c_void_p) -> None:
    if fast.value is not None:
        library.LGBM_FastConfigFree(fast)
    if handle.value is not None:
        library.LGBM_BoosterFree(handle)
