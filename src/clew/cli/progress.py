"""How far a long piece of work is, on stderr: a bar on a terminal, a few plain lines anywhere else."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from clew.cli.kinds import look_of
from clew.cli.words import day, number

if TYPE_CHECKING:
    from rich.console import Console

    from clew.loop.result import Event, OnProgress, Progress

N_PLAIN_LINES = 20
"""A log gets a line for each twentieth of the way, whatever happens in it."""

_STYLES = {"alarm": "bold red", "caution": "yellow", "good": "bold blue", "plain": ""}


@contextmanager
def progress_shown(work: str) -> Iterator[OnProgress]:
    """Hand out a function that shows progress until the block ends.

    Parameters
    ----------
    work
        What is being done, such as ``"Replaying"``.
    """
    from clew.cli.terminal import console

    stderr = console(stderr=True)
    if sys.stderr.isatty():
        with _bar(stderr, work) as on_progress:
            yield on_progress
    else:
        yield PlainProgress(work)


@contextmanager
def _bar(stderr: Console, work: str) -> Iterator[OnProgress]:
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
    from rich.text import Text
    from rich.theme import Theme

    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=None),
        TextColumn("{task.percentage:>3.0f} %", markup=False),
        TimeElapsedColumn(),
    )
    stderr.push_theme(Theme({"bar.complete": "blue", "bar.finished": "blue", "progress.elapsed": "dim"}))
    # The bar leaves when the work is done: the result takes its place.
    with Progress(*columns, console=stderr, transient=True, expand=True) as bar:
        task = bar.add_task(work, total=1.0)

        def on_progress(progress: Any) -> None:
            if progress.event is not None:
                style = _STYLES[look_of(progress.event.kind).tone]
                bar.console.print(Text(event_line(progress.event), style=style))
            bar.update(task, completed=progress.done, description=_standing(progress, work))

        yield on_progress


class PlainProgress:
    """Prints few lines: how far, the simulated day, the metric of late, the event that matters most."""

    def __init__(self, work: str) -> None:
        self.work = work
        self._n_lines = 0
        self._sentence = ""
        self._told: list[Event] = []

    def __call__(self, progress: Progress) -> None:
        if progress.event is not None:
            self._told.append(progress.event)
        is_new_sentence = progress.sentence != self._sentence and progress.at is None
        self._sentence = progress.sentence
        if int(progress.done * N_PLAIN_LINES) > self._n_lines or (is_new_sentence and not self._n_lines):
            self._n_lines = int(progress.done * N_PLAIN_LINES)
            sys.stderr.write(self._line(progress) + "\n")
            sys.stderr.flush()
            self._told.clear()

    def _line(self, progress: Progress) -> str:
        line = f"{progress.done:4.0%}  {_standing(progress, self.work)}"
        if not self._told:
            return line
        newest = max(self._told, key=lambda event: (_weight(event), event.time))
        others = len(self._told) - 1
        return f"{line}  {event_line(newest)}" + (f" (and {others} more)" if others else "")


def _weight(event: Event) -> int:
    return ("plain", "caution", "good", "alarm").index(look_of(event.kind).tone)


def _standing(progress: Progress, work: str) -> str:
    """Where the work stands: what is done, the simulated day, the metric of late."""
    if progress.at is None:
        return progress.sentence or work
    now = "" if progress.metric_now is None else f", now {number(progress.metric_now)}"
    return f"{progress.sentence or work} {progress.at:%Y-%m-%d}{now}"


def event_line(event: Event) -> str:
    """An event in one line: its sign, its day, its sentence."""
    return f"{look_of(event.kind).sign} {day(event.time)}  {event.sentence}"
