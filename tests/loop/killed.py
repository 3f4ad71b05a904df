"""Programs that are killed at random moments, each on a store of its own that begins the same."""

from __future__ import annotations

import os
import random
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

N_KILLS = int(os.environ.get("CLEW_TEST_KILLS", "8"))
"""How often each kind of work is killed; the design asks for 200 in all."""

OPENING = """
import sys
from pathlib import Path
from tests.loop import people
from tests.loop.made import NOW
from clew.server.clock import wall_clock
root = Path(sys.argv[1])
"""


def started(code: str, root: Path) -> subprocess.Popen[str]:
    """A program that prints ``ready`` when it begins what it may be killed in."""
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    return subprocess.Popen(
        [sys.executable, "-c", OPENING + code, str(root)],
        stdout=subprocess.PIPE,
        env=environment,
        text=True,
    )


def whole(code: str, root: Path) -> float:
    """Let the program run to its end; how long that took from when it was ready."""
    with started(code, root) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        begun = time.monotonic()
        assert process.wait(120) == 0
        return time.monotonic() - begun


def killed_copies(template: Path, folder: Path, code: str, seed: int = 7) -> Iterator[Path]:
    """Copies of a folder in each of which the program was killed at some moment, or had just ended.

    The moments are spread over the time that it takes, so that each part of it gets its share.
    """
    chance = random.Random(seed)
    shutil.copytree(template, folder / "whole")
    seconds = whole(code, folder / "whole")
    for number in range(N_KILLS):
        root = folder / f"killed{number}"
        shutil.copytree(template, root)
        with started(code, root) as process:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
            time.sleep(seconds * (number + chance.random()) / N_KILLS)
            process.kill()
        yield root
        shutil.rmtree(root)
