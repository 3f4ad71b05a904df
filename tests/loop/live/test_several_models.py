"""A project with three models in one running system, of which one cannot go live."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import pytest

from clew.registry import list_versions
from clew.tracking import list_runs
from tests.loop.live.life import DAY, Life, before, living, project
from tests.loop.live.test_living import START, flipped_at_day

MODELS = """
from datetime import datetime, timezone
from pathlib import Path

def noted(fit):
    began = datetime.now(timezone.utc)
    model = fit()
    with Path({folder!r}, "fits.txt").open("a") as notes:
        notes.write(f"{{began.isoformat()}} {{datetime.now(timezone.utc).isoformat()}}\\n")
    return model

@clew.dataset("stream.parquet", time="at", key="id", label="y", label_delay="1d")
def positive(table):
    return table[table.x0 > 0]

@clew.model(stream, metric="accuracy", margin=0.02, retrain="rows 200", rollout="shadow 1d")
def learner(train):
    return noted(lambda: LGBMClassifier(n_estimators=30, num_leaves=7, verbose=-1).fit(train.X, train.y))

@clew.model(positive, metric="log_loss", margin=0.05, retrain="rows 200", rollout="shadow 1d")
def half(train):
    return noted(lambda: LogisticRegression().fit(train.X, train.y))

@clew.model(stream, metric="accuracy", margin=0.02)
def broken(train):
    raise RuntimeError("no wind")
"""


@pytest.fixture(scope="module")
def life(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Life]:
    folder = tmp_path_factory.mktemp("three")
    table = flipped_at_day(200, n_days=80)
    root = project(folder / "project", before(table, START), MODELS.format(folder=str(folder)))
    with (root / "clew.toml").open("a") as settings:
        settings.write("[budget]\nmax_parallel_fits = 1\n")
    with living(root, table, START) as life:
        for _ in range(12):
            day = life.rows_of(life.now)
            life.days(1)
            for name, rows in (("half", [row for row in day if row["x0"] > 0]),):
                questions = [{key: value for key, value in row.items() if key != "y"} for row in rows]
                assert life.client.post(f"/predict/{name}", json=questions).status_code == 200
                labels = [{"id": row["id"], "y": row["y"]} for row in rows]
                assert life.client.post(f"/labels/{name}", json=labels).status_code == 200
        yield life


def test_each_model_answers_by_its_own_versions(life: Life) -> None:
    [row] = life.rows_of(START)[:1]
    for name in ("learner", "half"):
        answer = life.client.post(f"/predict/{name}", json=row).json()
        assert answer["model"] == name
        assert answer["version"] in {version.number for version in list_versions(life.store, name)}


def test_one_that_cannot_go_live_says_why_and_keeps_nobody_waiting(life: Life) -> None:
    by_name = {each.deployment: each for each in life.live.status(life.now)}
    assert {name: each.status for name, each in by_name.items()} == {
        "learner": "running",
        "half": "running",
        "broken": "waiting",
    }
    assert "no wind" in by_name["broken"].sentence
    refused = life.client.post("/predict/broken", json=life.rows_of(START)[0])
    assert (refused.status_code, refused.json()["error"]["code"]) == (503, "MODEL_NOT_READY")
    with life.store.read() as reader:
        told = reader.find("decisions", {"deployment": "broken"})
    assert [each["kind"] for each in told] == ["not live"], "people are told once for each reason"
    # It is tried again every day.
    assert len([event for event in life.of_kind("not live") if "broken" in event.sentence]) >= 10


def test_each_has_a_life_of_its_own(life: Life) -> None:
    assert by_model(life, "learner") >= 2
    assert by_model(life, "half") >= 2
    assert by_model(life, "broken") == 0
    assert life.now == START + 12 * DAY


def by_model(life: Life, name: str) -> int:
    return len(list_runs(life.store, model=name, status="finished", limit=None))


def test_no_more_fits_at_once_than_the_budget_allows(life: Life) -> None:
    notes = (life.root.parent / "fits.txt").read_text().splitlines()
    spans = sorted(tuple(line.split()) for line in notes)
    assert len(spans) >= 4
    assert all(before[1] <= after[0] for before, after in itertools.pairwise(spans))
