"""Every error Clew raises on purpose.

::

    ClewError
    ├── UsageError              what was asked for makes no sense
    │   ├── DeclarationError    @clew.dataset or @clew.model was given something it cannot use
    │   ├── SettingsError       clew.toml or the environment has a wrong setting
    │   └── ProjectError        the project cannot be found or imported
    ├── NotFound                a name or id that does not exist
    │   └── Erased              a record that was erased, as a person asked for
    ├── NotAuthorised           a request has no token, or one that does not count
    ├── Forbidden               a request comes by a name or from a page that may not ask
    ├── Conflict                somebody else was faster
    │   └── AliasMoved          somebody else moved an alias in the meantime
    ├── DataError               the table contradicts what was declared
    ├── TrainingFailed          the user's function raised, hung, was killed or returned nothing usable
    ├── PackageError            a model cannot be packaged or loaded
    ├── StoreError              the store cannot be opened or written
    │   ├── StoreTooNew         a newer Clew wrote it
    │   ├── StoreBusy           another process holds it
    │   ├── LogFailed           the prediction log cannot be written
    │   └── ObjectDamaged       stored bytes are not what their name says
    ├── EnvironmentNotMade      a recorded environment cannot be made again
    ├── SignatureRefused        what was received is not signed as it should be, or is an old one
    └── MissingExtra            an optional package is not installed

A message says what happened with the values, what there is instead, and what to do. Programs read the
attributes; `exit_code` is what the command line ends with.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from datetime import datetime


class ClewError(Exception):
    """Base of every error Clew raises on purpose; catch this to catch them all."""

    error_code = "INTERNAL_ERROR"
    http_status = 500
    exit_code = 1


class UsageError(ClewError):
    """What was asked for makes no sense; nothing was done."""

    error_code = "INVALID_PARAMETER_VALUE"
    http_status = 400
    exit_code = 2


class DeclarationError(UsageError):
    """``@clew.dataset`` or ``@clew.model`` was given something it cannot use."""


class SettingsError(UsageError):
    """``clew.toml`` or an environment variable has a wrong setting."""


class ProjectError(UsageError):
    """The project cannot be found or its files cannot be imported.

    Attributes
    ----------
    traceback
        The user's own traceback, starting in the user's file; empty when there is none.
    """

    def __init__(self, message: str, traceback: str = "") -> None:
        self.traceback = traceback
        super().__init__(message)


class NotFound(ClewError):
    """A name or id that does not exist."""

    error_code = "RESOURCE_DOES_NOT_EXIST"
    http_status = 404


class Erased(NotFound):
    """A record that was erased at `at`: the message says by whom and why."""

    def __init__(self, message: str, at: datetime) -> None:
        self.at = at
        super().__init__(message)


class NotAuthorised(ClewError):
    """A request has no token, or one that does not count (any more)."""

    error_code = "UNAUTHENTICATED"
    http_status = 401


class Forbidden(ClewError):
    """A request comes by a name, or from a web page, that may not ask this server."""

    error_code = "PERMISSION_DENIED"
    http_status = 403


class Conflict(ClewError):
    """Somebody else was faster, or is at it; nothing was done."""

    error_code = "RESOURCE_CONFLICT"
    http_status = 409


class AliasMoved(Conflict):
    """Somebody else moved an alias in the meantime; it was left where it is.

    Attributes
    ----------
    expected, found
        The version that it was believed to point to, and the one that it does; None for nowhere.
    mover
        Who moved it, when and why, as a part of a sentence; empty when that is not known.
    """

    def __init__(
        self, deployment: str, alias: str, expected: int | None, found: int | None, mover: str = ""
    ) -> None:
        self.deployment, self.alias, self.expected, self.found = deployment, alias, expected, found
        self.mover = mover
        believed, real = (f"version {n}" if n is not None else "no version" for n in (expected, found))
        super().__init__(
            f"The {alias} of {deployment!r} is {real}, not {believed} as expected: it was moved in the"
            f" meantime{mover and ', '}{mover}. Look at it with: clew models show {deployment}; then repeat."
        )


class DataError(ClewError):
    """The table contradicts what was declared; nothing of it was stored.

    Attributes
    ----------
    column
        The column at fault, or None when the whole table is.
    rows
        A few of the rows at fault, as positions in the table (0 is the first), for programs.
    """

    error_code = "INVALID_PARAMETER_VALUE"
    http_status = 422

    def __init__(self, message: str, column: str | None = None, rows: Iterable[int] = ()) -> None:
        self.column, self.rows = column, tuple(rows)
        super().__init__(message)


class TrainingFailed(ClewError):
    """The user's function raised, hung, was killed or returned nothing usable.

    Attributes
    ----------
    traceback
        The user's own traceback, starting in the user's file; empty when there is none.
    output
        What the function printed before, within bounds.
    """

    def __init__(self, message: str, traceback: str = "", output: bytes = b"") -> None:
        self.traceback, self.output = traceback, output
        super().__init__(message)


class PackageError(ClewError):
    """A model cannot be packaged or loaded."""


class StoreError(ClewError):
    """The store cannot be opened or written."""


class StoreTooNew(StoreError):
    """A newer Clew wrote this store."""


class StoreBusy(StoreError):
    """Another process holds what is needed."""

    error_code = "TEMPORARILY_UNAVAILABLE"
    http_status = 503


class LogFailed(StoreError):
    """The prediction log cannot be written; what was to be logged must not count as answered."""

    http_status = 503


class ObjectDamaged(StoreError):
    """Stored bytes are not what their name says."""


class EnvironmentNotMade(ClewError):
    """A recorded environment cannot be made again.

    Attributes
    ----------
    package
        What could not be had, as ``name==version``.
    """

    def __init__(self, package: str, why: str) -> None:
        self.package = package
        super().__init__(f"The recorded environment cannot be made here: {why}")


class SignatureRefused(ClewError):
    """What was received is not signed as it should be, or was sent too long ago."""

    error_code = "UNAUTHENTICATED"
    http_status = 401


class MissingExtra(ClewError):
    """An optional package is not installed."""

    def __init__(self, package: str, extra: str, purpose: str) -> None:
        self.package, self.extra = package, extra
        super().__init__(
            f"{purpose} needs the package {package!r}, which is not installed."
            f' Run: pip install "clew[{extra}]"'
        )


def did_you_mean(given: str, known: Iterable[str]) -> str:
    """A sentence that names the nearest known word, or all of them.

    Examples
    --------
    >>> did_you_mean("acuracy", ["accuracy", "rmse"])
    "Did you mean 'accuracy'?"
    >>> did_you_mean("x", ["accuracy", "rmse"])
    'Known: accuracy, rmse.'
    """
    words = sorted(known)
    near = difflib.get_close_matches(given, words, n=1)
    return f"Did you mean {near[0]!r}?" if near else f"Known: {', '.join(words) or 'none'}."
