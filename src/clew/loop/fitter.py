"""Fits with a record: each is a run, made in a child, and asked only about rows it has not seen."""

from __future__ import annotations

import hashlib
import logging
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, TypeAlias

import msgspec
import numpy as np

from clew import __version__
from clew.entities import FolderSnapshot, ModelDeclaration, Param, RowRange, Run, Snapshot
from clew.errors import ClewError, DataError, TrainingFailed
from clew.loop.baselines import with_unseen_classes
from clew.loop.gate import ServingFacts
from clew.loop.held_out import Rehearsed
from clew.loop.history import History
from clew.loop.keeping import Keeper
from clew.loop.standing import FittedModel, Pieces, Scored
from clew.registry import Predictions, fetch_package, store_package
from clew.stats.metrics import Metric
from clew.storage import Store
from clew.tracking import close_run, fail_run, keep_artifacts, open_run
from clew.training import Child, Fit, Listener

LOOK_AHEAD = 2_048
"""Rows predicted at a time: features are known when a row arrives, and one call costs as much as many rows.
What lies ahead is answered early but looked at only once its label has matured."""

SERVING_ROWS = 200
"""Rows on which a package, loaded elsewhere, must answer like the model it was made of."""


log = logging.getLogger("clew.loop")


@dataclass(frozen=True, slots=True)
class Thread:
    """The causes that every run of a piece of work shares."""

    snapshot: Snapshot
    code: str
    environment: str
    params: Mapping[str, Param]
    seed: int
    owner: str
    folders: tuple[FolderSnapshot, ...] = ()


def identity_of(declaration: ModelDeclaration, thread: Thread, *more: Any) -> str:
    """Names a piece of work by all that it depends on, so that the same one is done once."""
    facts = [
        __version__,
        msgspec.to_builtins(declaration),
        thread.snapshot.id,
        thread.code,
        thread.environment,
        {name: param.value for name, param in thread.params.items()},
        thread.seed,
        [folder.id for folder in thread.folders],
        *more,
    ]
    return hashlib.sha256(msgspec.json.encode(facts, order="deterministic")).hexdigest()[:16]


@dataclass(frozen=True, slots=True)
class Packaged:
    """A package in the store."""

    digest: str
    flavor: str
    n_bytes: int


Rehearsal: TypeAlias = Callable[[Run], Rehearsed]
"""Work done within a run before its fit."""

Judgement: TypeAlias = Callable[[FittedModel], Rehearsed]
"""What is found out about the fitted model itself, within its run."""


class Fitter:
    """Makes fits of one model on one snapshot.

    Parameters
    ----------
    key_prefix
        Begins the key of every run, so that repeating a piece of work finds the runs it already made.
    clock
        When a run really began and ended, which is not the time it lives through.
    """

    def __init__(
        self,
        store: Store,
        child: Child,
        history: History,
        thread: Thread,
        metric: Metric,
        key_prefix: str,
        clock: Callable[[], datetime],
    ) -> None:
        self.store, self.child, self.history, self.thread = store, child, history, thread
        self.metric, self.bound, self._prefix, self._clock = metric, 1.0, key_prefix, clock
        self.n_fits, self.stopping = 0, threading.Event()
        self.nondeterministic: list[str] = []
        self._scored: dict[str, Scored] = {}
        self._digests: dict[str, str] = {}

    @property
    def declaration(self) -> ModelDeclaration:
        return self.history.declaration

    def keyed(self, key_prefix: str) -> Fitter:
        """The same, with runs of its own."""
        return Fitter(self.store, self.child, self.history, self.thread, self.metric, key_prefix, self._clock)

    def set_bound(self, bound: float) -> None:
        """The row loss at which losses are winsorised and by which they are divided."""
        self.bound = bound
        self._scored.clear()

    def fit(
        self,
        purpose: str,
        pieces: Pieces,
        first_row: int,
        rehearse: Rehearsal | None = None,
        judge: Judgement | None = None,
    ) -> FittedModel:
        """Fit on runs of labelled rows; the model may answer rows from `first_row` on.

        Parameters
        ----------
        rehearse
            Called first, within the run: it may fit a `twin` to find out what such a model is worth. Its
            metrics are those of the run, whatever the function logs under the same names.
        judge
            Called with the fitted model, within the run, and adds to that.

        Raises
        ------
        TrainingFailed
            With the run recorded as failed.
        """
        self.n_fits += 1
        name = f"fit {self.n_fits}"
        run, is_new = self._open(self._key(name, pieces), purpose, self.ranges(pieces))
        try:
            found = rehearse(run) if rehearse else Rehearsed()
            keeper = Keeper(self.store, run.id, self._clock)
            fit = self._fit_in_child(name, pieces, keeper.listener if is_new else None)
            model = FittedModel(name, run.id, pieces, first_row)
            found = judge(model) if judge else found
        except (ClewError, KeyboardInterrupt) as error:
            if is_new:
                self._fail(run, error)
            raise
        self._digests[name] = fit.model_digest
        if is_new:
            self._close(run, fit, found, keeper.last)
        elif run.model_digest != fit.model_digest:
            self.nondeterministic.append(name)
        return model

    def twin(self, run: Run, pieces: Pieces, first_row: int) -> FittedModel:
        """A second model of a run, on fewer rows: it shows on the rest what the first is worth."""
        name = f"twin of {run.id[:12]}"
        self._fit_in_child(name, pieces)
        return FittedModel(name, run.id, pieces, first_row)

    def _fit_in_child(self, name: str, pieces: Pieces, listener: Listener | None = None) -> Fit:
        thread = self.thread
        return self.child.fit(name, self.ranges(pieces), thread.params, thread.seed, listener=listener)

    def _key(self, name: str, pieces: Pieces) -> str:  # noqa: ARG002
        """What makes repeating a fit find the run that it already made."""
        return f"{self._prefix}/{name}"

    def ranges(self, pieces: Pieces) -> tuple[RowRange, ...]:
        """Positions in the snapshot of runs of labelled rows."""
        return self.history.ranges(pieces)

    def _close(self, run: Run, fit: Fit, found: Rehearsed, logged: Mapping[str, float]) -> None:
        keep_artifacts(self.store, run.id, found.artifacts, now=self._clock())
        for file in fit.opened:
            about = {"model": run.model, "run": run.id, "file": file.path, "sha256": file.sha256}
            log.warning("a training read a file that is not part of its code", extra=about)
        close_run(
            self.store,
            run.id,
            # Those that count come first.
            metrics={**found.metrics, **logged, **found.metrics},
            intervals=found.intervals,
            model_digest=fit.model_digest,
            output=fit.output,
            seconds=fit.seconds,
            peak_memory_bytes=fit.peak_memory_bytes,
            opened=fit.opened,
            now=self._clock(),
            owner=self.thread.owner,
        )

    def _fail(self, run: Run, error: BaseException) -> None:
        """Close the run as failed, with the user's own traceback if there is one."""
        is_stopped = isinstance(error, KeyboardInterrupt) or self.stopping.is_set()
        told, output = "interrupted" if is_stopped else str(error), None
        if isinstance(error, TrainingFailed) and not is_stopped:
            told, output = f"{error}\n{error.traceback}".strip(), error.output
        now, owner = self._clock(), self.thread.owner
        fail_run(self.store, run.id, error=told, output=output, now=now, owner=owner)

    def _open(self, key: str, purpose: str, ranges: Sequence[RowRange]) -> tuple[Run, bool]:
        thread = self.thread
        return open_run(
            self.store,
            key=key,
            model=self.declaration.name,
            purpose=purpose,
            params=thread.params,
            seed=thread.seed,
            snapshot=thread.snapshot.id,
            dataset=thread.snapshot.dataset,
            rows=ranges,
            code=thread.code,
            environment=thread.environment,
            now=self._clock(),
            owner=thread.owner,
            folders=[folder.id for folder in thread.folders],
        )

    def is_repeatable(self, model: FittedModel) -> bool:
        """Whether fitting again on the same rows, with the same seed, gives the same model."""
        again = self._fit_in_child("again", model.pieces)
        self.child.release("again")
        return again.model_digest == self._digests[model.name]

    # -- answers -------------------------------------------------------------------------------------

    def scored(self, model: FittedModel, start: int, end: int) -> Scored:
        """How the model did on labelled rows ``start`` to ``end``, arrays of shape ``(end - start,)``."""
        n, scored = len(self.history), self._track(model)
        missing = np.flatnonzero(np.isnan(scored.raw[start:end]))
        if len(missing):
            first = start + int(missing[0])
            last = min(n, max(end, first + LOOK_AHEAD))
            self._score(model, scored, first, last)
        return Scored(
            *(array[start:end] for array in (scored.losses, scored.raw, scored.correct, scored.confidence))
        )

    def _track(self, model: FittedModel) -> Scored:
        """What is known of a model's answers to every row there is; NaN where it was not asked."""
        n, known = len(self.history), self._scored.get(model.name)
        if known is None or len(known.raw) < n:
            parts = (known.losses, known.raw, known.correct, known.confidence) if known else [np.empty(0)] * 4
            more = np.full(n - len(parts[0]), np.nan)
            self._scored[model.name] = Scored(*(np.concatenate([part, more]) for part in parts))
        return self._scored[model.name]

    def losses_so_far(self, model: FittedModel, start: int, end: int) -> np.ndarray:
        """Row losses of the rows the model was asked about already, NaN for the others."""
        scored = self._scored.get(model.name)
        return np.full(end - start, np.nan) if scored is None else scored.raw[start:end]

    def _score(self, model: FittedModel, scored: Scored, start: int, end: int) -> None:
        self._note(scored, np.arange(start, end), self.predictions(model, start, end))

    def _note(self, scored: Scored, rows: np.ndarray, predictions: Predictions) -> None:
        """Write down how these answers to labelled rows did."""
        y = self.history.y[rows]
        raw = row_losses(self.metric, y, predictions)
        scored.raw[rows] = raw
        scored.losses[rows] = np.minimum(raw / self.bound, 1.0)
        scored.correct[rows] = predictions.predicted == y
        if predictions.probabilities is not None:
            scored.confidence[rows] = predictions.probabilities.max(axis=1)

    def predictions(self, model: FittedModel, start: int, end: int) -> Predictions:
        """Answers for labelled rows ``start`` to ``end``; the unlabelled between them are left out.

        Raises
        ------
        DataError
            When the model cannot answer some rows, naming their place in the snapshot and the time.
        """
        rows = self.history.rows[start:end]
        first = int(rows[0])
        try:
            answers = self.child.predict(model.name, RowRange(first, int(rows[-1]) + 1))
        except DataError as error:
            raise self._placed(error, first) from None
        if len(answers) == len(rows):
            return answers
        kept = rows - rows[0]
        probabilities = None if answers.probabilities is None else answers.probabilities[kept]
        return Predictions(answers.predicted[kept], probabilities, answers.classes)

    def _placed(self, error: DataError, first: int) -> DataError:
        """An error about rows that were counted from row `first` of the snapshot."""
        time = self.history.declaration.dataset.time
        places = [first + row for row in error.rows if first + row < self.history.table.num_rows]
        since = self.history.table.column(time)[places[0] if places else first].as_py()
        where = f"Counted from row {first} of the snapshot, and the first of {since:%Y-%m-%d %H:%M} UTC"
        return DataError(f"{where}: {error}", error.column, places)

    def flip_share(self, one: FittedModel, other: FittedModel, start: int, end: int) -> float | None:
        """The share of rows on which two models decide differently; None for numbers or without rows."""
        if self.metric.task == "regression" or end <= start:
            return None
        ours, theirs = (self.predictions(model, start, end).predicted for model in (one, other))
        return float((ours != theirs).mean())

    def forget(self, model: FittedModel) -> None:
        """Let go of a model that will not be asked again."""
        self._scored.pop(model.name, None)
        self.child.release(model.name)

    # -- packages ------------------------------------------------------------------------------------

    def package(self, model: FittedModel, metrics: Mapping[str, float]) -> Packaged:
        """Write the model as a package into the store.

        Raises
        ------
        PackageError
            When the model is of a kind that cannot be kept.
        """
        with self.store.scratch("package") as folder:
            info = self.child.package(
                model.name, folder, run=model.run, metrics=metrics, code=self.thread.code
            )
            digest = store_package(self.store, folder)
            n_bytes = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
        return Packaged(digest, info.flavor, n_bytes)

    def served(
        self, model: FittedModel, packaged: Packaged, checker: Child, before: int | None
    ) -> ServingFacts:
        """Load the package in another process and hold its answers against the fitted model's."""
        n = len(self.history)
        end = min(n, max(piece_end for _, piece_end in model.pieces))
        start = max(0, end - SERVING_ROWS)
        expected = self.predictions(model, start, end)
        try:
            with self.store.scratch("serving") as folder:
                fetch_package(self.store, packaged.digest, folder)
                loaded = checker.load(folder, expected_digest=packaged.digest)
                positions = self.history.rows[start:end]
                answers = checker.predict(
                    loaded, self.history.table.take(positions).select(self.history.features)
                )
                checker.release(loaded)
        except ClewError as error:
            # Whatever keeps a package from answering is the gate's finding, and not this command's end.
            return ServingFacts(False, float("inf"), 0, packaged.n_bytes, before, str(error))
        return ServingFacts(True, _difference(expected, answers), end - start, packaged.n_bytes, before)


def row_losses(metric: Metric, y: np.ndarray, answers: Predictions) -> np.ndarray:
    """The metric's loss of each row; a class the model never saw got no chance from it."""
    if not metric.needs_probabilities:
        return metric.row_losses(y, predicted=answers.predicted)
    if answers.probabilities is None or answers.classes is None:
        raise TrainingFailed(
            f"{metric.name} is measured on probabilities, and the model has no predict_proba(). Return a"
            " classifier with probabilities, or choose metric='accuracy'."
        )
    widened, classes = with_unseen_classes(answers.probabilities, answers.classes, y)
    return metric.row_losses(y, probabilities=widened, classes=classes)


def _difference(one: Predictions, other: Predictions) -> float:
    if one.probabilities is not None and other.probabilities is not None:
        return float(np.abs(one.probabilities - other.probabilities).max(initial=0.0))
    if one.predicted.dtype.kind == "f":
        return float(np.abs(one.predicted - other.predicted).max(initial=0.0))
    return float((one.predicted != other.predicted).mean())
