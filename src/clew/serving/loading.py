"""From rows of the store to a routing table: packages are fetched, opened and warmed beside the requests."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from clew.entities import Column, DatasetDeclaration, Route, Version
from clew.errors import ClewError
from clew.registry import fetch_package, get_version
from clew.registry.package_checks import needs_code, read_own, version_changes
from clew.registry.package_files import EXAMPLE_FILE
from clew.registry.routes import list_routes, routing_generation
from clew.registry.row_models import RowModel, open_row_model
from clew.serving.answering import LoadedVersion
from clew.serving.columns import Columns
from clew.serving.routing_table import RoutingTable, Served
from clew.tracking import fetch_code, get_run

if TYPE_CHECKING:
    from clew.storage import Reader, Store

log = logging.getLogger("clew.serving")

N_TIMED = 10


@dataclass(frozen=True, slots=True)
class Wanted:
    """What the store says should be served, read at one moment.

    Attributes
    ----------
    packages
        Digest by deployment and number, of the versions that routes name.
    """

    generation: int
    tokens: tuple[tuple[str, str], ...]
    declarations: Mapping[str, Any]
    schemas: Mapping[str, tuple[Column, ...]]
    routes: Mapping[str, Route]
    packages: Mapping[tuple[str, int], str]


def read_mark(store: Store) -> tuple[Any, ...]:
    """What changes whenever `read_wanted` would: the generation, the tokens, how many models there are."""
    with store.read() as reader:
        return routing_generation(reader), _tokens(reader), reader.count("deployments", {"kind": "live"})


def read_wanted(store: Store) -> Wanted:
    with store.read() as reader:
        declarations = {
            row["name"]: row["declaration"]
            for row in reader.find("deployments", {"kind": "live"})
            if row["declaration"] is not None
        }
        routes = {route.deployment: route for route in list_routes(reader)}
        schemas = {
            row["name"]: msgspec.convert(row["columns"] or (), tuple[Column, ...])
            for row in reader.find("datasets")
        }
        named = {
            (route.deployment, number)
            for route in routes.values()
            for number in (route.champion, route.candidate)
            if number is not None
        }
        packages = {}
        for deployment, number in sorted(named):
            row = reader.get("versions", deployment=deployment, number=number)
            if row is not None:
                packages[deployment, number] = row["package"]
        return Wanted(routing_generation(reader), _tokens(reader), declarations, schemas, routes, packages)


def _tokens(reader: Reader) -> tuple[tuple[str, str], ...]:
    return tuple((row["digest"], row["name"]) for row in reader.find("tokens", {"revoked_at": None}))


class Loader:
    """Makes routing tables, keeping the versions that are loaded already.

    Attributes
    ----------
    failures
        What could not be loaded at the last time, by ``deployment@version``.
    """

    def __init__(
        self, store: Store, scratch: Path, project_root: Path, clock: Callable[[], datetime]
    ) -> None:
        self._store, self._scratch, self._project_root = store, scratch, project_root
        self._clock = clock
        self._loaded: dict[str, LoadedVersion] = {}
        self.failures: dict[str, str] = {}

    def table(self, wanted: Wanted, before: RoutingTable) -> RoutingTable:
        """The table that the store asks for; where a version cannot be loaded, what `before` served."""
        self.failures = {}
        deployments = {
            name: self._served(name, declaration, wanted, before.deployments.get(name))
            for name, declaration in wanted.declarations.items()
        }
        self._forget_unused(deployments)
        return RoutingTable(wanted.generation, deployments, wanted.tokens)

    def _served(self, name: str, declaration: Any, wanted: Wanted, before: Served | None) -> Served:
        route = wanted.routes.get(name)
        dataset = msgspec.convert(declaration["dataset"], DatasetDeclaration)
        schema = wanted.schemas.get(dataset.name, ())
        columns = Columns.of(dataset, schema)
        served = Served(name, columns, columns.others, route)
        if route is None or route.champion is None or route.stage == "retired":
            return served
        champion = self._version(name, route.champion, wanted)
        candidate = None if route.candidate is None else self._version(name, route.candidate, wanted)
        if champion is None or (route.candidate is not None and candidate is None):
            if before is not None and before.champion is not None:
                return replace(before, columns=columns)
            failure = self.failures.get(f"{name}@{route.champion}")
            served = replace(served, failure=failure and failure.rstrip("."))
        names = _with_features(columns.others, champion, candidate)
        return replace(served, names=names, champion=champion, candidate=candidate)

    def _version(self, deployment: str, number: int, wanted: Wanted) -> LoadedVersion | None:
        name = f"{deployment}@{number}"
        try:
            if (deployment, number) not in wanted.packages:
                raise ClewError(f"The registry has no version {number} of {deployment!r}.")
            digest = wanted.packages[deployment, number]
            known = self._loaded.get(name)
            if known is None or known.package != digest:
                known = self._loaded[name] = self._open(deployment, number, digest)
            return known
        # A package runs code of several libraries, and whatever fails in them, requests go on.
        except Exception as error:
            log.exception("a version cannot be loaded", extra={"version": name})
            sentence = str(error) if isinstance(error, ClewError) else f"{type(error).__name__}: {error}"
            self.failures[name] = sentence
            return None

    def _open(self, deployment: str, number: int, digest: str) -> LoadedVersion:
        folder = self._scratch / digest
        fetch_package(self._store, digest, folder)
        if needs_code(read_own(folder)) or version_changes(folder):
            model = self._elsewhere(deployment, number, folder, digest)
        else:
            model = open_row_model(folder, expected_digest=digest)
        version = LoadedVersion(deployment, number, digest, model)
        warm(version, folder)
        return version

    def _elsewhere(self, deployment: str, number: int, folder: Path, digest: str) -> RowModel:
        """A version that needs the project's code, or was made with other releases of its libraries."""
        # Imported when they are needed: they bring Arrow into the worker.
        from clew.serving.own_code import OwnCode, OwnCodeRows
        from clew.serving.upgrades import python_for

        version = get_version(self._store, deployment, number)
        code = self._code_of(version)
        python = python_for(self._store, version, folder, code, self._project_root, self._clock())
        if python is None and not needs_code(read_own(folder)):
            return open_row_model(folder, expected_digest=digest)
        return RowModel(OwnCodeRows(OwnCode(folder, digest, code, self._project_root, python)), folder)

    def _code_of(self, version: Version) -> Path:
        run = get_run(self._store, version.run)
        code = self._scratch / f"code-{run.code or 'none'}"
        if run.code:
            fetch_code(self._store, run.code, code)
        else:  # made elsewhere, and without need of code
            code.mkdir(exist_ok=True)
        return code

    def _forget_unused(self, deployments: Mapping[str, Served]) -> None:
        """Keep what is served, and of each deployment the newest few besides: a rollback finds them."""
        used = {
            version.name
            for served in deployments.values()
            for version in (served.champion, served.candidate)
            if version is not None
        }
        for deployment in {version.deployment for version in self._loaded.values()}:
            idle = [v for v in self._loaded.values() if v.deployment == deployment and v.name not in used]
            for version in sorted(idle, key=lambda v: v.number)[:-2]:
                del self._loaded[version.name]


def warm(version: LoadedVersion, folder: Path) -> None:
    """Ask the version about the package's own example, so that no caller meets its slow first answer.

    Raises
    ------
    Exception
        Whatever the model raises: a version that cannot answer its own example is not served.
    """
    example = json.loads((folder / EXAMPLE_FILE).read_bytes())
    rows = [dict(zip(example["columns"], values, strict=True)) for values in example["data"]]
    for row in rows:
        version.ask([row])
    version.seconds_per_row = 0.0  # the first answers build what later ones use
    for turn in range(N_TIMED if rows else 0):
        version.ask([rows[turn % len(rows)]])


def _with_features(others: tuple[str, ...], *versions: LoadedVersion | None) -> tuple[str, ...]:
    """The dataset's columns, and after them features that only a version knows of."""
    names = dict.fromkeys(others)
    for version in versions:
        if version is not None:
            names |= dict.fromkeys(version.model.names)
    return tuple(names)
