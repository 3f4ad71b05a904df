"""What models lived through as the loop tells it, from a small simulation: for tests of what follows."""

from __future__ import annotations

from dataclasses import fields, replace
from datetime import UTC, datetime, timedelta

import numpy as np

from clew.entities import Duration, GateCheck, GateReport
from clew.loop.result import (
    BacktestResult,
    Band,
    Event,
    GateRecord,
    Lived,
    LiveResult,
    StalenessPoint,
    Summary,
    VersionSpan,
    Window,
)
from clew.stats.intervals import wilson_interval

START = datetime(2011, 7, 1, tzinfo=UTC)


def backtest_result(seed: int = 0, n_windows: int = 12, empty_window: int | None = 4) -> BacktestResult:
    """A year in which the frozen model decays, blind refits lag, and Clew moves through three versions."""
    rng = np.random.default_rng(seed)
    end = Duration(months=n_windows).after(START)
    edges = list(Duration(months=1).windows(START, end))
    windows = tuple(
        _window(rng, place, start, stop, is_empty=place == empty_window)
        for place, (start, stop) in enumerate(edges)
    )
    versions = _versions(START)
    return BacktestResult(
        id=f"backtest-{seed:010d}",
        model="busy_hour",
        metric="accuracy",
        greater_is_better=True,
        margin=0.01,
        start=START,
        end=end,
        seed=seed,
        snapshot="e02f8498a5150512d6bccef149f2e55f4f3e00e62bd8be4aeeb6ecd735b4d158",
        windows=windows,
        events=_events(versions),
        summary=_summary(windows),
        versions=versions,
        gates=(GateRecord(versions[1].start, "fit 7", _passed()), GateRecord(_day(200), "fit 19", _failed())),
        staleness=tuple(
            _aged(rng, low, high) for low, high in ((0, 7), (7, 14), (14, 30), (30, 60), (60, 90))
        ),
        notes=("Rows are taken as they are today.", "Every label came after the stated delay."),
    )


def live_result() -> LiveResult:
    """The same year, really lived: nobody retrained blindly beside it."""
    lived = backtest_result()
    facts = {field.name: getattr(lived, field.name) for field in fields(Lived)}
    nobody = Band(None, None, None)
    windows = tuple(replace(window, blind=None, blind_band=nobody) for window in lived.windows)
    summary = replace(lived.summary, blind=None, blind_fits=None)
    counts = {"1": 3_000, "2": 2_900, "3": 2_100}
    changes = {"id": "busy_hour", "windows": windows, "summary": summary}
    return LiveResult(**facts | changes, n_answered=8_000, counts=counts)


def _window(rng: np.random.Generator, place: int, start: datetime, end: datetime, is_empty: bool) -> Window:
    n = 0 if is_empty else int((end - start) / timedelta(hours=1))
    bands = [_band(rng, n, rate) for rate in (0.9, 0.9 - 0.015 * place, 0.9 - 0.004 * place)]
    values = [band.value for band in bands]
    return Window(start, end, n, values[0], values[1], values[2], 1 + place // 5, *bands)


def _band(rng: np.random.Generator, n: int, rate: float) -> Band:
    if n == 0:
        return Band(None, None, None)
    k = rng.binomial(n, rate)
    lower, upper = wilson_interval(np.array([k]), np.array([n]))
    return Band(k / n, float(lower[0]), float(upper[0]))


def _versions(start: datetime) -> tuple[VersionSpan, ...]:
    starts = [start, _day(120), _day(240)]
    return tuple(
        VersionSpan(
            number=number,
            start=since,
            end=until,
            recipe=recipe,
            n_rows=1440 * number,
            trained_from=since - timedelta(days=180),
            trained_to=since - timedelta(days=1),
            run=f"{number:032x}",
        )
        for number, (since, until, recipe) in enumerate(
            zip(starts, [*starts[1:], None], ["first champion", "newest 1W", "newest 3W"], strict=True),
            start=1,
        )
    )


def _day(n: int) -> datetime:
    return START + timedelta(days=n)


def _events(versions: tuple[VersionSpan, ...]) -> tuple[Event, ...]:
    facts = {
        "n": 320,
        "value": 0.7781,
        "gate": {"slices": "pass", "flips": "not tested"},
        "recipes": ["newest 1W"],
    }
    return (
        Event(_day(0), "first champion", "first champion: 4,321 rows; gate: pass", {"rows": 4321}),
        Event(_day(40), "ticket", "tmin has numbers outside the reference's range"),
        Event(_day(90), "page", "accuracy fell to 0.778; the limit was 0.875; evidence 1:754", {"n": 320}),
        Event(_day(120), "gate passed", "newest 1W, refitted on 1,440 rows, passed the gate", facts),
        Event(_day(120), "promoted", f"champion is version 2 ({versions[1].recipe})", {"version": 2}),
        Event(_day(200), "refused", "fit 19 is refused at the gate: slices", {"candidate": "fit 19"}),
        Event(_day(210), "undecided", "fit 20 is undecided on 80 rows"),
        Event(_day(230), "rolled back", "version 4 is rolled back"),
        Event(_day(240), "promoted", "champion is version 3 (newest 3W)", {"version": 3, "late": None}),
    )


def _passed() -> GateReport:
    return GateReport(
        (
            GateCheck("data contract", "pass", "4,320 training rows keep to the declared columns", n=4320),
            GateCheck("minimum accuracy", "pass", "it certainly reaches 0.75", 0.93, 0.91, 0.95, 0.75, 673),
            GateCheck("anchor", "not tested", "the champion is itself the anchor"),
        )
    )


def _failed() -> GateReport:
    return GateReport(
        (
            GateCheck("minimum accuracy", "undecided", "accuracy may reach 0.75", 0.76, 0.72, 0.80, 0.75, 90),
            GateCheck(
                "slice weekday=Friday", "fail", "certainly worse on Fridays", -0.08, -0.12, -0.04, -0.01, 96
            ),
        )
    )


def _aged(rng: np.random.Generator, low: float, high: float) -> StalenessPoint:
    band = _band(rng, 2000, 0.9 - 0.001 * low)
    assert band.value is not None
    assert band.lower is not None
    assert band.upper is not None
    return StalenessPoint(low, high, 2000, band.value, band.lower, band.upper)


def _summary(windows: tuple[Window, ...]) -> Summary:
    def mean(policy: str) -> float:
        parts = [(getattr(window, policy), window.n) for window in windows if window.n]
        return round(float(sum(value * n for value, n in parts)) / sum(n for _, n in parts), 6)

    return Summary(
        clew=mean("clew"),
        frozen=mean("frozen"),
        blind=mean("blind"),
        fits=41,
        blind_fits=11,
        promotions=2,
        refusals=1,
        undecided=1,
        pages=1,
        tickets=1,
        rollbacks=1,
        seconds=18.4,
    )
