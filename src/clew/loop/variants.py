"""Variants of one model, each fitted on the same rows and measured on the same later rows, some at a time.

A variant has other hyperparameters, or lacks columns. Each is a run of its own, made once: its losses on the
held-out rows are kept with it, so that asked again it is read back.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import TypeAlias

import pyarrow as pa

from clew.entities import ModelDeclaration, Param, Run
from clew.errors import TrainingFailed
from clew.loop.first import judged_rows
from clew.loop.fitter import Fitter, Thread, identity_of
from clew.loop.held_out import HeldOut, Rehearsed, read_held_out, rehearsed
from clew.loop.history import History
from clew.loop.policy import metric_of
from clew.loop.standing import FittedModel
from clew.stats.metrics import Metric
from clew.storage import Store
from clew.tracking import list_runs
from clew.training import Child

_LOOK_SECONDS = 0.2


@dataclass(frozen=True, slots=True)
class Variant:
    """What is other: hyperparameters, or columns that are left out. `name` says it in words."""

    name: str
    purpose: str
    params: Mapping[str, Param]
    without: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Measured:
    """A variant's run and what it did on the held-out rows; `error` says why there is none.

    `is_new` is False for a run that was there.
    """

    variant: Variant
    run: Run | None
    held_out: HeldOut | None
    is_new: bool
    error: str | None = None


@dataclass(frozen=True, slots=True)
class Ground:
    """What all variants share.

    Attributes
    ----------
    file
        The project's file that declares the model.
    rows_file
        The snapshot's rows as an Arrow file, mapped by every child.
    known, cut, n
        Rows 0 to `known` are learned from, rows `cut` to `n` are held out.
    """

    store: Store
    history: History
    thread: Thread
    file: str
    rows_file: Path
    known: int
    cut: int
    n: int
    clock: Callable[[], datetime]

    @property
    def declaration(self) -> ModelDeclaration:
        return self.history.declaration

    @property
    def metric(self) -> Metric:
        return metric_of(self.declaration)

    def key(self, variant: Variant) -> str:
        """Of all that a variant depends on, so that the same one is made once."""
        thread = replace(self.thread, params=variant.params)
        rows = (self.known, self.cut, self.n)
        identity = identity_of(self.declaration, thread, variant.without, rows)
        return f"try/{variant.purpose.split()[0]}-{identity}"


def prepare_ground(
    store: Store,
    history: History,
    thread: Thread,
    file: str,
    folder: Path,
    clock: Callable[[], datetime],
) -> Ground:
    """What variants share, from what has matured by now; the rows are laid into `folder` once for all.

    Raises
    ------
    UsageError
        When too few labels have matured to measure a model by.
    """
    known, cut, n = judged_rows(history, clock())
    path, rows = folder / "rows.arrow", history.table
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, rows.schema) as writer:
        writer.write_table(rows)
    return Ground(store, history, thread, file, path, known, cut, n, clock)


OnMeasured: TypeAlias = Callable[[Measured], None]


def measure(
    ground: Ground, variants: Sequence[Variant], children: Sequence[Child], on_measured: OnMeasured
) -> list[Measured]:
    """Fit and measure all variants, as many at a time as there are children; in the order given.

    One whose function fails is recorded as failed, and the others go on. Ctrl-C ends those at work, which are
    recorded as interrupted; what is finished stays.

    The children are left at work on the model as it is declared.
    """
    free: queue.SimpleQueue[Child] = queue.SimpleQueue()
    for child in children:
        free.put(child)
    stopping = threading.Event()
    with ThreadPoolExecutor(len(children), thread_name_prefix="clew-variant") as pool:
        futures = [pool.submit(_with_a_child, free, ground, each, stopping) for each in variants]
        try:
            _wait(futures, on_measured)
        except BaseException:
            stopping.set()
            for future in futures:
                future.cancel()
            _end(futures, children)
            raise
    for child in children:
        _use(ground, child, ground.declaration)
    return [future.result() for future in futures]


def _use(ground: Ground, child: Child, declaration: ModelDeclaration) -> None:
    child.use(ground.rows_file, declaration, ground.file, ground.thread.snapshot.columns)


def _wait(futures: Sequence[Future[Measured]], on_measured: OnMeasured) -> None:
    waiting = set(futures)
    while waiting:
        # Not for ever: Ctrl-C is heard between two looks.
        done, waiting = wait(waiting, _LOOK_SECONDS, FIRST_COMPLETED)
        for future in done:
            on_measured(future.result())


def _end(futures: Sequence[Future[Measured]], children: Sequence[Child]) -> None:
    """End what is at work, also in a process that takes the place of one that was lost."""
    waiting = set(futures)
    while waiting:
        for child in children:
            child.interrupt()
        _, waiting = wait(waiting, _LOOK_SECONDS)


def _with_a_child(
    free: queue.SimpleQueue[Child], ground: Ground, variant: Variant, stopping: threading.Event
) -> Measured:
    child = free.get()
    try:
        return _measured(ground, variant, child, stopping)
    finally:
        free.put(child)


def _measured(ground: Ground, variant: Variant, child: Child, stopping: threading.Event) -> Measured:
    key = ground.key(variant)
    known = next(iter(list_runs(ground.store, status="finished", key_prefix=f"{key}/", limit=1)), None)
    held_out = read_held_out(ground.store, known) if known else None
    if held_out is not None:
        return Measured(variant, known, held_out, is_new=False)
    fitter = _fitter(ground, variant, child, key)
    fitter.stopping = stopping
    found: list[HeldOut] = []

    def judge(model: FittedModel) -> Rehearsed:
        raw = fitter.scored(model, ground.cut, ground.n).raw.copy()
        found.append(HeldOut(ground.metric.name, ground.cut, ground.n, raw))
        return rehearsed(ground.metric, found[0])

    try:
        model = fitter.fit(variant.purpose, ((0, ground.known),), ground.cut, judge=judge)
    except TrainingFailed as error:
        return Measured(variant, None, None, is_new=True, error=str(error))
    finally:
        if not stopping.is_set():
            child.release("fit 1")
    (run,) = list_runs(ground.store, key_prefix=f"{key}/", limit=1)
    assert run.id == model.run  # noqa: S101 - a variant has one run
    return Measured(variant, run, found[0], is_new=True)


def _fitter(ground: Ground, variant: Variant, child: Child, key: str) -> Fitter:
    declaration = ground.declaration
    if variant.without:
        declaration = replace(declaration, not_features=(*declaration.not_features, *variant.without))
    _use(ground, child, declaration)
    features = tuple(name for name in ground.history.features if name not in variant.without)
    history = replace(ground.history, declaration=declaration, features=features)
    thread = replace(ground.thread, params=variant.params)
    return Fitter(ground.store, child, history, thread, ground.metric, key, ground.clock)
