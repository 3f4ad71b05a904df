"""Models that learn from folders of files beside their rows: the version each run had, and again from it."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from clew.datasets.folders import find_folder, list_folders, verify_folder
from clew.declare import dataset, model
from clew.entities import FolderSnapshot, Run
from clew.errors import DataError, DeclarationError
from clew.loop.trace import touched, trace
from clew.storage import Store
from clew.tracking import folders_of, get_code, list_runs
from clew.workspace import open_records, open_workspace
from tests.loop import streams
from tests.loop.live.life import BEGIN, DAY, before, living

LEARNER = """
@clew.model(stream, metric="accuracy", margin=0.01, files={files})
def learner(train):
    words = sorted(path.read_text() for path in train.files["words"].rglob("*.txt"))
    fit, valid = train.split("5d")
    assert fit.files == valid.files == train.files
    train.log(n_words=len(words))
    return LogisticRegression(C=1 + len(words)).fit(train.X, train.y)
"""


def words(folder: Path, **texts: str) -> None:
    for name, text in texts.items():
        path = folder / "words" / "deep" / f"{name}.txt"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")


def project(folder: Path, files: str = '"words"') -> Path:
    words(folder, a="a", b="b")
    return streams.write_project(folder, streams.calm(600), LEARNER.replace("{files}", files))


def tried(folder: Path) -> Run:
    with open_workspace(None, folder) as workspace:
        return workspace.try_model().run


def learned_from(store: Store, run: Run) -> list[FolderSnapshot]:
    return [find_folder(store, identity) for identity in folders_of(store, run)]


@pytest.mark.parametrize(
    "files", ['"words"', '{"words": "words"}', '{"words": str(__import__("pathlib").Path("words"))}']
)
def test_a_run_is_on_record_with_the_version_that_it_learned_from(tmp_path: Path, files: str) -> None:
    run = tried(project(tmp_path, files))
    with open_records(tmp_path) as records:
        [folder] = learned_from(records.store, run)
        assert (folder.dataset, folder.n_files, folder.source) == ("words", 2, "words")
        assert run.metrics["n_words"] == 2
        node = trace(records.store, "learner")
        [told] = [each for each in node.causes[0].causes if each.kind == "folder"]
        assert told.id == folder.id
        assert told.sentence == "2 files of the folder words, from words"
        assert [each.id for each in touched(records.store, folder.id).effects] == [run.id]
        # Data are no code, and not even counted as files that were left out.
        code = get_code(records.store, run.code)
        assert [file.path for file in code.files] == ["clew.toml", "learner.py"]
        assert not [path for path, _ in code.skipped if path.startswith("words/")]


def test_another_file_makes_another_version_and_none_makes_none(tmp_path: Path) -> None:
    first = tried(project(tmp_path))
    assert tried(tmp_path).id == first.id
    words(tmp_path, c="c")
    second = tried(tmp_path)
    assert second.metrics["n_words"] == 3
    with open_records(tmp_path) as records:
        folders = [learned_from(records.store, run)[0].id for run in (first, second)]
        assert folders == [each.id for each in reversed(list_folders(records.store))]


def test_a_run_is_repeated_from_its_own_version(tmp_path: Path) -> None:
    first = tried(project(tmp_path))
    words(tmp_path, a="other", c="c")
    tried(tmp_path)
    shutil.rmtree(tmp_path / "words")
    with open_records(tmp_path) as records:
        told = records.reproduce("learner@1", is_here=True)
        assert told.level == "same bits"
        assert folders_of(records.store, told.run) == folders_of(records.store, first)


def test_a_folder_that_is_not_there_is_said(tmp_path: Path) -> None:
    project(tmp_path)
    shutil.rmtree(tmp_path / "words")
    with pytest.raises(DataError, match=r"words does not exist; name a folder"):
        tried(tmp_path)


def test_a_folder_with_more_files_than_any_code_is_none_of_it(tmp_path: Path) -> None:
    project(tmp_path)
    for number in range(10_001):
        (tmp_path / "words" / f"{number}.bin").touch()
    run = tried(tmp_path)
    with open_records(tmp_path) as records:
        assert learned_from(records.store, run)[0].n_files == 10_003
        assert verify_folder(records.store, learned_from(records.store, run)[0]).is_whole


def test_a_running_loop_learns_from_the_folder_as_it_is_then(tmp_path: Path) -> None:
    table = streams.calm(1500).table()
    start = BEGIN + 40 * DAY
    project(tmp_path)
    streams.write_project(tmp_path, before(table, start), LEARNER.replace("{files}", '"words"'))
    with living(tmp_path, table, start) as life:
        life.days(1)
        words(tmp_path, c="c")
        assert life.tell("retrain").status in ("done", "accepted")
        life.days(2)
        counts = {run.metrics["n_words"]: learned_from(life.store, run) for run in finished(life.store)}
    assert set(counts) == {2, 3}
    assert [folder.n_files for n in (2, 3) for folder in counts[n]] == [2, 3]


def finished(store: Store) -> list[Run]:
    return list_runs(store, status="finished", limit=None)


# -- what is declared ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "found"),
    [
        (None, {}),
        ("data/images/", {"images": "data/images"}),
        (Path("images"), {"images": "images"}),
        ({"scans": "/mnt/x"}, {"scans": "/mnt/x"}),
    ],
)
def test_folders_are_declared_by_path_or_by_name(given: Any, found: dict[str, str]) -> None:
    assert declared(given) == found


@pytest.mark.parametrize(
    "given", [3, ["images"], "", "my images", {"a b": "x"}, {"a": 3}, {"a": ""}, {3: "x"}]
)
def test_what_names_no_folder_is_refused(given: Any) -> None:
    with pytest.raises(DeclarationError, match="files "):
        declared(given)


def declared(files: Any) -> Any:
    @dataset("rides.parquet", time="ts", key="id", label="y", label_delay="1d")
    def rides(table: Any) -> Any:
        return table

    @model(rides, metric="accuracy", margin=0.01, files=files)
    def learner(train: Any) -> Any:
        return train

    return learner.declaration.files
