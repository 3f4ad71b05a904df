"""``clew up`` as a process of its own, in a folder of its own, on free ports."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import psutil

ROOT = Path(__file__).resolve().parents[2]
PATIENCE_SECONDS = 60.0
IN_SMALL = (str(ROOT / "tests/server/up_program.py"),)
FOR_REAL = ("-P", "-c", "import sys; from clew.cli import run; sys.exit(run(['up', *sys.argv[1:]]))")
"""``clew up`` as it is installed, with the project's own loop and prediction workers."""


@dataclass
class Up:
    """A running ``clew up``; `facts` are what it printed when it was ready."""

    process: subprocess.Popen[str]
    folder: Path
    facts: dict[str, Any]
    log: Path

    @property
    def token(self) -> str:
        return Path(self.facts["token_file"]).read_text().strip()

    @property
    def processes(self) -> dict[str, int]:
        found: dict[str, int] = json.loads((self.folder / ".clew/run/up.json").read_text())["processes"]
        return found

    def ask(self, method: str, path: str, **more: Any) -> httpx.Response:
        """Ask the control server, with the first token unless headers are given."""
        if "headers" not in more:
            more["headers"] = {"Authorization": f"Bearer {self.token}"}
        more = {"timeout": 30} | more
        return httpx.request(method, self.facts["control_url"] + path, **more)

    def predict(self) -> int:
        """Which worker answers."""
        return int(httpx.get(self.facts["url"] + "/predict", timeout=30).text)

    def family(self) -> list[psutil.Process]:
        return psutil.Process(self.process.pid).children(recursive=True)


def make_project(folder: Path) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / "clew.toml").write_text('models = ["model.py"]\n')
    (folder / "model.py").write_text("import clew\n")
    return folder


def start(folder: Path, *words: str, program: Sequence[str] = IN_SMALL) -> tuple[subprocess.Popen[str], Path]:
    """Start it without waiting; its stderr goes to a file."""
    log = folder / "up.log"
    command = [sys.executable, *program, "--json"]
    ports = [] if "--port" in words else ["--port", "0"]
    ports += [] if "--control-port" in words else ["--control-port", "0"]
    environment = {"PATH": os.defpath, "PYTHONPATH": str(ROOT), "HOME": str(folder)}
    with log.open("a") as out:
        process = subprocess.Popen(
            [*command, *ports, *words],
            cwd=folder,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=out,
            text=True,
        )
    return process, log


@contextlib.contextmanager
def up(folder: Path, *words: str, program: Sequence[str] = IN_SMALL) -> Iterator[Up]:
    """Run it for the time of the block; whatever is left of it afterwards is killed."""
    process, log = start(folder, *words, program=program)
    assert process.stdout is not None
    family: list[psutil.Process] = []
    try:
        facts = _document(process)
        assert facts, log.read_text()
        running = Up(process, folder, facts, log)
        family = running.family()
        yield running
    finally:
        with contextlib.suppress(psutil.NoSuchProcess):
            family += psutil.Process(process.pid).children(recursive=True)
        process.kill()
        process.wait()
        process.stdout.close()
        for each in family:
            with contextlib.suppress(psutil.NoSuchProcess):
                each.kill()


def _document(process: subprocess.Popen[str]) -> dict[str, Any]:
    assert process.stdout is not None
    lines: list[str] = []
    for line in process.stdout:
        lines.append(line)
        if line == "}\n":
            break
    facts: dict[str, Any] = json.loads("".join(lines) or "{}")
    return facts


def ended(process: subprocess.Popen[str]) -> tuple[int, str]:
    """Its exit code and everything it printed."""
    said, _ = process.communicate(timeout=PATIENCE_SECONDS)
    return process.returncode, said


def eventually(holds: Callable[[], Any], seconds: float = PATIENCE_SECONDS) -> Any:
    """What `holds` gives, once it is true."""
    give_up = time.monotonic() + seconds
    while not (found := holds()):
        assert time.monotonic() < give_up, "it did not come about in time"
        time.sleep(0.05)
    return found


def kill(pid: int, number: int = signal.SIGKILL) -> None:
    os.kill(pid, number)
