"""A try: train once, hold the gate, register the version. What ``clew try`` does."""

from __future__ import annotations

from datetime import datetime

from clew.loop.first import FirstChampion, first_champion
from clew.loop.fitter import Fitter
from clew.loop.jobs import Job, advance
from clew.loop.result import OnProgress, Progress, TryResult
from clew.registry import ensure_deployment, get_gate, get_version, register
from clew.tracking import get_run, opened_files
from clew.training import Child


class Trial:
    """One try of a model, as the steps of a job: ``train`` and ``register``.

    Parameters
    ----------
    checker
        A second child, in which the package is loaded to see whether it answers.
    """

    def __init__(self, fitter: Fitter, checker: Child, *, n_models: int, on_progress: OnProgress) -> None:
        self.fitter, self._checker, self._n_models = fitter, checker, n_models
        self._on_progress = on_progress
        self._first: FirstChampion | None = None

    def run(self, job: Job, now: datetime) -> Job:
        """Do what is left of the job."""
        steps = {"train": self._train, "register": self._register}
        while not job.is_over:
            job = advance(self.fitter.store, job, steps, now)
        return job

    def _train(self, job: Job, now: datetime) -> Job:
        self._on_progress(Progress(0.2, sentence=f"training on {self.fitter.history.matured(now):,} rows"))
        self._first = first_champion(
            self.fitter,
            self._checker,
            now,
            purpose="try",
            n_models=self._n_models,
            budget=1.0,
            fits_per_day=None,
        )
        return job.then("register")

    def _register(self, job: Job, now: datetime) -> Job:
        if self._first is None:
            # The process that trained died before it registered: its runs are found again by their keys.
            self._train(job, now)
        first = self._first
        assert first is not None  # noqa: S101 - made just above
        declaration = self.fitter.declaration
        name = declaration.name
        ensure_deployment(self.fitter.store, name, "live", name, declaration, now, actor="person")
        version = register(
            self.fitter.store,
            deployment=declaration.name,
            model=declaration.name,
            run=first.model.run,
            package=first.packaged.digest,
            flavor=first.packaged.flavor,
            metrics={first.policy.metric.name: first.policy.metric.value(first.judged.raw)},
            gate=first.report,
            now=now,
            actor="person",
            reason="try",
        )
        return job.ended("done", run=first.model.run, version=version.number)


def try_result(fitter: Fitter, job: Job, *, is_new: bool) -> TryResult:
    """What a finished try left in the store."""
    store, name = fitter.store, fitter.declaration.name
    number = int(job.state["version"])
    report = get_gate(store, name, number)
    assert report is not None  # noqa: S101 - a try registers with its report
    run = get_run(store, job.state["run"])
    return TryResult(run, report, get_version(store, name, number), is_new, opened_files(store, run.id))
