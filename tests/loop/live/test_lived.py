"""What is told of a running model: which answers and labels count, and what stands beside them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from clew.entities import Duration
from clew.errors import DataError, NotFound, UsageError
from clew.loop.live.answered import Ask
from clew.loop.live.lived import lived
from clew.loop.result import LiveResult
from clew.registry import Predictions, move_alias, record_audit
from clew.storage import LOG_FOLDER, LogWriter, Store
from clew.storage.records import Label, Prediction, Record
from tests.loop.made import DAY, NOW, START
from tests.loop.threads import decide, fit, lay

HOUR = timedelta(hours=1)
LATER = NOW + 30 * DAY
FIRST = 1428
"""The row of the table whose hour is `NOW`, when the model goes live. Odd rows are busy, 1; each tenth has no
label."""


def micros(moment: datetime) -> int:
    return int((moment - START.replace(year=1970)) / timedelta(microseconds=1))


def answer(
    place: int, predicted: int, *, version: int = 1, after: timedelta = HOUR, **more: Any
) -> Prediction:
    """What a version said of a row of the table, some time after its hour began."""
    at = START + place * HOUR
    facts: dict[str, Any] = {
        "deployment": "busy_hour", "version": version, "role": "champion", "answered_at": micros(at + after),
        "event_time": micros(at), "key": f"h{place:05d}", "entity": None, "names": ("warmth",),
        "features": (place / 10,), "predicted": predicted, "probabilities": None, "request": f"r{place}",
        "microseconds": 30,
    }  # fmt: skip
    return Prediction(**facts | more)


def label(place: int, value: int | None, after: timedelta = DAY, prediction: str = "") -> Label:
    key = None if prediction else f"h{place:05d}"
    at = micros(START + place * HOUR + after)
    return Label("busy_hour", at, key, value, "http", "ann", prediction)


def always(value: int) -> Ask:
    return lambda _number, rows: Predictions(np.full(rows.num_rows, value))


SAYS_BUSY = always(1)
Log = Callable[[Sequence[Record]], list[str]]


@pytest.fixture
def log(store: Store, tmp_path: Path) -> Iterator[Log]:
    """Append records to the log of a model that went live with version 1; their ids."""
    (tmp_path / "project").mkdir()
    lay(store, tmp_path / "project")
    move(store, 1, NOW)
    writer = LogWriter(store.folder / LOG_FOLDER, 1)
    yield writer.append
    writer.close()


def move(
    store: Store, number: int, now: datetime, actor: str = "loop", reason: str = "first champion"
) -> None:
    expected = {1: None, 2: 1}[number]
    move_alias(store, "busy_hour", "champion", number, expected=expected, actor=actor, reason=reason, now=now)


def told(store: Store, ask: Ask = SAYS_BUSY, now: datetime = LATER, **more: Any) -> LiveResult:
    return lived(store, "busy_hour", ask, now=now, on_progress=lambda _: None, **more)


# ---------------------------------------------------------------- which answers count


def test_a_row_counts_once_with_the_last_answer_before_its_label(store: Store, log: Log) -> None:
    log([answer(1431, 0), answer(1431, 1, version=2, after=2 * HOUR), label(1431, 1)])
    log([answer(1431, 0, version=2, after=30 * HOUR)])  # when its label was known
    result = told(store)
    assert (result.summary.clew, result.counts, result.n_answered) == (1.0, {"2": 1}, 1)


def test_what_a_shadow_answered_reached_nobody(store: Store, log: Log) -> None:
    log([answer(1431, 1), answer(1431, 0, version=2, role="shadow", after=2 * HOUR)])
    log([answer(1433, 0, version=2, role="canary")])
    result = told(store)
    assert result.counts == {"1": 1, "2": 1}
    assert result.summary.clew == 0.5


def test_a_row_asked_about_under_two_event_times_counts_once(store: Store, log: Log) -> None:
    moved = micros(NOW + 40 * DAY)
    log([answer(1428, 1), answer(1428, 0, after=2 * HOUR, event_time=moved)])
    result = told(store, now=NOW + 60 * DAY)
    assert result.n_answered == 1
    assert [window.start for window in result.windows if window.n] == [NOW - 12 * HOUR + 35 * DAY]


def test_labels_that_are_not_complete_do_not_count_yet(store: Store, log: Log) -> None:
    log([answer(1431, 1), answer(1433, 0), label(1433, 1, after=HOUR)])
    early = told(store, now=START + 1432 * HOUR + DAY)
    assert (early.windows[0].n, early.n_answered) == (1, 2)
    assert "1 of 2 answered rows" in early.notes[0]
    assert told(store).windows[0].n == 2


@pytest.mark.parametrize(
    ("sent", "clew"),
    [
        ([], 1.0),  # the table says 1
        ([(0, DAY)], 0.0),
        ([(0, DAY), (1, 2 * DAY)], 1.0),
        ([(0, DAY), (None, 2 * DAY)], 1.0),
    ],
)
def test_the_newest_label_wins_and_the_table_speaks_where_none_was_sent(
    store: Store, log: Log, sent: list[tuple[int | None, timedelta]], clew: float
) -> None:
    log([answer(1431, 1), *(label(1431, value, after) for value, after in sent)])
    assert told(store).summary.clew == clew


def test_a_label_may_be_sent_for_the_answer(store: Store, log: Log) -> None:
    [identity] = log([answer(1429, 1)])  # the table has no label of this row
    with pytest.raises(UsageError, match=r"Of what busy_hour answered .* \(1 in all\) no label is known"):
        told(store)
    log([label(1429, 0, prediction=identity)])
    assert told(store).summary.clew == 0.0


# ---------------------------------------------------------------- the first model, left alone


def test_frozen_is_the_first_version_asked_about_what_was_logged(store: Store, log: Log) -> None:
    log([answer(1431, 0), answer(1433, 1, version=2), answer(1434, 0, version=2)])
    asked: list[pa.Table] = []

    def ask(number: int, rows: pa.Table) -> Predictions:
        assert number == 1
        asked.append(rows)
        return Predictions(np.array([0, 0]))

    result = told(store, ask)
    # Version 1 was wrong about 1431 when it answered; of the others it gets one right.
    assert result.summary.clew == pytest.approx(2 / 3, abs=1e-6)
    assert result.summary.frozen == pytest.approx(1 / 3, abs=1e-6)
    assert [table.to_pydict() for table in asked] == [{"warmth": [143.3, 143.4]}]


def test_what_the_first_version_cannot_answer_is_left_out_and_said(store: Store, log: Log) -> None:
    log([answer(place, place % 2, version=2) for place in (1431, 1432, 1433, 1434)])

    def ask(_: int, rows: pa.Table) -> Predictions:
        if 143.2 in rows.column("warmth").to_pylist():
            raise DataError("too warm", "warmth", [0])
        return Predictions(np.ones(rows.num_rows))

    result = told(store, ask)
    assert result.summary.frozen == pytest.approx(2 / 3, abs=1e-6)
    assert "It cannot answer 1 of these rows" in result.notes[-1]


def test_blind_retraining_was_lived_by_nobody(store: Store, log: Log) -> None:
    log([answer(1431, 1)])
    result = told(store)
    assert (result.summary.blind, result.summary.blind_fits) == (None, None)
    assert all(window.blind is None for window in result.windows)


# ---------------------------------------------------------------- windows, events, offices


@pytest.mark.parametrize("length", [Duration(exact=HOUR), Duration(exact=DAY), Duration(months=1)])
def test_windows_of_any_length_add_up_to_the_whole(store: Store, log: Log, length: Duration) -> None:
    rng = np.random.default_rng(5)
    log([answer(FIRST + n, int(rng.random() < 0.8) == n % 2, version=1 + n // 200) for n in range(400)])
    result = told(store, window=length)
    n_rows = sum(window.n for window in result.windows)
    assert n_rows == 360
    for policy in ("clew", "frozen"):
        parts = [getattr(window, policy) * window.n for window in result.windows if window.n]
        assert sum(parts) / n_rows == pytest.approx(getattr(result.summary, policy), abs=1e-5)


def test_a_young_model_is_told_by_days_and_an_old_one_by_months(store: Store, log: Log) -> None:
    log([answer(1431, 1)])
    lengths = [
        result.windows[0].end - result.windows[0].start
        for result in (told(store, now=NOW + n * DAY) for n in (10, 30, 300))
    ]
    assert lengths == [DAY, 7 * DAY, 31 * DAY]


def test_who_answered_when_and_why_comes_from_the_audit_log(store: Store, log: Log) -> None:
    log([answer(1431, 1), answer(1600, 0, version=2)])
    move(store, 2, NOW + 5 * DAY, actor="ana", reason="reviewed by hand")
    first, second = told(store).versions
    assert (first.number, first.start, first.end) == (1, NOW, NOW + 5 * DAY)
    assert (first.recipe, second.recipe) == ("first champion", "chosen by ana: reviewed by hand")
    assert (first.trained_from, first.trained_to) == (START, START + 1999 * HOUR)
    assert (second.number, second.end) == (2, None)
    part = told(store, since=NOW + 6 * DAY, until=NOW + 20 * DAY)
    assert [(span.number, span.start) for span in part.versions] == [(2, NOW + 6 * DAY)]


def test_what_was_decided_and_what_people_asked_for_is_told_in_order(store: Store, log: Log) -> None:
    log([answer(1431, 1)])
    for sequence, kind in enumerate(["refit", "page", "promoted", "refused"], start=1):
        decide(store, "busy_hour", sequence, kind)
    with store.write() as tx:
        about = {"actor": "ana", "subject": "busy_hour", "reason": "holiday"}
        record_audit(tx, now=NOW + 2.5 * DAY, action="pause", evidence={}, **about)
    result = told(store)
    assert [event.kind for event in result.events] == ["page", "pause", "promoted", "refused"]
    assert result.events[1].sentence == "ana says: pause: holiday"
    assert (result.summary.pages, result.summary.promotions, result.summary.refusals) == (1, 1, 1)
    log([answer(1505, 1)])
    part = told(store, since=NOW + 3 * DAY, until=NOW + 3.5 * DAY)
    assert [event.kind for event in part.events] == ["promoted"]


def test_versions_that_came_another_way_show_the_gate_they_met(store: Store, log: Log) -> None:
    log([answer(1431, 1)])
    [gate] = told(store).gates
    assert (gate.time, gate.candidate, gate.report.outcome) == (NOW, "version 1", "undecided")


def test_fits_of_a_part_of_a_life_are_those_that_learned_until_then(store: Store, log: Log) -> None:
    log([answer(1431, 1), answer(1505, 1)])
    with store.read() as reader:
        [causes] = {(row["snapshot"], row["code"], row["environment"]) for row in reader.find("runs")}
    for name in ("fit 1", "fit 2"):  # on rows up to hour 1999
        fit(store, causes, f"live/busy_hour/{name}")
    assert told(store).summary.fits == 2
    assert told(store, until=START + 1999 * HOUR).summary.fits == 0
    assert told(store, until=START + 2000 * HOUR).summary.fits == 2
    assert told(store, since=NOW + DAY).summary.fits == 2


# ---------------------------------------------------------------- what cannot be told


def test_a_backtest_answered_nobody(store: Store, log: Log) -> None:
    with pytest.raises(NotFound, match="'backtest-1f' is a backtest"):
        lived(store, "backtest-1f", always(1), now=LATER, on_progress=lambda _: None)


def test_a_model_that_never_went_live_is_said_to_be_none(store: Store, tmp_path: Path) -> None:
    lay(store, tmp_path)
    with pytest.raises(NotFound, match="never went live"):
        told(store)


def test_a_time_without_requests_has_nothing_to_tell(store: Store, log: Log) -> None:
    with pytest.raises(UsageError, match="No row of busy_hour was asked about between 2026-03-01 00:00"):
        told(store)
    with pytest.raises(UsageError, match="is not before"):
        told(store, since=LATER)
