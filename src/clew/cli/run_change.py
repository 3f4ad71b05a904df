"""What differs between two runs, for people: a table for each kind of difference, and nothing for none."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from clew.cli.terminal import console, say, show_facts, show_table
from clew.cli.words import counted, number, size

if TYPE_CHECKING:
    from clew.entities import Param
    from clew.loop.data_change import DataChange
    from clew.loop.run_change import Interval, MetricChange, RunChange
    from clew.tracking import Changed, EnvironmentChange, FileChange

THEN_NOW = ["then", "now"]


def show_run_change(change: RunChange) -> None:
    """Only what differs; that nothing does is said."""
    then, now = change.then.name, change.now.name
    if not change:
        say(f"{then} → {now}: nothing differs", style="bold")
        return
    same = {True: ", and made the same model", False: "", None: ""}[change.is_same_model]
    say(f"{then} → {now}{same}", style="bold")
    _table(["", *THEN_NOW], _changed(change.facts))
    _table(["parameter", *THEN_NOW], [[p.name, _param(p.then), _param(p.now)] for p in change.params])
    _table(
        ["metric", *THEN_NOW, "difference", "more loss on the same rows"],
        [
            [
                m.name,
                _metric(m.then, m.then_interval),
                _metric(m.now, m.now_interval),
                _difference(m),
                _more_loss(m),
            ]
            for m in change.metrics
        ],
    )
    if change.data is not None:
        _show_data(change.data)
    _show_environment(change.environment)
    _table(["file outside of the code", *THEN_NOW], _digests(change.opened))
    for file in change.code:
        _show_file(file)
    if change.is_same_model is False and not any(
        (change.facts, change.params, change.data, change.environment, change.code, change.opened)
    ):
        say()
        say("They made two models, and nothing that was recorded says why.")


def _table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    if rows:
        say()
        show_table(columns, rows)


def _changed(found: Sequence[Changed]) -> list[list[str]]:
    return [[each.name, each.then or "–", each.now or "–"] for each in found]


def _digests(found: Sequence[Changed]) -> list[list[str]]:
    return [[each.name, (each.then or "–")[:12], (each.now or "–")[:12]] for each in found]


def _param(param: Param | None) -> str:
    return "–" if param is None else f"{param.value!r} ({param.source})"


def _metric(value: float | None, interval: Interval | None) -> str:
    between = "" if interval is None else f" ({number(interval[0])} to {number(interval[1])})"
    return f"{number(value)}{between}"


def _difference(metric: MetricChange) -> str:
    return "–" if metric.difference is None else f"{metric.difference:+.3g}".replace("-", "−")


def _more_loss(metric: MetricChange) -> str:
    if metric.more_loss is None:
        return "–"
    value, lower, upper = metric.more_loss
    return f"{value:+.4f} ({lower:+.4f} to {upper:+.4f})".replace("-", "−")


def _show_data(data: DataChange) -> None:
    rows = data.rows
    by_column = [] if rows is None else [f"{name} in {n:,}" for name, n in rows.by_column.items()]
    say()
    show_facts(
        {
            "data": f"{data.dataset}, snapshot {data.then[:12]} then, {data.now[:12]} now",
            "rows": f"{data.then_rows:,} then, {data.now_rows:,} now",
            "by key": "other keys, so rows cannot be told apart"
            if rows is None
            else f"{rows.n_added:,} added, {rows.n_removed:,} removed, {rows.n_changed:,} changed",
            "changed": ", ".join(by_column),
        }
    )
    _table(["column", *THEN_NOW], _changed(data.columns))


def _show_environment(change: EnvironmentChange) -> None:
    _table(["package", *THEN_NOW], _changed(change.packages))
    _table(["environment", *THEN_NOW], _changed(change.facts))
    if change.rebuilt:
        say()
        say(f"Other files under the same version: {', '.join(change.rebuilt)}")


def _show_file(file: FileChange) -> None:
    sizes = [size(n) for n in (file.then_bytes, file.now_bytes) if n is not None]
    lines = f"{counted(file.n_added, 'line')} added, {counted(file.n_removed, 'line')} removed"
    told = lines if file.lines else " → ".join(sizes)
    say()
    say(f"{file.path} {file.kind}: {told}", style="bold")
    printer = console()
    for line in file.lines:
        # As they stand in the file: a line of code that was wrapped would be another one.
        printer.out(line, style={"+": "green", "-": "red", "@": "dim"}.get(line[0]), highlight=False)
