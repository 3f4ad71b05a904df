from __future__ import annotations

import dataclasses
from datetime import timedelta

import pytest

from clew.cli.lived import show_lived
from clew.cli.words import effort, first_doubt, headline, policy_gains, rhythm, verdict
from clew.entities import Duration, GateReport
from tests.cli.results import backtest_result, live_result


def with_means(clew: float, frozen: float, blind: float, **more: object) -> object:
    result = backtest_result()
    summary = dataclasses.replace(result.summary, clew=clew, frozen=frozen, blind=blind)
    return dataclasses.replace(result, summary=summary, **more)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("length", "words"),
    [
        (Duration(months=1), "every month"),
        (Duration(months=3), "every 3 months"),
        (Duration(exact=timedelta(days=7)), "every week"),
        (Duration(exact=timedelta(days=10)), "every 10 days"),
        (Duration(exact=timedelta(hours=36)), "every 36 hours"),
    ],
)
def test_the_rhythm_is_read_off_the_windows(length: Duration, words: str) -> None:
    window = backtest_result().windows[0]
    assert rhythm((dataclasses.replace(window, end=length.after(window.start)),)) == words


def test_the_headline_names_all_three() -> None:
    result = with_means(0.894, 0.795, 0.88)
    assert headline(result) == "With Clew 0.894; frozen 0.795; refitted blindly every month 0.880"  # type: ignore[arg-type]


def test_less_than_the_margin_is_no_victory() -> None:
    said = verdict(with_means(0.894, 0.795, 0.891))  # type: ignore[arg-type]
    assert "0.099 better than the frozen" in said
    assert "within the margin of 0.01 (+0.003), so neither better nor worse than refitting blindly" in said


def test_a_defeat_is_told_as_one() -> None:
    assert "0.050 worse than refitting blindly" in verdict(with_means(0.83, 0.795, 0.88))  # type: ignore[arg-type]


def test_of_an_error_less_is_better() -> None:
    result = with_means(12.0, 15.5, 11.0, metric="rmse", greater_is_better=False)
    said = verdict(result)  # type: ignore[arg-type]
    assert "lower is better" in said
    assert "3.500 better than the frozen" in said
    assert "1.000 worse than refitting" in said
    assert policy_gains(result) == {"frozen": "Clew +3.500", "blind": "Clew −1.000"}  # type: ignore[arg-type]


def test_the_effort_counts_everything() -> None:
    said = effort(backtest_result())
    for part in ("41 models", "refitting: 11", "2 promotions", "1 refusal", "1 undecided", "1 rollback"):
        assert part in said
    assert "1 page and 1 ticket" in said


def test_what_the_gate_held_against_the_first_champion_is_said() -> None:
    result = backtest_result()
    assert first_doubt(result) == ""
    failed = dataclasses.replace(result, gates=result.gates[1:])
    assert first_doubt(failed) == (
        "The first champion failed the gate: slice weekday=Friday: certainly worse on Fridays."
    )
    checks = failed.gates[0].report.checks
    undecided = dataclasses.replace(failed.gates[0], report=GateReport(checks[:1]))
    said = first_doubt(dataclasses.replace(result, gates=(undecided,)))
    assert said.startswith("The first champion was left undecided by the gate: minimum accuracy: ")


def test_the_end_of_a_backtest_on_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    result = backtest_result()
    show_lived(result, None)
    said = capsys.readouterr().out
    assert said.splitlines()[2].split() == ["start", "n", "clew", "frozen", "blind", "version"]
    for window in result.windows:
        assert f"{window.start:%Y-%m-%d}" in said
    assert "–" in next(line for line in said.splitlines() if line.startswith("2011-11-01"))
    for note in result.notes:
        assert note in said
    assert "\x1b" not in said
    assert f"clew why {result.id}" in said
    assert said.splitlines()[-1].startswith("Add --report")


def test_a_running_model_is_held_against_its_first_version_only(capsys: pytest.CaptureFixture[str]) -> None:
    result = live_result()
    assert headline(result) == f"With Clew {result.summary.clew:.3f}; frozen {result.summary.frozen:.3f}"
    assert "better than the frozen first model." in verdict(result)
    assert list(policy_gains(result)) == ["frozen"]
    assert effort(result).startswith("Clew fitted 41 models, with 2 promotions")
    show_lived(result, None)
    told = capsys.readouterr().out
    assert told.splitlines()[2].split() == ["start", "n", "clew", "frozen", "version"]
    assert "blind" not in told


def test_only_the_first_version_is_doubted_at_the_gate() -> None:
    # Of a part of a life, the first gate told is another candidate's.
    assert first_doubt(dataclasses.replace(live_result(), gates=live_result().gates[1:])) == ""
