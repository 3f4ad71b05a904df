"""A grid of hyperparameters, and what columns are worth, for people: one table each and what it means."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from clew.cli.terminal import say, show_table
from clew.cli.words import counted, listed, metric_in_words, number

if TYPE_CHECKING:
    from clew.loop.columns import ColumnsReport, Dropped
    from clew.loop.grid import GridPoint, GridResult


def show_grid(result: GridResult) -> None:
    """Every point, the best first."""
    names = list(result.points[0].params)
    metric = metric_in_words(result.metric)
    say(f"{counted(len(result.points), 'point')}, the best by {metric} first", style="bold")
    say(
        f"Each learned from {result.n_learned:,} rows and was measured on the same {result.n_held_out:,}"
        " later ones."
    )
    say()
    show_table(
        [*names, metric, "95 %", "more loss than the best", "", "run"],
        [[*(_value(point.params[name]) for name in names), *_point(point)] for point in result.points],
        right=[*names, metric],
    )
    say()
    say(_verdict(result))
    for point in result.points:
        if point.error is not None:
            told = ", ".join(f"{name}={_value(value)}" for name, value in point.params.items())
            say(f"{told} failed: {point.error.splitlines()[0]}")
    say()


def _value(value: Any) -> str:
    return value if isinstance(value, str) else repr(value)


def _point(point: GridPoint) -> list[str]:
    if point.value is None:
        return ["–", "", "", point.standing, ""]
    between = f"{number(point.lower)} to {number(point.upper)}"
    run = (point.run or "")[:12] + ("" if point.is_new else "  (was there)")
    more = _difference(point.loss_difference, point.loss_lower, point.loss_upper)
    return [number(point.value), between, more, point.standing, run]


def _difference(value: float | None, lower: float | None, upper: float | None) -> str:
    if value is None or lower is None or upper is None:
        return ""
    return f"{value:+.4f} ({lower:+.4f} to {upper:+.4f})".replace("-", "−")


def _verdict(result: GridResult) -> str:
    best = result.points[0]
    named = ", ".join(f"{name}={_value(value)}" for name, value in best.params.items())
    n_compared = sum(point.value is not None for point in result.points) - 1
    if not n_compared:
        return f"Only {named} could be measured; it is registered."
    if not result.n_like_best:
        certain = "certainly better than every other"
    elif result.n_like_best == n_compared:
        certain = "but no other can be told from it on these rows"
    else:
        certain = f"but {counted(result.n_like_best, 'other')} cannot be told from it on these rows"
    return (
        f"Best: {named}; {certain}. It alone is registered. As the best of several it looks a little better"
        " here than it is."
    )


def show_columns_report(report: ColumnsReport) -> None:
    """What is lost without each column, the most first."""
    metric = metric_in_words(report.metric)
    say()
    say("What each column is worth", style="bold")
    say(
        f"Trained again without it on {report.n_learned:,} rows, measured on the same {report.n_held_out:,}"
        f" later ones; with all columns: {metric} {number(report.value)}."
    )
    say()
    show_table(
        ["without", metric, "more loss", "", "run"],
        [_dropped(each) for each in report.columns],
        right=[metric],
    )
    say()
    say(_carrying(report))
    for each in report.columns:
        if each.error is not None:
            say(f"Without {each.columns[0]} it cannot be trained: {each.error.splitlines()[0]}")


def _dropped(each: Dropped) -> list[str]:
    more = _difference(each.loss_difference, each.loss_lower, each.loss_upper)
    return [", ".join(each.columns), number(each.value), more, each.worth, (each.run or "")[:12]]


def _carrying(report: ColumnsReport) -> str:
    if not report.could_be_dropped:
        return (
            "No column is certain to carry nothing: without each of them the loss may grow by more than the"
            f" margin, {report.margin:.4g}."
        )
    told = (
        f"Could be dropped, each alone: {listed(list(report.could_be_dropped))}. Without it the loss"
        f" certainly grows by less than the margin, {report.margin:.4g}."
    )
    together = report.together
    if together is None:
        return told
    difference = _difference(together.loss_difference, together.loss_lower, together.loss_upper)
    words = {
        "could be dropped": f"{difference} more loss, so they could all go",
        "better without": f"{difference} more loss, so it is better without them",
        "needed": f"{difference} more loss, so they cannot all go: one stands in for another",
        "undecided": f"{difference} more loss, which does not tell whether all could go",
        "failed": "it cannot be trained",
    }
    return f"{told} Without all of them at once: {words[together.worth]}."
