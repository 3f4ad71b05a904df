"""Memory of ``clew up`` at rest on the tutorial's project, and how long it takes to be ready.

Counted are the supervisor, the control process and one worker, once the child that fitted the first champion
has gone: the proportional set size, in which pages that processes share are counted once, or the resident set
size where the system knows no other. The first start trains, judges and releases the champion; later ones, of
which the median is told, find it there. For scale, a bare Python imports what the control process cannot do
without.
"""

from __future__ import annotations

import contextlib
import json
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil

GOAL_MB = 350.0
CLEW = str(Path(sys.executable).parent / "clew")
BARE = "import fastapi, sqlalchemy, pyarrow, lightgbm"
PATIENCE_SECONDS = 240.0
SETTLE_SECONDS = 5.0


@contextlib.contextmanager
def up(project: Path) -> Iterator[tuple[psutil.Process, float]]:
    """A running ``clew up`` of the project, and the seconds until it was ready."""
    began = time.perf_counter()
    words = [CLEW, "up", "--json", "--port", "0", "--control-port", "0"]
    process = subprocess.Popen(words, cwd=project, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    assert process.stdout is not None
    try:
        assert process.stdout.readline(), "it did not come up"
        yield psutil.Process(process.pid), time.perf_counter() - began
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(PATIENCE_SECONDS)
        process.stdout.close()


def parts_at_rest(supervisor: psutil.Process) -> dict[str, psutil.Process]:
    """Its parts by name, when nothing but them is left."""
    give_up = time.monotonic() + PATIENCE_SECONDS
    while True:
        family = supervisor.children(recursive=True)
        parts = {name: each for each in family if (name := part_name(each))}
        if len(parts) == len(family) == 2:
            return {"supervisor": supervisor} | parts
        assert time.monotonic() < give_up, f"still there: {family}"
        time.sleep(1)


def part_name(process: psutil.Process) -> str | None:
    modules = {"clew.server.control": "control", "clew.serving.worker": "worker"}
    with contextlib.suppress(psutil.Error):
        return next((name for module, name in modules.items() if module in process.cmdline()), None)
    return None


def megabytes(process: psutil.Process) -> float:
    used = process.memory_full_info()
    return round(getattr(used, "pss", used.rss) / 1e6, 1)


def bare_python() -> tuple[float, float]:
    """Seconds and megabytes of a Python that imports the libraries alone."""
    began = time.perf_counter()
    words = [sys.executable, "-c", f"{BARE}; print(); input()"]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdout.readline()
        took, used = time.perf_counter() - began, megabytes(psutil.Process(process.pid))
        process.stdin.write(b"\n")
        process.stdin.close()
    return round(took, 2), used


def main() -> None:
    is_smoke = "--smoke" in sys.argv
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run([CLEW, "init", "loans"], cwd=folder, check=True, stdout=subprocess.DEVNULL)
        project = Path(folder) / "loans"
        bare_python()  # the first one reads the libraries from the disk
        with up(project) as (supervisor, first_seconds):
            after_first = measured(supervisor, wait=not is_smoke)
        again_seconds = []
        for _ in range(1 if is_smoke else 5):
            with up(project) as (_, seconds):
                again_seconds.append(seconds)
        bare_seconds, bare_megabytes = bare_python()
    total = round(sum(after_first.values()), 1)
    details: dict[str, Any] = {
        "memory": "PSS" if sys.platform == "linux" else "RSS",
        "megabytes": after_first,
        "seconds_to_first_ready": round(first_seconds, 2),
        "seconds_to_ready_again": round(statistics.median(again_seconds), 2),
        "seconds_of_bare_imports": bare_seconds,
    }
    for name, value in details.items():
        print(f"{name:24} {value}")
    result = {
        "name": "footprint",
        "value": total,
        "unit": "MB",
        "goal": GOAL_MB,
        "better": "lower",
        "floor": {"a Python that imports fastapi, sqlalchemy, pyarrow and lightgbm": bare_megabytes},
        "details": details,
    }
    print(json.dumps(result))


def measured(supervisor: psutil.Process, *, wait: bool) -> dict[str, float]:
    if wait:
        parts = parts_at_rest(supervisor)
        time.sleep(SETTLE_SECONDS)
        return {name: megabytes(process) for name, process in parts.items()}
    return {name: megabytes(each) for each in supervisor.children() if (name := part_name(each))}


if __name__ == "__main__":
    main()
