"""The parent's door to user code: a child process that describes, fits and predicts."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import astuple
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar

import msgspec

from clew.entities import Column, Duration, Json, ModelDeclaration, Param, RowRange
from clew.errors import ClewError, NotFound, TrainingFailed, UsageError, did_you_mean
from clew.tracking.children import variables_of_children
from clew.training.fits import Fit, Memory, Recipe, Used, fit_of
from clew.training.following import Listener, following
from clew.training.journal import ArtifactLimits
from clew.training.process import Limits, ProcessEnded, UserProcess
from clew.training.project import Described
from clew.training.protocol import Message, pack_table, unpack_error, unpack_predictions

if TYPE_CHECKING:
    import pyarrow as pa

    from clew.registry import PackageInfo, Predictions

Rows: TypeAlias = "RowRange | pa.Table"
T = TypeVar("T")

# For what has no declared limit: importing a project's files, running a dataset's function.
DESCRIBE_LIMIT = timedelta(minutes=10)
TABLE_LIMIT = timedelta(hours=6)


class Child:
    """User code in a process of its own; use it as a context manager, from one thread at a time.

    A fit that raises leaves the process as it is. One that crashes it, or goes over its limits, ends it;
    the next call starts another, and models that the old one held are fitted again when they are needed
    (same rows, parameters and seed; that they came out the same is checked).

    Examples
    --------
    ::

        with Child.start(code_folder, project_root, scratch) as child:
            described = child.describe(["bikes.py"])
            child.use(rows, described[0].model, "bikes.py", snapshot.columns)
            fit = child.fit("first", RowRange(0, 4000))
            predictions = child.predict("first", RowRange(4000, 5000))
    """

    def __init__(
        self,
        code_folder: Path,
        project_root: Path,
        scratch: Path,
        memory_limit_bytes: int | None = None,
        python: Path | None = None,
        artifact_limits: ArtifactLimits | None = None,
    ) -> None:
        self._artifact_limits = artifact_limits or ArtifactLimits()
        self._code_folder = code_folder.resolve()
        self._project_root = project_root.resolve()
        self._scratch = scratch.resolve()
        self._memory_limit_bytes, self._python = memory_limit_bytes, python
        self._memory = Memory()
        self._n_files, self._was_lost = 0, False
        self._process: UserProcess | None = None
        self.output = b""

    @classmethod
    def start(
        cls,
        code_folder: Path,
        project_root: Path,
        scratch: Path,
        *,
        memory_limit_bytes: int | None = None,
        python: Path | None = None,
        artifact_limits: ArtifactLimits | None = None,
    ) -> Child:
        """Start a process that runs the code below `code_folder`.

        Parameters
        ----------
        code_folder
            The captured code. Nothing is imported from anywhere else in the project.
        project_root
            Where it was captured; relative paths of data sources start here.
        scratch
            A folder for passing tables; the caller removes it afterwards.
        memory_limit_bytes
            What any call may use; a model's own ``memory_limit`` holds if it is lower.
        python
            The interpreter of another environment that has this Clew; this process's own by default.
        artifact_limits
            What ``train.artifact`` takes.
        """
        child = cls(code_folder, project_root, scratch, memory_limit_bytes, python, artifact_limits)
        child._process = UserProcess(child._code_folder, child._project_root, python)
        return child

    @property
    def variables(self) -> dict[str, str]:
        """The environment variables that user code sees."""
        return variables_of_children(self._project_root)

    @property
    def code_folder(self) -> Path:
        """Where the captured code lies."""
        return self._code_folder

    def __enter__(self) -> Child:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End the process, at once; safe to repeat. A later call would start another."""
        if self._process is not None:
            self._process.kill()
            self._process = None
        self._memory.told = None
        self._memory.held.clear()

    def interrupt(self) -> None:
        """End what is being done, from another thread: the call that waits for it raises `TrainingFailed`."""
        process = self._process
        if process is not None:
            process.interrupt()

    @property
    def process_id(self) -> int | None:
        """The process of the moment; None when the last one ended."""
        return None if self._process is None else self._process.process_id

    def describe(self, files: Sequence[str]) -> list[Described]:
        """The models that `files` declare, in their order.

        Raises
        ------
        ProjectError
            With the user's own traceback when a file cannot be imported; when one declares no model, lies
            outside the project or is a notebook; when two models share a name.
        MissingExtra
            When a file imports an optional package that is not installed.
        """
        what = f"Importing {', '.join(files)}"
        request = {"verb": "describe", "files": list(files)}
        reply = self._surely(lambda: self._call(what, request, self._limits(DESCRIBE_LIMIT)))
        return msgspec.convert(reply.header["described"], list[Described])

    def environment(self) -> bytes:
        """What the process runs in, as told by itself: see `clew.tracking.keep_environment`."""
        request = {"verb": "environment"}
        reply = self._surely(lambda: self._call("The child", request, self._limits(DESCRIBE_LIMIT)))
        return bytes(reply.buffers[0])

    def table(
        self, file: str, dataset: str, text: Collection[str] = (), source: str | None = None
    ) -> pa.Table:
        """What the function of `dataset` returns for its source as it is now, or for the file `source`.

        `text` names columns that are text in a CSV whatever they look like, such as those declared
        ``string`` by an earlier snapshot.

        Raises
        ------
        DataError
            When the source cannot be read, or the function's frame cannot be taken.
        TrainingFailed
            When the function raises or returns nothing.
        """
        import pyarrow as pa

        path = self._new_file("table")
        request = {"verb": "table", "file": file, "dataset": dataset, "path": str(path), "text": list(text)}
        request |= {"source": source} if source is not None else {}
        self._surely(lambda: self._call(f"{dataset}()", request, self._limits(TABLE_LIMIT)))
        with pa.memory_map(str(path)) as source, pa.ipc.open_file(source) as reader:
            table = reader.read_all()
        # The pages stay mapped as long as the table is used.
        path.unlink()
        return table

    def use(
        self,
        rows: pa.Table | Path,
        declaration: ModelDeclaration,
        file: str,
        columns: Sequence[Column],
        files: Mapping[str, Path] | None = None,
    ) -> None:
        """Say which rows and which model the next fits are about.

        Parameters
        ----------
        rows
            A snapshot's rows in their stored order, or an Arrow IPC file of them. They are written once
            and mapped by the child: a fit costs no copy of its own.
        declaration, file
            The model, and the file that declares it as `describe` named it.
        columns
            The snapshot's columns.
        files
            Where versions of the folders lie that the model declares; they stay as long as fits are made.
        """
        from clew.datasets import feature_names

        path = rows if isinstance(rows, Path) else self._write_rows(rows)
        # Named here and not in the child, which so needs no database library to start.
        features = feature_names(columns, declaration.dataset, also_not=declaration.not_features)
        request = {
            "verb": "use",
            "path": str(path),
            "file": file,
            "model": declaration.name,
            "features": features,
            "categorical": [column.name for column in columns if column.is_categorical],
            "files": {name: str(path) for name, path in (files or {}).items()},
        }
        used = Used(request, declaration)
        self._surely(lambda: self._tell(used))
        self._memory.used = used

    def fit(
        self,
        fit_id: str,
        rows: RowRange | Sequence[RowRange],
        params: Mapping[str, Any] | None = None,
        seed: int = 0,
        time_limit: Duration | timedelta | None = None,
        listener: Listener | None = None,
    ) -> Fit:
        """Run the user's function on the labelled ones of `rows`, and hold the model under `fit_id`.

        Parameters
        ----------
        rows
            One range, or several in order when rows between them are left out.
        params
            Hyperparameters other than their defaults, as values or as `Param`.
        seed
            Seeds ``random``, NumPy and PyTorch, and is given to the function if it takes an argument
            ``seed`` or ``random_state`` that `params` does not set.
        time_limit
            Instead of the model's declared one.
        listener
            Is told what the function logs and saves; without one that is let go.

        Raises
        ------
        TrainingFailed
            When the function raises, returns nothing that predicts, goes over a limit or ends its
            process; or when the rows have one class only.
        UsageError
            When `params` names a hyperparameter that the function does not have.
        """
        used = self._in_use()
        values = {
            name: given.value if isinstance(given, Param) else given for name, given in (params or {}).items()
        }
        request = {
            "verb": "fit",
            "fit": fit_id,
            "rows": [[each.start, each.end] for each in ([rows] if isinstance(rows, RowRange) else rows)],
            "params": values,
            "seed": seed,
        }
        recipe = Recipe(request, used, self._limits(time_limit or used.declaration.time_limit, used))
        if listener is None:
            fit = self._fit(fit_id, recipe, used)
        else:
            journal = self._new_file("journal")
            with following(journal, listener):
                fit = self._fit(fit_id, recipe, used, journal)
        self._memory.recipes[fit_id] = Recipe(request, used, recipe.limits, fit.model_digest)
        return fit

    def load(self, folder: Path, fit_id: str | None = None, *, expected_digest: str | None = None) -> str:
        """Hold the packaged model in `folder` beside the fitted ones; returns its fit id.

        `expected_digest` is the package's name in the registry; without it a package that needs types
        which skops does not trust by itself is refused.

        Raises
        ------
        PackageError
            When the package cannot be loaded.
        """
        name = fit_id or f"loaded-{len(self._memory.recipes)}"
        request = {
            "verb": "load",
            "fit": name,
            "folder": str(folder.resolve()),
            "expected_digest": expected_digest,
        }
        recipe = Recipe(request, None, self._limits(DESCRIBE_LIMIT))
        self._surely(lambda: self._load(name, recipe))
        self._memory.recipes[name] = recipe
        return name

    def predict(self, fit_id: str, rows: Rows) -> Predictions:
        """What a held model answers for rows in use, or for a table that has its feature columns.

        Raises
        ------
        NotFound
            When the child holds no such model.
        TrainingFailed
            When the model raises, or ends its process twice.
        """
        return self._surely(lambda: self._predict(fit_id, rows))

    def _predict(self, fit_id: str, rows: Rows) -> Predictions:
        self._restore(fit_id)
        request: Json = {"verb": "predict", "fit": fit_id}
        if isinstance(rows, RowRange):
            request["rows"] = [rows.start, rows.end]
            self._tell(self._in_use())
            reply = self._call(f"Predicting with {fit_id}", request, self._limits(TABLE_LIMIT))
        else:
            reply = self._call(
                f"Predicting with {fit_id}", request, self._limits(TABLE_LIMIT), [pack_table(rows)]
            )
        return unpack_predictions(reply)

    def package(
        self,
        fit_id: str,
        folder: Path,
        *,
        run: str,
        metrics: Mapping[str, float] | None = None,
        code: str | None = None,
        profile_rows: RowRange | None = None,
    ) -> PackageInfo:
        """Write a fitted model as a package into the empty folder `folder`.

        Parameters
        ----------
        run, metrics, code
            Kept in the package: the run that made the model, its metrics, the captured code.
        profile_rows
            The rows of the reference profile, which lies in the package: those the model was judged on;
            by default those it learned from.

        Raises
        ------
        PackageError
            When the model is of a kind that cannot be kept, or needs code that it may not.
        """
        from clew.registry import PackageInfo

        request = {
            "verb": "package",
            "fit": fit_id,
            "folder": str(folder.resolve()),
            "run": run,
            "metrics": dict(metrics or {}),
            "code": code,
            "rows": None if profile_rows is None else [profile_rows.start, profile_rows.end],
        }
        is_ours = not any(folder.glob("*"))
        reply = self._surely(lambda: self._package(fit_id, folder if is_ours else None, request))
        return msgspec.convert(reply.header["package"], PackageInfo)

    def _package(self, fit_id: str, to_empty: Path | None, request: Json) -> Message:
        self._restore(fit_id)
        recipe = self._memory.recipes[fit_id]
        if recipe.used is None:
            raise UsageError(f"{fit_id!r} was loaded from a package already.")
        self._tell(recipe.used)
        for left in to_empty.glob("*") if to_empty else ():  # by a process that was lost at it
            shutil.rmtree(left) if left.is_dir() else left.unlink()
        return self._call(f"Packaging {fit_id}", request, self._limits(TABLE_LIMIT))

    def adopt(self, request: Json, tables: Sequence[pa.Table]) -> Json:
        """Package a model that was made elsewhere: see `clew.training.adopting.adopt`."""
        limits = self._limits(DESCRIBE_LIMIT)
        packed = [pack_table(table) for table in tables]
        reply = self._call(f"Reading {request['path']}", {"verb": "adopt", **request}, limits, packed)
        adopted: Json = reply.header["adopted"]
        return adopted

    def knows(self, fit_id: str) -> bool:
        """Whether a model with this id was fitted or loaded here and not let go."""
        return fit_id in self._memory.recipes

    def has_fitted(self, fit_id: str) -> bool:
        """Whether a model with this id was fitted here, rather than loaded from its package."""
        return self.knows(fit_id) and self._memory.recipes[fit_id].used is not None

    def release(self, fit_id: str) -> None:
        """Let go of a model; unknown ids are let go of already."""
        self._memory.recipes.pop(fit_id, None)
        if fit_id in self._memory.held:
            self._memory.held.discard(fit_id)
            self._call(
                f"Releasing {fit_id}", {"verb": "release", "fit": fit_id}, self._limits(DESCRIBE_LIMIT)
            )

    # -- one process, and another after it -----------------------------------------------------------------

    def _fit(self, fit_id: str, recipe: Recipe, used: Used, journal: Path | None = None) -> Fit:
        self._surely(lambda: self._tell(used))
        self._memory.held.discard(fit_id)
        request = recipe.request
        if journal is not None:
            request = {**request, "journal": str(journal), "limits": astuple(self._artifact_limits)}
        reply = self._call(f"{used.declaration.name}()", request, recipe.limits)
        self._memory.held.add(fit_id)
        return fit_of(fit_id, reply.header["fitted"], self.output)

    def _load(self, fit_id: str, recipe: Recipe) -> None:
        self._check_process()
        if self._memory.used is not None:
            self._tell(self._memory.used)  # imports the project's file, whose classes the package may need
        self._call(f"Loading the package in {recipe.request['folder']}", recipe.request, recipe.limits)
        self._memory.held.add(fit_id)

    def _restore(self, fit_id: str) -> None:
        """Have the process of the moment hold a model that an earlier one held."""
        self._check_process()
        recipe = self._memory.recipes.get(fit_id)
        if recipe is None:
            raise NotFound(
                f"The child holds no model {fit_id!r}. {did_you_mean(fit_id, self._memory.recipes)}"
            )
        if fit_id in self._memory.held:
            return
        if recipe.used is None:
            self._load(fit_id, recipe)
            return
        fit = self._fit(fit_id, recipe, recipe.used)
        if fit.model_digest != recipe.model_digest:
            self.release(fit_id)
            raise TrainingFailed(
                f"{recipe.used.declaration.name}() made another model when it was fitted again on the same"
                " rows, with the same parameters and seed. Take an argument seed=0 and pass it to what is"
                " random in it.",
                output=fit.output,
            )

    def _tell(self, used: Used) -> None:
        self._check_process()
        if self._memory.told is not used:
            self._call(f"Importing {used.request['file']}", used.request, self._limits(DESCRIBE_LIMIT))
            self._memory.told = used

    def _in_use(self) -> Used:
        if self._memory.used is None:
            raise UsageError("The child has no rows yet; call use() first.")
        return self._memory.used

    def _check_process(self) -> UserProcess:
        """The process of the moment; another one if it died between two calls."""
        if self._process is not None and self._process.has_ended():
            self.close()
        if self._process is None:
            self._process = UserProcess(self._code_folder, self._project_root, self._python)
        return self._process

    def _surely(self, work: Callable[[], T]) -> T:
        """Do what may be repeated; once more, in a new process, when the process was lost in it.

        Code of the user's own may have ended it, and then will again. Else it was somebody outside: the
        kernel that needed memory, or a person.
        """
        try:
            return work()
        except TrainingFailed:
            if not self._was_lost:
                raise
            return work()

    def _call(self, what: str, request: Json, limits: Limits, buffers: Sequence[bytes] = ()) -> Message:
        process, self._was_lost = self._check_process(), False
        try:
            reply = process.call(request, buffers, limits)
        except ProcessEnded as ended:
            self.output = process.take_output()
            self.close()
            self._was_lost = not ended.was_limited
            raise TrainingFailed(
                f"{what} {ended.why}.{_last_words(self.output, self._code_folder)}", output=self.output
            ) from None
        except BaseException:
            self.close()
            raise
        self.output = process.take_output()
        if "error" in reply.header:
            raise self._error(reply.header["error"])
        return reply

    def _error(self, packed: Json) -> ClewError:
        error = unpack_error(packed)
        if isinstance(error, TrainingFailed):
            error.output = self.output
        return error

    def _limits(self, time_limit: Duration | timedelta, used: Used | None = None) -> Limits:
        memory = [self._memory_limit_bytes, used.declaration.memory_limit_bytes if used else None]
        lowest = min((limit for limit in memory if limit is not None), default=None)
        return Limits(_seconds(time_limit), lowest, is_declared=used is not None)

    # -- tables that pass through files --------------------------------------------------------------------

    def _write_rows(self, rows: pa.Table) -> Path:
        import pyarrow as pa

        path = self._new_file("rows")
        with pa.OSFile(str(path), "wb") as file, pa.ipc.new_file(file, rows.schema) as writer:
            writer.write_table(rows)
        return path

    def _new_file(self, what: str) -> Path:
        self._n_files += 1
        return self._scratch / f"{what}-{self._n_files}.arrow"


def _last_words(output: bytes, code_folder: Path) -> str:
    """Where native code crashed, by Python's own dump of the stack, and the last line before that."""
    printed, _, dump = output.decode(errors="replace").partition("Fatal Python error: ")
    called = re.search(rf'File "{re.escape(str(code_folder))}/(.+?)", line (\d+)', dump)
    place = f" It was called at {called[1]}, line {called[2]}." if called else ""
    lines = printed.strip().splitlines()
    return place + (f" The last it printed: {lines[-1][:500]}" if lines else "")


def _seconds(limit: Duration | timedelta) -> float:
    if isinstance(limit, timedelta):
        return limit.total_seconds()
    month_start = datetime(2001, 1, 1, tzinfo=UTC)
    return (limit.after(month_start) - month_start).total_seconds()
