"""Clew's vocabulary: the frozen records that rooms hand to each other.

Every type here is plain data (numbers, strings, times, tuples of these), so that it can be stored as
JSON, compared and printed. Behaviour lives in the rooms; what is here besides fields only answers a
question about the value itself.

Times are aware and in UTC, shares and rates are fractions between 0 and 1.
"""

from __future__ import annotations

import calendar
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Literal, TypeAlias

from clew.errors import DeclarationError

Json: TypeAlias = dict[str, Any]

# -- durations and margins ---------------------------------------------------------------------------

_UNITS = {
    "m": timedelta(minutes=1),
    "h": timedelta(hours=1),
    "d": timedelta(days=1),
    "w": timedelta(weeks=1),
}
_UNIT_DAYS = {"m": 1 / 1440, "h": 1 / 24, "d": 1, "w": 7, "mo": 30.4375}
_MOST_DAYS = 36_525  # a century: whatever date it is added to stays in the calendar
_LONG_UNITS = {
    "min": "m", "minute": "m", "hr": "h", "hour": "h", "day": "d", "week": "w", "wk": "w", "mon": "mo",
    "mth": "mo", "month": "mo",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Duration:
    """A length of time: whole calendar months plus an exact part.

    Months stay apart because they have no fixed length: one month after 31 January is the last day of
    February.

    Examples
    --------
    >>> Duration.parse("1d").after(datetime(2026, 3, 1))
    datetime.datetime(2026, 3, 2, 0, 0)
    >>> Duration.parse("1mo").after(datetime(2026, 1, 31))
    datetime.datetime(2026, 2, 28, 0, 0)
    >>> str(Duration.parse("36h"))
    '36h'
    """

    months: int = 0
    exact: timedelta = timedelta()

    @classmethod
    def parse(cls, text: object, what: str = "duration") -> Duration:
        """Read ``"90m"``, ``"36h"``, ``"1d"``, ``"2w"``, ``"3mo"`` or a timedelta.

        Raises
        ------
        DeclarationError
            With the right spelling, when `text` is something else or negative.
        """
        if isinstance(text, Duration):
            return text
        if isinstance(text, timedelta):
            if text < timedelta():
                raise DeclarationError(f"{what} is {text}, but a duration cannot be negative.")
            if text.days > _MOST_DAYS:
                raise _too_long(what, text)
            return cls(0, text)
        match = re.fullmatch(r"(\d+)(mo|m|h|d|w)", str(text).strip())
        if match is None:
            raise DeclarationError(f"{what} is {text!r}, which is no duration. {_duration_hint(text)}")
        count, unit = int(match[1]), match[2]
        if count > _MOST_DAYS / _UNIT_DAYS[unit]:
            raise _too_long(what, text)
        return cls(months=count) if unit == "mo" else cls(exact=count * _UNITS[unit])

    def after(self, moment: datetime) -> datetime:
        return _shift_months(moment, self.months) + self.exact

    def before(self, moment: datetime) -> datetime:
        return _shift_months(moment - self.exact, -self.months)

    def windows(self, start: datetime, end: datetime) -> Iterator[tuple[datetime, datetime]]:
        """Consecutive windows of this length from `start`; the last may be cut short by `end`."""
        if not self:
            raise DeclarationError("A window needs a length above zero, such as '1mo' or '7d'.")
        opening, n = start, 0
        while opening < end:
            n += 1
            # Counted from `start` and not from the last window, so that 31 January does not become
            # the 28th of every later month.
            closing = Duration(self.months * n, self.exact * n).after(start)
            yield opening, min(closing, end)
            opening = closing

    def __bool__(self) -> bool:
        return self.months > 0 or self.exact > timedelta()

    def __str__(self) -> str:
        if self.months:
            return f"{self.months}mo" if not self.exact else f"{self.months}mo+{self.exact}"
        for unit in ("w", "d", "h", "m"):
            if self.exact % _UNITS[unit] == timedelta() and (self.exact or unit == "m"):
                return f"{self.exact // _UNITS[unit]}{unit}"
        return str(self.exact)


def _too_long(what: str, text: object) -> DeclarationError:
    return DeclarationError(f"{what} is {str(text)!r}, which is longer than a century. Is the unit right?")


def _duration_hint(text: object) -> str:
    match = re.fullmatch(r"\s*(\d+)\s*([A-Za-z]+?)s?\s*", text) if isinstance(text, str) else None
    if match and match[2].lower() in _LONG_UNITS:
        return f"Did you mean '{match[1]}{_LONG_UNITS[match[2].lower()]}'?"
    if match and match[2].lower() in _UNITS | {"mo": None}:
        return f"Did you mean '{match[1]}{match[2].lower()}'?"
    if match and match[2].lower() in ("y", "yr", "year"):
        return f"Did you mean '{12 * int(match[1])}mo'?"
    return "Write a whole number and a unit: '90m' minutes, '36h', '1d', '2w', '3mo' months; or a timedelta."


def _shift_months(moment: datetime, months: int) -> datetime:
    if not months:
        return moment
    years, month = divmod(moment.month - 1 + months, 12)
    year = moment.year + years
    day = min(moment.day, calendar.monthrange(year, month + 1)[1])
    return moment.replace(year=year, month=month + 1, day=day)


@dataclass(frozen=True, slots=True)
class Margin:
    """How much worse is still the same: in the metric's unit, or relative to its level.

    Examples
    --------
    >>> Margin.parse(0.01).absolute(0.9), Margin.parse("2%").absolute(50.0)
    (0.01, 1.0)
    """

    value: float
    is_relative: bool = False

    @classmethod
    def parse(cls, given: float | str | Margin) -> Margin:
        if isinstance(given, Margin):
            return given
        relative = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*%\s*", given) if isinstance(given, str) else None
        if relative:
            value, is_relative = float(relative[1]) / 100, True
        elif isinstance(given, int | float) and not isinstance(given, bool):
            value, is_relative = float(given), False
        else:
            raise DeclarationError(
                f"margin is {given!r}; write a number in the metric's unit, such as margin=0.01, or a share"
                " of its level, such as margin='2%'."
            )
        if not 0 < value < float("inf"):
            raise DeclarationError(f"margin is {given!r}, but it must be above zero: ties need room.")
        return cls(value, is_relative)

    def absolute(self, level: float) -> float:
        """The margin in the metric's unit when the metric stands at `level`."""
        return abs(level) * self.value if self.is_relative else self.value

    def __str__(self) -> str:
        return f"{self.value:.4g}" if not self.is_relative else f"{self.value * 100:.4g}%"


# -- declarations ------------------------------------------------------------------------------------

FrameKind: TypeAlias = Literal["pandas", "polars", "pyarrow"]
Task: TypeAlias = Literal["classification", "regression"]
MetricName: TypeAlias = Literal["accuracy", "log_loss", "rmse", "mae"]


@dataclass(frozen=True, slots=True)
class Trigger:
    """One word of ``retrain=``: when a candidate is ordered.

    ``auto`` keeps standing challengers; ``every`` carries a duration, ``rows`` a count, ``cron`` an
    expression; ``drift`` orders one when drift is confirmed; ``never`` leaves it to people.
    """

    kind: Literal["auto", "every", "rows", "cron", "drift", "never"]
    every: Duration | None = None
    rows: int | None = None
    cron: str | None = None

    def __str__(self) -> str:
        detail = self.every or self.rows or self.cron
        return f"{self.kind} {detail}" if detail else self.kind


@dataclass(frozen=True, slots=True)
class RolloutStep:
    """One stage of a rollout: `share` of the requests is answered by the candidate for `length`."""

    kind: Literal["shadow", "canary"]
    length: Duration
    share: float = 0.0

    def __str__(self) -> str:
        share = f" {self.share * 100:.4g}%" if self.share else ""
        return f"{self.kind}{share} {self.length}"


@dataclass(frozen=True, slots=True)
class DatasetDeclaration:
    """What ``@clew.dataset`` says, without the function.

    `source` is a path or glob relative to the project, or None when a callable delivers the table.
    """

    name: str
    time: str
    key: str
    label: str
    label_delay: Duration
    source: str | None
    entity: str | None = None
    timezone: str = "UTC"
    frame: FrameKind = "pandas"
    not_features: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class ModelDeclaration:
    """What ``@clew.model`` says, without the function.

    `params` are its keyword defaults, `files` the folders it learns from by name.
    """

    name: str
    dataset: DatasetDeclaration
    metric: MetricName
    margin: Margin
    minimum: Mapping[str, float] = field(default_factory=dict)
    slices: tuple[str, ...] = ()
    retrain: tuple[Trigger, ...] = (Trigger("auto"),)
    rollout: tuple[RolloutStep, ...] = ()
    not_features: tuple[str, ...] = ()
    train_window: Duration | int | None = None
    params: Mapping[str, Any] = field(default_factory=dict)
    time_limit: Duration = Duration(exact=timedelta(hours=1))
    memory_limit_bytes: int | None = None
    allow_code: bool = False
    min_requests: int = 20
    files: Mapping[str, str] = field(default_factory=dict)

    @property
    def task(self) -> Task:
        return "classification" if self.metric in ("accuracy", "log_loss") else "regression"


# -- datasets ----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Column:
    """A column of the declared schema; `type` is Arrow's spelling, such as ``int64`` or ``string``."""

    name: str
    type: str
    is_categorical: bool = False


@dataclass(frozen=True, slots=True)
class Part:
    """One Parquet file of a snapshot.

    Parts with the same `content` have the same rows: it is the digest of these, or for parts that say which
    `keys` they hold, in a hash of those, that of the file. `object_digest` names the file's bytes.
    """

    content: str
    object_digest: str
    n_rows: int
    keys: str | None = None


@dataclass(frozen=True, slots=True)
class KeyRun:
    """An object with the sorted fingerprints of some of a snapshot's keys."""

    object_digest: str
    n_keys: int


@dataclass(frozen=True, slots=True)
class KnownKeys:
    """Which keys a snapshot has, so that no other snapshot need read them: they ascend, or are in `runs`."""

    is_ascending: bool
    runs: tuple[KeyRun, ...] = ()


@dataclass(frozen=True, slots=True)
class Cuts:
    """Where a snapshot is cut: before rows whose `column` has the greatest hash within `reach` rows."""

    column: str
    reach: int


@dataclass(frozen=True, slots=True)
class Snapshot:
    """One immutable version of a dataset, named by its content, rows ordered by time and key.

    `blocks` are the digests its name is made of, one for every 65,536 rows, however they are cut into
    parts. `cuts` is None for a snapshot of format 0, whose parts are these blocks. `keys` is None where it
    is cheap to read them, and in snapshots older than the note.
    """

    dataset: str
    id: str
    columns: tuple[Column, ...]
    parts: tuple[Part, ...]
    n_rows: int
    first_time: datetime | None
    last_time: datetime | None
    taken_at: datetime
    source: str
    code: str | None = None
    declaration: DatasetDeclaration | None = None
    blocks: tuple[str, ...] = ()
    cuts: Cuts | None = None
    # What a snapshot is, it is without this.
    keys: KnownKeys | None = field(default=None, compare=False)


@dataclass(frozen=True, slots=True)
class FolderSnapshot:
    """One immutable version of a folder of files, named by its content.

    `manifest` is the object that lists its files, `packs` those that hold their contents.
    """

    dataset: str
    id: str
    manifest: str
    packs: tuple[str, ...]
    n_files: int
    n_bytes: int
    taken_at: datetime
    source: str


# -- tracking ----------------------------------------------------------------------------------------

RunStatus: TypeAlias = Literal["running", "finished", "failed"]


@dataclass(frozen=True, slots=True)
class Param:
    """A hyperparameter's value and where it came from."""

    value: Any
    source: Literal["default", "clew.toml", "command line", "api"]


@dataclass(frozen=True, slots=True)
class RowRange:
    """Rows ``start`` (inclusive) to ``end`` (exclusive) of a snapshot in its stored order."""

    start: int
    end: int

    def __len__(self) -> int:
        return self.end - self.start


@dataclass(frozen=True, slots=True)
class Run:
    """One execution of a training function. `key` is what makes repeating it idempotent.

    `rows` are runs of rows of the snapshot, in order: one, or more when some between were left out.
    `intervals` holds the 95 % interval of those metrics that have one.
    """

    id: str
    key: str
    model: str
    purpose: str
    status: RunStatus
    params: Mapping[str, Param]
    seed: int
    started_at: datetime
    ended_at: datetime | None
    dataset: str
    snapshot: str
    rows: tuple[RowRange, ...]
    code: str
    environment: str
    metrics: Mapping[str, float] = field(default_factory=dict)
    model_digest: str | None = None
    output: str | None = None
    error: str | None = None
    seconds: float | None = None
    peak_memory_bytes: int | None = None
    intervals: Mapping[str, tuple[float, float]] = field(default_factory=dict)


# -- registry ----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Version:
    """An immutable numbered package of a deployment (a live model, or a backtest's simulated one)."""

    deployment: str
    number: int
    model: str
    run: str
    package: str
    created_at: datetime
    flavor: str
    metrics: Mapping[str, float] = field(default_factory=dict)

    @property
    def name(self) -> str:
        return f"{self.deployment}@{self.number}"


Stage: TypeAlias = Literal["full", "shadow", "canary", "retired"]


@dataclass(frozen=True, slots=True)
class Route:
    """Which versions answer the requests of a deployment.

    In ``shadow`` the candidate is asked beside the champion and answers nobody; in ``canary`` it answers the
    `share` of requests that a hash with `salt` picks. `generation` grows with every change of any route.
    """

    deployment: str
    generation: int
    champion: int | None
    candidate: int | None = None
    stage: Stage = "full"
    share: float = 0.0
    salt: str = ""


@dataclass(frozen=True, slots=True)
class AuditEntry:
    """A change of state: who, when, why, on what evidence.

    Attributes
    ----------
    before, hash
        The hash of the row before, and the one of this row, which covers it: see `clew.storage.chain`.
    """

    sequence: int
    at: datetime
    actor: str
    action: str
    subject: str
    reason: str
    evidence: Json = field(default_factory=dict)
    before: str = ""
    hash: str = ""


# -- monitoring and the loop -------------------------------------------------------------------------

Level: TypeAlias = Literal["page", "ticket", "chart"]
Outcome: TypeAlias = Literal["pass", "fail", "undecided", "not tested"]


@dataclass(frozen=True, slots=True)
class Finding:
    """What a monitor measured in a window, with interval, sample size and method."""

    monitor: str
    level: Level
    subject: str
    window_start: datetime
    window_end: datetime
    found_at: datetime
    value: float
    lower: float
    upper: float
    n: int
    method: str
    sentence: str
    onset: datetime | None = None
    evidence: Json = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class GateCheck:
    """One check of the gate: its outcome, the numbers behind it and what they mean in words."""

    name: str
    outcome: Outcome
    sentence: str
    value: float | None = None
    lower: float | None = None
    upper: float | None = None
    limit: float | None = None
    n: int | None = None


@dataclass(frozen=True, slots=True)
class GateReport:
    """All checks a candidate went through, in order."""

    checks: tuple[GateCheck, ...]

    @property
    def outcome(self) -> Outcome:
        """``fail`` if any check failed, else ``undecided`` if any is, else ``pass``."""
        outcomes = [check.outcome for check in self.checks]
        worst_first: tuple[Outcome, ...] = ("fail", "undecided", "pass")
        return next((outcome for outcome in worst_first if outcome in outcomes), "not tested")


@dataclass(frozen=True, slots=True)
class Decision:
    """What the loop chose to do, when, on which findings and why; stored before anything acts."""

    kind: str
    at: datetime
    sentence: str
    evidence: Json = field(default_factory=dict)
    findings: tuple[str, ...] = ()
