"""What a run ran in: packages by content, Python, processor, numeric libraries, threads.

Only a fixed list of environment variables is kept, so that no secret can slip in.
"""

from __future__ import annotations

import functools
import hashlib
import importlib
import importlib.metadata
import json
import os
import platform
import re
import subprocess
import sys
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

from clew.entities import Json
from clew.errors import NotFound
from clew.storage import Store, Where

FORMAT = 1
"""In format 0 the hash of a package also depended on its installer, and on where it was installed."""

# Variables that change results or speed. Anything else may be a secret.
RECORDED_VARIABLES = (
    "BLIS_NUM_THREADS",
    "CUBLAS_WORKSPACE_CONFIG",
    "CUDA_VISIBLE_DEVICES",
    "LANG",
    "LC_ALL",
    "MKL_CBWR",
    "MKL_NUM_THREADS",
    "NUMEXPR_NUM_THREADS",
    "OMP_NUM_THREADS",
    "OMP_THREAD_LIMIT",
    "OPENBLAS_CORETYPE",
    "OPENBLAS_NUM_THREADS",
    "POLARS_MAX_THREADS",
    "PYTHONHASHSEED",
    "PYTHONOPTIMIZE",
    "TZ",
    "VECLIB_MAXIMUM_THREADS",
)


def capture_environment(store: Store, *, now: datetime, variables: Mapping[str, str] | None = None) -> str:
    """Record what is installed and what it runs on; returns the environment's id.

    The same environment has the same id. What is installed is read once a process, and again when
    something was installed since.

    Parameters
    ----------
    variables
        The environment variables of the process that trains; this one's by default. Only
        `RECORDED_VARIABLES` are kept.
    """
    return keep_environment(store, environment_detail(variables), now=now)


def keep_environment(store: Store, detail: bytes, *, now: datetime) -> str:
    """Record what `environment_detail` told, here or in another process; returns the environment's id."""
    environment_id = hashlib.sha256(detail).hexdigest()
    with store.read() as reader:
        is_known = reader.get("environments", id=environment_id) is not None
    if not is_known:
        digest = store.objects.put(detail)
        with store.write() as tx:
            tx.insert_if_absent("environments", {"id": environment_id, "detail": digest, "captured_at": now})
    return environment_id


def get_environment(store: Store, environment_id: str) -> Json:
    """What was recorded: ``packages``, ``python``, ``system``, ``processor``, ``blas``, ``variables``.

    Raises
    ------
    NotFound
        When no environment has this id, or several ids begin so.
    """
    with store.read() as reader:
        rows = reader.find("environments", {"id": Where("prefix", environment_id)}, limit=2)
    if len(rows) != 1:
        found = "Several environments have" if rows else "No environment has"
        raise NotFound(f"{found} an id that begins with {environment_id!r}.")
    detail: Json = json.loads(store.objects.get(rows[0]["detail"]))
    return detail


def environment_detail(variables: Mapping[str, str] | None = None) -> bytes:
    """What this process runs in, as `capture_environment` keeps it."""
    given = os.environ if variables is None else variables
    recorded = {name: given[name] for name in RECORDED_VARIABLES if name in given}
    return json.dumps({**_installation(_installed_state()), "variables": recorded}, sort_keys=True).encode()


def _installed_state() -> tuple[tuple[str, int], ...]:
    """Changes when something is installed or removed: package folders get a new time then."""
    folders = [Path(path) for path in sys.path if path and Path(path).is_dir()]
    return tuple((str(folder), folder.stat().st_mtime_ns) for folder in folders)


@functools.lru_cache(maxsize=1)
def _installation(_state: tuple[tuple[str, int], ...]) -> Json:
    return {
        "format": FORMAT,
        "packages": _packages(),
        "python": {"version": platform.python_version(), "implementation": platform.python_implementation()},
        "system": {
            "name": platform.system(),
            "release": platform.release(),
            "libc": " ".join(platform.libc_ver()),
        },
        "processor": {"machine": platform.machine(), "flags": _processor_flags()},
        "blas": _blas(),
    }


def _packages() -> list[Json]:
    """Name, version and a hash of what was installed, of every distribution on the path."""
    found: dict[str, Json] = {}
    for distribution in importlib.metadata.distributions():
        name, version = _name_and_version(distribution)
        # The first on the path is the one that is imported.
        if name and name.lower() not in found:
            found[name.lower()] = {"name": name, "version": version, **_content(distribution)}
    return [found[name] for name in sorted(found)]


def _name_and_version(distribution: importlib.metadata.Distribution) -> tuple[str, str]:
    # The two lines alone: parsing the whole, as .metadata does, takes most of a capture's time.
    told = distribution.read_text("METADATA") or distribution.read_text("PKG-INFO") or ""
    head = dict(re.findall(r"^(Name|Version): *(.*?) *$", told.partition("\n\n")[0], re.MULTILINE))
    return head.get("Name", ""), head.get("Version", "")


def _content(distribution: importlib.metadata.Distribution) -> Json:
    content: Json = {"record": content_of_record(distribution.read_text("RECORD") or "")}
    origin = json.loads(distribution.read_text("direct_url.json") or "{}")
    if origin.get("dir_info", {}).get("editable"):
        # Its code lies elsewhere and may change; the address is left out, as one may hold a password.
        content["is_editable"] = True
    return content


def content_of_record(record: str) -> str | None:
    """A hash of what a distribution installed, the same whoever installed it and wherever; None of nothing.

    RECORD lists the hash of each installed file. What the installer added is left out: its own notes,
    compiled files, and scripts, which begin with the path of the interpreter.

    Examples
    --------
    >>> by_pip = "a.py,sha256=x,1\\n__pycache__/a.pyc,,\\na-1.dist-info/INSTALLER,sha256=p,4\\n"
    >>> content_of_record(by_pip) == content_of_record("../../bin/a,sha256=s,9\\na.py,sha256=x,1\\n")
    True
    """
    kept = sorted(line for line in record.splitlines() if line and not _is_of_installer(line.split(",")[0]))
    return hashlib.sha256("\n".join(kept).encode()).hexdigest() if kept else None


def _is_of_installer(path: str) -> bool:
    return path.startswith("../") or path.endswith(".pyc") or ".dist-info/" in path


def _processor_flags() -> list[str]:
    """What the processor can do; numeric libraries choose their code, and so their rounding, by it."""
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        lines = cpuinfo.read_text(encoding="utf-8", errors="replace").splitlines()
        flags = next((line for line in lines if line.lower().startswith(("flags", "features"))), "")
        return sorted(flags.partition(":")[2].split())
    if sys.platform == "darwin":
        asked = subprocess.run(["sysctl", "-n", "machdep.cpu.brand_string"], capture_output=True, check=False)
        return asked.stdout.decode(errors="replace").split()
    return []


def _blas() -> list[Json]:
    """The numeric library that NumPy calls, and which of its kernels this processor gets."""
    try:
        threadpoolctl: Any = importlib.import_module("threadpoolctl")
    except ModuleNotFoundError:
        return []
    importlib.import_module("numpy.linalg")
    told = ("internal_api", "version", "architecture", "threading_layer")
    # NumPy's own alone: what else is loaded depends on what this process did before.
    libraries = [library for library in threadpoolctl.threadpool_info() if "numpy" in library["filepath"]]
    return [{name: library.get(name) for name in told} for library in libraries]
