"""The composition: opens everything a piece of work needs, hands it over, and closes it.

Rooms do not know each other; here they meet. A workspace is a project with its store; its methods are
what the command line and the server call.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence, Set
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
import pyarrow as pa

from clew.config import ProjectTarget, Settings, load_settings, resolve_target
from clew.datasets import feature_names, list_datasets, read_rows, read_source, take_snapshot
from clew.entities import Duration, Json, Run, Snapshot, Version
from clew.errors import NotFound, PackageError, ProjectError
from clew.loop.adoption import Adoption, adopt, asked_of, features_of, located
from clew.loop.appending import Appended, append_file
from clew.loop.backtest import BacktestOptions, backtest
from clew.loop.batch import BatchResult, batch_destinations, predict_batch
from clew.loop.columns import ColumnsReport, keep_report, weigh_columns
from clew.loop.explained import ExplainedAnswer, declared_positive, explain_answers, refuse_unclear
from clew.loop.fitter import Fitter, Thread, identity_of
from clew.loop.folders import by_name, folders_of_model
from clew.loop.grid import GridResult, best_of, grid_result, measure_grid
from clew.loop.held_out import read_held_out
from clew.loop.history import History
from clew.loop.jobs import Job, handed_back, open_job, record, restarted
from clew.loop.live.lived import lived
from clew.loop.live.surroundings import Surroundings
from clew.loop.live.system import Live
from clew.loop.live.workshop import CapturedProject
from clew.loop.openlineage import lineage_events, thread_records
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
from clew.loop.served_model import ElsewhereModel
from clew.loop.targets import chosen, params_of, refuse_params_of_nobody
from clew.loop.trace import touched, trace, version_name
from clew.loop.trial import Trial, try_result
from clew.loop.variants import Ground, prepare_ground
from clew.loop.why import why
from clew.registry import LoadedModel, Predictions, Signature, fetch_package, get_version, load_package
from clew.registry.package_checks import needs_code, read_own, version_changes
from clew.registry.package_files import PROFILE_FILE
from clew.registry.thresholds import Cut, cut_of, threshold_to_begin_with
from clew.serving.doorbell import RUN_FOLDER, Doorbell
from clew.serving.upgrades import python_for
from clew.storage import Store, open_store
from clew.tracking import (
    CodeTree,
    capture_code,
    capture_environment,
    fetch_code,
    get_environment,
    get_run,
    keep_environment,
    make_environment,
    materialise_code,
    this_owner,
)
from clew.tracking.children import variables_of_children
from clew.tracking.sources import declared_sources, guessed_sources
from clew.training import ArtifactLimits, Child, Described

Clock = Callable[[], datetime]


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


@dataclass(frozen=True, slots=True)
class Held:
    """A version in a child of its own, under the name that the child knows it by."""

    child: Child
    name: str
    profile: Json | None


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
            return self._tried(prepared, again, report)

    def _tried(self, prepared: Prepared, again: bool, on_progress: OnProgress) -> TryResult:
        fitter, identity = self._fitter(prepared, "try")
        key = f"try/{identity}"
        job = self._job(key, "try", prepared.described.model.name, "train")
        if job.is_over and again:
            key = f"{key}/{self._next_attempt(key)}"
            fitter = fitter.keyed(key)
            job = self._job(key, "try", prepared.described.model.name, "train")
        is_new = not job.is_over
        trial = Trial(fitter, prepared.checker, n_models=prepared.n_models, on_progress=on_progress)
        with handed_back(self.store, job, this_owner()):
            job = trial.run(job, self._clock())
        return try_result(fitter, job, is_new=is_new)

    def try_grid(
        self,
        grid: Mapping[str, Sequence[Any]],
        *,
        params: Mapping[str, Any] | None = None,
        seed: int = 0,
        jobs: int = 1,
        again: bool = False,
        on_progress: OnProgress | None = None,
    ) -> GridResult:
        """Measure every combination of the values in `grid` on the same held-out rows, and try the best.

        `jobs` are fitted at a time. Combinations that were measured before are read back.
        """
        report = on_progress or _ignore
        with self._prepared(params or {}, seed, report) as prepared, ExitStack() as stack:
            thread = prepared.thread
            first = {name: values[0] for name, values in grid.items()}
            params_of(self.settings, prepared.described.model, first)
            ground = self._ground(stack, prepared)
            children = self._children(stack, prepared, jobs)
            measured = measure_grid(ground, grid, thread.params, children, report)
            best = replace(prepared, thread=replace(thread, params=best_of(measured).variant.params))
            tried = self._tried(best, again, report)
            return grid_result(ground, grid, measured, tried)

    def weigh_columns(
        self, tried: TryResult, *, jobs: int = 1, on_progress: OnProgress | None = None
    ) -> ColumnsReport:
        """Say what each column is worth to a model that was tried just now, and keep that with its run."""
        report, run = on_progress or _ignore, tried.run
        with self._prepared({}, run.seed, report) as prepared, ExitStack() as stack:
            prepared = replace(prepared, thread=replace(prepared.thread, params=run.params))
            ground = self._ground(stack, prepared)
            children = self._children(stack, prepared, jobs)
            # The table may have grown since then: losses on other rows say nothing here.
            is_same = (ground.thread.snapshot.id, ground.thread.code) == (run.snapshot, run.code)
            whole = read_held_out(self.store, run) if is_same else None
            found = weigh_columns(ground, whole, children, report)
            keep_report(self.store, run, found, self._clock())
            return found

    def _ground(self, stack: ExitStack, prepared: Prepared) -> Ground:
        """What variants of a model share; its rows lie in a file that every child maps."""
        folder = stack.enter_context(self.store.scratch("variants"))
        file = prepared.described.file
        return prepare_ground(self.store, prepared.history, prepared.thread, file, folder, self._clock)

    def _children(self, stack: ExitStack, prepared: Prepared, n: int) -> list[Child]:
        """So many children; the two that are there are the first."""
        children = [prepared.child, prepared.checker][:n]
        while len(children) < n:
            folder = stack.enter_context(self.store.scratch("variant"))
            children.append(stack.enter_context(self._start(prepared.child.code_folder, folder)))
        return children

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
            project = CapturedProject(
                self.settings.root, tree.id, child.code_folder, tuple(described), self._artifact_limits
            )
            around = Surroundings(
                store=self.store,
                settings=self.settings,
                project=project,
                doorbell=Doorbell(self.store.folder / RUN_FOLDER),
                slot=threading.BoundedSemaphore(self.settings.budget.max_parallel_fits),
                clock=self._clock,
                on_event=on_event,
            )
            params = {each.model.name: params_of(self.settings, each.model, {}) for each in described}
            yield stack.enter_context(Live(around, params))

    # -- answers ---------------------------------------------------------------------------------------

    def load_model(self, name: str, *, allow_code: bool = False) -> LoadedModel | ElsewhereModel:
        """A version as a model in this process; see `load`.

        One that answers otherwise with what is installed here answers from its recorded environment.
        """
        version = self._version(name)
        return self._loaded(version, allow_code=allow_code)

    def _loaded(self, version: Version, *, allow_code: bool) -> LoadedModel | ElsewhereModel:
        folder = self.store.folder / "packages" / version.package
        folder.parent.mkdir(mode=0o700, exist_ok=True)
        fetch_package(self.store, version.package, folder)
        if needs_code(read_own(folder)) and not allow_code:
            raise PackageError(
                f"{version.name} needs the project's own code to predict, and brings it in only when"
                f" it may: clew.load({version.name!r}, allow_code=True)"
            )
        is_upgraded = bool(version_changes(folder))
        code = self._code_of(version, self.store.folder / "code") if allow_code or is_upgraded else None
        if code and python_for(self.store, version, folder, code, self.settings.root, self._clock()):
            running = ExitStack()
            answer = self._answering(running, version)
            return ElsewhereModel(Signature.from_json(read_own(folder)["signature"]), answer, running)
        return load_package(folder, code_folder=code if allow_code else None, expected_digest=version.package)

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
        held, cut = self._held(stack, version), self.cut(version.deployment)
        if cut is None:
            return lambda rows: held.child.predict(held.name, rows)
        return lambda rows: cut.applied(held.child.predict(held.name, rows))

    def _held(self, stack: ExitStack, version: Version) -> Held:
        folder = stack.enter_context(self.store.scratch("answering"))
        fetch_package(self.store, version.package, folder / "package")
        code = self._code_of(version, folder / "code")
        place, root = folder / "package", self.settings.root
        python = python_for(self.store, version, place, code, root, self._clock())
        child = stack.enter_context(Child.start(code, root, folder, python=python))
        name = child.load(place, expected_digest=version.package)
        profile = place / PROFILE_FILE
        known = msgspec.json.decode(profile.read_bytes()) if profile.exists() else None
        return Held(child, name, known)

    def cut(self, deployment: str) -> Cut | None:
        """The decision threshold of a deployment that is in force."""
        with self.store.read() as reader:
            row = reader.get("deployments", name=deployment)
        if row is None or row["threshold"] is None:
            return None
        return Cut(row["threshold"], row["declaration"].get("positive"))

    def _version(self, name: str) -> Version:
        """``busy_hour@7``, ``busy_hour@champion``, or ``busy_hour`` for its champion."""
        with self.store.read() as reader:
            named = version_name(reader, name if "@" in name else f"{name}@champion")
        deployment, _, number = named.rpartition("@")
        return get_version(self.store, deployment, int(number))

    def _code_of(self, version: Version, folder: Path) -> Path:
        run = get_run(self.store, version.run)
        if not run.code:  # made elsewhere, and without need of code
            (folder / "none").mkdir(parents=True, exist_ok=True)
            return folder / "none"
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
            artifact_limits=self._artifact_limits,
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

    def import_model(
        self,
        name: str,
        source: str,
        *,
        where: Path,
        example: str | None = None,
        data: str | None = None,
        label: str | None = None,
        actor: str,
        reason: str,
    ) -> Adoption:
        """Make a model from elsewhere version 1 and champion of `name`: see `clew.loop.adoption.adopt`.

        Parameters
        ----------
        source
            A file, a folder in MLflow's format (``mlflow:FOLDER``), or one of its registry
            (``mlflow:models:/churn/7``); relative to `where`.
        example, data
            Files of rows: which columns the model takes, and what its reference profile counts. By default
            both are the dataset's, where the project declares the model.
        label
            The label's column in these files, for a model that is not declared.
        """
        with ExitStack() as stack:
            path = located(source, where, stack.enter_context(self.store.scratch("source")))
            child, code, described = self._adopting(stack, name)
            files = [each for each in (example or data, data or example) if each is not None]
            tables = [read_source(each, where) for each in files]
            if described is not None and not tables:
                dataset = described.model.dataset
                tables = [child.table(described.file, dataset.name, self._text_columns(dataset.name))]
            declaration = None if described is None else described.model
            asked = asked_of(declaration, tables, label) | {"allow_pickle": self.settings.allow_pickle}
            return adopt(
                self.store,
                child,
                name,
                path,
                source=source,
                declaration=declaration,
                asked=asked,
                tables=[features_of(table, declaration) for table in tables],
                code=code,
                environment=keep_environment(self.store, child.environment(), now=self._clock()),
                actor=actor,
                reason=reason,
                now=self._clock(),
            )

    def _adopting(self, stack: ExitStack, name: str) -> tuple[Child, str, Described | None]:
        """A child that can read a model made elsewhere, the code it may need, and what declares the model."""
        if self._target is not None:
            child, tree, described = stack.enter_context(self._child(_ignore))
            found = next((each for each in described if each.model.name == name), None)
            is_needed = found is not None and found.model.allow_code
            return child, tree.id if is_needed else "", found
        folder = stack.enter_context(self.store.scratch("code"))
        return stack.enter_context(Child.start(folder, self.settings.root, folder)), "", None

    # -- records ---------------------------------------------------------------------------------------

    def trace(self, reference: str) -> ThreadNode:
        """The thread from a record back to its causes; see `clew.loop.trace.trace`."""
        return trace(self.store, reference)

    def touched(self, reference: str) -> ThreadNode:
        """The thread forward to what came of a record; see `clew.loop.trace.touched`."""
        return touched(self.store, reference)

    def lineage(self, thread: ThreadNode, now: datetime) -> list[Json]:
        """A thread as events of OpenLineage; see `clew.loop.openlineage.lineage_events`."""
        return lineage_events(thread, thread_records(self.store, thread), now)

    def difference(self, then: str, now: str) -> RunChange:
        """What differs between two runs or versions: see `clew.loop.run_change.run_change`."""
        return run_change(self.store, *(original_of(self.store, each) for each in (then, now)))

    def why(self, reference: str) -> list[Reason]:
        """The reasons of decisions; see `clew.loop.why.why`."""
        return why(self.store, reference)

    def explain_answers(
        self,
        deployment: str,
        *,
        key: str | None = None,
        entity: str | None = None,
        at: datetime | None = None,
        limit: int = 20,
    ) -> list[ExplainedAnswer]:
        """Why a key or an entity was answered so: see `clew.loop.explained.explain_answers`."""
        about, text = refuse_unclear(key, entity)
        positive = declared_positive(self.store, deployment)
        with ExitStack() as stack:

            def explain(number: int, rows: Sequence[Mapping[str, Any]], predicted: Sequence[Any]) -> Json:
                held = self._held(stack, get_version(self.store, deployment, number))
                return held.child.explain(held.name, rows, predicted, positive=positive, profile=held.profile)

            return explain_answers(
                self.store, deployment, explain, about=about, text=text, at=at, limit=limit
            )

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
            refuse_params_of_nobody(self._target, models)
            described = chosen(models, self._target.model if self._target else None)
            declaration = described.model
            on_progress(Progress(0.0, sentence=f"reading {declaration.dataset.name}"))
            scratch = stack.enter_context(self.store.scratch("checker"))
            checker = stack.enter_context(self._start(child.code_folder, scratch))
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
                params=params_of(self.settings, declaration, params),
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
        child = stack.enter_context(self._start(folder / "code", folder))
        return child, tree

    def _connected_files(self) -> set[str]:
        """SQLite files that `clew.sql` reads are data, not code."""
        urls = self.settings.connections.values()
        paths = [url.partition("?")[0].partition("///") for url in urls if url.startswith("sqlite:///")]
        return {path for _, _, path in paths}

    def _start(self, code: Path, scratch: Path) -> Child:
        return Child.start(code, self.settings.root, scratch, artifact_limits=self._artifact_limits)

    @property
    def _artifact_limits(self) -> ArtifactLimits:
        limits = self.settings.tracking
        return ArtifactLimits(
            limits.max_artifact_bytes, limits.max_run_artifact_bytes, limits.max_run_artifacts
        )

    def _known_sources(self) -> set[str]:
        with self.store.read() as reader:
            rows, folders = reader.find("datasets"), reader.find("folder_log")
        sources = [row["declaration"].get("source") for row in rows] + [row["source"] for row in folders]
        return {source for source in sources if source}

    def _text_columns(self, dataset: str) -> list[str]:
        """Columns declared as text, which a CSV of digits alone would make numbers of."""
        known = [each for each in list_datasets(self.store) if each.name == dataset]
        return [column.name for each in known for column in each.columns if column.type == "string"]

    def _fitter(self, prepared: Prepared, kind: str, *more: Any) -> tuple[Fitter, str]:
        thread, declaration = prepared.thread, prepared.described.model
        cut = declared = cut_of(declaration, declaration.threshold)
        if kind == "try":
            with self.store.read() as reader:
                cut = cut_of(declaration, threshold_to_begin_with(reader, declaration.name, declaration))
        in_force = [] if cut == declared else [msgspec.to_builtins(cut)]
        identity = identity_of(declaration, thread, *more, *in_force)
        prefix = f"{kind}/{identity}"
        metric = metric_of(declaration)
        fitter = Fitter(self.store, prepared.child, prepared.history, thread, metric, prefix, self._clock)
        if kind == "try":
            fitter.use_cut(cut)
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
