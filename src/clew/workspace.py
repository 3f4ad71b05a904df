"""The composition: opens everything a piece of work needs, hands it over, and closes it.

Rooms do not know each other; here they meet. A workspace is a project with its store; its methods are
what the command line and the server call.
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence, Set
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any, Literal, TypeAlias, get_args

import msgspec
import pyarrow as pa

import clew
from clew.config import ProjectTarget, Settings, load_settings, resolve_target
from clew.datasets import (
    feature_names,
    find_snapshot,
    list_datasets,
    part_relation,
    read_rows,
    read_source,
    take_snapshot,
    to_frame,
)
from clew.entities import Duration, ModelDeclaration, Param, Run, Snapshot, Version
from clew.errors import NotFound, PackageError, ProjectError, UsageError, did_you_mean
from clew.loop.appending import Appended, append_file
from clew.loop.backtest import BacktestOptions, backtest
from clew.loop.batch import BatchResult, batch_destinations, predict_batch
from clew.loop.fitter import Fitter, Thread
from clew.loop.folders import by_name, folders_of_model
from clew.loop.history import History
from clew.loop.jobs import Job, handed_back, open_job, record, restarted
from clew.loop.live.lived import lived
from clew.loop.live.surroundings import Surroundings
from clew.loop.live.system import Live
from clew.loop.live.workshop import CapturedProject
from clew.loop.originals import original_of
from clew.loop.policy import metric_of
from clew.loop.reproduce import reproduce
from clew.loop.reproduction import Reproduction
from clew.loop.result import (
    BacktestResult,
    Event,
    LiveResult,
    OnProgress,
    Progress,
    Reason,
    ThreadNode,
    TryResult,
)
from clew.loop.run_change import RunChange, run_change
from clew.loop.served_model import ServedModel
from clew.loop.trace import touched, trace, version_name
from clew.loop.trial import Trial, try_result
from clew.loop.why import why
from clew.registry import LoadedModel, Predictions, fetch_package, get_version, load_package
from clew.registry.package_checks import needs_code, read_own
from clew.serving.doorbell import RUN_FOLDER, Doorbell
from clew.storage import Store, open_store
from clew.tracking import (
    CodeTree,
    capture_code,
    capture_environment,
    fetch_code,
    get_environment,
    get_run,
    make_environment,
    materialise_code,
    this_owner,
)
from clew.tracking.children import variables_of_children
from clew.tracking.sources import declared_sources, guessed_sources
from clew.training import Child, Described

Clock = Callable[[], datetime]
SnapshotFrame: TypeAlias = Literal["pandas", "polars", "pyarrow", "duckdb", "paths"]


def _wall_clock() -> datetime:
    return datetime.now(UTC)


@dataclass(frozen=True, slots=True)
class Prepared:
    """A model ready to be fitted: its captured code laid out, its rows taken, children running."""

    described: Described
    child: Child
    checker: Child
    history: History
    thread: Thread
    n_models: int


class Workspace:
    """A project and its store. Make one with `open_workspace` or `open_records`."""

    def __init__(self, settings: Settings, store: Store, target: ProjectTarget | None, clock: Clock) -> None:
        self.settings, self.store, self._target, self._clock = settings, store, target, clock

    # -- work ------------------------------------------------------------------------------------------

    def describe(self) -> list[Described]:
        """The models that the project declares."""
        with self._child(_ignore) as (_, _, described):
            return described

    def try_model(
        self,
        *,
        params: Mapping[str, Any] | None = None,
        seed: int = 0,
        again: bool = False,
        on_progress: OnProgress | None = None,
    ) -> TryResult:
        """Train once on everything that has matured, hold the gate, register the version.

        With nothing changed since the last time, the version it made is returned, unless `again`.
        """
        report = on_progress or _ignore
        with self._prepared(params or {}, seed, report) as prepared:
            fitter, identity = self._fitter(prepared, "try")
            key = f"try/{identity}"
            job = self._job(key, "try", prepared.described.model.name, "train")
            if job.is_over and again:
                key = f"{key}/{self._next_attempt(key)}"
                fitter = fitter.keyed(key)
                job = self._job(key, "try", prepared.described.model.name, "train")
            is_new = not job.is_over
            trial = Trial(fitter, prepared.checker, n_models=prepared.n_models, on_progress=report)
            with handed_back(self.store, job, this_owner()):
                job = trial.run(job, self._clock())
            return try_result(fitter, job, is_new=is_new)

    def backtest(
        self,
        *,
        options: BacktestOptions | None = None,
        params: Mapping[str, Any] | None = None,
        seed: int = 0,
        again: bool = False,
        on_progress: OnProgress | None = None,
    ) -> BacktestResult:
        """Live through history. A backtest that was finished before is read back, unless `again`."""
        options, report = options or BacktestOptions(), on_progress or _ignore
        with self._prepared(params or {}, seed, report) as prepared:
            fitter, identity = self._fitter(prepared, "backtest", msgspec.to_builtins(options))
            deployment = f"backtest-{identity[:10]}"
            job = self._job(f"backtest/{identity}", "backtest", deployment, "live")
            if job.is_over and job.result is not None:
                known = msgspec.json.decode(self.store.objects.get(job.result), type=BacktestResult)
                if not again:
                    report(Progress(1.0, sentence=f"nothing changed: read back from {deployment}"))
                    return known
                job = restarted(self.store, job, "live", self._clock())
            with handed_back(self.store, job, this_owner()):
                result = backtest(
                    fitter,
                    prepared.checker,
                    deployment,
                    options,
                    n_models=prepared.n_models,
                    budget=self.settings.budget.false_pages_per_quarter,
                    fits_per_day=self.settings.budget.fits_per_day,
                    on_progress=report,
                )
            digest = self.store.objects.put(msgspec.json.encode(result))
            record(self.store, replace(job.ended("done"), result=digest), self._clock())
            return result

    @contextmanager
    def live(self, *, on_event: Callable[[str, Event], None]) -> Iterator[Live]:
        """The loops of all models that the project declares, on its store; the caller moves their clock."""
        with ExitStack() as stack:
            child, tree, described = stack.enter_context(self._child(_ignore))
            child.close()  # each model's workshop starts its own when it needs one
            project = CapturedProject(self.settings.root, tree.id, child.code_folder, tuple(described))
            around = Surroundings(
                store=self.store,
                settings=self.settings,
                project=project,
                doorbell=Doorbell(self.store.folder / RUN_FOLDER),
                slot=threading.BoundedSemaphore(self.settings.budget.max_parallel_fits),
                clock=self._clock,
                on_event=on_event,
            )
            params = {each.model.name: self._params(each.model, {}) for each in described}
            yield stack.enter_context(Live(around, params))

    # -- answers ---------------------------------------------------------------------------------------

    def load_model(self, name: str, *, allow_code: bool = False) -> LoadedModel:
        """A version as a model in this process; see `load`."""
        version = self._version(name)
        folder = self.store.folder / "packages" / version.package
        folder.parent.mkdir(mode=0o700, exist_ok=True)
        fetch_package(self.store, version.package, folder)
        if needs_code(read_own(folder)) and not allow_code:
            raise PackageError(
                f"{version.name} needs the project's own code to predict, and brings it in only when"
                f" it may: clew.load({name!r}, allow_code=True)"
            )
        code = self._code_of(version, self.store.folder / "code") if allow_code else None
        return load_package(folder, code_folder=code, expected_digest=version.package)

    def append(self, dataset: str, file: str, *, where: Path, actor: str, is_dry: bool = False) -> Appended:
        """Add the rows of a file, named from `where`: see `clew.loop.appending.append_file`."""
        path = str((where / file).resolve())
        with self._child(_ignore, without={path}) as (child, tree, models):
            return append_file(
                self.store,
                child,
                models,
                dataset,
                Path(path),
                named=file,
                root=self.settings.root,
                code=tree.id,
                actor=actor,
                now=self._clock(),
                is_dry=is_dry,
            )

    def predict_batch(
        self, name: str, source: str, destination: Path, *, where: Path, actor: str
    ) -> BatchResult:
        """Answer for the rows of a file, in a child: see `clew.loop.batch.predict_batch`."""
        version = self._version(name)
        table = read_source(source, where)
        with ExitStack() as stack:
            return predict_batch(
                self.store,
                version,
                table,
                self._answering(stack, version),
                source=source,
                destination=destination,
                inputs=[(source, where), *((each, self.settings.root) for each in self._known_sources())],
                actor=actor,
                clock=self._clock,
            )

    def _answering(self, stack: ExitStack, version: Version) -> Callable[[pa.Table], Predictions]:
        """A version that answers in a child of its own, until the stack is closed."""
        folder = stack.enter_context(self.store.scratch("answering"))
        fetch_package(self.store, version.package, folder / "package")
        code = self._code_of(version, folder / "code")
        child = stack.enter_context(Child.start(code, self.settings.root, folder))
        held = child.load(folder / "package", expected_digest=version.package)
        return lambda rows: child.predict(held, rows)

    def _version(self, name: str) -> Version:
        """``busy_hour@7``, ``busy_hour@champion``, or ``busy_hour`` for its champion."""
        with self.store.read() as reader:
            named = version_name(reader, name if "@" in name else f"{name}@champion")
        deployment, _, number = named.rpartition("@")
        return get_version(self.store, deployment, int(number))

    def _code_of(self, version: Version, folder: Path) -> Path:
        run = get_run(self.store, version.run)
        fetch_code(self.store, run.code, folder / run.code)
        return folder / run.code

    def reproduce(
        self, reference: str, *, is_here: bool = False, on_progress: OnProgress | None = None
    ) -> Reproduction:
        """Train a run again from its record, and compare: see `clew.loop.reproduce.reproduce`.

        Parameters
        ----------
        reference
            A version (``busy_hour@7``, ``busy_hour@champion``), or a run's id or its beginning.
        is_here
            In the present environment. Otherwise in the recorded one, made anew where it is not the
            present.

        Raises
        ------
        EnvironmentNotMade
            When the recorded environment cannot be made.
        """
        report = on_progress or _ignore
        original = original_of(self.store, reference)
        return reproduce(
            self.store,
            original,
            root=self.settings.root,
            python=None if is_here else self._recorded_python(original.run, report),
            clock=self._clock,
            on_progress=report,
        )

    def _recorded_python(self, run: Run, on_progress: OnProgress) -> Path | None:
        """The interpreter of the environment that a run ran in; None when it is the present one."""
        variables = variables_of_children(self.settings.root)
        if capture_environment(self.store, now=self._clock(), variables=variables) == run.environment:
            return None
        recorded = get_environment(self.store, run.environment)
        n_packages = len(recorded["packages"])
        on_progress(Progress(0.0, sentence=f"making the recorded environment of {n_packages} packages"))
        return make_environment(self.store.folder / "environments", recorded)

    # -- records ---------------------------------------------------------------------------------------

    def trace(self, reference: str) -> ThreadNode:
        """The thread from a record back to its causes; see `clew.loop.trace.trace`."""
        return trace(self.store, reference)

    def touched(self, reference: str) -> ThreadNode:
        """The thread forward to what came of a record; see `clew.loop.trace.touched`."""
        return touched(self.store, reference)

    def difference(self, then: str, now: str) -> RunChange:
        """What differs between two runs or versions: see `clew.loop.run_change.run_change`."""
        return run_change(self.store, *(original_of(self.store, each) for each in (then, now)))

    def why(self, reference: str) -> list[Reason]:
        """The reasons of decisions; see `clew.loop.why.why`."""
        return why(self.store, reference)

    def lived(
        self,
        deployment: str,
        *,
        now: datetime,
        since: datetime | None = None,
        until: datetime | None = None,
        window: Duration | None = None,
        on_progress: OnProgress | None = None,
    ) -> LiveResult:
        """What a running model lived through, told from its records: see `clew.loop.live.lived.lived`."""
        with ExitStack() as stack:
            held: dict[int, Callable[[pa.Table], Predictions]] = {}

            def ask(number: int, rows: pa.Table) -> Predictions:
                if number not in held:
                    held[number] = self._answering(stack, get_version(self.store, deployment, number))
                return held[number](rows)

            return lived(
                self.store,
                deployment,
                ask,
                now=now,
                since=since,
                until=until,
                window=window,
                on_progress=on_progress or _ignore,
            )

    # -- preparation -----------------------------------------------------------------------------------

    @contextmanager
    def _prepared(self, params: Mapping[str, Any], seed: int, on_progress: OnProgress) -> Iterator[Prepared]:
        with ExitStack() as stack:
            child, tree, models = stack.enter_context(self._child(on_progress))
            self._refuse_params_of_nobody(models)
            described = _chosen(models, self._target.model if self._target else None)
            declaration = described.model
            on_progress(Progress(0.0, sentence=f"reading {declaration.dataset.name}"))
            scratch = stack.enter_context(self.store.scratch("checker"))
            checker = stack.enter_context(Child.start(child.code_folder, self.settings.root, scratch))
            # It imports the project's libraries, which takes seconds, while the table is read.
            warming = stack.enter_context(ThreadPoolExecutor(1)).submit(checker.describe, [described.file])
            snapshot = self._snapshot(child, described, tree.id)
            table = read_rows(self.store, snapshot)
            laid = stack.enter_context(
                folders_of_model(self.store, declaration, self.settings.root, self._clock())
            )
            child.use(table, declaration, described.file, snapshot.columns, by_name(laid))
            features = feature_names(snapshot.columns, declaration.dataset, declaration.not_features)
            history = History.of(declaration, table, features)
            warming.result()
            checker.use(table, declaration, described.file, snapshot.columns, by_name(laid))
            thread = Thread(
                snapshot=snapshot,
                code=tree.id,
                environment=capture_environment(self.store, now=self._clock(), variables=child.variables),
                params=self._params(declaration, params),
                seed=seed,
                owner=this_owner(),
                folders=tuple(laid),
            )
            yield Prepared(described, child, checker, history, thread, len(models))

    def _snapshot(self, child: Child, described: Described, code: str) -> Snapshot:
        dataset = described.model.dataset
        table = child.table(described.file, dataset.name, self._text_columns(dataset.name))
        source = dataset.source or "a function"
        return take_snapshot(self.store, dataset, table, source=source, code=code, now=self._clock())

    @contextmanager
    def _child(
        self, on_progress: OnProgress, without: Set[str] = frozenset()
    ) -> Iterator[tuple[Child, CodeTree, list[Described]]]:
        """A child that runs the captured code, and what that code declares."""
        if self._target is None:
            raise ProjectError("No project is open here; name a file, such as: clew try model.py")
        on_progress(Progress(0.0, sentence="capturing the code"))
        known, guessed = (
            self._known_sources() | without,
            guessed_sources(self.settings.root, self._target.files),
        )
        with ExitStack() as stack:
            child, tree = self._captured(stack, known | guessed)
            described = child.describe(self._target.files)
            sources = {source for each in described for source in declared_sources(each.model)}
            declared = {source for source in sources if "://" not in source}
            if (declared | known) != (guessed | known):
                # Declared data is never captured, other files are; only now is it known which is which.
                child.close()
                child, tree = self._captured(stack, declared | known)
                described = child.describe(self._target.files)
            yield child, tree, described

    def _captured(self, stack: ExitStack, sources: set[str]) -> tuple[Child, CodeTree]:
        now = self._clock()
        tree = capture_code(
            self.store,
            self.settings.root,
            exclude=sorted(sources | self._connected_files()),
            written=batch_destinations(self.store),
            now=now,
        )
        folder = stack.enter_context(self.store.scratch("code"))
        materialise_code(self.store, tree.id, folder / "code")
        child = stack.enter_context(Child.start(folder / "code", self.settings.root, folder))
        return child, tree

    def _connected_files(self) -> set[str]:
        """SQLite files that `clew.sql` reads are data, not code."""
        urls = self.settings.connections.values()
        paths = [url.partition("?")[0].partition("///") for url in urls if url.startswith("sqlite:///")]
        return {path for _, _, path in paths}

    def _known_sources(self) -> set[str]:
        with self.store.read() as reader:
            rows, folders = reader.find("datasets"), reader.find("folder_log")
        sources = [row["declaration"].get("source") for row in rows] + [row["source"] for row in folders]
        return {source for source in sources if source}

    def _text_columns(self, dataset: str) -> list[str]:
        """Columns declared as text, which a CSV of digits alone would make numbers of."""
        known = [each for each in list_datasets(self.store) if each.name == dataset]
        return [column.name for each in known for column in each.columns if column.type == "string"]

    def _params(self, declaration: ModelDeclaration, given: Mapping[str, Any]) -> dict[str, Param]:
        """Every hyperparameter with its value and where that came from."""
        chosen = {name: Param(value, "default") for name, value in declaration.params.items()}
        from_file = self.settings.params.get(declaration.name, {})
        for source, values in (("clew.toml", from_file), ("command line", given)):
            for name, value in values.items():
                if name not in chosen:
                    raise UsageError(
                        f"{declaration.name} has no hyperparameter {name!r} ({source})."
                        f" {did_you_mean(name, chosen)}"
                    )
                chosen[name] = Param(value, source)  # type: ignore[arg-type]
        return chosen

    def _refuse_params_of_nobody(self, models: Sequence[Described]) -> None:
        """A misspelled ``[params.…]`` would silently leave the defaults."""
        listed = self.settings.models
        if self._target is None or not listed or not set(listed) <= set(self._target.files):
            return  # of a file that was not asked for nobody knows the models
        names = [described.model.name for described in models]
        for name in self.settings.params:
            if name not in names:
                raise UsageError(
                    f"clew.toml has hyperparameters for {name!r}, but the project declares no such model."
                    f" {did_you_mean(name, names)}"
                )

    def _fitter(self, prepared: Prepared, kind: str, *more: Any) -> tuple[Fitter, str]:
        thread = prepared.thread
        declaration = prepared.described.model
        facts = [
            clew.__version__,
            msgspec.to_builtins(declaration),
            thread.snapshot.id,
            thread.code,
            thread.environment,
            {name: param.value for name, param in thread.params.items()},
            thread.seed,
            [folder.id for folder in thread.folders],
            *more,
        ]
        identity = hashlib.sha256(msgspec.json.encode(facts, order="deterministic")).hexdigest()[:16]
        prefix = f"{kind}/{identity}"
        metric = metric_of(declaration)
        fitter = Fitter(self.store, prepared.child, prepared.history, thread, metric, prefix, self._clock)
        return fitter, identity

    def _job(self, key: str, kind: str, deployment: str, step: str) -> Job:
        now, owner = self._clock(), this_owner()
        return open_job(
            self.store, key=key, kind=kind, deployment=deployment, step=step, owner=owner, now=now
        )

    def _next_attempt(self, key: str) -> int:
        with self.store.read() as reader:
            keys = [str(row["key"]) for row in reader.find("jobs", {"kind": "try"})]
        return 2 + sum(known.startswith(f"{key}/") for known in keys)


def _ignore(_: Progress) -> None:
    """Progress that nobody watches."""


def _chosen(models: Sequence[Described], name: str | None) -> Described:
    by_name = {described.model.name: described for described in models}
    if name is not None and name in by_name:
        return by_name[name]
    if name is not None:
        raise ProjectError(f"The project declares no model {name!r}. {did_you_mean(name, by_name)}")
    if len(models) > 1:
        raise ProjectError(
            f"The project declares {len(models)} models: {', '.join(by_name)}. Name one, such as:"
            f" {models[0].file}:{models[0].model.name}"
        )
    return models[0]


@contextmanager
def open_workspace(
    target: str | None,
    where: Path,
    *,
    clock: Clock = _wall_clock,
    environment: Mapping[str, str] | None = None,
) -> Iterator[Workspace]:
    """Open the project behind ``FILE.py[:MODEL]``, a model's name, or the one of the folder `where`.

    Raises
    ------
    ProjectError
        When there is no such file or project.
    StoreError
        When its store cannot be opened.
    """
    found = resolve_target(target, where, environment)
    with open_store(found.settings, now=clock()) as store:
        yield Workspace(found.settings, store, found, clock)


@contextmanager
def open_records(
    where: Path, *, clock: Clock = _wall_clock, environment: Mapping[str, str] | None = None
) -> Iterator[Workspace]:
    """Open only the store of the project at `where`: to list, show, trace and ask why."""
    settings = load_settings(where, environment)
    with open_store(settings, now=clock()) as store:
        yield Workspace(settings, store, None, clock)


@contextmanager
def open_existing_records(
    where: Path, *, clock: Clock = _wall_clock, environment: Mapping[str, str] | None = None
) -> Iterator[Workspace]:
    """As `open_records`, but make no store where there is none.

    Raises
    ------
    NotFound
        When nothing was ever recorded there.
    """
    settings = load_settings(where, environment)
    if settings.database is None and not settings.store.is_dir():
        raise NotFound(
            f"Nothing was recorded here yet: there is no {settings.store}."
            " Go to the project's folder, or train first: clew try"
        )
    with open_records(where, clock=clock, environment=environment) as records:
        yield records


def load(name: str, *, project: str | Path = ".", allow_code: bool = False) -> ServedModel:
    """Load a registered version into this process: ``clew.load("busy_hour@champion").predict(frame)``.

    Parameters
    ----------
    name
        ``"busy_hour@7"``, ``"busy_hour@champion"``, or ``"busy_hour"`` for its champion.
    project
        The project's folder, or one inside it.
    allow_code
        Let a model that needs the project's own code bring the code that it was made with.

    Raises
    ------
    NotFound
        When there is no such version, naming those that exist, or nothing was recorded there at all.
    PackageError
        When it needs code and may not bring it, or was damaged.
    """
    with open_existing_records(Path(project)) as records:
        version = records._version(name)
        model = records.load_model(version.name, allow_code=allow_code)
        return ServedModel(version.deployment, version.number, model)


def snapshot(
    dataset: str,
    *,
    at: str | date | None = None,
    frame: SnapshotFrame = "pandas",
    project: str | Path = ".",
) -> Any:
    """The rows of a dataset's snapshot: ``clew.snapshot("rides", at="2026-03-01")``.

    Every part that is read is checked against its hash.

    Parameters
    ----------
    dataset
        Its name.
    at
        An id or its first letters; a time, or a day (UTC) for the newest snapshot of its end; by default the
        newest snapshot.
    frame
        ``"pandas"``, ``"polars"``, ``"pyarrow"``; ``"duckdb"`` for a relation that reads the parts when it is
        asked; ``"paths"`` for the Parquet files of the parts, in order and only to be read.
    project
        The project's folder, or one inside it.

    Raises
    ------
    NotFound
        When nothing was recorded there, or there is no such snapshot; naming those that exist.
    MissingExtra
        When the library of `frame` is not installed.
    StoreError
        When a part is damaged.
    """
    if frame not in get_args(SnapshotFrame):
        raise UsageError(f"frame is {frame!r}. {did_you_mean(str(frame), get_args(SnapshotFrame))}")
    words = at.isoformat() if isinstance(at, date) else at or ""
    with open_existing_records(Path(project)) as records:
        found = find_snapshot(records.store, words, dataset)
        if frame == "duckdb" or frame == "paths":
            paths = [records.store.objects.path(part.object_digest) for part in found.parts]
            return paths if frame == "paths" else part_relation(paths)
        return to_frame(read_rows(records.store, found), frame)
