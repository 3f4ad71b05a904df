from __future__ import annotations

import pytest

from clew.cli.verbs.trace import show_thread
from clew.cli.verbs.why import show_reasons
from clew.loop.result import ThreadNode


def test_a_record_that_several_came_from_is_told_once(capsys: pytest.CaptureFixture[str]) -> None:
    code = ThreadNode("code", "c" * 64, "4 files of code", {"manifest": "m"})
    rows = ThreadNode("snapshot", "d" * 64, "12 rows", causes=(code,))
    run = ThreadNode("run", "run-1", "first champion", causes=(code, rows))
    show_thread(ThreadNode("version", "churn@1", "version 1 of churn", causes=(run, rows)))
    said = capsys.readouterr().out
    assert said.count("4 files of code") == said.count("12 rows") == said.count("manifest: m") == 1
    assert said.count("code cccccccccccc, as above") == said.count("snapshot dddddddddddd, as above") == 1


def test_who_asks_for_a_kind_that_is_not_there_hears_which_are(capsys: pytest.CaptureFixture[str]) -> None:
    show_reasons([], ["promoted", "page"])
    assert capsys.readouterr().out == ("No decision fits what was asked for; there are: promoted, page.\n")
