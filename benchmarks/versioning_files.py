"""What a version of a folder costs: 20,000 files of 8 KB, each step beside ``cp -r`` of the folder.

Each round copies the folder with ``cp -r``, keeps it in a fresh store, keeps it again unchanged, keeps it
again after 1 % of the files changed, and lays it out. The value is the time of the first keeping to that of
the copy. The copy is not synced onto the disk, what the store keeps is.
"""

from __future__ import annotations

import json
import random
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import TypeVar

from clew.config import Settings
from clew.datasets.folder_checkout import checkout_folder
from clew.datasets.folders import take_folder
from clew.storage import open_store

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
GOAL = 0.5
GOALS = {"again, unchanged": 0.1}
SETTLED_SECONDS = 2.5
N_BYTES = 8192
COPY = "cp -r"

T = TypeVar("T")


def make_files(folder: Path, n_files: int) -> None:
    noise = random.Random(0)
    for number in range(n_files):
        path = place(folder, number)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(noise.randbytes(N_BYTES))


def place(folder: Path, number: int) -> Path:
    return folder / f"{number // 100:03}" / f"{number:05}.bin"


def timed(seconds: dict[str, float], name: str, action: Callable[[], T]) -> T:
    began = time.perf_counter()
    done = action()
    seconds[name] = time.perf_counter() - began
    return done


def run_round(source: Path, scratch: Path, n_files: int, number: int) -> dict[str, float]:
    seconds: dict[str, float] = {}
    copy = ["cp", "-r", str(source), str(scratch / "copy")]
    timed(seconds, COPY, lambda: subprocess.run(copy, check=True))
    with open_store(Settings(root=scratch, store=scratch / "store"), now=NOW) as store:
        first = timed(seconds, "first", lambda: take_folder(store, "images", source, now=NOW))
        again = timed(seconds, "again, unchanged", lambda: take_folder(store, "images", source, now=NOW))
        assert (first.n_read, again.n_read) == (n_files, 0)
        for changed in range(0, n_files, 100):
            place(source, changed).write_bytes(f"round {number}, file {changed}".encode().ljust(N_BYTES))
        more = timed(seconds, "again, 1 % changed", lambda: take_folder(store, "images", source, now=NOW))
        assert more.n_read == n_files // 100
        timed(seconds, "checkout", lambda: checkout_folder(store, more.snapshot, scratch / "out"))
    return seconds


def main() -> None:
    is_smoke = "--smoke" in sys.argv
    n_files = 500 if is_smoke else 20_000
    rounds = []
    with tempfile.TemporaryDirectory() as name:
        source = Path(name) / "images"
        make_files(source, n_files)
        for number in range(1 if is_smoke else 7):
            time.sleep(SETTLED_SECONDS)  # a file that just changed is read again, to be sure
            scratch = Path(name) / "round"
            scratch.mkdir()
            rounds.append(run_round(source, scratch, n_files, number))
            shutil.rmtree(scratch)
    ratios = {
        step: round(statistics.median(each[step] / each[COPY] for each in rounds), 4)
        for step in rounds[0]
        if step != COPY
    }
    for step, ratio in ratios.items():
        print(f"{step:20} {ratio:7.4f}")
    result = {
        "name": f"{n_files:,} files of 8 KB kept ÷ cp -r",
        "value": ratios.pop("first"),
        "goal": GOAL,
        "better": "lower",
        "floor": f"cp -r, {statistics.median(each[COPY] for each in rounds):.2f} s",
        "details": {
            "ratios": ratios,
            "goals": GOALS,
            "missed": sorted(step for step, goal in GOALS.items() if ratios[step] > goal),
            "seconds": {step: [round(each[step], 3) for each in rounds] for step in rounds[0]},
        },
    }
    print(json.dumps(result, ensure_ascii=False))


if __name__ == "__main__":
    main()
