"""What every process that runs user code is started with."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

# One thread: results do not depend on how many cores a machine has, and fits side by side do not fight.
ONE_THREAD = {
    "BLIS_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "NUMEXPR_NUM_THREADS": "1",
    "OMP_NUM_THREADS": "1",
    # LightGBM asks for as many threads as there are cores, whatever OMP_NUM_THREADS says.
    "OMP_THREAD_LIMIT": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "POLARS_MAX_THREADS": "1",
    "VECLIB_MAXIMUM_THREADS": "1",
}


def child_variables(project_root: Path, variables: Mapping[str, str]) -> dict[str, str]:
    """The environment of a process for user code: one thread, a fixed hash seed, UTF-8.

    Search paths into the project are left out, so that code comes from the captured tree alone.
    """
    given = variables.get("PYTHONPATH", "").split(os.pathsep)
    kept = [path for path in given if path and not _is_inside(path, project_root)]
    fixed = {"PYTHONHASHSEED": "0", "PYTHONUTF8": "1", **ONE_THREAD}
    return {**variables, **fixed, "PYTHONPATH": os.pathsep.join(kept)}


def variables_of_children(project_root: Path) -> dict[str, str]:
    """What `child_variables` makes of this process's own environment."""
    return child_variables(project_root, os.environ)


def _is_inside(path: str, project_root: Path) -> bool:
    return Path(path).resolve().is_relative_to(project_root.resolve())
