"""What differs between two recorded environments, the likeliest reason for other numbers first."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from clew.entities import Json

# What models are made of, so a new version of one of these is suspected before any other package.
NUMERIC_PACKAGES = (
    "lightgbm",
    "xgboost",
    "scikit-learn",
    "torch",
    "numpy",
    "scipy",
    "pandas",
    "polars",
    "pyarrow",
    "clew",
)


@dataclass(frozen=True, slots=True)
class Changed:
    """One thing that was `then` and is `now`; None where there was or is none."""

    name: str
    then: str | None
    now: str | None


@dataclass(frozen=True, slots=True)
class EnvironmentChange:
    """What differs between two environments.

    Attributes
    ----------
    packages
        Distributions whose version differs, those that compute first.
    rebuilt
        Distributions of the same version whose installed files differ: from another build.
    facts
        Python, numeric library, processor, variables, system, the likeliest to change a number first.
    """

    packages: tuple[Changed, ...] = ()
    rebuilt: tuple[str, ...] = ()
    facts: tuple[Changed, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.packages or self.rebuilt or self.facts)


def environment_change(then: Json, now: Json) -> EnvironmentChange:
    """Compare two environments as `get_environment` gives them.

    Examples
    --------
    >>> one = {"packages": [{"name": "numpy", "version": "2.0"}], "python": {"version": "3.11.7"}}
    >>> other = {"packages": [{"name": "numpy", "version": "2.1"}], "python": {"version": "3.11.7"}}
    >>> environment_change(one, other).packages
    (Changed(name='numpy', then='2.0', now='2.1'),)
    """
    before, after = _packages(then), _packages(now)
    names = sorted({*before, *after}, key=_suspicion)
    versions = [Changed(_shown(name, before, after), *_versions(name, before, after)) for name in names]
    # Hashes of another format name something else.
    is_comparable = then.get("format") == now.get("format")
    rebuilt = [n for n in names if is_comparable and _is_rebuilt(before.get(n), after.get(n))]
    return EnvironmentChange(
        tuple(each for each in versions if each.then != each.now),
        tuple(_shown(name, before, after) for name in rebuilt),
        tuple(each for each in _facts(then, now) if each.then != each.now),
    )


def _packages(detail: Json) -> dict[str, Json]:
    return {package["name"].lower().replace("_", "-"): package for package in detail.get("packages", [])}


def _suspicion(name: str) -> tuple[int, str]:
    is_numeric = name in NUMERIC_PACKAGES
    return NUMERIC_PACKAGES.index(name) if is_numeric else len(NUMERIC_PACKAGES), name


def _shown(name: str, before: Mapping[str, Json], after: Mapping[str, Json]) -> str:
    shown: str = (before.get(name) or after[name])["name"]
    return shown


def _versions(
    name: str, before: Mapping[str, Json], after: Mapping[str, Json]
) -> tuple[str | None, str | None]:
    then, now = (each[name]["version"] if name in each else None for each in (before, after))
    return then, now


def _is_rebuilt(then: Json | None, now: Json | None) -> bool:
    if then is None or now is None or then["version"] != now["version"]:
        return False
    return bool(then.get("record") and now.get("record") and then["record"] != now["record"])


def _facts(then: Json, now: Json) -> Iterator[Changed]:
    def told(path: str) -> tuple[str | None, str | None]:
        return _at(then, path), _at(now, path)

    yield Changed("Python", *told("python.version"))
    yield Changed("Python's implementation", *told("python.implementation"))
    yield Changed("numeric library", _libraries(then), _libraries(now))
    yield Changed("processor", *told("processor.machine"))
    yield Changed("processor flags", *_flags(then, now))
    names = sorted({*then.get("variables", {}), *now.get("variables", {})})
    yield from (Changed(name, *told(f"variables.{name}")) for name in names)
    yield Changed("C library", *told("system.libc"))
    yield Changed("system", *told("system.name"))
    yield Changed("kernel", *told("system.release"))


def _at(detail: Json, path: str) -> str | None:
    value: Any = detail
    for name in path.split("."):
        value = value.get(name) if isinstance(value, dict) else None
    return None if value is None else str(value)


def _libraries(detail: Json) -> str | None:
    """Name, version and kernel of what NumPy calls, such as ``openblas 0.3.29 Haswell``."""
    told = [" ".join(str(value) for value in library.values() if value) for library in detail.get("blas", [])]
    return ", ".join(told) or None


def _flags(then: Json, now: Json) -> tuple[str | None, str | None]:
    """The flags that only one of the two processors has."""
    before, after = (set(detail.get("processor", {}).get("flags", [])) for detail in (then, now))
    return " ".join(sorted(before - after)) or None, " ".join(sorted(after - before)) or None
