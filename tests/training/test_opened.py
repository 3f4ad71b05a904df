"""Files that a training reads outside of its captured code: seen, hashed, and recorded with the run."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from clew.loop.reproduction import likely_causes
from clew.tracking import EnvironmentChange, OpenedFile, opened_files
from clew.workspace import open_records, open_workspace
from tests.loop import streams

READS = """
import json
from pathlib import Path
from helper import HELP
RATES = json.loads(Path(r"{place}/rates.json").read_text())

@clew.model(stream, metric="accuracy", margin=0.01)
def learner(train):
    for name in ("weights.txt", "weights.txt", "missing.txt"):
        try:
            open(r"{place}/" + name).close()
        except FileNotFoundError:
            pass
    Path(r"{place}/own.txt").write_text("1")
    Path(r"{place}/own.txt").read_text()
    Path("/proc/self/status").read_text()
    open("helper.py").close()
    strength = float(Path(r"{place}/weights.txt").read_text())
    return LogisticRegression(C=strength).fit(train.X, train.y)
"""


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A project whose training reads files beside it, after a try."""
    place = tmp_path_factory.mktemp("elsewhere")
    (place / "rates.json").write_text("[1]")
    (place / "weights.txt").write_text("0.5")
    folder = tmp_path_factory.mktemp("project")
    streams.write_project(folder, streams.calm(600), model=READS.format(place=place))
    (folder / "helper.py").write_text("HELP = 1\n")
    with open_workspace(None, folder) as workspace:
        workspace.try_model(seed=3)
    return folder, place


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_what_was_read_at_import_and_in_the_fit_is_recorded_with_its_hash(place: tuple[Path, Path]) -> None:
    folder, elsewhere = place
    with open_workspace(None, folder) as workspace:
        result = workspace.try_model(seed=3)
        assert not result.is_new
        assert result.opened == tuple(
            OpenedFile(str(elsewhere / name), sha256(elsewhere / name))
            for name in ("rates.json", "weights.txt")
        )
        read = [cause for cause in workspace.trace(result.run.id).causes if cause.kind == "file"]
        assert [node.sentence for node in read] == [
            f"{elsewhere}/{name}, read by the training and not kept" for name in ("rates.json", "weights.txt")
        ]
        for reference in (read[0].id, read[0].id[:12], f"{elsewhere}/rates.json"):
            assert result.run.id in {node.id for node in workspace.touched(reference).effects}


def test_a_file_that_changed_is_the_likeliest_cause_of_another_model(place: tuple[Path, Path]) -> None:
    folder, elsewhere = place
    before = sha256(elsewhere / "weights.txt")
    (elsewhere / "weights.txt").write_text("0.0001")
    with open_records(folder) as records:
        result = records.reproduce("learner@1", is_here=True)
        assert result.level != "same bits"
        now = sha256(elsewhere / "weights.txt")
        assert result.causes[0] == (
            f"file {elsewhere}/weights.txt: sha256 {before[:12]} then, sha256 {now[:12]} now"
        )
        assert [file.sha256 for file in opened_files(records.store, result.run.id)][1] == now
        change = records.difference("learner@1", result.run.id)
        assert [(each.name, each.then, each.now) for each in change.opened] == [
            (f"{elsewhere}/weights.txt", before, now)
        ]


def test_without_such_files_nothing_is_said(tmp_path: Path) -> None:
    streams.write_project(tmp_path, streams.calm(300))
    with open_workspace(None, tmp_path) as workspace:
        assert workspace.try_model().opened == ()


def test_a_changed_file_is_told_before_packages() -> None:
    from clew.tracking import Changed

    packages = EnvironmentChange((Changed("numpy", "2.0", "2.1"),))
    causes = likely_causes(packages, is_repeatable=True, files=[Changed("/data/x.csv", "a" * 64, None)])
    assert causes == (
        "file /data/x.csv: sha256 aaaaaaaaaaaa then, none now",
        "package numpy: 2.0 then, 2.1 now",
    )
