"""What versions cost in Clew, DVC, Delta Lake and Lance: the same tables and files, step by step in turn.

Each tool runs in a process and an environment of its own, made here by uv once and kept in the user's
cache; the versions are those below. In every round each step is done by all tools one after the other, in
another order each time. Ratios are to one Parquet file of the table, written or read, and to ``cp -r`` of the
folder.

Where a tool can be given the new rows alone, both ways are measured: the whole table, which is what somebody
has who asks for "the table as it is now", and the rows alone. Clew and the plain file are synced onto the
disk. The value is the bytes that Clew keeps after a first version and four appends of 2 % (each as a whole
table), to the bytes of one file.

With ``--smoke`` only what needs no package index is run: Clew itself.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import pyarrow as pa

from benchmarks._peers.steps import write_parquet
from benchmarks.versioning_files import SETTLED_SECONDS, make_files
from benchmarks.versioning_snapshots import loans

ROOT = Path(__file__).resolve().parent.parent
CACHE = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "clew-benchmarks"
SHARED = ("pyarrow==26.0.1", "numpy==2.4.6")
PEERS = {
    "DVC": ("dvc_tool", "dvc==3.67.1"),
    "Delta Lake": ("delta_tool", "deltalake==1.6.6"),
    "Lance": ("lance_tool", "pylance==14.0.2"),
}
OURS = {"plain": "plain_tool", "Clew": "clew_tool"}
GOAL = 1.2

TIMES = {
    "first snapshot": "first",
    "append 2 %, whole table": "whole",
    "append 2 %, rows alone": "append",
    "slide by 2 %, whole table": "slide_whole",
    "slide by 2 %, rows alone": "slide_alone",
    "read of the first version": "read_old",
    "20,000 files, first": "files",
    "20,000 files, unchanged": "files_again",
}
BYTES = {
    "bytes after 4 appends, whole table": "bytes_whole",
    "bytes after 4 appends, rows alone": "bytes_alone",
    "new bytes of a slide, whole table": "bytes_slid",
    "new bytes of a slide, rows alone": "bytes_slid_alone",
}


class Program:
    """A tool that waits for steps."""

    def __init__(self, python: Path, program: str) -> None:
        self._said = tempfile.TemporaryFile()  # noqa: SIM115 - closed with the program
        self._popen = subprocess.Popen(
            [python, "-m", f"benchmarks._peers.{program}"], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            cwd=ROOT,
            stderr=self._said, text=True, env=os.environ | {"DVC_NO_ANALYTICS": "1"},
        )  # fmt: skip
        self.name = program

    def ask(self, do: str, **given: Any) -> dict[str, Any]:
        assert self._popen.stdin is not None
        assert self._popen.stdout is not None
        self._popen.stdin.write(json.dumps({"do": do} | given) + "\n")
        self._popen.stdin.flush()
        line = self._popen.stdout.readline()
        if not line:
            code = self._popen.wait()
            self._said.seek(0)
            told = self._said.read()[-2000:].decode(errors="replace")
            raise RuntimeError(f"{self.name} ended with {code} at the step {do!r}:\n{told}")
        reply: dict[str, Any] = json.loads(line)
        return reply

    def close(self) -> None:
        self._popen.terminate()
        self._popen.communicate()
        self._said.close()


@contextmanager
def programs(*, with_peers: bool) -> Iterator[dict[str, Program]]:
    with ExitStack() as stack:
        found = {name: Program(Path(sys.executable), program) for name, program in OURS.items()}
        if with_peers:
            found |= {name: Program(environment(*pins), file) for name, (file, *pins) in PEERS.items()}
        for program in found.values():
            stack.callback(program.close)
        yield found


def environment(*pins: str) -> Path:
    """The interpreter of an environment with these packages; made when it is not there."""
    wanted = [*pins, *SHARED]
    folder = CACHE / "-".join(wanted).replace("==", "-")
    python = folder / "bin" / "python"
    if not (folder / "made").exists():
        uv = [sys.executable, "-m", "uv"]
        subprocess.run([*uv, "venv", "--quiet", "--clear", str(folder)], check=True)
        subprocess.run([*uv, "pip", "install", "--quiet", "--python", str(python), *wanted], check=True)
        (folder / "made").touch()
    return python


@dataclass(frozen=True, slots=True)
class Rows:
    """The table on disk, and how far its stages reach."""

    file: Path
    n_rows: int

    @property
    def n_step(self) -> int:
        return self.n_rows // 54  # 2 % of what is there before the four appends

    @property
    def n_first(self) -> int:
        return self.n_rows - 4 * self.n_step

    def rows(self, first: int, last: int) -> dict[str, Any]:
        return {"table": str(self.file), "rows": [first, last]}


class Round:
    """One round: what every tool took for every step."""

    def __init__(
        self, tools: Mapping[str, Program], rows: Rows, files: Path, folder: Path, number: int
    ) -> None:
        names = list(tools)
        self._order = [*names[number % len(names) :], *names[: number % len(names)]]
        self._tools, self._rows, self._files, self._folder = tools, rows, files, folder
        self.found: defaultdict[str, dict[str, float]] = defaultdict(dict)
        self.cpu: defaultdict[str, dict[str, float]] = defaultdict(dict)

    def run(self) -> None:
        rows, n, step = self._rows, self._rows.n_first, self._rows.n_step
        self._begin("whole")
        self._time("first", "first", rows.rows(0, n))
        first = self._bytes()
        self._time("whole", "whole", rows.rows(0, n + step))
        self._time("read_old", "read_old", {})
        for number in (2, 3, 4):
            self._do("whole", rows.rows(0, n + number * step))
        self._keep_bytes("bytes_whole", self._bytes(), dict.fromkeys(first, 0))
        self._begin("alone")
        self._do("first", rows.rows(0, n))
        self._time("append", "append", rows.rows(n, n + step))
        for number in (2, 3, 4):
            self._do("append", rows.rows(n + (number - 1) * step, n + number * step))
        self._keep_bytes("bytes_alone", self._bytes(), dict.fromkeys(first, 0), of="append")
        self._slide("slide_whole", "bytes_slid", rows.rows(step, n + step))
        # The rows that go, then as many that come: a stretch of the table that a tool takes apart.
        self._slide("slide_alone", "bytes_slid_alone", rows.rows(n - step, n + step))
        self._begin("files")
        self._do("bring_files", {"path": str(self._files)})
        self._time("files", "keep_files", {"path": str(self._files)})
        self._time("files_again", "keep_files", {"path": str(self._files)}, but=("plain",))

    def _slide(self, do: str, name: str, given: dict[str, Any]) -> None:
        self._begin(do)
        self._do("first", self._rows.rows(0, self._rows.n_first))
        before = self._bytes()
        self._time(do, do, given)
        self._keep_bytes(name, self._bytes(), before, of=do)

    def _begin(self, what: str) -> None:
        for name in self._order:
            folder = self._folder / what / name.replace(" ", "")
            folder.mkdir(parents=True)
            self._tools[name].ask("begin", folder=str(folder))

    def _do(self, do: str, given: dict[str, Any]) -> dict[str, dict[str, Any]]:
        return {name: self._tools[name].ask(do, **given) for name in self._order}

    def _time(self, name: str, do: str, given: dict[str, Any], but: tuple[str, ...] = ()) -> None:
        for tool, taken in self._do(do, given).items():
            if taken["seconds"] is not None and tool not in but:
                self.found[name][tool], self.cpu[name][tool] = taken["seconds"], taken["cpu"]

    def _bytes(self) -> dict[str, int]:
        return {name: self._tools[name].ask("bytes")["bytes"] for name in self._order}

    def _keep_bytes(self, name: str, now: dict[str, int], before: dict[str, int], of: str = "") -> None:
        able = self.found[of] if of else now
        self.found[name] = {tool: now[tool] - before[tool] for tool in able if tool != "plain"}


def main() -> None:
    is_smoke = "--smoke" in sys.argv
    table = loans(60_000 if is_smoke else 1_080_000)
    rounds, cpu_rounds = [], []
    with tempfile.TemporaryDirectory() as name, programs(with_peers=not is_smoke) as tools:
        folder = Path(name)
        with pa.OSFile(str(folder / "table"), "wb") as file, pa.ipc.new_file(file, table.schema) as writer:
            writer.write_table(table)
        write_parquet(table, folder / "grown.parquet")
        write_parquet(table.slice(0, Rows(folder, table.num_rows).n_first), folder / "first.parquet")
        make_files(folder / "images", 500 if is_smoke else 20_000)
        time.sleep(SETTLED_SECONDS)
        for number in range(1 if is_smoke else 5):
            one = Round(
                tools, Rows(folder / "table", table.num_rows), folder / "images", folder / str(number), number
            )
            one.run()
            rounds.append(one.found)
            cpu_rounds.append(one.cpu)
            print(f"round {number + 1} done", file=sys.stderr, flush=True)
        sizes = {each: (folder / f"{each}.parquet").stat().st_size for each in ("first", "grown")}
    ratios, cpu = time_ratios(rounds) | byte_ratios(rounds, sizes), time_ratios(cpu_rounds)
    show(ratios)
    print("\nOf the processors' time:")
    show(cpu)
    whole = dict(ratios["bytes after 4 appends, whole table"])
    skipped = "the peers were skipped: they need a package index" if is_smoke else ""
    result = {
        "name": "bytes after 4 appends ÷ one copy",
        "value": whole.pop("Clew"),
        "goal": GOAL,
        "better": "lower",
        "floor": skipped or f"a Parquet file of {table.num_rows:,} rows",
        "peers": whole,
        "details": {
            "ratios": ratios,
            "ratios_of_processor_time": cpu,
            "versions": [pins for _, *pins in PEERS.values()],
            "n_rounds": len(rounds),
        },
    }
    print(json.dumps(result, ensure_ascii=False))


Rounds: TypeAlias = Sequence[Mapping[str, Mapping[str, float]]]


def time_ratios(rounds: Rounds) -> dict[str, dict[str, float]]:
    """For each step what each tool took to what the floor took, the median of the rounds."""
    found = {}
    floors = {"read_old": "read_old", "files": "files", "files_again": "files"}
    for told, step in TIMES.items():
        floor = floors.get(step, "first")
        found[told] = {
            tool: _median([each[step][tool] / each[floor]["plain"] for each in rounds])
            for tool in rounds[0][step]
            if tool != "plain"
        }
    return {told: tools for told, tools in found.items() if tools}


def byte_ratios(rounds: Rounds, sizes: Mapping[str, int]) -> dict[str, dict[str, float]]:
    """For each step what each tool keeps to the bytes of one Parquet file."""
    found = {}
    for told, step in BYTES.items():
        size = sizes["grown" if step in ("bytes_whole", "bytes_alone") else "first"]
        found[told] = {
            tool: _median([each[step][tool] / size for each in rounds]) for tool in rounds[0][step]
        }
    return {told: tools for told, tools in found.items() if tools}


def _median(values: list[float]) -> float:
    return round(statistics.median(values), 3)


def show(ratios: dict[str, dict[str, float]]) -> None:
    tools = ["Clew", *PEERS]
    print(f"{'':36}" + "".join(f"{tool:>12}" for tool in tools))
    for told, by_tool in ratios.items():
        cells = (f"{by_tool[tool]:.3f}" if tool in by_tool else "" for tool in tools)
        print(f"{told:36}" + "".join(f"{cell:>12}" for cell in cells))


if __name__ == "__main__":
    main()
