from __future__ import annotations

from typing import Any

from clew.storage import Store
from clew.tracking import capture_environment, environment_change, get_environment
from clew.tracking.environment_change import Changed
from tests.tracking.conftest import NOW


def environment(**changes: Any) -> dict[str, Any]:
    told: dict[str, Any] = {
        "packages": [
            {"name": "attrs", "version": "24.1", "record": "aa"},
            {"name": "lightgbm", "version": "4.6.0", "record": "bb"},
            {"name": "numpy", "version": "2.0.1", "record": "cc"},
        ],
        "python": {"version": "3.11.7", "implementation": "CPython"},
        "system": {"name": "Linux", "release": "6.1", "libc": "glibc 2.36"},
        "processor": {"machine": "x86_64", "flags": ["avx", "avx2"]},
        "blas": [{"internal_api": "openblas", "version": "0.3.29", "architecture": "Haswell"}],
        "variables": {"OMP_NUM_THREADS": "1"},
    }
    return told | changes


def test_an_environment_does_not_differ_from_itself(store: Store) -> None:
    real = get_environment(store, capture_environment(store, now=NOW))
    assert not environment_change(real, real)
    assert not environment_change(environment(), environment())


def test_packages_that_compute_come_before_others() -> None:
    newer = [
        {"name": "attrs", "version": "25.1", "record": "aa"},
        {"name": "LightGBM", "version": "4.7.0", "record": "dd"},
        {"name": "pluggy", "version": "1.5"},
    ]
    change = environment_change(environment(), environment(packages=newer))
    assert change.packages == (
        Changed("lightgbm", "4.6.0", "4.7.0"),
        Changed("numpy", "2.0.1", None),
        Changed("attrs", "24.1", "25.1"),
        Changed("pluggy", None, "1.5"),
    )


def test_the_same_version_from_another_build_is_told_apart() -> None:
    other = [{**package, "record": "zz"} for package in environment()["packages"]]
    change = environment_change(environment(), environment(packages=other))
    assert change.packages == ()
    assert change.rebuilt == ("lightgbm", "numpy", "attrs")
    of_an_older_clew = environment_change(environment(format=0), environment(packages=other, format=1))
    assert not of_an_older_clew


def test_python_libraries_processor_threads_and_system_are_compared() -> None:
    there = environment(
        python={"version": "3.12.1", "implementation": "CPython"},
        system={"name": "Linux", "release": "6.8", "libc": "glibc 2.36"},
        processor={"machine": "x86_64", "flags": ["avx", "avx512f"]},
        blas=[{"internal_api": "openblas", "version": "0.3.29", "architecture": "SkylakeX"}],
        variables={"OMP_NUM_THREADS": "4"},
    )
    assert environment_change(environment(), there).facts == (
        Changed("Python", "3.11.7", "3.12.1"),
        Changed("numeric library", "openblas 0.3.29 Haswell", "openblas 0.3.29 SkylakeX"),
        Changed("processor flags", "avx2", "avx512f"),
        Changed("OMP_NUM_THREADS", "1", "4"),
        Changed("kernel", "6.1", "6.8"),
    )
