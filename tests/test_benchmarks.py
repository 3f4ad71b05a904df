from __future__ import annotations

import pytest

from benchmarks.__main__ import Broken, Result, beside, known_benchmarks, read_result


def line(value: float, better: str) -> str:
    return f'{{"name": "x", "value": {value}, "goal": 10, "better": "{better}"}}'


@pytest.mark.parametrize(
    ("value", "better", "met"), [(9, "lower", True), (11, "lower", False), (11, "higher", True)]
)
def test_a_goal_is_met_on_its_better_side(value: float, better: str, met: bool) -> None:
    result = read_result("x", line(value, better))
    assert isinstance(result, Result)
    assert result.is_met is met


@pytest.mark.parametrize(
    "output", ["", "Traceback ...", '{"name": "x"}', line(1, "sideways"), line(1, "lower") + "\nbye"]
)
def test_what_is_no_result_is_told_and_not_taken_for_one(output: str) -> None:
    broken = read_result("x", output)
    assert isinstance(broken, Broken)
    assert "no result" in broken.reason


def test_every_module_beside_the_runner_is_a_benchmark() -> None:
    assert "startup" in known_benchmarks()
    assert not any(name.startswith("_") for name in known_benchmarks())


def test_what_a_number_is_compared_with_stands_beside_it() -> None:
    result = Result(
        "x", value=1.4, goal=1.5, better="lower", floor="a plain copy, 2 s", peers={"other": 74.0}
    )
    assert beside(result) == "a plain copy, 2 s; other 74"
    timed = Result("x", value=40, goal=60, better="lower", floor={"bare": 12.0})
    assert beside(timed) == "bare 12"
