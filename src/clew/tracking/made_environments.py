"""Making a recorded environment again: its Python and packages, in a folder of its own, with uv.

The record knows installed files and not what they were downloaded as, so packages are asked for by name and
version; whether the same came is checked afterwards, by comparing what was made with the record.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib.metadata
import json
import platform
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from clew.entities import Json
from clew.errors import EnvironmentNotMade

FORMAT = 0
CLEW = Path(__file__).parents[1]
HERE = "To train with what is installed now instead, add: --here"


def make_environment(folder: Path, recorded: Json) -> Path:
    """The interpreter of an environment with the recorded packages, made in `folder` or found there.

    Clew itself is the present one, which has to understand its own child; so are the packages whose code
    lay in a folder of somebody's (editable), which are left out.

    Raises
    ------
    EnvironmentNotMade
        When uv, the Python or a package cannot be had, naming it.
    """
    wanted = requirements_of(recorded)
    python = str(recorded["python"]["version"])
    named = json.dumps([FORMAT, python, wanted, str(CLEW)]).encode()
    made = folder / hashlib.sha256(named).hexdigest()[:16]
    if not made.is_dir():
        _make(made, python, wanted)
    return made / "bin" / "python"


def requirements_of(recorded: Json) -> list[str]:
    """What to install, as ``name==version``.

    Examples
    --------
    >>> clew, mine = ({"name": name, "version": "1", "is_editable": True} for name in ("clew", "mine"))
    >>> requirements_of({"packages": [clew, mine, {"name": "numpy", "version": "2.1.0"}]})
    ['numpy==2.1.0']
    """
    packages = [each for each in recorded["packages"] if each["name"].lower() != "clew"]
    return [f"{each['name']}=={each['version']}" for each in packages if not each.get("is_editable")]


def _make(made: Path, python: str, wanted: Sequence[str]) -> None:
    made.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    # Beside its place and moved at the end: what lies there is whole.
    with tempfile.TemporaryDirectory(prefix=f"{made.name}.", dir=made.parent) as unfinished:
        place = Path(unfinished) / "environment"
        asked = sys.executable if platform.python_version() == python else python
        _uv(["venv", "--quiet", "--python", asked, str(place)], place.parent, [f"Python {python}"])
        listed = place.with_name("requirements.txt")
        listed.write_text("\n".join(wanted), encoding="utf-8")
        install = ["pip", "install", "--quiet", "--no-deps", "--python", str(place / "bin" / "python")]
        _uv([*install, "--requirements", str(listed)], place.parent, wanted)
        _lend_clew(next(place.glob("lib/python*/site-packages")))
        _check_that_clew_starts(place / "bin" / "python")
        # Somebody else may have been quicker, with the same packages.
        with contextlib.suppress(OSError):
            place.rename(made)


def _uv(arguments: Sequence[str], where: Path, wanted: Sequence[str]) -> None:
    uv = shutil.which("uv") or shutil.which("uv", path=str(Path(sys.executable).parent))
    if uv is None:
        raise EnvironmentNotMade("uv", f"uv, which makes it, is not installed. Run: pip install uv\n{HERE}")
    # In a folder of its own, so that no project's settings of uv are in force.
    done = subprocess.run(
        [uv, *arguments], cwd=where, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
    )
    if done.returncode:
        package = failed_package(done.stderr, wanted)
        raise EnvironmentNotMade(
            package, f"{package} cannot be had: {' '.join(done.stderr.split())[:500]}\n{HERE}"
        )


def failed_package(said: str, wanted: Sequence[str]) -> str:
    """Which of the packages uv's words are about; all of them when it names none.

    Examples
    --------
    >>> failed_package("there is no version of numpy==2.99", ["numpy==2.9", "numpy==2.99", "scipy==1.1"])
    'numpy==2.99'
    >>> failed_package("Failed to build `scipy==1.1`", ["numpy==2.9", "scipy==1.1"])
    'scipy==1.1'
    >>> failed_package("no network", ["numpy==2.9", "scipy==1.1"])
    'one of 2 packages'
    """
    whole = (each for each in wanted if _is_named(each, said))
    by_name = (each for each in wanted if _is_named(each.split("==")[0], said))
    alone = wanted[0] if len(wanted) == 1 else f"one of {len(wanted)} packages"
    return next(whole, None) or next(by_name, alone)


def _is_named(word: str, said: str) -> bool:
    return re.search(rf"(?<![\w.-]){re.escape(word)}(?!\.?[\w+-])", said, re.IGNORECASE) is not None


def _lend_clew(packages: Path) -> None:
    """Let the environment import the Clew that runs here, and find it as installed."""
    (packages / "clew").symlink_to(CLEW, target_is_directory=True)
    files = importlib.metadata.distribution("clew").files or []
    for file in files:
        if file.name == "METADATA":
            told = Path(str(file.locate())).parent
            (packages / told.name).symlink_to(told, target_is_directory=True)


def _check_that_clew_starts(python: Path) -> None:
    """An older Clew may have needed less than the present one does."""
    starting = [str(python), "-P", "-c", "import clew.tracking, clew.registry.packages"]
    done = subprocess.run(
        starting, cwd=python.parent, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
    )
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["it says nothing"])[-1]
        raise EnvironmentNotMade("clew", f"this Clew does not start in it: {last}\n{HERE}")
