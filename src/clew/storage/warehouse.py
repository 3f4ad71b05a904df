"""Reading a database of the user's: a query in, a table out, nothing written and no password told."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
from sqlalchemy import URL, Connection, Engine, create_engine, make_url
from sqlalchemy.exc import ArgumentError, DBAPIError, NoSuchModuleError, SQLAlchemyError
from sqlalchemy.pool import NullPool

from clew.errors import DataError, MissingExtra, SettingsError

_ROWS_AT_ONCE = 65_536


def read_query(name: str, url: str, query: str, root: Path) -> pa.Table:
    """Run a query in a transaction that only reads, and return its rows.

    The query goes to the database as it is: nothing in it is taken for a parameter.

    Parameters
    ----------
    name
        What the connection is called, for messages.
    url
        A database URL; the file of a SQLite one is relative to `root`.

    Raises
    ------
    DataError
        When the database cannot be reached or refuses the query, or there are no rows.
    SettingsError
        When the URL cannot be used.
    """
    place = _place(name, url, root)
    with _explained(name, place), _connected(place) as connection:
        pieces = list(_pieces(name, connection, query))
    if not pieces:
        raise DataError(f"The query of {name!r} found no rows.")
    return _joined(name, pieces)


def _pieces(name: str, connection: Connection, query: str) -> Iterator[pa.Table]:
    with connection.exec_driver_sql(query) as result:
        if not result.returns_rows:
            raise DataError(f"The query of {name!r} returns no rows: it is no SELECT.")
        names = list(result.keys())
        twice = next((each for each in names if names.count(each) > 1), None)
        if twice is not None:
            raise DataError(f"The query of {name!r} returns two columns named {twice!r}. Name one with AS.")
        yield from (_table(name, names, rows) for rows in result.partitions(_ROWS_AT_ONCE))


def _place(name: str, url: str, root: Path) -> URL:
    try:
        place = make_url(url)
    except ArgumentError:
        raise SettingsError(f"clew.toml: connections.{name} is no database URL.") from None
    if place.drivername == "sqlite" and place.database:
        file = root / place.database
        if not file.is_file():
            raise DataError(f"Connection {name!r} is the SQLite file {file}, which does not exist.")
        return place.set(database=f"file:{file}", query={"mode": "ro", "uri": "true"})
    if place.drivername in ("postgresql", "postgres"):
        return place.set(drivername="postgresql+psycopg")
    return place


@contextmanager
def _connected(place: URL) -> Iterator[Connection]:
    engine: Engine = create_engine(place, poolclass=NullPool)
    options: dict[str, Any] = {"no_parameters": True, "stream_results": True}
    if engine.dialect.name == "postgresql":
        options |= {"isolation_level": "REPEATABLE READ", "postgresql_readonly": True}
    try:
        with engine.connect().execution_options(**options) as connection:
            yield connection
    finally:
        engine.dispose()


@contextmanager
def _explained(name: str, place: URL) -> Iterator[None]:
    try:
        yield
    except NoSuchModuleError:
        raise SettingsError(
            f"clew.toml: connections.{name} names the kind of database {place.drivername!r}, which nothing"
            " that is installed can reach. Known are sqlite and postgresql."
        ) from None
    except ModuleNotFoundError as error:
        if place.drivername.startswith("postgresql"):
            raise MissingExtra("psycopg", "postgres", f"connection {name!r}") from None
        raise SettingsError(
            f"clew.toml: connections.{name} needs the package {error.name!r}, which is not installed."
        ) from None
    except (DBAPIError, SQLAlchemyError) as error:
        said = str(error.orig if isinstance(error, DBAPIError) else error).strip() or type(error).__name__
        said = " ".join(said.split())
        if place.password:
            said = said.replace(str(place.password), "***")
        # Without what caused it: a traceback of the driver may show the URL.
        raise DataError(f"Connection {name!r} ({_shown(place)}) failed: {said.rstrip('.')}.") from None


def _shown(place: URL) -> str:
    if place.drivername == "sqlite":
        return str(place.database).removeprefix("file:")
    return "/".join(filter(None, [place.get_backend_name(), place.host, place.database]))


def _table(name: str, names: list[str], rows: Any) -> pa.Table:
    columns = zip(*rows, strict=True)
    return pa.table(
        {column: _array(name, column, values) for column, values in zip(names, columns, strict=True)}
    )


def _array(name: str, column: str, values: tuple[Any, ...]) -> pa.Array:
    try:
        return pa.array([_plain(value) for value in values])
    except (pa.ArrowInvalid, pa.ArrowTypeError, pa.ArrowNotImplementedError, OverflowError) as error:
        raise DataError(
            f"Column {column!r} of the query of {name!r} cannot be kept: {str(error).splitlines()[0]}."
            " Convert it in the query with CAST.",
            column=column,
        ) from None


def _plain(value: Any) -> Any:
    if isinstance(value, Decimal):
        return (
            int(value)
            if value == value.to_integral_value() and value.as_tuple().exponent == 0
            else float(value)
        )
    return str(value) if isinstance(value, uuid.UUID) else value


def _joined(name: str, pieces: list[pa.Table]) -> pa.Table:
    try:
        return pa.concat_tables(pieces, promote_options="permissive")
    except (pa.ArrowInvalid, pa.ArrowTypeError) as error:
        raise DataError(
            f"The query of {name!r} returns values of several types in one column:"
            f" {str(error).splitlines()[0]}. Convert it in the query with CAST."
        ) from None
