"""Repeating a run from its record: the same rows, code, parameters and seed, and what comes of it compared.

Nothing of the project as it lies there today is used, neither its files nor its sources; everything comes
out of the store by digest.
"""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from datetime import datetime
from itertools import count
from pathlib import Path

import pyarrow as pa

from clew.datasets import feature_names, get_snapshot, read_rows
from clew.datasets.folders import find_folder
from clew.entities import FolderSnapshot, ModelDeclaration, RowRange, Run, Snapshot
from clew.errors import (
    ClewError,
    NotFound,
    PackageError,
    ProjectError,
    StoreError,
    TrainingFailed,
    UsageError,
)
from clew.loop.first import held_out
from clew.loop.fitter import Fitter, Thread, row_losses
from clew.loop.folders import by_name, folders_laid_out
from clew.loop.history import History
from clew.loop.keeping import Keeper
from clew.loop.originals import Original
from clew.loop.policy import metric_of
from clew.loop.reproduction import (
    MetricCompared,
    PredictionsCompared,
    Reproduction,
    both,
    compare_predictions,
    files_changed,
    level_of,
    likely_causes,
    mixed_rows,
)
from clew.loop.result import OnProgress, Progress
from clew.registry import Predictions, fetch_package, package_model_digest
from clew.storage import Store, link
from clew.tracking import (
    EnvironmentChange,
    close_run,
    environment_change,
    fail_run,
    folders_of,
    get_code,
    get_environment,
    keep_environment,
    list_runs,
    materialise_code,
    open_run,
    opened_files,
    summarise_metrics,
    this_owner,
)
from clew.training import ArtifactLimits, Child, Fit, Listener

PURPOSE = "reproduce"
AGAIN, RECORDED = "again", "recorded"


@dataclass(frozen=True, slots=True)
class Evidence:
    """What the repetition brought forth."""

    fit: Fit
    is_same_package: bool | None
    predictions: PredictionsCompared | None
    metrics: tuple[MetricCompared, ...]
    measured: Mapping[str, float]
    notes: tuple[str, ...]


def reproduce(
    store: Store,
    original: Original,
    *,
    root: Path,
    python: Path | None,
    artifact_limits: ArtifactLimits,
    clock: Callable[[], datetime],
    on_progress: OnProgress,
) -> Reproduction:
    """Train again what `original` trained, and say how near it came.

    Parameters
    ----------
    root
        The project's folder; nothing in it is read.
    python
        The interpreter of an environment made for this; None for the present one.
    artifact_limits
        What ``train.artifact`` takes.

    Raises
    ------
    UsageError
        When the run made no model.
    StoreError
        When rows or code that it used are damaged in the store, naming them.
    TrainingFailed
        When the function fails this time; the run that repeats it is recorded as failed.
    """
    repeated = original.run
    if repeated.purpose == "import":
        given = repeated.params
        raise UsageError(
            f"{original.name} was imported from {given['source'].value} by {given['by'].value}: how it was"
            " trained is not known, so it cannot be trained again."
        )
    if repeated.status != "finished":
        raise UsageError(
            f"Run {repeated.id[:12]} is {repeated.status}, so there is no model to make again."
            " Runs that made one: clew runs list --status finished"
        )
    with ExitStack() as stack:
        on_progress(Progress(0.05, sentence="reading the recorded rows"))
        snapshot = get_snapshot(store, repeated.snapshot, repeated.dataset)
        table = recorded_rows(store, snapshot, repeated.rows)
        on_progress(Progress(0.2, sentence="laying out the captured code"))
        child = stack.enter_context(_child(store, repeated, root, python, artifact_limits))
        folders = [find_folder(store, identity) for identity in folders_of(store, repeated)]
        laid = stack.enter_context(folders_laid_out(store, folders))
        fitter = _fitter(store, child, repeated, snapshot, table, laid, clock)
        return _Repetition(fitter, original, clock, on_progress).done(is_made=python is not None)


def _fitter(
    store: Store,
    child: Child,
    run: Run,
    snapshot: Snapshot,
    table: pa.Table,
    laid: Mapping[FolderSnapshot, Path],
    clock: Callable[[], datetime],
) -> Fitter:
    """What fits the run's model on `table`, as the captured code declares it."""
    file, declaration = _declared(store, child, run)
    child.use(table, declaration, file, snapshot.columns, by_name(laid))
    features = feature_names(snapshot.columns, declaration.dataset, declaration.not_features)
    history = History.of(declaration, table, features)
    environment = keep_environment(store, child.environment(), now=clock())
    thread = Thread(snapshot, run.code, environment, run.params, run.seed, this_owner(), tuple(laid))
    return Fitter(store, child, history, thread, metric_of(declaration), PURPOSE, clock)


def recorded_rows(store: Store, snapshot: Snapshot, rows: Iterable[RowRange]) -> pa.Table:
    """The rows of these ranges, one after the other; each part is checked against its digest.

    Raises
    ------
    StoreError
        When a part is damaged or gone, naming it and the rows in it.
    """
    pieces: list[pa.Table] = []
    for asked in rows:
        for number, part in enumerate(_part_ranges(snapshot), start=1):
            start, end = max(asked.start, part.start), min(asked.end, part.end)
            if start < end:
                pieces.append(_of_part(store, snapshot, RowRange(start, end), number, part))
    return pa.concat_tables(pieces)


def _part_ranges(snapshot: Snapshot) -> Iterator[RowRange]:
    start = 0
    for part in snapshot.parts:
        yield RowRange(start, start + part.n_rows)
        start += part.n_rows


def _of_part(store: Store, snapshot: Snapshot, rows: RowRange, number: int, part: RowRange) -> pa.Table:
    try:
        return read_rows(store, snapshot, rows)
    except (StoreError, NotFound) as error:
        raise StoreError(
            f"Part {number} of {len(snapshot.parts)} of snapshot {snapshot.id[:12]} of {snapshot.dataset},"
            f" with rows {part.start:,} to {part.end:,}, cannot be read: {error}"
        ) from None


@contextmanager
def _child(
    store: Store, run: Run, root: Path, python: Path | None, limits: ArtifactLimits
) -> Iterator[Child]:
    with store.scratch("reproduce") as folder:
        materialise_code(store, run.code, folder / "code")
        with Child.start(folder / "code", root, folder, python=python, artifact_limits=limits) as child:
            yield child


def _declared(store: Store, child: Child, run: Run) -> tuple[str, ModelDeclaration]:
    """The file of the captured code that declares the run's model, and what it declares."""
    files = [file.path for file in get_code(store, run.code).files if not file.is_link]
    for file in declaring_files(child.code_folder, files, run.model):
        for described in child.describe([file]):
            if described.model.name == run.model:
                return described.file, described.model
    raise ProjectError(
        f"No file of the captured code {run.code[:12]} declares {run.model!r}, although run {run.id[:12]} ran"
        " it."
    )


def declaring_files(folder: Path, files: Iterable[str], model: str) -> list[str]:
    """Python files in which a decorated function has the model's name, found without running any."""
    return [file for file in files if file.endswith(".py") and _decorates(folder / file, model)]


def _decorates(path: Path, name: str) -> bool:
    try:
        tree = ast.parse(path.read_bytes())
    except (SyntaxError, ValueError):
        return False
    functions = (node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef))
    return any(function.name == name and function.decorator_list for function in functions)


class _Repetition:
    """One repetition; its rows are counted from the first that the run learned from."""

    def __init__(
        self, fitter: Fitter, original: Original, clock: Callable[[], datetime], on_progress: OnProgress
    ) -> None:
        self._fitter, self._clock, self._report = fitter, clock, on_progress
        self._store, self._child, self._history = fitter.store, fitter.child, fitter.history
        self._repeated, self._version, self._metric = original.run, original.version, fitter.metric
        self._rows = RowRange(0, fitter.history.table.num_rows)

    def done(self, *, is_made: bool) -> Reproduction:
        run = self._open()
        try:
            evidence = self._evidence(run)
            change = self._change()
            level = level_of(
                is_same_fit=self._is_same_fit(evidence.fit),
                is_same_package=evidence.is_same_package,
                predictions=evidence.predictions,
                metrics=evidence.metrics,
            )
            causes = () if level == "same bits" else self._causes(change, evidence.fit)
        except (ClewError, KeyboardInterrupt) as error:
            self._fail(run, error)
            raise
        self._report(Progress(1.0, sentence=level))
        return Reproduction(
            level=level,
            repeated=self._repeated,
            run=self._close(run, evidence),
            version=self._version.name if self._version else None,
            is_made=is_made,
            is_same_fit=self._is_same_fit(evidence.fit),
            is_same_package=evidence.is_same_package,
            predictions=evidence.predictions,
            metrics=evidence.metrics,
            environment=change,
            causes=causes,
            notes=evidence.notes,
        )

    def _is_same_fit(self, fit: Fit) -> bool:
        return fit.model_digest == self._repeated.model_digest

    def _change(self) -> EnvironmentChange:
        then = get_environment(self._store, self._repeated.environment)
        return environment_change(then, get_environment(self._store, self._fitter.thread.environment))

    def _causes(self, change: EnvironmentChange, fit: Fit) -> tuple[str, ...]:
        self._report(Progress(0.9, sentence="fitting once more, to see whether chance is in it"))
        twice = self._fit("twice")
        is_repeatable = twice.model_digest == fit.model_digest and both(*self._answers("twice")).is_same(
            both(*self._answers(AGAIN))
        )
        then = opened_files(self._store, self._repeated.id)
        files = files_changed(then, fit.opened)
        return likely_causes(change, is_repeatable=is_repeatable, files=files)

    # -- what is compared ------------------------------------------------------------------------------

    def _evidence(self, run: Run) -> Evidence:
        judged = self._rehearsed(run)
        self._report(Progress(0.5, sentence=f"training on {len(self._history):,} rows"))
        self._kept = Keeper(self._store, run.id, self._clock)
        fit = self._fit(AGAIN, self._kept.listener)
        self._report(Progress(0.8, sentence="comparing"))
        is_same_package, predictions, learned, notes = self._held_against_package(run)
        logged = self._logged()
        measured = {**self._kept.last, **{m.name: m.now for m in judged}}
        # How it does on rows that it learned from tells less, so it only stands in for what is not known.
        metrics = (*(judged or learned), *logged)
        return Evidence(fit, is_same_package, predictions, metrics, measured, notes)

    def _fit(self, name: str, listener: Listener | None = None) -> Fit:
        repeated = self._repeated
        return self._child.fit(name, self._rows, repeated.params, repeated.seed, listener=listener)

    def _rehearsed(self, run: Run) -> tuple[MetricCompared, ...]:
        """The run's own metric, measured again as it was: by a twin, on the newest rows."""
        name, history = self._metric.name, self._history
        is_logged = name in [each.name for each in summarise_metrics(self._store, self._repeated.id, 1)]
        if is_logged or name not in self._repeated.metrics:
            return ()
        self._report(Progress(0.3, sentence="measuring the metric again"))
        known, cut = held_out(history, len(history))
        twin = self._fitter.twin(run, ((0, known),), cut)
        value = self._metric.value(self._fitter.scored(twin, cut, len(history)).raw)
        self._fitter.forget(twin)
        words = f"the newest {len(history) - cut:,} rows, by a twin that had not seen them"
        return (self._compared(words, self._repeated.metrics[name], value),)

    def _compared(self, rows: str, then: float, now: float) -> MetricCompared:
        tolerance = self._fitter.declaration.margin.absolute(then)
        return MetricCompared(self._metric.name, rows, then, now, tolerance)

    def _logged(self) -> Iterator[MetricCompared]:
        """The last value of each number that ``train.log`` got, then and now."""
        then = {each.name: each.last for each in summarise_metrics(self._store, self._repeated.id, 1)}
        now = self._kept.last
        for name in sorted(then.keys() & now.keys()):
            yield MetricCompared(name, "logged by the function", then[name], now[name], None)

    def _held_against_package(
        self, run: Run
    ) -> tuple[bool | None, PredictionsCompared | None, tuple[MetricCompared, ...], tuple[str, ...]]:
        """The new model beside the one that was kept: file by digest, answers row by row."""
        if self._version is None:
            told = "no package was kept of this run, so its predictions are known by their digest alone"
            return None, None, (), (told,)
        with self._store.scratch("packages") as folder:
            fetch_package(self._store, self._version.package, folder / RECORDED)
            info = self._child.package(AGAIN, folder / AGAIN, run=run.id, code=run.code)
            is_same = package_model_digest(folder / RECORDED) == info.model_digest
            try:
                self._child.load(folder / RECORDED, RECORDED, expected_digest=self._version.package)
            except PackageError as error:
                return is_same, None, (), (f"the kept package cannot be loaded in this environment: {error}",)
        then, now = (self._answers(name) for name in (RECORDED, AGAIN))
        words = f"the {len(self._history):,} rows it learned from"
        learned = self._compared(words, self._level(then[0]), self._level(now[0]))
        compared = compare_predictions(both(*then), both(*now), n_mixed=len(then[1]))
        return is_same, compared, (learned,), ()

    def _answers(self, name: str) -> tuple[Predictions, Predictions]:
        """What a model answers for the rows that were learned from, and for rows mixed from them."""
        mixed = mixed_rows(self._history.table.select(self._history.features))
        return self._child.predict(name, self._rows), self._child.predict(name, mixed)

    def _level(self, answers: Predictions) -> float:
        return self._metric.value(row_losses(self._metric, self._history.y, self._labelled(answers)))

    def _labelled(self, answers: Predictions) -> Predictions:
        kept = self._history.rows
        probabilities = None if answers.probabilities is None else answers.probabilities[kept]
        return replace(answers, predicted=answers.predicted[kept], probabilities=probabilities)

    # -- the record of it ------------------------------------------------------------------------------

    def _open(self) -> Run:
        prefix = f"{PURPOSE}/{self._repeated.id}/"
        n_before = len(list_runs(self._store, key_prefix=prefix, limit=None))
        # Each time anew, as whether it still comes out the same is the question; somebody else may be at it.
        numbered = (self._opened(f"{prefix}{number}") for number in count(n_before + 1))
        run = next(run for run, is_new in numbered if is_new)
        with self._store.write() as tx:
            link(tx, "run", run.id, "repeats", "run", self._repeated.id)
        return run

    def _opened(self, key: str) -> tuple[Run, bool]:
        repeated, thread = self._repeated, self._fitter.thread
        return open_run(
            self._store,
            key=key,
            model=repeated.model,
            purpose=PURPOSE,
            params=repeated.params,
            seed=repeated.seed,
            snapshot=repeated.snapshot,
            dataset=repeated.dataset,
            rows=repeated.rows,
            code=repeated.code,
            environment=thread.environment,
            now=self._clock(),
            owner=thread.owner,
            folders=[folder.id for folder in thread.folders],
        )

    def _close(self, run: Run, evidence: Evidence) -> Run:
        fit = evidence.fit
        return close_run(
            self._store,
            run.id,
            metrics=evidence.measured,
            model_digest=fit.model_digest,
            output=fit.output,
            seconds=fit.seconds,
            peak_memory_bytes=fit.peak_memory_bytes,
            opened=fit.opened,
            now=self._clock(),
            owner=self._fitter.thread.owner,
        )

    def _fail(self, run: Run, error: BaseException) -> None:
        told = "interrupted" if isinstance(error, KeyboardInterrupt) else str(error)
        output = error.output if isinstance(error, TrainingFailed) else None
        fail_run(
            self._store,
            run.id,
            error=told,
            output=output,
            now=self._clock(),
            owner=self._fitter.thread.owner,
        )
