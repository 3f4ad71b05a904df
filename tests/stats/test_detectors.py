from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.stats.checks import CHECKS, DETECTORS, Contract, detector_classes


def test_every_detector_of_the_room_is_under_contract() -> None:
    assert detector_classes() == set(DETECTORS)


@pytest.mark.parametrize("contract", DETECTORS.values(), ids=lambda c: type(c.make()).__name__)
@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_detector_keeps_the_contract(contract: Contract, check: Callable[[Contract], None]) -> None:
    check(contract)
