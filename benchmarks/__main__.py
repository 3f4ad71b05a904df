"""Run the benchmarks, keep their numbers, and say which goals are met.

    python -m benchmarks                 every benchmark
    python -m benchmarks startup         those named
    python -m benchmarks --smoke         small, fast, nothing kept: does each one still run?

A benchmark is a module of this folder that can be run by itself (``python -m benchmarks.startup``) and
whose last line is one JSON object::

    {"name": "…", "value": 93.1, "unit": "ms", "goal": 150, "better": "lower", "floor": {…}, "peers": {…}}

`peers` holds numbers in the same unit by name; `floor` does so too, or says in words what a ratio was taken
to. What else a reader should know goes into `details`. With ``--smoke`` as its argument a benchmark
takes the smallest input that still passes through all of its code. Ends with 1 when a benchmark broke;
a goal that was missed is shown, and is no error: machines differ.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import msgspec
import psutil
from rich.console import Console
from rich.table import Table

FOLDER = Path(__file__).resolve().parent
RESULTS = FOLDER / "results"


class Result(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """What a benchmark's last line says."""

    name: str
    value: float
    goal: float
    better: Literal["lower", "higher"]
    unit: str = ""
    floor: dict[str, float] | str = ""
    peers: dict[str, float] = {}
    details: dict[str, Any] = {}

    @property
    def is_met(self) -> bool:
        return self.value <= self.goal if self.better == "lower" else self.value >= self.goal


@dataclass(frozen=True, slots=True)
class Broken:
    """A benchmark that ended badly or whose last line is no result."""

    name: str
    reason: str


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description="Run the benchmarks.")
    parser.add_argument("names", nargs="*", help="which ones; all by default")
    parser.add_argument("--smoke", action="store_true", help="smallest inputs, nothing kept")
    options = parser.parse_args(arguments)
    chosen = options.names or known_benchmarks()
    unknown = set(chosen) - set(known_benchmarks())
    if unknown:
        parser.error(f"no benchmark {', '.join(sorted(unknown))}; there are {', '.join(known_benchmarks())}")
    outcomes = []
    for name in chosen:
        print(f"{name} ...", file=sys.stderr, flush=True)
        outcome = run(name, smoke=options.smoke)
        outcomes.append(outcome)
        if isinstance(outcome, Result) and not options.smoke:
            keep(name, outcome)
    show(outcomes, smoke=options.smoke)
    return int(any(isinstance(outcome, Broken) for outcome in outcomes))


def known_benchmarks() -> list[str]:
    return sorted(path.stem for path in FOLDER.glob("*.py") if not path.stem.startswith("_"))


def run(name: str, *, smoke: bool) -> Result | Broken:
    """Run one benchmark in a process of its own, so that none warms or burdens the next."""
    command = [sys.executable, "-m", f"benchmarks.{name}", *(["--smoke"] if smoke else [])]
    done = subprocess.run(command, check=False, cwd=FOLDER.parent, stdout=subprocess.PIPE, text=True)
    if done.returncode != 0:
        return Broken(name, f"ended with {done.returncode}")
    return read_result(name, done.stdout)


def read_result(name: str, output: str) -> Result | Broken:
    """The result on the last line of what a benchmark printed."""
    last_line = (output.strip().splitlines() or [""])[-1]
    try:
        return msgspec.json.decode(last_line, type=Result)
    except msgspec.DecodeError as error:
        return Broken(name, f"its last line is no result: {last_line[:200]!r} ({error})")


def keep(name: str, result: Result) -> None:
    RESULTS.mkdir(exist_ok=True)
    kept = {"result": msgspec.to_builtins(result), "machine": machine_facts()}
    (RESULTS / f"{name}.json").write_text(json.dumps(kept, indent=2, ensure_ascii=False) + "\n")


def machine_facts() -> dict[str, str | int | float]:
    """What a reader needs to judge the numbers; nothing that names the machine."""
    return {
        "cpu": cpu_name(),
        "n_cpus": os.cpu_count() or 0,
        "memory_gb": round(psutil.virtual_memory().total / 1e9, 1),
        "load_per_cpu": round(os.getloadavg()[0] / (os.cpu_count() or 1), 2),
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
    }


def cpu_name() -> str:
    described = Path("/proc/cpuinfo")
    lines = described.read_text().splitlines() if described.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def show(outcomes: list[Result | Broken], *, smoke: bool) -> None:
    table = Table(title="smoke run: do not read the numbers" if smoke else None)
    for heading in ("benchmark", "value", "goal", "met", "beside it"):
        table.add_column(heading, overflow="fold")
    for outcome in outcomes:
        if isinstance(outcome, Broken):
            table.add_row(outcome.name, "", "", "[red]broken", outcome.reason)
            continue
        sign = "≤" if outcome.better == "lower" else "≥"
        table.add_row(
            outcome.name,
            f"{outcome.value:.4g} {outcome.unit}".strip(),
            f"{sign} {outcome.goal:g} {outcome.unit}".strip(),
            "[green]yes" if outcome.is_met else "[yellow]no",
            beside(outcome),
        )
    Console().print(table)


def beside(result: Result) -> str:
    """Floor and peers in a line."""
    floor = {} if isinstance(result.floor, str) else result.floor
    words = [result.floor] if isinstance(result.floor, str) and result.floor else []
    return "; ".join([*words, *(f"{name} {value:.4g}" for name, value in {**floor, **result.peers}.items())])


if __name__ == "__main__":
    sys.exit(main())
