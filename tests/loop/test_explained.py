"""Why a key was answered so: the version that answered computes it again, and says what its columns did."""

from __future__ import annotations

import math
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from clew.errors import NotFound, UsageError
from clew.loop.commands import ask, execute_here
from clew.storage import LOG_FOLDER, LogWriter, compact
from clew.storage.records import Prediction
from clew.workspace import Workspace, open_workspace
from tests.loop import streams
from tests.loop.live.life import project

NOW = datetime(2026, 3, 3, 12, tzinfo=UTC)
TREES = """
@clew.model(stream, metric="log_loss", margin=0.02, threshold=0.3)
def learner(train):
    return LGBMClassifier(n_estimators=10, num_leaves=7, verbose=-1).fit(train.X, train.y)
"""


@pytest.fixture(scope="module")
def trees(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workspace]:
    root = project(tmp_path_factory.mktemp("trees"), streams.calm(1200, 5).table(), TREES)
    with open_workspace(None, root) as workspace:
        workspace.try_model()
        order = ask(workspace.store, "promote", "learner", {}, "ana", "reviewed", NOW - timedelta(hours=1))
        assert execute_here(workspace.store, order, NOW - timedelta(hours=1)).status == "done"
        _answer(workspace)
        yield workspace


def _answer(workspace: Workspace) -> None:
    """Five answers as a worker logs them, a day apart, the last with another probability."""
    table = streams.calm(1200, 5).table().slice(0, 5)
    model = workspace.load_model("learner@1")
    given = model.predict(table)
    assert given.probabilities is not None
    writer = LogWriter(workspace.store.folder / LOG_FOLDER, 1)
    for place, row in enumerate(table.to_pylist()):
        features = {name: value for name, value in row.items() if name not in ("at", "id", "y")}
        at = int((NOW + timedelta(days=place)).timestamp() * 1e6)
        probabilities = tuple(given.probabilities[place].tolist())
        record = Prediction(
            "learner", 1, "champion", at, at, row["id"], "C1", tuple(features), tuple(features.values()),
            int(probabilities[1] >= 0.3), probabilities, f"r{place}", 20, (), 0.3,
        )  # fmt: skip
        if place == 4:
            record = replace_probabilities(record)
        writer.append([record])
    writer.close()


def replace_probabilities(record: Prediction) -> Prediction:
    values: dict[str, Any] = {name: getattr(record, name) for name in record.__struct_fields__}
    return Prediction(**values | {"probabilities": (0.125, 0.875)})


def test_answers_are_computed_again_and_their_parts_add_up(trees: Workspace) -> None:
    answers = trees.explain_answers("learner", entity="C1")
    assert [each.event_time for each in answers] == [NOW + timedelta(days=day) for day in (4, 3, 2, 1, 0)]
    assert [each.agrees for each in answers] == [False, True, True, True, True]
    for each in answers[1:]:
        assert (each.threshold, each.score_of, each.unit) == (0.3, 1, "log-odds")
        assert each.base is not None
        assert each.score is not None
        total = each.base + sum(one.amount for one in each.contributions)
        assert math.isclose(1 / (1 + math.exp(-total)), each.score, abs_tol=1e-9)
        assert each.approved is not None
        assert (each.approved.actor, each.approved.reason) == ("ana", "reviewed")
        assert each.gate is not None
        assert trees.trace(each.links["run"]).kind == "run"
        assert trees.trace(each.prediction).kind == "prediction"


def test_one_key_on_one_day_is_found_also_once_it_is_compacted(trees: Workspace) -> None:
    [first] = trees.explain_answers("learner", entity="C1", at=NOW)
    before = trees.explain_answers("learner", key=str(first.key))
    assert before == [first]
    compact(trees.store, consumed=[], now=NOW)
    assert trees.explain_answers("learner", key=str(first.key)) == before
    assert len(trees.explain_answers("learner", entity="C1", limit=2)) == 2


def test_what_was_never_answered_is_said(trees: Workspace) -> None:
    with pytest.raises(NotFound, match="answered nothing about key 'nobody'"):
        trees.explain_answers("learner", key="nobody")
    with pytest.raises(NotFound, match=r"no live model 'lerner'\. Did you mean 'learner'"):
        trees.explain_answers("lerner", key="1")
    with pytest.raises(UsageError, match="--key or --entity"):
        trees.explain_answers("learner")
