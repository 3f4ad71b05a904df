"""Models made elsewhere come in: version 1 and champion, with a record of what is not known of them."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from importlib import import_module
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from clew.entities import Json, ModelDeclaration, Param, Route, RowRange, Version
from clew.errors import ClewError, UsageError, did_you_mean
from clew.registry import aliases, ensure_deployment, list_models, list_versions, register
from clew.registry.alias_moves import move_alias_within
from clew.registry.package_files import PROFILE_FILE, package_digest
from clew.registry.routes import move_route
from clew.registry.stored_packages import store_package
from clew.storage import Store
from clew.tracking import close_run, fail_run, open_run, this_owner
from clew.training import Child

PURPOSE = "import"
MOST_CLASSES = 1_000
"""A label with more values is a number."""


@dataclass(frozen=True, slots=True)
class Adoption:
    """A model that came in: which version it is, and what was found out about it.

    Attributes
    ----------
    kind
        What the file was, such as ``LightGBM text`` or ``pickle``; `version` says what it is kept as.
    is_declared
        Whether the project declares the model; only then requests are answered over HTTP.
    n_profile_rows
        How many rows its reference profile counts; 0 without one.
    """

    version: Version
    source: str
    digest: str
    kind: str
    columns: tuple[str, ...]
    n_profile_rows: int
    is_declared: bool
    is_new: bool


def source_digest(path: Path) -> str:
    """SHA-256 of a file, or of the list of a folder's files."""
    if path.is_dir():
        return package_digest(path)
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def located(source: str, where: Path, scratch: Path) -> Path:
    """The file or folder that a source names; what lies in a registry is fetched into `scratch`.

    Raises
    ------
    UsageError
        When nothing is there, or MLflow's registry is named and MLflow is not installed.
    """
    uri = source.removeprefix("mlflow:")
    if source.startswith("mlflow:") and re.match(r"[a-z-]+:/", uri):
        return _from_registry(uri, scratch)
    path = (where / uri).resolve()
    if not path.exists():
        raise UsageError(f"There is no {path}. Name the model's file, or its folder as mlflow:FOLDER.")
    return path


def _from_registry(uri: str, scratch: Path) -> Path:
    try:
        artifacts: Any = import_module("mlflow.artifacts")
    except ModuleNotFoundError:
        raise UsageError(
            f"Reading {uri} needs MLflow, which is not installed. Run: pip install mlflow-skinny; or where it"
            f" is installed: mlflow artifacts download --artifact-uri {uri} --dst-path FOLDER; and then here:"
            " clew models import NAME mlflow:FOLDER"
        ) from None
    try:
        return Path(artifacts.download_artifacts(artifact_uri=uri, dst_path=str(scratch)))
    # MLflow's own errors, and those of whatever it reads from.
    except Exception as error:
        raise UsageError(f"MLflow cannot give {uri}: {type(error).__name__}: {error}") from error


def asked_of(declaration: ModelDeclaration | None, tables: Sequence[pa.Table], label: str | None) -> Json:
    """What is known about a model before it is read: declared, or seen in rows.

    Raises
    ------
    UsageError
        When the rows have no such label.
    """
    name = label if declaration is None else declaration.dataset.label
    if label is not None and any(label not in table.column_names for table in tables):
        raise UsageError(f"The rows have no column {label!r}. {did_you_mean(label, tables[-1].column_names)}")
    labels = tables[-1][name] if tables and name in tables[-1].column_names else None
    return {
        "frame": "pandas" if declaration is None else declaration.dataset.frame,
        "task": None if declaration is None else declaration.task,
        "label": name,
        "classes": None if labels is None else _classes(labels),
        "categorical": None,
        "allow_code": declaration is not None and declaration.allow_code,
    }


def _classes(labels: pa.ChunkedArray) -> list[Any] | None:
    values = [value for value in pc.unique(labels).to_pylist() if value is not None and value == value]
    return sorted(values) if len(values) <= MOST_CLASSES else None


def features_of(table: pa.Table, declaration: ModelDeclaration | None) -> pa.Table:
    """The rows without what a model is never given; the label stays, and is taken out by its name."""
    if declaration is None:
        return table
    dataset = declaration.dataset
    others = {dataset.time, dataset.key, dataset.entity, *dataset.not_features, *declaration.not_features}
    return table.drop_columns([name for name in table.column_names if name in others])


def adopt(
    store: Store,
    child: Child,
    name: str,
    path: Path,
    *,
    source: str,
    declaration: ModelDeclaration | None,
    asked: Json,
    tables: Sequence[pa.Table],
    code: str,
    environment: str,
    actor: str,
    reason: str,
    now: datetime,
) -> Adoption:
    """Package the model in `path`, and make it version 1 and champion of `name`.

    Repeating it with the same file is harmless, and finishes what broke off.

    Parameters
    ----------
    source
        The file as people named it.
    asked
        What the child is to know; see `clew.training.adopting.adopt`.
    tables
        Rows that show the columns, and those of the reference profile.

    Raises
    ------
    UsageError
        When the model has versions of its own already.
    PackageError
        When the file cannot be read, or may not.
    """
    digest = source_digest(path)
    _refuse_with_versions(store, name, digest)
    params = {
        "source": Param(source, "command line"),
        "sha256": Param(digest, "command line"),
        "by": Param(actor, "command line"),
    }
    run, is_new = open_run(
        store, key=f"{PURPOSE}/{name}/{digest}", model=name, purpose=PURPOSE, params=params, seed=0,
        snapshot="", dataset="", rows=RowRange(0, 0), code=code, environment=environment, now=now,
    )  # fmt: skip
    try:
        with store.scratch("import") as folder:
            found = child.adopt(
                {**asked, "path": str(path), "folder": str(folder / "package"), "run": run.id}, tables
            )
            package = store_package(store, folder / "package")
            profile = folder / "package" / PROFILE_FILE
            profile_digest = store.objects.put(profile.read_bytes()) if profile.is_file() else None
    except (ClewError, KeyboardInterrupt) as error:
        if is_new:
            told = "interrupted" if isinstance(error, KeyboardInterrupt) else str(error)
            fail_run(store, run.id, error=told, output=None, now=now)
        raise
    if is_new:
        close_run(
            store, run.id, metrics={}, model_digest=found["model_digest"], output=None, seconds=None,
            peak_memory_bytes=None, now=now, owner=this_owner(),
        )  # fmt: skip
    if declaration is not None or name not in {each.deployment for each in list_models(store, None)}:
        ensure_deployment(store, name, "live", name, declaration, now, actor)
    version = register(
        store, deployment=name, model=name, run=run.id, package=package, flavor=found["flavor"], metrics={},
        profile_digest=profile_digest, now=now, actor=actor, reason=reason,
    )  # fmt: skip
    _put_in_office(store, version, source, digest, actor, reason, now)
    return Adoption(
        version=version, source=source, digest=digest, kind=found["kind"], columns=tuple(found["columns"]),
        n_profile_rows=found["n_profile_rows"], is_declared=declaration is not None, is_new=is_new,
    )  # fmt: skip


def _refuse_with_versions(store: Store, name: str, digest: str) -> None:
    if name not in {each.deployment for each in list_models(store, None)}:
        return
    versions = list_versions(store, name)
    with store.read() as reader:
        mine = reader.get("runs", key=f"{PURPOSE}/{name}/{digest}")
    if versions and (mine is None or versions[0].run != mine["id"] or len(versions) > 1):
        raise UsageError(
            f"{name!r} has {len(versions)} versions already; an imported model is the first of its name. Give"
            f" it another name, or see those that there are: clew models show {name}"
        )


def _put_in_office(
    store: Store, version: Version, source: str, digest: str, actor: str, reason: str, now: datetime
) -> None:
    name, there = version.deployment, aliases(store, version.deployment)
    evidence = {"imported": source, "sha256": digest, "training": "unknown"}
    with store.write() as tx:
        for alias in ("champion", "anchor"):
            move_alias_within(
                tx, name, alias, version.number, expected=there.get(alias), actor=actor, reason=reason,
                evidence=evidence, now=now,
            )  # fmt: skip
        move_route(tx, Route(name, 0, version.number), now, actor=actor, reason=reason)
