from __future__ import annotations

from datetime import timedelta

import pytest

from clew.cli.progress import N_PLAIN_LINES, PlainProgress, event_line, progress_shown
from clew.loop.result import Event, Progress
from tests.cli.results import START


def test_a_log_gets_few_lines_however_much_happens(capsys: pytest.CaptureFixture[str]) -> None:
    with progress_shown("Replaying") as on_progress:
        on_progress(Progress(0.0, sentence="capturing the code"))
        for hour in range(5000):
            at = START + timedelta(hours=hour)
            on_progress(Progress(hour / 5000, at, 0.9, Event(at, "ticket", f"something drifts {hour}")))
        on_progress(Progress(1.0, START + timedelta(hours=5000), 0.91))
    said = capsys.readouterr()
    assert said.out == ""
    assert len(said.err.splitlines()) <= N_PLAIN_LINES + 1
    assert "now 0.900" in said.err
    assert "100%" in said.err


def test_the_event_that_matters_most_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    progress = PlainProgress("Replaying")
    progress(Progress(0.01, START, event=Event(START, "page", "accuracy fell to 0.6")))
    progress(Progress(0.02, START, event=Event(START + timedelta(days=1), "rollout", "version 2 goes on")))
    progress(Progress(0.06, START + timedelta(days=2), 0.8))
    assert "▲ 2011-07-01  accuracy fell to 0.6 (and 1 more)" in capsys.readouterr().err


def test_an_event_is_one_line_with_day_and_sentence() -> None:
    assert (
        event_line(Event(START, "promoted", "champion is version 2")) == "★ 2011-07-01  champion is version 2"
    )
