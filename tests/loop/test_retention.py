"""How long the prediction log is kept: never shorter than was said, never without what a label needs."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from clew.config import LogSettings, load_settings
from clew.entities import Duration
from clew.errors import NotFound, SettingsError
from clew.loop.cleaning import clean, find_garbage
from clew.loop.live.checkpoints import Checkpoint, save_checkpoint
from clew.loop.live.rows import Waiting
from clew.registry import audit_log, ensure_deployment
from clew.server.clock import wall_clock
from clew.storage import LOG_FOLDER, LogWriter, Store, compact, read_record, scan
from tests.loop import people
from tests.loop.made import DAY, NOW, declared

HALF_A_YEAR = Duration.parse("190d")
N_DAYS = 10


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with people.opened(tmp_path) as store:
        yield store


def logged(store: Store) -> list[str]:
    """An answer and a label a day; the ids of the answers."""
    ensure_deployment(store, "busy_hour", "live", "busy_hour", declared(), NOW)
    writer = LogWriter(store.folder / LOG_FOLDER, 1)
    ids = [writer.append([people.asked(24 * day), people.told(day)])[0] for day in range(N_DAYS)]
    writer.close()
    compact(store, consumed=[], now=NOW)
    return ids


def days_that_go(store: Store, retention: Duration, later: timedelta) -> list[str]:
    found = find_garbage(store, wall=wall_clock(), retention=retention, now=NOW + later)
    names = [name for each in found if each.kind == "day of the log" for name in each.things]
    return sorted({name.split(",")[0] for name in names if name.startswith("predictions")})


def test_what_is_older_goes_and_what_is_not_stays(store: Store) -> None:
    ids = logged(store)
    assert days_that_go(store, HALF_A_YEAR, 190 * DAY) == []
    gone = [f"predictions of busy_hour on 2026-03-0{day}" for day in (1, 2, 3)]
    assert days_that_go(store, HALF_A_YEAR, 193 * DAY) == gone[:3]
    before = scan(store, "busy_hour")
    done = clean(store, actor="ana", now=NOW + 193 * DAY, wall=wall_clock(), retention=HALF_A_YEAR)
    [days] = [each for each in done if each.kind == "day of the log"]
    assert "older than the retention of 190d" in days.why or "27w" in days.why
    [parts] = [each for each in done if each.kind == "part"]
    assert len(parts.things) == len(days.things), "their objects are set aside at once, and kept for a day"
    assert scan(store, "busy_hour").equals(before.slice(3))
    with pytest.raises(NotFound, match="was removed on 2026-09-10, as it was older than the retention"):
        read_record(store, ids[0])
    assert read_record(store, ids[3]) == people.asked(72)
    told = audit_log(store, "store", action="remove garbage")
    assert [entry.evidence["kind"] for entry in told] == ["day of the log"]
    assert days_that_go(store, HALF_A_YEAR, 193 * DAY) == []


def test_nothing_goes_while_its_label_may_come(store: Store) -> None:
    logged(store)
    slow = declared(label_delay=Duration.parse("200d"))
    with store.write() as tx:
        import msgspec

        plain = msgspec.to_builtins(slow)
        tx.update("deployments", {"name": "busy_hour"}, {"declaration": plain})
    assert days_that_go(store, HALF_A_YEAR, 200 * DAY) == []
    assert len(days_that_go(store, HALF_A_YEAR, 203 * DAY)) == 3


def test_nothing_goes_that_the_loop_waits_for(store: Store) -> None:
    logged(store)
    waits = Waiting(people.asked(48).event_time, None, (), ())
    rows = {"waiting": {"h00048": waits}}
    state = {"rows": rows}
    save_checkpoint(store, Checkpoint("busy_hour", 1, NOW, NOW, "running", state), {})
    assert days_that_go(store, HALF_A_YEAR, 400 * DAY) == [
        f"predictions of busy_hour on 2026-03-0{day}" for day in (1, 2)
    ]


def test_without_a_retention_all_is_kept(store: Store) -> None:
    logged(store)
    assert find_garbage(store, wall=wall_clock()) == []
    assert clean(store, actor="ana", now=NOW + 900 * DAY, wall=wall_clock()) == []


def settings(root: Path, text: str) -> LogSettings:
    (root / "clew.toml").write_text(text, encoding="utf-8")
    return load_settings(root, {}).log


def test_it_is_half_a_year_where_nobody_says_otherwise(tmp_path: Path) -> None:
    assert settings(tmp_path, "") == LogSettings(HALF_A_YEAR, allow_shorter=False)
    assert settings(tmp_path, '[log]\nretention = "2w"\nallow_shorter = true').is_short
    assert not settings(tmp_path, '[log]\nretention = "12mo"').is_short
    assert not settings(tmp_path, '[log]\nretention = "190d"').is_short


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('[log]\nretention = "189d"', "allow_shorter = true"),
        ('[log]\nretention = "6mo"', "shorter than 190d"),
        ('[log]\nretention = "soon"', "log.retention is 'soon', which is no duration"),
        ('[log]\nretention = "0d"', "must be above zero"),
        ("[log]\nretention = 190", "must be a string"),
        ("[log]\nallow_shorter = 1", "must be true or false"),
        ("[log]\nretentio = 1", "Did you mean 'retention'"),
    ],
)
def test_a_shorter_one_or_none_is_refused_with_what_to_write(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(SettingsError) as caught:
        settings(tmp_path, text)
    assert said in str(caught.value)
