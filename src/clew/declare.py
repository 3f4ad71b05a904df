"""The decorators of a user's project: ``@clew.dataset`` and ``@clew.model``.

They check what they are given at once, where the user can see the line at fault, and turn it into
frozen specs. A spec is still callable like the function it wraps, so that a project file can be tried
in a notebook.
"""

from __future__ import annotations

import difflib
import inspect
import math
import os
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, get_args
from zoneinfo import ZoneInfo, available_timezones

from clew.entities import (
    DatasetDeclaration,
    Duration,
    FrameKind,
    Margin,
    MetricName,
    ModelDeclaration,
    RolloutStep,
    Trigger,
    checked_threshold,
)
from clew.errors import DeclarationError, did_you_mean

FRAMES: tuple[str, ...] = get_args(FrameKind)
METRIC_NAMES: tuple[str, ...] = get_args(MetricName)
DEFAULT_ROLLOUT = "shadow 1d, canary 10% 1d"


@dataclass(frozen=True, slots=True)
class SqlQuery:
    """A query of a database that ``clew.toml`` names; made by `sql`.

    Attributes
    ----------
    connection
        The name under ``[connections]``.
    file
        The file of the query, relative to the project, or None.
    text
        The query itself, or None.
    """

    connection: str
    file: str | None = None
    text: str | None = None

    @property
    def source(self) -> str:
        """What it is called in records; never where it leads or with which password."""
        return f"sql://{self.connection}" + (f"/{self.file}" if self.file else "")


def sql(connection: str, query: str | None = None, *, file: str | os.PathLike[str] | None = None) -> SqlQuery:
    """A dataset's source that is a query: ``clew.dataset(clew.sql("warehouse", file="features.sql"), …)``.

    It runs whenever a snapshot is taken, in a transaction that only reads, in the process that runs your
    code. The query is part of the captured code, so it is recorded with every run.

    Parameters
    ----------
    connection
        A name under ``[connections]`` in ``clew.toml``, where the database's URL stands.
    query
        The query's text; or
    file
        a file of the project that holds it.

    Raises
    ------
    DeclarationError
        When both or neither are given, or the file lies outside of the project.

    Examples
    --------
    >>> sql("warehouse", file="features.sql").source
    'sql://warehouse/features.sql'
    """
    if not re.fullmatch(r"[A-Za-z_][\w-]*", str(connection)):
        raise DeclarationError(
            "The first argument of clew.sql is no name; give one that stands under [connections] in"
            " clew.toml, never a URL: it may hold a password."
        )
    if (query is None) == (file is None):
        raise DeclarationError("clew.sql takes either the query's text or file=, and one of them.")
    path = None if file is None else os.fspath(file)
    if path is not None and (os.path.isabs(path) or ".." in path.split("/")):  # noqa: PTH117 - as it is written
        raise DeclarationError(
            f"file is {path!r}; give a path inside the project, so that the query is recorded with the code."
        )
    return SqlQuery(connection, path, query)


@dataclass(frozen=True, slots=True)
class DatasetSpec:
    """A declared dataset: the declaration and the function that returns its rows."""

    declaration: DatasetDeclaration
    function: Callable[..., Any] = field(repr=False)
    load: Callable[[], Any] | None = field(default=None, repr=False)
    query: SqlQuery | None = None

    @property
    def name(self) -> str:
        return self.declaration.name

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self.function(*args, **kwargs)


@dataclass(frozen=True, slots=True)
class ModelSpec:
    """A declared model: the declaration and the function that fits it."""

    declaration: ModelDeclaration
    dataset: DatasetSpec
    function: Callable[..., Any] = field(repr=False)

    @property
    def name(self) -> str:
        return self.declaration.name

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self.function(*args, **kwargs)


def dataset(
    source: str | os.PathLike[str] | SqlQuery | Callable[[], Any],
    *,
    time: str,
    key: str,
    label: str,
    label_delay: str | timedelta,
    entity: str | None = None,
    timezone: str = "UTC",
    frame: FrameKind = "pandas",
    not_features: Iterable[str] = (),
) -> Callable[[Callable[..., Any]], DatasetSpec]:
    """Declare a dataset: where its table is, and what its columns mean.

    The decorated function gets the table and returns the rows to use; it runs when a snapshot is
    taken, never on a request. Its columns other than `time`, `key`, `label`, `entity` and
    `not_features` are the features.

    Parameters
    ----------
    source
        A Parquet, CSV or JSON lines file, a glob of such files, a query made by `clew.sql`, or a callable
        that returns a frame.
    time, key, label
        Columns of what the function returns: when the thing predicted happened, its unique name, and
        the truth about it. A null label is unknown, never a class.
    label_delay
        How long after its time a row's label is complete: ``"1d"``, ``"36h"``, ``"2w"``, ``"1mo"``.
    entity
        The column that says whom a row belongs to, such as a customer.
    timezone
        Zone of times that carry none, such as ``"Europe/Berlin"``.
    frame
        What the function gets and returns: ``"pandas"``, ``"polars"`` or ``"pyarrow"``.
    not_features
        Columns kept for slices and never given to a model.

    Raises
    ------
    DeclarationError
        Naming the argument at fault and its right spelling.

    Examples
    --------
    >>> @dataset("rides.parquet", time="ts", key="hour_id", label="busy", label_delay="1d")
    ... def rides(table):
    ...     return table
    >>> rides.declaration.label_delay
    Duration(months=0, exact=datetime.timedelta(days=1))
    """
    roles = {"time": time, "key": key, "label": label} | ({} if entity is None else {"entity": entity})
    for role, column in roles.items():
        _require_one_column(role, column)
    _refuse_shared_columns(roles)
    if not callable(source) and not isinstance(source, str | os.PathLike | SqlQuery):
        raise DeclarationError(
            f"source is {source!r}; give a Parquet, CSV or JSON lines path, a glob, clew.sql(…), or a"
            " callable that returns a frame."
        )
    if frame not in FRAMES:
        raise DeclarationError(f"frame is {frame!r}. {did_you_mean(str(frame), FRAMES)}")

    def declare(function: Callable[..., Any]) -> DatasetSpec:
        declaration = DatasetDeclaration(
            name=_function_name(function, "dataset"),
            time=time,
            key=key,
            label=label,
            label_delay=Duration.parse(label_delay, "label_delay"),
            source=_source_name(source),
            entity=entity,
            timezone=_known_timezone(timezone),
            frame=frame,
            not_features=_names("not_features", not_features),
        )
        load = source if callable(source) else None
        return DatasetSpec(declaration, function, load, source if isinstance(source, SqlQuery) else None)

    return declare


def model(
    dataset: DatasetSpec,
    *,
    metric: MetricName,
    margin: float | str,
    minimum: Mapping[str, float] | None = None,
    slices: Iterable[str] = (),
    retrain: str | Sequence[str] = ("auto",),
    rollout: str = DEFAULT_ROLLOUT,
    not_features: Iterable[str] = (),
    train_window: str | int | timedelta | None = None,
    time_limit: str | timedelta = "1h",
    memory_limit: int | str | None = None,
    allow_code: bool = False,
    min_requests: int = 20,
    threshold: float | None = None,
    positive: str | float | bool | None = None,
    files: str | os.PathLike[str] | Mapping[str, str | os.PathLike[str]] | None = None,
) -> Callable[[Callable[..., Any]], ModelSpec]:
    """Declare a model: what it learns from, how it is judged, when it is retrained.

    The decorated function gets ``train`` (``train.X``, ``train.y``, ``train.times``, ``train.keys``) and
    returns a fitted model. Its keyword arguments with defaults are the hyperparameters.

    Parameters
    ----------
    dataset
        What ``@clew.dataset`` made.
    metric
        ``"accuracy"`` or ``"log_loss"`` for classes, ``"rmse"`` or ``"mae"`` for numbers.
    margin
        How much worse is still as good: in the metric's unit (``0.01``) or relative (``"2%"``).
    minimum
        Levels that a candidate must certainly reach, by metric: ``{"accuracy": 0.75}``.
    slices
        Columns by whose values the gate looks for groups that a candidate serves worse.
    retrain
        ``"auto"`` (standing challengers), ``"every 60d"``, ``"rows 5000"``, ``"cron 0 3 * * 1"``,
        ``"drift"``, or ``"never"`` alone.
    rollout
        The stages of a release: ``"shadow 1d, canary 10% 1d"``; ``"now"`` for none.
    not_features
        Columns of the dataset that this model must not see.
    train_window
        How much of the newest history a fit may use: matured rows (``5000``) or a duration.
    time_limit, memory_limit
        What one fit may take; memory in bytes or as ``"4GB"``.
    allow_code
        Package the model although it needs the project's own code to predict.
    min_requests
        Requests that a candidate must have been asked in each stage of a rollout, whether its answers were
        used or only compared; a stage that saw fewer is extended, up to three times.
    threshold
        For two classes: the probability of the positive class from which on it is answered, such as
        ``0.08``; by default the more probable class is. It is part of the deployment, and ``clew threshold``
        changes it without a retrain; it holds until either says another one.
    positive
        The positive class; by default the second of the label's values in their order, as in scikit-learn.
    files
        Folders of files that the function learns from beside the rows: ``"images"``, or by name
        ``{"scans": "/mnt/scans"}``. Each fit gets one immutable version, as the path
        ``train.files["images"]``; a model is never given files when it predicts.

    Raises
    ------
    DeclarationError
        Naming the argument at fault and its right spelling.

    Examples
    --------
    >>> @dataset("rides.parquet", time="ts", key="hour_id", label="busy", label_delay="1d")
    ... def rides(table):
    ...     return table
    >>> @model(rides, metric="accuracy", margin=0.01, retrain=["auto", "every 60d"])
    ... def busy_hour(train, num_leaves=31):
    ...     ...
    >>> busy_hour.declaration.params
    {'num_leaves': 31}
    """
    if not isinstance(dataset, DatasetSpec):
        raise DeclarationError(
            f"The first argument of @clew.model is {dataset!r}; give it what @clew.dataset made."
        )
    if metric not in METRIC_NAMES:
        raise DeclarationError(f"metric is {metric!r}. {did_you_mean(str(metric), METRIC_NAMES)}")

    def declare(function: Callable[..., Any]) -> ModelSpec:
        declaration = ModelDeclaration(
            name=_function_name(function, "model"),
            dataset=dataset.declaration,
            metric=metric,
            margin=_margin(margin, metric),
            minimum=_minimum(minimum or {}, metric),
            slices=_names("slices", slices),
            retrain=parse_retrain(retrain),
            rollout=parse_rollout(rollout),
            not_features=_names("not_features", not_features),
            train_window=_train_window(train_window),
            params=_hyperparameters(function),
            time_limit=_above_zero(Duration.parse(time_limit, "time_limit"), "time_limit"),
            memory_limit_bytes=_bytes(memory_limit),
            allow_code=allow_code,
            min_requests=_count("min_requests", min_requests),
            threshold=_threshold(threshold, positive, metric),
            positive=positive,
            files=_folders(files),
        )
        return ModelSpec(declaration, dataset, function)

    return declare


def parse_retrain(words: str | Sequence[str]) -> tuple[Trigger, ...]:
    """Read the words of ``retrain=``.

    Examples
    --------
    >>> [str(trigger) for trigger in parse_retrain(["auto", "every 60d", "rows 5000"])]
    ['auto', 'every 60d', 'rows 5000']
    """
    triggers = tuple(map(_trigger, [words] if isinstance(words, str) else _listed("retrain", words)))
    if not triggers:
        raise DeclarationError("retrain is empty; write retrain='never' to leave retraining to people.")
    twice = next((trigger for place, trigger in enumerate(triggers) if trigger in triggers[:place]), None)
    if twice is not None:
        raise DeclarationError(f"retrain has {str(twice)!r} twice.")
    if len(triggers) > 1 and any(trigger.kind == "never" for trigger in triggers):
        raise DeclarationError(f"retrain is {list(words)!r}, but 'never' must stand alone.")
    return triggers


def _trigger(word: object) -> Trigger:
    if not isinstance(word, str):
        raise DeclarationError(f"retrain has {word!r}; its words are strings such as 'auto' or 'every 60d'.")
    kind, _, rest = word.strip().partition(" ")
    rest = rest.strip()
    if kind in ("auto", "drift", "never") and not rest:
        return Trigger(kind)  # type: ignore[arg-type]
    if kind == "every" and rest:
        every = Duration.parse(rest, "retrain='every …'")
        if not every:
            raise DeclarationError(
                f"retrain has {word!r}, which would never end; write for example 'every 60d'."
            )
        return Trigger("every", every=every)
    if kind == "rows" and rest.isdecimal() and int(rest) > 0:
        return Trigger("rows", rows=int(rest))
    if kind == "cron" and _is_cron(rest):
        return Trigger("cron", cron=rest)
    raise DeclarationError(f"retrain has {word!r}. {_trigger_hint(kind, rest)}")


def _is_cron(expression: str) -> bool:
    from croniter import croniter  # only projects with a schedule pay for it

    return len(expression.split()) == 5 and croniter.is_valid(expression)


def _trigger_hint(kind: str, rest: str) -> str:
    for pattern, spelling in ((r"\d+\s*(?:mo|m|h|d|w)", "every {}"), (r"\d+", "rows {}")):
        if re.fullmatch(pattern, f"{kind}{rest}"):
            return f"Did you mean {spelling.format(kind + rest)!r}?"
    if kind in ("every", "rows", "cron"):
        return "Write 'every 60d', 'rows 5000' or 'cron 0 3 * * 1' (minute, hour, day, month, weekday)."
    near = difflib.get_close_matches(kind, ["every", "rows", "cron"], n=1) if rest else []
    if near:
        return f"Did you mean '{near[0]} {rest}'?"
    return did_you_mean(kind, ["auto", "every 60d", "rows 5000", "cron 0 3 * * 1", "drift", "never"])


def parse_rollout(text: str) -> tuple[RolloutStep, ...]:
    """Read ``rollout=``: ``"shadow 1d, canary 10% 1d"``, or ``"now"`` for no stages.

    Examples
    --------
    >>> [str(step) for step in parse_rollout("shadow 1d, canary 10% 12h")]
    ['shadow 1d', 'canary 10% 12h']
    >>> parse_rollout("now")
    ()
    """
    if not isinstance(text, str):
        raise DeclarationError(f"rollout is {text!r}; write for example rollout={DEFAULT_ROLLOUT!r}.")
    if text.strip() == "now":
        return ()
    return tuple(_rollout_step(stage.strip()) for stage in text.split(","))


def _rollout_step(stage: str) -> RolloutStep:
    match = re.fullmatch(r"(shadow)\s+(\S+)|(canary)\s+(\d+(?:\.\d+)?)%\s+(\S+)", stage)
    if match is None:
        raise DeclarationError(
            f"rollout has the stage {stage!r}; a stage is 'shadow 1d' or 'canary 10% 1d',"
            " stages are separated by commas, and rollout='now' has none."
        )
    if match[1]:
        return RolloutStep("shadow", Duration.parse(match[2], "rollout's shadow"))
    share = float(match[4]) / 100
    if not 0 < share < 1:
        raise DeclarationError(f"rollout has the stage {stage!r}; a canary's share lies between 0% and 100%.")
    return RolloutStep("canary", Duration.parse(match[5], "rollout's canary"), share)


# -- checks of single arguments ------------------------------------------------------------------------


def _source_name(source: str | os.PathLike[str] | SqlQuery | Callable[[], Any]) -> str | None:
    if isinstance(source, SqlQuery):
        return source.source
    return None if callable(source) else os.fspath(source)


def _function_name(function: Callable[..., Any], what: str) -> str:
    name = getattr(function, "__name__", "")
    if not name.isidentifier():
        raise DeclarationError(f"@clew.{what} decorates a named function, not {function!r}.")
    return name


def _require_one_column(role: str, column: object) -> None:
    if isinstance(column, list | tuple):
        raise DeclarationError(
            f"{role} names the {len(column)} columns {list(column)!r}, but a dataset has one {role} column."
            " For several labels declare one dataset and one model each."
        )
    if not isinstance(column, str) or not column:
        raise DeclarationError(f"{role} is {column!r}; give the name of one column.")


def _refuse_shared_columns(roles: Mapping[str, str]) -> None:
    for role, column in roles.items():
        twin = next((other for other, same in roles.items() if same == column and other != role), None)
        if twin is not None and "label" in (role, twin):
            raise DeclarationError(f"{role} and {twin} are both column {column!r}; the label needs its own.")


def _known_timezone(name: str) -> str:
    try:
        ZoneInfo(name)
    except (KeyError, ValueError, TypeError, OSError):
        raise DeclarationError(f"timezone is {name!r}, which is no known zone. {_zone_hint(name)}") from None
    return name


def _zone_hint(name: object) -> str:
    hint = did_you_mean(str(name), available_timezones())
    return hint if hint.startswith("Did") else "Write its name, such as 'UTC' or 'Europe/Berlin'."


def _names(what: str, given: Iterable[str]) -> tuple[str, ...]:
    if isinstance(given, str):
        raise DeclarationError(f"{what} is {given!r}; write a list of columns: {what}=[{given!r}].")
    names = _listed(what, given)
    for name in names:
        if not isinstance(name, str):
            raise DeclarationError(f"{what} has {name!r}; its entries are names of columns.")
    return names


def _listed(what: str, given: Any) -> tuple[Any, ...]:
    if not isinstance(given, Iterable):
        raise DeclarationError(f"{what} is {given!r}; write a list.")
    return tuple(given)


def _folders(given: Any) -> dict[str, str]:
    """Folders by name, which for a path alone is its last part."""
    if given is None:
        return {}
    if isinstance(given, str | os.PathLike):
        path = os.fspath(given).rstrip("/")
        given = {path.rpartition("/")[2]: path}
    if not isinstance(given, Mapping):
        raise DeclarationError(f"files is {given!r}; write a folder, files='images', or several by name.")
    for name, path in given.items():
        if not isinstance(name, str) or not re.fullmatch(r"[A-Za-z_][\w.-]*", name):
            raise DeclarationError(
                f"files has a folder named {name!r}; name it by letters and digits: files={{'images': PATH}}."
            )
        if not isinstance(path, str | os.PathLike) or not os.fspath(path):
            raise DeclarationError(f"files has {name}={path!r}; give the path of a folder.")
    return {name: os.fspath(path) for name, path in given.items()}


def _margin(given: float | str, metric: str) -> Margin:
    margin = Margin.parse(given)
    if metric == "accuracy" and not margin.is_relative and margin.value >= 0.5:
        raise DeclarationError(
            f"margin is {given!r}, but accuracy lies between 0 and 1; one point of a hundred is margin=0.01."
        )
    return margin


def _minimum(given: Mapping[str, Any], metric: str) -> dict[str, float]:
    if not isinstance(given, Mapping):
        raise DeclarationError(f"minimum is {given!r}; write it by metric: minimum={{{metric!r}: 0.75}}.")
    for name, level in given.items():
        if name not in METRIC_NAMES:
            raise DeclarationError(f"minimum has {name!r}. {did_you_mean(str(name), METRIC_NAMES)}")
        if isinstance(level, bool) or not isinstance(level, int | float) or not math.isfinite(level):
            raise DeclarationError(f"minimum has {name}={level!r}; give a number.")
        if level < 0 or (name == "accuracy" and level > 1):
            reach = "between 0 and 1" if name == "accuracy" else "at or above 0"
            raise DeclarationError(f"minimum has {name}={level!r}, but {name} lies {reach}.")
        if (name in ("accuracy", "log_loss")) != (metric in ("accuracy", "log_loss")):
            raise DeclarationError(
                f"minimum has {name!r}, which cannot be measured for a model judged by {metric!r}."
            )
    return {name: float(level) for name, level in given.items()}


def _train_window(given: object) -> Duration | int | None:
    if given is None:
        return None
    if isinstance(given, int) and not isinstance(given, bool):
        if given < 1:
            raise DeclarationError(
                f"train_window is {given}; give a number of rows above zero, or a duration."
            )
        return given
    return _above_zero(Duration.parse(given, "train_window"), "train_window")


def _above_zero(length: Duration, what: str) -> Duration:
    if not length:
        raise DeclarationError(f"{what} is zero; give a length above it, such as '1h' or '30d'.")
    return length


def _count(what: str, given: object) -> int:
    if isinstance(given, bool) or not isinstance(given, int) or given < 0:
        raise DeclarationError(f"{what} is {given!r}; give a whole number at or above 0.")
    return given


def _threshold(given: object, positive: object, metric: str) -> float | None:
    if positive is not None and not isinstance(positive, str | int | float | bool):
        raise DeclarationError(f"positive is {positive!r}; give one of the label's values.")
    if given is None:
        return None
    if metric not in ("accuracy", "log_loss"):
        raise DeclarationError(
            f"threshold is {given!r}, but a model judged by {metric!r} answers numbers; a threshold decides"
            " between two classes."
        )
    return checked_threshold(given)


def _bytes(given: int | str | None) -> int | None:
    if given is None:
        return None
    match = re.fullmatch(r"\s*(\d+)\s*(|MB|GB)\s*", str(given), re.IGNORECASE)
    if match is None or int(match[1]) == 0:
        raise DeclarationError(f"memory_limit is {given!r}; write bytes or a size such as '500MB' or '4GB'.")
    return int(match[1]) * {"": 1, "MB": 10**6, "GB": 10**9}[match[2].upper()]


def _hyperparameters(function: Callable[..., Any]) -> dict[str, Any]:
    """Keyword arguments with defaults; the first argument is the training data."""
    parameters = list(inspect.signature(function).parameters.values())
    if not parameters or parameters[0].kind in (parameters[0].KEYWORD_ONLY, parameters[0].VAR_KEYWORD):
        raise DeclarationError(
            f"{function.__name__}() takes no argument by position; its first one is the training data."
        )
    found: dict[str, Any] = {}
    for parameter in parameters[1:]:
        if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
            continue
        if parameter.default is parameter.empty:
            raise DeclarationError(
                f"{function.__name__}() has the hyperparameter {parameter.name!r} without a default; write"
                f" {parameter.name}=VALUE, so that every run records what it used."
            )
        if not _is_plain(parameter.default):
            raise DeclarationError(
                f"{function.__name__}() has the hyperparameter {parameter.name}={parameter.default!r}; a"
                " default is a finite number, string, boolean, None, or a list or mapping of these, so that"
                " it can be recorded."
            )
        found[parameter.name] = parameter.default
    return found


def _is_plain(value: object) -> bool:
    if isinstance(value, list | tuple):
        return all(map(_is_plain, value))
    if isinstance(value, Mapping):
        return all(isinstance(name, str) and _is_plain(inner) for name, inner in value.items())
    if isinstance(value, float):
        return math.isfinite(value)
    return value is None or isinstance(value, bool | int | str)
