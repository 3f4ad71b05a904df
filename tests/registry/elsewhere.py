"""Other processes, and packages that somebody laid hands on."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

from clew.entities import Json


def run_python(code: str, *arguments: object, hash_seed: int = 0, fails: bool = False) -> str:
    """What a child process prints that runs `code`; its errors if it is to fail."""
    done = subprocess.run(
        [sys.executable, "-c", code, *map(str, arguments)],
        check=False,
        capture_output=True,
        text=True,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path), "PYTHONHASHSEED": str(hash_seed)},
        timeout=100,
    )
    assert (done.returncode != 0) == fails, done.stderr
    return done.stderr if fails else done.stdout


def change_own(folder: Path, changes: Json) -> None:
    """Change what a package says about itself under ``clew``."""
    about = json.loads((folder / "MLmodel").read_text())
    about["clew"] |= changes
    (folder / "MLmodel").write_text(json.dumps(about))
