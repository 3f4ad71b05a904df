"""How numbers, times and the outcome of a backtest are said, on the terminal and in the report alike."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from clew.loop.result import BacktestResult, Summary, Window


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


def headline(result: BacktestResult) -> str:
    """The outcome in one line, fit for a title."""
    summary = result.summary
    return (
        f"With Clew {number(summary.clew)}; frozen {number(summary.frozen)};"
        f" refitted blindly {rhythm(result.windows)} {number(summary.blind)}"
    )


def verdict(result: BacktestResult) -> str:
    """What that means, held against the margin that the project states."""
    summary = result.summary
    sign = 1 if result.greater_is_better else -1
    over_frozen, over_blind = sign * (summary.clew - summary.frozen), sign * (summary.clew - summary.blind)
    direction = "higher" if result.greater_is_better else "lower"
    return (
        f"Mean {metric_in_words(result.metric)} over the rows of {counted(len(result.windows), 'window')},"
        f" {direction} is better. Clew was {_than(over_frozen, result.margin)} than the frozen first model"
        f" and {_than(over_blind, result.margin)} than refitting blindly {rhythm(result.windows)}."
    )


def first_doubt(result: BacktestResult) -> str:
    """What the gate held against the first champion, which went live all the same; empty when nothing."""
    report = result.gates[0].report if result.gates else None
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


def effort(summary: Summary) -> str:
    """What it took: fits, decisions, alarms, time."""
    decided = listed(
        [
            counted(summary.promotions, "promotion"),
            counted(summary.refusals, "refusal"),
            f"{summary.undecided or 'none'} undecided",
            counted(summary.rollbacks, "rollback"),
        ]
    )
    return (
        f"Clew fitted {counted(summary.fits, 'model')} (blind refitting:"
        f" {summary.blind_fits}), with {decided};"
        f" {counted(summary.pages, 'page')} and {counted(summary.tickets, 'ticket')}."
        f" The replay took {lasting(summary.seconds)}."
    )


def policy_gains(result: BacktestResult) -> dict[str, str]:
    """By how much Clew beat each of the others, for a reader who skims: ``Clew +0.099``.

    The sign is of being better, whatever way the metric runs.
    """
    sign = 1 if result.greater_is_better else -1
    others = {"frozen": result.summary.frozen, "blind": result.summary.blind}
    gains = {name: sign * (result.summary.clew - value) for name, value in others.items()}
    return {name: f"Clew {_signed(gain)}" for name, gain in gains.items()}
