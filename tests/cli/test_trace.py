from __future__ import annotations

import pytest

from clew.cli.verbs.trace import show_thread
from clew.loop.result import ThreadNode


def test_a_record_that_several_came_from_is_told_once(capsys: pytest.CaptureFixture[str]) -> None:
    code = ThreadNode("code", "c" * 64, "4 files of code", {"manifest": "m"})
    rows = ThreadNode("snapshot", "d" * 64, "12 rows", causes=(code,))
    run = ThreadNode("run", "run-1", "first champion", causes=(code, rows))
    show_thread(ThreadNode("version", "churn@1", "version 1 of churn", causes=(run, rows)))
    said = capsys.readouterr().out
    assert said.count("4 files of code") == said.count("12 rows") == said.count("manifest: m") == 1
    assert said.count("code cccccccccccc, as above") == said.count("snapshot dddddddddddd, as above") == 1
