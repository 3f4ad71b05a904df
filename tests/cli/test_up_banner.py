"""What ``clew up`` prints when everything answers."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest

from clew.cli.verbs.up import MOST_URLS, _Told
from clew.server.presence import Presence
from clew.server.supervisor import Ready

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)


def banner(folder: Path, capsys: pytest.CaptureFixture[str], models: dict[str, int | None]) -> str:
    presence = Presence("here", 7, NOW, "127.0.0.1", 8750, 8751)
    _Told(folder, as_json=False).ready(Ready(presence, models, "real", NOW, made_token=False))
    return capsys.readouterr().out


def test_every_model_has_its_address(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lines = banner(tmp_path, capsys, {"minutes": 2, "late": None}).splitlines()
    assert "predictions  http://127.0.0.1:8750/predict/minutes" in lines
    assert "             http://127.0.0.1:8750/predict/late" in lines
    assert "models       minutes version 2, late (not live)" in lines


def test_very_many_models_share_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    models: dict[str, int | None] = {f"model{n}": 1 for n in range(MOST_URLS + 1)}
    assert "http://127.0.0.1:8750/predict/MODEL\n" in banner(tmp_path, capsys, models)
    assert "http://127.0.0.1:8750/predict/MODEL\n" in banner(tmp_path, capsys, {})
