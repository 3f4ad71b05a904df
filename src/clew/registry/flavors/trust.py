"""Which types a skops file may bring to life.

skops trusts little by itself, and most real pipelines need more: the package records what its model
needed and where each type came from. A loader trusts exactly these, and only where they still come from
the same place: Python, a distribution that the package names, or the captured code.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping
from functools import cache
from importlib import import_module, metadata
from pathlib import Path
from typing import Any

from clew.errors import PackageError

PYTHON = "python"
CODE = "code"
# Containers and plain functions. Modules that reach outside the process are not among them.
_STANDARD_MODULES = {
    "builtins", "collections", "datetime", "decimal", "enum", "fractions", "functools", "itertools", "math",
    "numbers", "operator", "re", "statistics", "string", "types", "uuid", "zoneinfo",
}  # fmt: skip
_NEVER = {"builtins.eval", "builtins.exec", "builtins.compile", "builtins.__import__", "builtins.open"}
_NEVER |= {"builtins.getattr", "builtins.setattr", "builtins.breakpoint", "builtins.input"}


def origins(types: Iterable[str]) -> dict[str, str]:
    """Where each type comes from: ``"python"``, a distribution's name, or ``"code"`` (the project's own)."""
    return {name: _origin(name) for name in sorted(types)}


def own_types(origin_of: Mapping[str, str]) -> list[str]:
    return [name for name, origin in origin_of.items() if origin == CODE]


def check_saveable(origin_of: Mapping[str, str], allow_code: bool) -> None:
    """Refuse a model that could not be loaded again.

    Raises
    ------
    PackageError
        Naming the class or function at fault, and what to write instead.
    """
    own = own_types(origin_of)
    for name in own:
        _refuse_nameless(name)
    if own and not allow_code:
        raise PackageError(
            f"The model needs the project's own {' and '.join(own)} to predict. Write allow_code=True in"
            " @clew.model to package it together with the captured code, or use a class of scikit-learn in"
            " its place."
        )
    for name, origin in origin_of.items():
        _resolve(name, origin)


def check_loadable(
    origin_of: Mapping[str, str], requirements: Mapping[str, str], code_folder: Path | None
) -> None:
    """Refuse types that do not come from where the package says.

    Puts `code_folder` on the path when the package needs the project's own code: the process then
    serves this code and no other.

    Raises
    ------
    PackageError
        Naming the type and the place where it was expected.
    """
    own = own_types(origin_of)
    if own and code_folder is None:
        raise PackageError(
            f"The model needs the project's own {' and '.join(own)}, and no code was given. Load it with the"
            " captured code of its run: code_folder=…"
        )
    for name, origin in origin_of.items():
        if origin not in (PYTHON, CODE):
            _require_distribution(name, origin, requirements)
    if own and code_folder is not None:
        _put_first(code_folder)
    for name, origin in origin_of.items():
        found = _resolve(name, origin)
        if origin == CODE and code_folder is not None:
            _require_inside(name, found, code_folder)


@cache
def _distributions() -> Mapping[str, list[str]]:
    return metadata.packages_distributions()


def _origin(name: str) -> str:
    top = name.partition(".")[0]
    if top in sys.stdlib_module_names:
        return PYTHON
    return _distributions().get(top, [CODE])[0]


def _refuse_nameless(name: str) -> None:
    if "<lambda>" in name or "<locals>" in name:
        raise PackageError(
            f"The model holds {name}, which has no name to load it by. Write it as a function at the top of"
            " a module."
        )
    if name.startswith("__main__."):
        raise PackageError(
            f"The model holds {name}, which was defined in a script or notebook. Move it to a module of the"
            " project."
        )


def _require_distribution(name: str, origin: str, requirements: Mapping[str, str]) -> None:
    if origin not in requirements:
        raise PackageError(
            f"The package wants to trust {name} of {origin!r}, which is not among the distributions it was"
            f" made with: {', '.join(sorted(requirements))}. It was changed after it was made; register the"
            " model again."
        )
    if origin not in _distributions().get(name.partition(".")[0], []):
        raise PackageError(
            f"The model needs {name} of {origin} {requirements[origin]}, which is not installed here."
            f" Run: pip install {origin}=={requirements[origin]}"
        )


def _put_first(folder: Path) -> None:
    path = str(folder.resolve())
    if path not in sys.path:
        sys.path.insert(0, path)


def _resolve(name: str, origin: str) -> Any:
    """The class or function that skops would look up under `name`."""
    top = name.partition(".")[0]
    is_denied = top not in _STANDARD_MODULES or name in _NEVER
    if origin == PYTHON and is_denied:
        raise PackageError(
            f"The model holds {name}, which no package may hold: it can reach outside of the model. Keep it"
            " out of the model's attributes, or call it inside a function of the project (allow_code=True)."
        )
    found = _look_up(name)
    home = getattr(found, "__module__", None)
    # A package re-exports what it imports: `sklearn.x.y` may be a function of another, less harmless one.
    if isinstance(home, str) and home.partition(".")[0] != top and _origin(home) != origin:
        raise PackageError(
            f"The model holds {name}, which is really of {home}. Refer to it by its own module."
        )
    return found


def _look_up(name: str) -> Any:
    parts = name.split(".")
    for n in range(len(parts) - 1, 0, -1):
        module = _import_if_there(".".join(parts[:n]))
        if module is None:
            continue
        # Of a bound method, written module.class.method, the class says where it comes from.
        found = getattr(module, parts[n], None)
        if found is not None:
            return found
        raise PackageError(
            f"The model holds {name}, but module {module.__name__} has no {parts[n]!r} at its top level."
            " Move the definition there, so that it can be found when the model is loaded."
        )
    raise PackageError(f"The model holds {name}, but there is no module {parts[0]!r}.")


def _import_if_there(module: str) -> Any:
    try:
        return import_module(module)
    except ModuleNotFoundError as error:
        if error.name and (module == error.name or module.startswith(f"{error.name}.")):
            return None
        raise PackageError(f"Module {module} cannot be imported: {error}.") from error
    except Exception as error:
        raise PackageError(f"Module {module} cannot be imported: {type(error).__name__}: {error}") from error


def _require_inside(name: str, found: Any, code_folder: Path) -> None:
    module = sys.modules[getattr(found, "__module__", name.rpartition(".")[0])]
    file = getattr(module, "__file__", None)
    if file is None or not Path(file).resolve().is_relative_to(code_folder.resolve()):
        raise PackageError(
            f"{name} comes from {file}, but this package's code is in {code_folder}. A process can hold one"
            " version of the project's code: load this package in a process of its own."
        )
