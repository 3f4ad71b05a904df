"""What people read: calm tables and sentences that fit the width of the terminal.

Colour appears on a terminal only, and never where ``NO_COLOR`` is set; no meaning hangs on it. rich loads
when the first thing is shown.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from clew.cli.kinds import GATE_SIGNS

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

    from clew.entities import GateCheck, GateReport

PIPED_WIDTH = 140

_COLOURS = {"pass": "green", "fail": "red", "undecided": "yellow", "not tested": "dim"}


def console(stderr: bool = False) -> Console:
    """Where to print: as wide as the terminal, or wide enough to lose nothing in a pipe or file."""
    from rich.console import Console

    stream = sys.stderr if stderr else sys.stdout
    return Console(
        file=stream,
        width=None if stream.isatty() else PIPED_WIDTH,
        highlight=False,
        markup=False,
        emoji=False,
        soft_wrap=False,
    )


def answer(as_json: bool, value: Any, show: Callable[[], None]) -> None:
    """Print the value as a JSON document for a program, or show it to a person."""
    if as_json:
        from clew.cli.documents import print_document

        print_document(value)
    else:
        show()


def say(text: str = "", style: str = "") -> None:
    """Print a paragraph, wrapped at the terminal's width."""
    console().print(text, style=style or None)


def table(columns: Sequence[str], rows: Iterable[Sequence[Any]], *, right: Sequence[str] = ()) -> Table:
    """A table without a frame; columns named in `right` hold numbers.

    What does not fit is folded into a second line: nothing is cut off.
    """
    from rich import box
    from rich.table import Table
    from rich.text import Text

    made = Table(box=box.SIMPLE_HEAD, pad_edge=False, header_style="dim", show_edge=False)
    for column in columns:
        is_number = column in right
        made.add_column(
            Text(column), justify="right" if is_number else "left", overflow="fold", no_wrap=is_number
        )
    for row in rows:
        made.add_row(*(cell if isinstance(cell, Text) else Text(str(cell)) for cell in row))
    return made


def show(renderable: Any) -> None:
    """Print a table or tree, without the spaces that would fill its last column up."""
    printer = console()
    with printer.capture() as captured:
        printer.print(renderable)
    sys.stdout.write("".join(f"{line.rstrip()}\n" for line in captured.get().splitlines()))


def show_table(columns: Sequence[str], rows: Sequence[Sequence[Any]], *, right: Sequence[str] = ()) -> None:
    show(table(columns, rows, right=right))


def show_columns(rows: Iterable[Sequence[Any]]) -> None:
    """Rows in columns without a head; only the last column is folded."""
    from rich.table import Table
    from rich.text import Text

    grid = Table.grid(padding=(0, 2))
    for row in rows:
        if not grid.columns:
            for _ in row[:-1]:
                grid.add_column(no_wrap=True)
            grid.add_column(overflow="fold")
        grid.add_row(*(cell if isinstance(cell, Text) else Text(str(cell)) for cell in row))
    show(grid)


def show_facts(facts: Mapping[str, Any]) -> None:
    """Names and values, one a line; those without a value are left out."""
    from rich.text import Text

    known = {name: value for name, value in facts.items() if value not in (None, "", (), [], {})}
    show_columns([Text(name, style="dim"), value] for name, value in known.items())


def show_gate(report: GateReport) -> None:
    """Every check in order: its sign, its name and what it found."""
    show_columns(
        [outcome_text(check.outcome), check.name.replace("_", " "), _found(check)] for check in report.checks
    )


def _found(check: GateCheck) -> Any:
    from rich.text import Text

    return Text(check.sentence, style="dim" if check.outcome == "not tested" else "")


def outcome_text(outcome: str) -> Any:
    """The gate's outcome with its sign, coloured on a terminal."""
    from rich.text import Text

    return Text(f"{GATE_SIGNS[outcome]} {outcome}", style=_COLOURS[outcome])
