"""One contract that every sequential detector must keep; a new detector costs one entry in `DETECTORS`.

A detector is a frozen value with ``extended(rows) -> (detector, log_evidence)``, ``alarm_row``,
``onset_row``, ``to_dict`` and ``from_dict``. `detector_classes` finds them by walking the room.
"""

from __future__ import annotations

import importlib
import inspect
import json
import math
import pickle
import pkgutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import pytest

import clew.stats
from clew.stats.arrays import FloatArray
from clew.stats.betting import RiskDetector, harm_detector, paired_betting
from clew.stats.evidence import Evidence


class Detector(Protocol):
    """What the contract asks for."""

    @property
    def alarm_row(self) -> int | None: ...

    @property
    def onset_row(self) -> int | None: ...

    def extended(self, rows: Any, /) -> tuple[Any, FloatArray]: ...

    def to_dict(self) -> dict[str, Any]: ...

    @classmethod
    def from_dict(cls, stored: Mapping[str, Any]) -> Any: ...


@dataclass(frozen=True, slots=True)
class Contract:
    """How to make a detector that promises `ALPHA` over `HORIZON` rows, and streams to feed it.

    `null` draws the worst stream that must not alarm, `harmful` one that must.
    """

    make: Callable[[], Detector]
    rows_name: str
    null: Callable[[np.random.Generator, int], FloatArray]
    harmful: Callable[[np.random.Generator, int], FloatArray]


ALPHA, HORIZON = 0.1, 400


def _coin_losses(share: float) -> Callable[[np.random.Generator, int], FloatArray]:
    return lambda rng, n: (rng.random(n) < share).astype(float)


def _differences(champion: float, challenger: float) -> Callable[[np.random.Generator, int], FloatArray]:
    return lambda rng, n: _coin_losses(champion)(rng, n) - _coin_losses(challenger)(rng, n)


DETECTORS: dict[type, Contract] = {
    RiskDetector: Contract(
        make=lambda: harm_detector(0.1, 0.02, alpha=ALPHA, horizon=HORIZON, restart=False),
        rows_name="losses",
        null=_coin_losses(0.12),
        harmful=_coin_losses(0.35),
    ),
    Evidence: Contract(
        make=lambda: paired_betting(HORIZON, alpha=ALPHA, restart=False),
        rows_name="gains",
        null=_differences(0.3, 0.3),
        harmful=_differences(0.5, 0.15),
    ),
}


def detector_classes() -> set[type]:
    """Every public class of `clew.stats` that can be extended by rows."""
    found = set()
    for module in pkgutil.walk_packages(clew.stats.__path__, "clew.stats."):
        for name, value in inspect.getmembers(importlib.import_module(module.name), inspect.isclass):
            if not name.startswith("_") and hasattr(value, "extended"):
                found.add(value)
    return found


def check_same_rows_give_the_same_answer(contract: Contract) -> None:
    rows = contract.null(np.random.default_rng(1), 500)
    (first, evidence), (second, again) = (contract.make().extended(rows) for _ in range(2))
    assert first == second
    assert (evidence == again).all()


def check_pickles_and_survives_json(contract: Contract) -> None:
    for detector in (
        contract.make(),
        contract.make().extended(contract.null(np.random.default_rng(2), 30))[0],
    ):
        assert pickle.loads(pickle.dumps(detector)) == detector
        stored = json.dumps(detector.to_dict(), allow_nan=False)
        assert type(detector).from_dict(json.loads(stored)) == detector


def check_extending_leaves_the_former_value_as_it_was(contract: Contract) -> None:
    before = contract.make()
    later, _ = before.extended(contract.harmful(np.random.default_rng(3), 300))
    assert later != before == contract.make()


def check_keeps_its_promised_rate_of_false_alarms(contract: Contract, n_streams: int = 400) -> None:
    """Stakes end with the horizon here, so the promise is for ever; three horizons are watched."""
    rng = np.random.default_rng(4)
    rows = (contract.null(rng, 3 * HORIZON) for _ in range(n_streams))
    n_alarms = sum(contract.make().extended(stream)[0].alarm_row is not None for stream in rows)
    assert n_alarms / n_streams <= ALPHA + 3 * math.sqrt(ALPHA * (1 - ALPHA) / n_streams)


def check_finds_harm_and_says_since_when(contract: Contract) -> None:
    rng = np.random.default_rng(5)
    stream = np.concatenate([contract.null(rng, 200), contract.harmful(rng, 200)])
    found, log_evidence = contract.make().extended(stream)
    assert found.alarm_row is not None
    assert found.alarm_row == int(np.argmax(log_evidence >= -math.log(ALPHA)))
    assert 200 < found.alarm_row < 320
    assert found.onset_row == pytest.approx(200, abs=30)


def check_refuses_nan_by_name_and_row(contract: Contract) -> None:
    with pytest.raises(ValueError, match=f"{contract.rows_name}: row 2 is nan"):
        contract.make().extended([0.0, 0.0, float("nan")])


def check_no_rows_change_nothing(contract: Contract) -> None:
    same, log_evidence = contract.make().extended([])
    assert same == contract.make()
    assert same.onset_row is None
    assert log_evidence.shape == (0,)


CHECKS = [check for name, check in sorted(globals().items()) if name.startswith("check_")]
