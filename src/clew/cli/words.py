"""How numbers, times and what a model lived through are said, on the terminal and in the report alike."""

from __future__ import annotations

import math
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from clew.figures.palette import Policy
    from clew.loop.result import Lived, Window


_BARS = "▁▂▃▄▅▆▇█"


def number(value: float | None) -> str:
    """A metric's value, wide enough to tell a margin, narrow enough to read; a dash for None.

    Examples
    --------
    >>> number(0.89412), number(None), number(1234.56), number(-42.123)
    ('0.894', '–', '1,235', '−42.1')
    """
    if value is None:
        return "–"
    form = next((form for limit, form in ((10, ".3f"), (1000, ".1f")) if abs(value) < limit), ",.0f")
    return f"{value:{form}}".replace("-", "−")


def sparkline(values: Sequence[float]) -> str:
    """Numbers as a line of little bars; a cross for what is no finite number.

    Examples
    --------
    >>> sparkline([1.0, 2.0, 8.0, float("nan"), 3.0])
    '▁▂█×▃'
    """
    finite = [value for value in values if math.isfinite(value)]
    lowest, highest = min(finite, default=0.0), max(finite, default=0.0)
    step = (highest / 2 - lowest / 2) / (len(_BARS) - 1) * 2 or 1.0
    return "".join(
        _BARS[min(round((value - lowest) / step), len(_BARS) - 1)] if math.isfinite(value) else "×"
        for value in values
    )


def best_of(values: Sequence[float | None], greater_is_better: bool) -> list[bool]:
    """Which of the values are the best, as `number` shows them; none where all look the same.

    Examples
    --------
    >>> best_of([0.81, 0.92, None], True), best_of([0.8101, 0.8102], True)
    ([False, True, False], [False, False])
    """
    known = [value for value in values if value is not None]
    shown = [number(value) for value in known]
    if len(set(shown)) < 2:
        return [False] * len(values)
    best = number((max if greater_is_better else min)(known))
    return [number(value) == best for value in values]


def counted(n: int, one: str, many: str | None = None) -> str:
    """A count with its word.

    Examples
    --------
    >>> counted(1, "page"), counted(0, "page"), counted(2, "refusal"), counted(1200, "row")
    ('1 page', 'no pages', '2 refusals', '1,200 rows')
    """
    word = one if n == 1 else many or f"{one}s"
    return f"{n:,} {word}" if n else f"no {word}"


def listed(words: list[str]) -> str:
    """Words as a sentence lists them.

    Examples
    --------
    >>> listed(["a"]), listed(["a", "b", "c"])
    ('a', 'a, b and c')
    """
    return " and ".join(filter(None, [", ".join(words[:-1]), words[-1] if words else ""]))


def day(moment: datetime) -> str:
    """The day, and the hour when it is not midnight.

    Examples
    --------
    >>> day(datetime(2011, 7, 1)), day(datetime(2011, 7, 1, 6, 30))
    ('2011-07-01', '2011-07-01 06:30')
    """
    return f"{moment:%Y-%m-%d}" if not (moment.hour or moment.minute) else f"{moment:%Y-%m-%d %H:%M}"


def lasting(seconds: float) -> str:
    """How long something took.

    Examples
    --------
    >>> lasting(0.34), lasting(42.1), lasting(192), lasting(7300)
    ('0.3 s', '42 s', '3 min 12 s', '2 h 1 min')
    """
    if seconds < 10:
        return f"{seconds:.1f} s"
    if seconds < 100:
        return f"{seconds:.0f} s"
    if seconds < 3600:
        return f"{seconds // 60:.0f} min {seconds % 60:.0f} s"
    return f"{seconds // 3600:.0f} h {seconds % 3600 // 60:.0f} min"


def size(n_bytes: float) -> str:
    """Bytes in words.

    Examples
    --------
    >>> size(900), size(123_456), size(5_200_000_000)
    ('900 B', '123 kB', '5.2 GB')
    """
    for unit, divisor in (("GB", 10**9), ("MB", 10**6), ("kB", 10**3)):
        if n_bytes >= divisor:
            return f"{n_bytes / divisor:.3g} {unit}"
    return f"{n_bytes:.0f} B"


def metric_in_words(name: str) -> str:
    return {"rmse": "RMSE", "mae": "MAE", "log_loss": "log loss"}.get(name, name)


def rhythm(windows: tuple[Window, ...]) -> str:
    """How often the blind policy refits, from the length of the first window: ``every month``."""
    if not windows:
        return "every window"
    start, end = windows[0].start, windows[0].end
    months = (end.year - start.year) * 12 + end.month - start.month
    if months and (start.day, start.time()) == (end.day, end.time()):
        return "every month" if months == 1 else f"every {months} months"
    return _every(end - start)


def _every(length: timedelta) -> str:
    for unit, word in (
        (timedelta(weeks=1), "week"),
        (timedelta(days=1), "day"),
        (timedelta(hours=1), "hour"),
    ):
        n, rest = divmod(length, unit)
        if n and not rest:
            return f"every {word}" if n == 1 else f"every {n} {word}s"
    return f"every {length}"


def policies(result: Lived) -> list[Policy]:
    """Whose metric is told: of a running model there is no blind twin."""
    told: tuple[Policy, ...] = ("clew", "frozen", "blind")
    return [policy for policy in told if getattr(result.summary, policy) is not None]


def outcomes(result: Lived) -> list[tuple[Policy, str, float]]:
    """Each policy with its name in a title and its metric."""
    names = {"clew": "With Clew", "frozen": "frozen", "blind": f"refitted blindly {rhythm(result.windows)}"}
    return [(each, names[each], getattr(result.summary, each)) for each in policies(result)]


def headline(result: Lived) -> str:
    """The outcome in one line, fit for a title."""
    return "; ".join(f"{name} {number(value)}" for _, name, value in outcomes(result))


def verdict(result: Lived) -> str:
    """What that means, held against the margin that the project states."""
    others = {"frozen": "the frozen first model", "blind": f"refitting blindly {rhythm(result.windows)}"}
    direction = "higher" if result.greater_is_better else "lower"
    compared = [f"{_than(gain, result.margin)} than {others[each]}" for each, gain in _gains(result).items()]
    return (
        f"Mean {metric_in_words(result.metric)} over the rows of {counted(len(result.windows), 'window')},"
        f" {direction} is better." + (f" Clew was {listed(compared)}." if compared else "")
    )


def _gains(result: Lived) -> dict[Policy, float]:
    """By how much Clew was better than each of the others, whatever way the metric runs."""
    sign = 1 if result.greater_is_better else -1
    clew, *others = outcomes(result)
    return {each: sign * (clew[2] - value) for each, _, value in others}


def first_doubt(result: Lived) -> str:
    """What the gate held against the first champion, which went live all the same; empty when nothing."""
    first = result.gates[0] if result.gates else None
    if is_live(result):
        # Told of a part of a life, the first gate may have been another candidate's.
        hers = f"version {result.versions[0].number}"
        first = next((gate for gate in result.gates if gate.candidate == hers), None)
    report = None if first is None else first.report
    if report is None or report.outcome not in ("fail", "undecided"):
        return ""
    worst = next(check for check in report.checks if check.outcome == report.outcome)
    words = "failed the gate" if report.outcome == "fail" else "was left undecided by the gate"
    return f"The first champion {words}: {worst.name}: {worst.sentence}."


def _than(gain: float, margin: float) -> str:
    if abs(gain) < margin:
        return f"within the margin of {margin:.3g} ({_signed(gain)}), so neither better nor worse"
    return f"{number(abs(gain))} {'better' if gain > 0 else 'worse'}"


def _signed(gain: float) -> str:
    return f"{gain:+.3f}".replace("-", "−")


def effort(result: Lived) -> str:
    """What it took: fits, decisions, alarms, and of a replay its time."""
    summary = result.summary
    decided = listed(
        [
            counted(summary.promotions, "promotion"),
            counted(summary.refusals, "refusal"),
            f"{summary.undecided or 'none'} undecided",
            counted(summary.rollbacks, "rollback"),
        ]
    )
    blind = "" if summary.blind_fits is None else f" (blind refitting: {summary.blind_fits})"
    took = "" if is_live(result) else f" The replay took {lasting(summary.seconds)}."
    return (
        f"Clew fitted {counted(summary.fits, 'model')}{blind}, with {decided};"
        f" {counted(summary.pages, 'page')} and {counted(summary.tickets, 'ticket')}.{took}"
    )


def policy_gains(result: Lived) -> dict[Policy, str]:
    """By how much Clew beat each of the others, for a reader who skims: ``Clew +0.099``.

    The sign is of being better, whatever way the metric runs.
    """
    return {each: f"Clew {_signed(gain)}" for each, gain in _gains(result).items()}


def is_live(result: Lived) -> bool:
    """Whether it was really lived, and not replayed."""
    from clew.loop.result import LiveResult

    return isinstance(result, LiveResult)
