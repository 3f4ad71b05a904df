"""``clew predict`` and ``clew.load``: a registered version answers for a table, and the batch is recorded."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest

import clew
from clew.errors import DataError, NotFound, PackageError
from clew.loop.batch import batch_destinations
from clew.loop.trace import trace
from clew.registry import aliases, audit_log, list_versions, move_alias
from clew.registry.audit_check import verify_audit
from clew.workspace import open_records
from tests.loop import streams
from tests.loop.made import NOW


def run(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    program = "import sys; from clew.cli import run; sys.exit(run())"
    return subprocess.run(
        [sys.executable, "-P", "-c", program, *words], cwd=folder, capture_output=True, text=True, check=False
    )


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project with one version, which is champion, and a table without labels beside it."""
    folder = streams.write_project(tmp_path_factory.mktemp("predict") / "project", streams.calm(2_000))
    done = run(folder, "try", "--json")
    assert done.returncode == 0, done.stderr
    with open_records(folder) as records:
        move_alias(
            records.store, "learner", "champion", 1, expected=None, actor="ana", reason="tried", now=NOW
        )
    rows = streams.calm(200, seed=5).table().drop_columns(["y"])
    rows.to_pandas().to_csv(folder / "new.csv", index=False)
    return folder


@pytest.fixture(scope="module")
def answered(project: Path) -> Any:
    done = run(project, "predict", "learner", "--data", "new.csv", "--out", "answers.parquet", "--json")
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_each_row_is_answered_beside_its_key_and_time(project: Path, answered: Any) -> None:
    table = pq.read_table(project / "answers.parquet")
    assert table.column_names == [
        *("id", "at", "prediction", "probability 0", "probability 1", "model", "version")
    ]
    assert (table.num_rows, answered["n_rows"]) == (200, 200)
    assert sum(answered["counts"].values()) == 200
    assert set(table.column("version").to_pylist()) == {1}


def test_the_model_loaded_here_gives_the_same_answers(project: Path, answered: Any) -> None:
    frame = pd.read_csv(project / "new.csv", parse_dates=["at"])
    model = clew.load("learner", project=project)
    table = pq.read_table(project / "answers.parquet")
    assert (model.name, model.classes_) == ("learner@1", (0, 1))
    assert model.predict(frame).tolist() == table.column("prediction").to_pylist()
    assert np.array_equal(model.predict_proba(frame)[:, 1], table.column("probability 1").to_numpy())


def test_a_batch_stands_in_the_audit_log_where_it_begins_and_ends(project: Path, answered: Any) -> None:
    with open_records(project) as records:
        entries = audit_log(records.store, "learner", limit=None)
        faults = verify_audit(records.store).faults
    of_batch = [entry for entry in entries if entry.evidence.get("batch") == answered["id"]]
    assert [entry.action for entry in of_batch] == ["end batch", "begin batch"]
    assert of_batch[0].evidence["status"] == "done"
    assert (of_batch[1].evidence["source"], of_batch[1].evidence["n_rows"]) == ("new.csv", 200)
    assert faults == ()


def test_where_answers_went_is_known_so_that_they_are_never_taken_for_code(
    project: Path, answered: Any
) -> None:
    with open_records(project) as records:
        assert str(project.resolve() / "answers.parquet") in batch_destinations(records.store)


def test_a_batch_leads_back_to_what_made_the_version(project: Path, answered: Any) -> None:
    with open_records(project) as records:
        node = trace(records.store, answered["id"])
    assert node.kind == "batch"
    assert "200 rows of new.csv answered by version 1 of learner: done" in node.sentence
    [version] = node.causes
    assert (version.kind, version.id) == ("version", "learner@1")


def test_what_is_there_is_not_overwritten_unasked(project: Path, answered: Any) -> None:
    words = ["predict", "learner@1", "--data", "new.csv", "--out", "answers.parquet"]
    refused = run(project, *words)
    assert refused.returncode == 2
    assert "add --force" in refused.stderr
    assert run(project, *words, "--force").returncode == 0


@pytest.mark.parametrize(
    ("out", "said"),
    [
        ("nowhere/x.csv", "mkdir -p"),
        ("x.txt", "does not end in .parquet or .csv. Name it x.parquet"),
        ("new.csv", "what is read from: new.csv"),
        ("../project/new.csv", "what is read from: new.csv"),
        ("stream.parquet", "what is read from: stream.parquet"),
    ],
)
def test_a_file_that_cannot_be_written_or_is_read_from_is_refused_before_the_work(
    project: Path, out: str, said: str
) -> None:
    before = {path: path.read_bytes() for path in project.iterdir() if path.is_file()}
    done = run(project, "predict", "learner", "--data", "new.csv", "--out", out, "--force")
    assert done.returncode == 2
    assert said in done.stderr
    assert "Traceback" not in done.stderr
    assert {path: path.read_bytes() for path in project.iterdir() if path.is_file()} == before


def test_answers_do_not_join_the_files_that_a_glob_reads(project: Path) -> None:
    (project / "days").mkdir(exist_ok=True)
    (project / "days" / "one.csv").write_bytes((project / "new.csv").read_bytes())
    words = ["predict", "learner", "--data", "days/*.csv", "--out"]
    refused = run(project, *words, "days/answers.csv")
    assert refused.returncode == 2
    assert "join what is read from: days/*.csv" in refused.stderr
    assert run(project, *words, "days/answers.parquet").returncode == 0


def test_times_of_answers_are_instants_in_utc(project: Path, answered: Any) -> None:
    assert run(project, "predict", "learner", "--data", "new.csv", "--out", "utc.csv").returncode == 0
    told = pd.read_csv(project / "utc.csv")
    asked = pd.read_csv(project / "new.csv", parse_dates=["at"])
    assert told["at"].str.endswith("Z").all()
    assert (pd.to_datetime(told["at"]).dt.tz_localize(None) == asked["at"].dt.tz_localize(None)).all()


def test_rows_that_cannot_be_answered_leave_nothing_but_a_record(project: Path) -> None:
    (project / "bad.csv").write_text("id,at,x0,x1,x2,x3\na,2026-01-01,1,2,3,4\n")
    failed = run(project, "predict", "learner", "--data", "bad.csv", "--out", "bad.parquet")
    assert failed.returncode == 1
    assert "x4" in failed.stderr
    assert not list(project.glob("*bad.parquet*"))
    with open_records(project) as records, records.store.read() as reader:
        [row] = reader.find("batches", {"status": "failed"})
    assert "x4" in row["error"]


def test_a_version_that_does_not_exist_is_named_beside_those_that_do(project: Path) -> None:
    with pytest.raises(NotFound, match="it has versions 1"):
        clew.load("learner@7", project=project)
    with open_records(project) as records:
        assert aliases(records.store, "learner") == {"champion": 1}
        assert len(list_versions(records.store, "learner")) == 1


def test_a_model_without_a_champion_says_what_to_do(tmp_path: Path) -> None:
    folder = streams.write_project(tmp_path / "project", streams.calm(2_000))
    assert run(folder, "try").returncode == 0
    with pytest.raises(NotFound, match=r"no champion yet; it has versions 1. Name one, such as 'learner@1'"):
        clew.load("learner", project=folder)
    with pytest.raises(NotFound, match=r"no model 'lerner' with a version\. Did you mean 'learner'"):
        clew.load("lerner", project=folder)


def test_loading_makes_no_store_where_there_is_none(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="Nothing was recorded here yet"):
        clew.load("learner", project=tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_loaded_model_says_what_it_is(project: Path) -> None:
    model = clew.load("learner", project=project)
    assert (model.name, model.model, model.version) == ("learner@1", "learner", 1)
    told = "<clew model learner@1: answers one of 0, 1 from 5 features: 'x0', 'x1', 'x2', 'x3', 'x4'>"
    assert repr(model) == told


@pytest.mark.parametrize("rows", [{"x0": 1.0}, [{"x0": 1.0}], [[1.0, 2.0]], "x0", 3])
def test_what_is_no_frame_is_told_how_to_become_one(project: Path, rows: object) -> None:
    with pytest.raises(DataError, match="make a frame of it"):
        clew.load("learner", project=project).predict(rows)


OWN_CODE = """
class Shifted(LogisticRegression):
    pass

@clew.model(stream, metric="accuracy", margin=0.01, allow_code=True)
def learner(train):
    return Shifted().fit(train.X, train.y)
"""


def test_code_of_the_project_comes_into_a_process_only_when_it_may(tmp_path: Path) -> None:
    folder = streams.write_project(tmp_path / "project", streams.calm(2_000), model=OWN_CODE)
    assert run(folder, "try").returncode == 0
    with pytest.raises(PackageError, match=r"clew.load\('learner@1', allow_code=True\)"):
        clew.load("learner@1", project=folder)
    ask = "import clew; print(clew.load('learner@1', allow_code=True).name)"
    asked = subprocess.run(
        [sys.executable, "-c", ask], cwd=folder, check=True, capture_output=True, text=True
    )
    assert asked.stdout == "learner@1\n"
