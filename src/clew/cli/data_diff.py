"""What differs between two snapshots, in words and tables."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Any

from clew.cli.terminal import say, show_facts, show_table
from clew.cli.words import counted, number

if TYPE_CHECKING:
    from clew.loop.data_diff import ColumnShift, DataDiff

_LONGEST_CELL = 48
_N_SHIFTS = 12


def verdict(diff: DataDiff) -> str:
    """The comparison in one sentence, without a full stop."""
    if diff.verdict == "same snapshot":
        return "The same snapshot"
    if diff.verdict == "same rows":
        return "The same rows in the same order, under another name or with other roles"
    if diff.verdict == "same rows, other order":
        return "The same rows, in another order"
    if diff.rows is None:
        return "They have no key in common, so rows cannot be told apart"
    counts = {"added": diff.rows.n_added, "removed": diff.rows.n_removed, "changed": diff.rows.n_changed}
    told = [f"{n:,} {what}" for what, n in counts.items() if n]
    n_columns = len(diff.columns)
    columns = f"{counted(n_columns, 'column')} came, went or changed type" if n_columns else ""
    return "; ".join(filter(None, [f"Rows: {', '.join(told)}" if told else "No row differs", columns]))


def what_differs(diff: DataDiff) -> dict[str, Any]:
    """Names and values of what differs in rows."""
    rows = diff.rows
    if rows is None:
        return {}
    changed = [f"{name} in {n:,}" for name, n in rows.by_column.items()]
    return {
        "key": diff.key,
        "added": _some_keys(diff.added, rows.n_added),
        "removed": _some_keys(diff.removed, rows.n_removed),
        "changed": f"{rows.n_changed:,}: {', '.join(changed)}" if changed else "0",
    }


def _some_keys(keys: tuple[Any, ...], n: int) -> str:
    if not n:
        return "0"
    shown = ", ".join(cell(key) for key in keys[:5])
    return f"{n:,}: {shown}{', …' if n > 5 else ''}"


def cell(value: Any) -> str:
    """A value as a table shows it; a dash for null.

    Examples
    --------
    >>> cell(None), cell("a\\nb"), cell(""), cell(0.1)
    ('–', 'a b', "''", '0.1')
    """
    if value is None:
        return "–"
    if value == "":
        return "''"
    if isinstance(value, datetime):
        return f"{value:%Y-%m-%d %H:%M:%S}"
    text = " ".join(str(value).split())
    return text if len(text) <= _LONGEST_CELL else f"{text[: _LONGEST_CELL - 1]}…"


def distance(share: float) -> str:
    """A share of rows.

    Examples
    --------
    >>> distance(0.0), distance(0.0001), distance(0.123)
    ('0 %', '< 0.1 %', '12.3 %')
    """
    if 0 < share < 0.001:
        return "< 0.1 %"
    return "0 %" if not share else f"{share * 100:.1f} %"


def show_data_diff(diff: DataDiff) -> None:
    """Only what differs; that nothing does is said."""
    then, now = (f"{side.dataset}@{side.id[:12]}" for side in (diff.then, diff.now))
    say(f"{then} → {now}", style="bold")
    say(f"{verdict(diff)}.")
    if diff.verdict != "differs":
        return
    say()
    show_facts({"rows": f"{diff.then.n_rows:,} then, {diff.now.n_rows:,} now"} | what_differs(diff))
    if diff.columns:
        say()
        show_table(["column", "then", "now"], [[c.name, c.then or "–", c.now or "–"] for c in diff.columns])
    if diff.changed and diff.rows is not None:
        say()
        show_table([str(diff.key), "column", "then", "now"], _cells(diff))
        n_more = diff.rows.n_changed - len(diff.changed)
        if n_more:
            say(f"and {counted(n_more, 'more changed row')}; see them with --limit {diff.rows.n_changed}")
    _show_shifts(diff)


def _cells(diff: DataDiff) -> list[list[str]]:
    return [
        ["" if place else cell(row.key), name, cell(then), cell(now)]
        for row in diff.changed
        for place, (name, (then, now)) in enumerate(row.cells.items())
    ]


def _show_shifts(diff: DataDiff) -> None:
    moved = [shift for shift in diff.shifts if shift.distance > 0]
    if not moved:
        return
    say()
    show_table(
        ["column", "moved", "mean", "missing"],
        [
            [shift.name, distance(shift.distance), _mean(shift), _missing(shift)]
            for shift in moved[:_N_SHIFTS]
        ],
        right=["moved"],
    )
    n_more = len(moved) - _N_SHIFTS
    if n_more > 0:
        say(f"and {counted(n_more, 'more column')} that moved less; --json and --report have them")


def _mean(shift: ColumnShift) -> str:
    if shift.mean_then is None or shift.mean_now is None:
        return ""
    return f"{number(shift.mean_then)} → {number(shift.mean_now)}"


def _missing(shift: ColumnShift) -> str:
    then, now = shift.missing
    return "" if not (then or now) else f"{distance(then)} → {distance(now)}"
