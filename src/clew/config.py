"""Settings: what belongs to the place where a project runs, read once from ``clew.toml``.

This is the only module that reads settings from the environment. Values written as ``"$NAME"`` in
``clew.toml`` come from the environment variable of that name, so that secrets stay out of files.
"""

from __future__ import annotations

import math
import os
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from clew.entities import Duration
from clew.errors import DeclarationError, ProjectError, SettingsError, did_you_mean

PROJECT_FILE = "clew.toml"
LOG_FAILURES = ("answer", "stop")
NOTICE_LEVELS = ("loop", "page", "ticket")


@dataclass(frozen=True, slots=True)
class BudgetSettings:
    """How often the loop may be wrong, and how much it may compute.

    Attributes
    ----------
    false_pages_per_quarter
        At most this many false pages are expected in a quarter over all models (default 1).
    fits_per_day
        At most this many fits a day and model; no limit by default.
    max_parallel_fits
        At most this many fits at the same moment over all models (default 1).
    """

    false_pages_per_quarter: float = 1.0
    fits_per_day: int | None = None
    max_parallel_fits: int = 1


@dataclass(frozen=True, slots=True)
class ObjectSettings:
    """Where immutable bytes are kept.

    Attributes
    ----------
    url
        A folder, or ``s3://bucket/prefix``; by default the folder ``objects`` in the store.
    options
        Connection options of a bucket: ``endpoint``, ``region``, ``access_key_id``,
        ``secret_access_key``, ``allow_http``. Write secrets as ``"$NAME"``.
    """

    url: str | None = None
    options: Mapping[str, str] = field(default_factory=dict, repr=False)


@dataclass(frozen=True, slots=True)
class ServingSettings:
    """Where ``clew up`` listens, and what a request may ask for.

    Attributes
    ----------
    host
        The address to listen on (default ``127.0.0.1``); any other lets other machines in.
    port
        Of predictions and labels (default 8750).
    control_port
        Of the control server: state, commands, ``/metrics`` (default 8751).
    workers
        Prediction workers (default 1).
    allowed_hosts
        Names beside ``localhost`` and the addresses by which requests may call the server.
    max_body_bytes
        A larger request body is refused (default 10,000,000).
    max_rows
        A request with more rows is refused (default 10,000).
    max_waiting
        Requests a worker lets wait; more are told to come again (default 256).
    timeout_seconds
        How long a client may take to send a request (default 10).
    log_failure
        ``"stop"`` (default): what cannot be logged is not answered; ``"answer"``: it is answered all the
        same, and counted.
    """

    host: str = "127.0.0.1"
    port: int = 8750
    control_port: int = 8751
    workers: int = 1
    allowed_hosts: tuple[str, ...] = ()
    max_body_bytes: int = 10_000_000
    max_rows: int = 10_000
    max_waiting: int = 256
    timeout_seconds: float = 10.0
    log_failure: str = "stop"


LEAST_RETENTION = Duration(exact=timedelta(days=190))
"""Six months and some days: for so long whoever checks a system may ask what it answered."""


@dataclass(frozen=True, slots=True)
class LogSettings:
    """How long answers, failures and labels are kept.

    Attributes
    ----------
    retention
        After this long ``clew gc`` removes them, unless something still needs them (default ``190d``).
    allow_shorter
        Let ``retention`` be shorter than 190 days (default false): ``trace``, ``why`` and ``status`` then
        tell nothing of older answers, and nobody can be shown what was answered half a year ago.
    """

    retention: Duration = LEAST_RETENTION
    allow_shorter: bool = False

    @property
    def is_short(self) -> bool:
        """Whether it is shorter than what is kept by default."""
        return _is_shorter(self.retention, LEAST_RETENTION)


def _is_shorter(one: Duration, other: Duration) -> bool:
    # Months have no fixed length; seen from the end of a February the longest counts.
    seen_from = datetime(2026, 2, 28)  # noqa: DTZ001 - two durations are compared, on no clock
    return one.before(seen_from) > other.before(seen_from)


@dataclass(frozen=True, slots=True)
class NotificationSettings:
    """Who is told of pages and of what the loop did.

    Attributes
    ----------
    webhook
        A URL to which each notice is posted as JSON.
    secret
        Signs what is posted (HMAC-SHA256); write it as ``"$NAME"``.
    allow_private
        Let the webhook lie at a private or loopback address (default false).
    command
        A program and its arguments, run for each notice, which it gets as JSON on its standard input. A
        program named with a slash, such as ``./tell.sh``, lies in the project's folder.
    levels
        What is told: ``page``, ``ticket``, ``loop`` (default ``page`` and ``loop``).
    """

    webhook: str | None = field(default=None, repr=False)
    secret: str | None = field(default=None, repr=False)
    allow_private: bool = False
    command: tuple[str, ...] = ()
    levels: tuple[str, ...] = ("page", "loop")


@dataclass(frozen=True, slots=True)
class TrackingSettings:
    """What ``train.artifact`` may keep with a run.

    Attributes
    ----------
    max_artifact_bytes
        A larger file is refused (default 100,000,000).
    max_run_artifact_bytes
        All files of a run together have at most this size (default 1,000,000,000).
    max_run_artifacts
        A run has at most this many files (default 1,000).
    """

    max_artifact_bytes: int = 100_000_000
    max_run_artifact_bytes: int = 1_000_000_000
    max_run_artifacts: int = 1_000


@dataclass(frozen=True, slots=True)
class Settings:
    """Everything that belongs to the place where a project runs.

    Attributes
    ----------
    root
        The project's folder: where ``clew.toml`` lies, or the folder of the file that was named.
    models
        Files or modules that declare models; other files are never imported.
    store
        The folder of records and objects (default ``.clew``); ``CLEW_STORE`` overrides it.
    database
        A database URL such as ``postgresql+psycopg://…``; by default a SQLite file in the store.
    objects
        Where immutable bytes are kept.
    budget
        How often the loop may be wrong, and how much it may compute.
    serving
        Where ``clew up`` listens, and what a request may ask for.
    notifications
        Who is told of pages and of what the loop did.
    connections
        Databases that `clew.sql` reads, by name: ``[connections]`` with ``warehouse = "$WAREHOUSE_URL"``. A
        SQLite file is ``sqlite:///shop.db``, from the project's folder.
    tracking
        What ``train.artifact`` may keep with a run.
    allow_pickle
        Whether ``clew models import`` may read pickle files, which can run any code (default false).
    log
        How long answers, failures and labels are kept.
    params
        Hyperparameters by model: ``[params.busy_hour]`` with ``num_leaves = 63``.
    """

    root: Path
    models: tuple[str, ...] = ()
    store: Path = Path(".clew")
    database: str | None = field(default=None, repr=False)
    objects: ObjectSettings = field(default_factory=ObjectSettings)
    budget: BudgetSettings = field(default_factory=BudgetSettings)
    serving: ServingSettings = field(default_factory=ServingSettings)
    notifications: NotificationSettings = field(default_factory=NotificationSettings)
    connections: Mapping[str, str] = field(default_factory=dict, repr=False)
    tracking: TrackingSettings = field(default_factory=TrackingSettings)
    allow_pickle: bool = False
    log: LogSettings = field(default_factory=LogSettings)
    params: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)


def find_project(start: Path) -> Path | None:
    """The nearest folder at or above `start` that holds ``clew.toml``, or None."""
    return next((folder for folder in (start, *start.parents) if (folder / PROJECT_FILE).is_file()), None)


TOKEN_VARIABLE = "CLEW_TOKEN"  # noqa: S105 - the variable's name


def server_token(environment: Mapping[str, str] | None = None) -> str | None:
    """The token by which commands ask a running system elsewhere; None where none is set."""
    variables = os.environ if environment is None else environment
    return variables.get(TOKEN_VARIABLE) or None


def load_settings(start: Path, environment: Mapping[str, str] | None = None) -> Settings:
    """The settings of the project at or above the folder `start`.

    Parameters
    ----------
    start
        Where to look from. Without a ``clew.toml`` at or above it, it is itself the project's root.
    environment
        Variables to read instead of the process's own.

    Raises
    ------
    SettingsError
        When a key is unknown, a value has the wrong type, or a ``"$NAME"`` is not set.
    """
    variables = os.environ if environment is None else environment
    start = start.resolve()
    root = find_project(start) or start
    path = root / PROJECT_FILE
    given = _read_toml(path) if path.is_file() else {}
    known = {f.name for f in fields(Settings)} - {"root"}
    _refuse_unknown_keys(given, known, PROJECT_FILE)
    resolved = _with_variables(given, variables, PROJECT_FILE)
    if variables.get("CLEW_STORE"):
        resolved["store"] = variables["CLEW_STORE"]
    return Settings(
        root=root,
        models=_models(resolved.get("models", [])),
        store=root / _typed(resolved.get("store", ".clew"), str, "store"),
        database=_typed(resolved.get("database"), str | None, "database"),
        objects=_objects(_section(resolved, "objects", ObjectSettings)),
        budget=_budget(_section(resolved, "budget", BudgetSettings)),
        serving=_serving(_section(resolved, "serving", ServingSettings)),
        notifications=_notifications(_section(resolved, "notifications", NotificationSettings), root),
        connections=_connections(resolved.get("connections", {})),
        tracking=_tracking(_section(resolved, "tracking", TrackingSettings)),
        allow_pickle=_typed(resolved.get("allow_pickle", False), bool, "allow_pickle"),
        log=_log(_section(resolved, "log", LogSettings)),
        params=_params(resolved.get("params", {})),
    )


def _read_toml(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SettingsError(f"{path} is not valid TOML: {error}.") from None


def _refuse_unknown_keys(given: Mapping[str, Any], known: set[str], where: str) -> None:
    for key in given:
        if key not in known:
            raise SettingsError(f"{where} has no setting {key!r}. {did_you_mean(key, known)}")


def _with_variables(value: Any, variables: Mapping[str, str], where: str) -> Any:
    if isinstance(value, dict):
        return {name: _with_variables(inner, variables, f"{where}: {name}") for name, inner in value.items()}
    if isinstance(value, list):
        return [_with_variables(inner, variables, where) for inner in value]
    if isinstance(value, str) and value.startswith("$"):
        if value[1:] not in variables:
            raise SettingsError(f"{where} is {value!r}, but the environment variable {value[1:]} is not set.")
        return variables[value[1:]]
    return value


def _typed(value: Any, kind: Any, what: str) -> Any:
    if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
        raise SettingsError(f"{PROJECT_FILE}: {what} is {value!r}, but it must be {_kind_name(kind)}.")
    return value


def _kind_name(kind: Any) -> str:
    names = {
        str: "a string",
        str | None: "a string",
        dict: "a table",
        list: "a list",
        int: "a whole number",
        int | float: "a number",
        bool: "true or false",
    }
    return names[kind]


def _section(given: Mapping[str, Any], name: str, kind: type) -> dict[str, Any]:
    section = _typed(given.get(name, {}), dict, name)
    _refuse_unknown_keys(section, {f.name for f in fields(kind)}, f"{PROJECT_FILE} [{name}]")
    return dict(section)


def _objects(section: dict[str, Any]) -> ObjectSettings:
    options = _typed(section.get("options", {}), dict, "objects.options")
    words = {name: _word(value, f"objects.options.{name}") for name, value in options.items()}
    return ObjectSettings(_typed(section.get("url"), str | None, "objects.url"), words)


def _word(value: Any, what: str) -> str:
    """TOML writes true and 30 without quotes, where a connection takes words."""
    if isinstance(value, bool | int | float):
        return str(value).lower()
    return str(_typed(value, str, what))


def _budget(section: dict[str, Any]) -> BudgetSettings:
    kinds = {"false_pages_per_quarter": int | float, "fits_per_day": int, "max_parallel_fits": int}
    for name, value in section.items():
        if not 0 < _typed(value, kinds[name], f"budget.{name}") < math.inf:
            raise SettingsError(
                f"{PROJECT_FILE}: budget.{name} is {value}, but it must be above zero and finite."
            )
    return BudgetSettings(**section)


def _tracking(section: dict[str, Any]) -> TrackingSettings:
    for name, value in section.items():
        if _typed(value, int, f"tracking.{name}") < 0:
            raise SettingsError(f"{PROJECT_FILE}: tracking.{name} is {value}, but it must not be negative.")
    return TrackingSettings(**section)


def _serving(section: dict[str, Any]) -> ServingSettings:
    for name, value in section.items():
        what = f"serving.{name}"
        if name == "allowed_hosts":
            section[name] = _words(value, what)
        elif name in ("host", "log_failure"):
            _typed(value, str, what)
        elif not 0 < _typed(value, int | float if name == "timeout_seconds" else int, what) < math.inf:
            raise SettingsError(f"{PROJECT_FILE}: {what} is {value}, but it must be above zero and finite.")
    if section.get("log_failure", "stop") not in LOG_FAILURES:
        raise SettingsError(
            f"{PROJECT_FILE}: serving.log_failure is {section['log_failure']!r}."
            f" {did_you_mean(section['log_failure'], LOG_FAILURES)}"
        )
    for name in ("port", "control_port"):
        if section.get(name, 1) > 65_535:
            raise SettingsError(
                f"{PROJECT_FILE}: serving.{name} is {section[name]}; the highest port is 65535."
            )
    return ServingSettings(**section)


def _log(section: dict[str, Any]) -> LogSettings:
    if "allow_shorter" in section:
        _typed(section["allow_shorter"], bool, "log.allow_shorter")
    if "retention" in section:
        given = _typed(section["retention"], str, "log.retention")
        try:
            section["retention"] = Duration.parse(given, "log.retention")
        except DeclarationError as error:
            raise SettingsError(f"{PROJECT_FILE}: {error}") from None
        if not section["retention"]:
            raise SettingsError(f"{PROJECT_FILE}: log.retention is {given!r}, but it must be above zero.")
    settings = LogSettings(**section)
    if settings.is_short and not settings.allow_shorter:
        raise SettingsError(
            f"{PROJECT_FILE}: log.retention is {settings.retention}, shorter than {LEAST_RETENTION}: trace,"
            " why and status would tell nothing of older answers, and nobody could be shown what was answered"
            " half a year ago. If that is meant, say so beside it: allow_shorter = true"
        )
    return settings


def _notifications(section: dict[str, Any], root: Path) -> NotificationSettings:
    kinds = {"webhook": str, "secret": str, "allow_private": bool}
    for name, value in section.items():
        what = f"notifications.{name}"
        if name in kinds:
            _typed(value, kinds[name], what)
        else:
            section[name] = _words(value, what)
    for level in section.get("levels", ()):
        if level not in NOTICE_LEVELS:
            hint = did_you_mean(level, NOTICE_LEVELS)
            raise SettingsError(f"{PROJECT_FILE}: notifications.levels has {level!r}. {hint}")
    if section.get("secret") == "":
        raise SettingsError(
            f"{PROJECT_FILE}: notifications.secret is empty, which signs nothing. Leave it out, or set it."
        )
    _refuse_no_webhook(section.get("webhook"))
    section["command"] = _program(section.get("command", ()), root)
    return NotificationSettings(**section)


def _refuse_no_webhook(webhook: str | None) -> None:
    """Whatever is wrong, the message does not repeat the URL, which may hold a password."""
    if webhook is None:
        return
    try:
        parts = urlsplit(webhook)
        is_url = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        is_url = False
    if not is_url or any(character.isspace() for character in webhook):
        raise SettingsError(
            f'{PROJECT_FILE}: notifications.webhook is no URL. Write https://HOST/PATH, or "$NAME".'
        )


def _program(command: tuple[str, ...], root: Path) -> tuple[str, ...]:
    """A command whose program is found from wherever Clew runs."""
    if command and not command[0]:
        raise SettingsError(f"{PROJECT_FILE}: notifications.command names no program.")
    return (str(root / command[0]), *command[1:]) if command and "/" in command[0] else command


def _words(given: Any, what: str) -> tuple[str, ...]:
    return tuple(_typed(word, str, f"an entry of {what}") for word in _typed(given, list, what))


def _models(given: Any) -> tuple[str, ...]:
    entries = _typed(given, list, "models")
    for entry in entries:
        _typed(entry, str, "an entry of models")
    return tuple(entries)


def _connections(given: Any) -> dict[str, str]:
    """Whatever is wrong, the message does not repeat a URL, which may hold a password."""
    found = _typed(given, dict, "connections")
    for name, url in found.items():
        if not isinstance(url, str) or "://" not in url:
            raise SettingsError(
                f"{PROJECT_FILE}: connections.{name} is no database URL. Write"
                ' "postgresql://user@host/name", "sqlite:///shop.db", or "$NAME".'
            )
    return dict(found)


def _params(given: Any) -> dict[str, dict[str, Any]]:
    return {
        name: dict(_typed(table, dict, f"params.{name}"))
        for name, table in _typed(given, dict, "params").items()
    }


@dataclass(frozen=True, slots=True)
class ProjectTarget:
    """What the user named: a file of the project, and perhaps one model in it."""

    settings: Settings
    files: tuple[str, ...]
    model: str | None = None


def resolve_target(
    target: str | None, where: Path, environment: Mapping[str, str] | None = None
) -> ProjectTarget:
    """Find the project behind ``FILE.py[:MODEL]``, or the one of the folder `where`.

    A file outside the project whose ``clew.toml`` governs `where` belongs to its own folder's project.

    Raises
    ------
    ProjectError
        When the file does not exist, is a notebook, or no project is there.
    """
    if target is None:
        settings = load_settings(where, environment)
        if not settings.models:
            raise ProjectError(
                f"{settings.root} has no {PROJECT_FILE} that names models. Name a file, such as: clew try"
                " model.py; or make a project here with: clew init"
            )
        return ProjectTarget(settings, settings.models)
    name, _, model = target.partition(":")
    path = (where / name).resolve()
    if path.suffix == ".ipynb":
        raise ProjectError(
            f"{name} is a notebook, whose cells may run in any order. Save its code as a file first:"
            f" jupyter nbconvert --to script {name}; then: clew try {Path(name).with_suffix('.py')}"
        )
    if not path.is_file():
        return _model_of_project(target, where, environment)
    if path.suffix != ".py":
        raise ProjectError(
            f"{name} is not a Python file; name the file that declares the model, such as model.py."
        )
    settings = load_settings(path.parent, environment)
    return ProjectTarget(settings, (path.relative_to(settings.root).as_posix(),), model or None)


def _model_of_project(target: str, where: Path, environment: Mapping[str, str] | None) -> ProjectTarget:
    """A bare word is the name of a model of the project at `where`."""
    settings = load_settings(where, environment)
    if target.isidentifier() and settings.models:
        return ProjectTarget(settings, settings.models, target)
    scripts = sorted(path.name for path in where.glob("*.py"))
    there = (
        f"the Python files in {where} are {', '.join(scripts)}" if scripts else f"{where} has no Python files"
    )
    raise ProjectError(f"There is no file {target.partition(':')[0]!r}: {there}.")
