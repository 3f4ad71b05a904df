"""Which tables a store has.

Times are kept as ISO-8601 text in UTC with microseconds, so that they sort as text and read well in
any SQLite shell; JSON is kept as text. On PostgreSQL text sorts by code point (collation ``C``), as it
does on SQLite, so that both answer in the same order.

A change here needs a migration in ``clew/storage/migrations/versions`` and a higher ``STORE_VERSION``.
"""

from __future__ import annotations

import math
from datetime import UTC, datetime
from typing import Any

import msgspec
from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Dialect,
    Float,
    Index,
    Integer,
    MetaData,
    Table,
    Text,
    TypeDecorator,
    UniqueConstraint,
)
from sqlalchemy.types import UserDefinedType

STORE_VERSION = 8


def stored_time(moment: datetime) -> str:
    """The text a time is kept as.

    Examples
    --------
    >>> stored_time(datetime(2026, 3, 1, 12, tzinfo=UTC))
    '2026-03-01T12:00:00.000000Z'
    """
    if moment.utcoffset() is None:
        raise ValueError(f"{moment!r} has no zone; stored times are aware")
    return moment.astimezone(UTC).replace(tzinfo=None).isoformat(timespec="microseconds") + "Z"


def _plain(value: Any) -> Any:
    # Only NumPy's scalars and arrays get here; they turn into Python's own.
    if hasattr(value, "tolist"):
        return value.tolist()
    raise TypeError(f"a JSON column cannot hold {value!r} of type {type(value).__name__}")


def as_stored(value: Any) -> Any:
    """Plain data as it comes back from a JSON column.

    Examples
    --------
    >>> as_stored({"rows": (1, 2), "level": float("nan")})
    {'rows': [1, 2], 'level': None}
    """
    return msgspec.json.decode(msgspec.json.encode(value, enc_hook=_plain))


class SortedText(TypeDecorator[str]):
    """Text that sorts by code point in every database."""

    impl = Text
    cache_ok = True

    def load_dialect_impl(self, dialect: Dialect) -> Any:
        return Text(collation="C" if dialect.name == "postgresql" else None)

    def process_bind_param(self, value: str | None, dialect: Dialect) -> str | None:
        # PostgreSQL has no NUL in text, and what a user's program printed may hold one.
        return value.replace("\0", "␀") if value and dialect.name == "postgresql" else value


class UtcTime(TypeDecorator[datetime]):
    """An aware time, kept as sortable text."""

    impl = SortedText
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> str | None:  # noqa: ARG002
        return None if value is None else stored_time(value)

    def process_result_value(self, value: str | None, dialect: Dialect) -> datetime | None:  # noqa: ARG002
        return None if value is None else datetime.fromisoformat(value)


class JsonText(TypeDecorator[Any]):
    """Plain data, kept as JSON text. JSON has no NaN and no infinity: they come back as None."""

    impl = Text
    cache_ok = True

    def process_bind_param(self, value: Any, dialect: Dialect) -> str | None:  # noqa: ARG002
        return None if value is None else msgspec.json.encode(value, enc_hook=_plain).decode()

    def process_result_value(self, value: str | None, dialect: Dialect) -> Any:  # noqa: ARG002
        return None if value is None else msgspec.json.decode(value)


class _SqliteFloat(UserDefinedType[Any]):
    """SQLAlchemy's own Float would turn the text ``nan`` into a float before SQLite sees it."""

    cache_ok = True

    def get_col_spec(self, **_options: Any) -> str:
        return "FLOAT"


class Number(TypeDecorator[float]):
    """A float that keeps NaN: SQLite would turn it into null, so there it is kept as the text ``nan``."""

    impl = Float(53)
    cache_ok = True

    def load_dialect_impl(self, dialect: Dialect) -> Any:
        return dialect.type_descriptor(_SqliteFloat() if dialect.name == "sqlite" else Float(53))

    def process_bind_param(self, value: Any, dialect: Dialect) -> Any:
        if value is None:
            return None
        number = float(value)
        return "nan" if dialect.name == "sqlite" and math.isnan(number) else number

    def process_result_value(self, value: Any, dialect: Dialect) -> float | None:  # noqa: ARG002
        return None if value is None else float(value)


metadata = MetaData()


def _text(name: str, **options: Any) -> Column[Any]:
    return Column(name, SortedText(), **options)


def _key(name: str) -> Column[Any]:
    return Column(name, SortedText(), primary_key=True, nullable=False)


def _sequence_key(name: str) -> Column[Any]:
    return Column(name, BigInteger(), primary_key=True, nullable=False, autoincrement=False)


def _time(name: str, **options: Any) -> Column[Any]:
    return Column(name, UtcTime(), **options)


def _json(name: str) -> Column[Any]:
    return Column(name, JsonText())


def _integer(name: str, **options: Any) -> Column[Any]:
    return Column(name, BigInteger(), **options)


def _number(name: str) -> Column[Any]:
    return Column(name, Number())


meta = Table("meta", metadata, _key("key"), _text("value"))

datasets = Table(
    "datasets",
    metadata,
    _key("name"),
    _json("columns"),
    _integer("schema_version"),
    _json("declaration"),
    _text("code"),
    _time("created_at", nullable=False),
    _json("schemas"),
)
snapshots = Table(
    "snapshots",
    metadata,
    _key("dataset"),
    _key("id"),
    _json("columns"),
    _json("parts"),
    _integer("n_rows", nullable=False),
    _time("first_time"),
    _time("last_time"),
    _time("taken_at", nullable=False),
    _text("source"),
    _text("code"),
    _json("declaration"),
    _integer("format", nullable=False),
    _json("blocks"),
    _json("cuts"),
    _json("keys"),
    Index("snapshots_by_id", "id"),
)
snapshot_log = Table(
    "snapshot_log",
    metadata,
    _key("dataset"),
    _sequence_key("sequence"),
    _text("snapshot", nullable=False),
    _time("taken_at", nullable=False),
    _text("source"),
)
folder_snapshots = Table(
    "folder_snapshots",
    metadata,
    _key("dataset"),
    _key("id"),
    _text("manifest", nullable=False),
    _json("packs"),
    _integer("n_files", nullable=False),
    _integer("n_bytes", nullable=False),
    _time("taken_at", nullable=False),
    _text("source"),
    _integer("format", nullable=False),
    Index("folder_snapshots_by_id", "id"),
)
folder_log = Table(
    "folder_log",
    metadata,
    _key("dataset"),
    _sequence_key("sequence"),
    _text("snapshot", nullable=False),
    _time("taken_at", nullable=False),
    _text("source"),
)
code_trees = Table(
    "code_trees",
    metadata,
    _key("id"),
    _text("manifest", nullable=False),
    _text("commit"),
    Column("is_dirty", Boolean()),
    _integer("n_files"),
    _integer("n_bytes"),
    _time("captured_at", nullable=False),
    _json("skipped"),
)
environments = Table(
    "environments",
    metadata,
    _key("id"),
    _text("detail", nullable=False),
    _time("captured_at", nullable=False),
)
runs = Table(
    "runs",
    metadata,
    _key("id"),
    _text("key", nullable=False, unique=True),
    _text("model", nullable=False),
    _text("purpose", nullable=False),
    _text("status", nullable=False),
    _json("params"),
    _integer("seed"),
    _time("started_at", nullable=False),
    _time("ended_at"),
    _text("dataset"),
    _text("snapshot"),
    _json("rows"),
    _text("code"),
    _text("environment"),
    _json("metrics"),
    _text("model_digest"),
    _text("output"),
    _text("error"),
    _number("seconds"),
    _integer("peak_memory_bytes"),
    _text("owner"),
    _integer("attempt"),
    _json("intervals"),
    Index("runs_by_model", "model", "started_at"),
    Index("runs_by_purpose", "purpose"),
    Index("runs_by_start", "started_at"),
    Index("runs_by_status", "status", "started_at"),
)
run_values = Table(
    "run_values",
    metadata,
    _key("run"),
    _key("kind"),
    _key("name"),
    _text("text"),
    _number("number"),
    Index("run_values_by_number", "kind", "name", "number", "run"),
    Index("run_values_by_text", "kind", "name", "text", "run"),
)
run_notes = Table(
    "run_notes",
    metadata,
    _key("run"),
    _sequence_key("number"),
    _text("text", nullable=False),
    _text("actor", nullable=False),
    _time("at", nullable=False),
)
run_artifacts = Table(
    "run_artifacts",
    metadata,
    _key("run"),
    _key("name"),
    _text("digest", nullable=False),
    _integer("n_bytes", nullable=False),
    _time("at", nullable=False),
)
run_metrics = Table(
    "run_metrics",
    metadata,
    _key("run"),
    _sequence_key("sequence"),
    _text("name", nullable=False),
    _integer("step"),
    _number("value"),
    _time("at"),
)
deployments = Table(
    "deployments",
    metadata,
    _key("name"),
    _text("kind", nullable=False),
    _text("model", nullable=False),
    _json("declaration"),
    _time("created_at", nullable=False),
)
versions = Table(
    "versions",
    metadata,
    _key("deployment"),
    _sequence_key("number"),
    _text("model", nullable=False),
    _text("run", nullable=False),
    _text("package", nullable=False),
    _time("created_at", nullable=False),
    _text("flavor", nullable=False),
    _json("metrics"),
    _json("gate"),
    _text("profile"),
    UniqueConstraint("deployment", "run", name="versions_one_a_run"),
)
upgrade_checks = Table(
    "upgrade_checks",
    metadata,
    _key("id"),
    _text("deployment", nullable=False),
    _integer("version", nullable=False),
    _text("verdict", nullable=False),
    _text("sentence", nullable=False),
    _time("checked_at", nullable=False),
)
aliases = Table(
    "aliases",
    metadata,
    _key("deployment"),
    _key("alias"),
    _integer("number"),
    _integer("generation", nullable=False),
    _time("moved_at", nullable=False),
)
audit = Table(
    "audit",
    metadata,
    Column("sequence", BigInteger().with_variant(Integer(), "sqlite"), primary_key=True, autoincrement=True),
    _time("at", nullable=False),
    _text("actor", nullable=False),
    _text("action", nullable=False),
    _text("subject", nullable=False),
    _text("reason"),
    _json("evidence"),
    _text("before", nullable=False),
    _text("hash", nullable=False),
    Index("audit_by_subject", "subject", "sequence"),
    sqlite_autoincrement=True,
)
findings = Table(
    "findings",
    metadata,
    _key("id"),
    _text("deployment", nullable=False),
    _text("monitor", nullable=False),
    _text("level", nullable=False),
    _text("subject", nullable=False),
    _time("window_start"),
    _time("window_end"),
    _time("found_at", nullable=False),
    _number("value"),
    _number("lower"),
    _number("upper"),
    _integer("n"),
    _text("method"),
    _text("sentence"),
    _time("onset"),
    _json("evidence"),
    Index("findings_by_time", "deployment", "found_at"),
)
decisions = Table(
    "decisions",
    metadata,
    _key("id"),
    _text("deployment", nullable=False),
    _text("kind", nullable=False),
    _time("at", nullable=False),
    _integer("sequence", nullable=False),
    _text("sentence"),
    _json("evidence"),
    _json("findings"),
    Index("decisions_in_order", "deployment", "sequence"),
)
jobs = Table(
    "jobs",
    metadata,
    _key("id"),
    _text("key", nullable=False, unique=True),
    _text("kind", nullable=False),
    _text("deployment"),
    _text("step"),
    _text("status", nullable=False),
    _json("state"),
    _text("result"),
    _text("error"),
    _text("lease_owner"),
    _time("lease_until"),
    _time("created_at", nullable=False),
    _time("updated_at", nullable=False),
)
edges = Table(
    "edges",
    metadata,
    _key("from_kind"),
    _key("from_id"),
    _key("relation"),
    _key("to_kind"),
    _key("to_id"),
    Index("edges_backwards", "to_kind", "to_id"),
)
routes = Table(
    "routes",
    metadata,
    _key("deployment"),
    _integer("generation", nullable=False),
    _integer("champion"),
    _integer("candidate"),
    _text("stage", nullable=False),
    _number("share"),
    _text("salt"),
    _time("moved_at", nullable=False),
)
workers = Table(
    "workers",
    metadata,
    _sequence_key("id"),
    _text("owner", nullable=False),
    _integer("generation"),
    _json("failures"),
    _time("started_at", nullable=False),
    _time("ended_at"),
    Index("workers_running", "ended_at"),
)
log_segments = Table(
    "log_segments",
    metadata,
    _sequence_key("worker"),
    _sequence_key("segment"),
    _text("path", nullable=False),
    _integer("n_bytes"),
    _integer("n_records"),
    _json("parts"),
    _time("compacted_at"),
)
log_parts = Table(
    "log_parts",
    metadata,
    _key("deployment"),
    _key("kind"),
    _key("day"),
    _key("object_digest"),
    _integer("n_rows", nullable=False),
    _integer("n_bytes", nullable=False),
    _time("first_time"),
    _time("last_time"),
)
tokens = Table(
    "tokens",
    metadata,
    _key("name"),
    _text("digest", nullable=False, unique=True),
    _time("created_at", nullable=False),
    _time("revoked_at"),
)
commands = Table(
    "commands",
    metadata,
    _key("id"),
    _text("deployment", nullable=False),
    _text("verb", nullable=False),
    _json("arguments"),
    _text("actor", nullable=False),
    _text("reason"),
    _text("status", nullable=False),
    _json("result"),
    _time("asked_at", nullable=False),
    _time("done_at"),
    Index("commands_waiting", "status", "asked_at"),
)
notices = Table(
    "notices",
    metadata,
    _key("id"),
    _text("channel", nullable=False),
    _text("level", nullable=False),
    _text("deployment"),
    _json("payload"),
    _text("status", nullable=False),
    _integer("attempts", nullable=False),
    _time("next_attempt_at"),
    _text("last_error"),
    _time("created_at", nullable=False),
    _time("sent_at"),
    Index("notices_due", "status", "next_attempt_at"),
)
checkpoints = Table(
    "checkpoints",
    metadata,
    _key("deployment"),
    _integer("tick", nullable=False),
    _time("at", nullable=False),
    _time("next_tick"),
    _text("state", nullable=False),
    _json("positions"),
    _text("status", nullable=False),
)
batches = Table(
    "batches",
    metadata,
    _key("id"),
    _text("deployment", nullable=False),
    _integer("version", nullable=False),
    _text("source"),
    _text("source_digest"),
    _text("destination"),
    _text("destination_digest"),
    _integer("n_rows"),
    _text("actor"),
    _text("status", nullable=False),
    _time("started_at", nullable=False),
    _time("ended_at"),
    _text("error"),
    Index("batches_by_time", "deployment", "started_at"),
)
