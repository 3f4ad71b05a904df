"""The pages of the documentation as programs: what they show is typed, and what comes of it compared.

What a page may hold, by the words behind its three backticks:

``console``
    Commands behind ``$``, and below each what it prints. ``...`` stands for any lines.
``python NAME.py``, ``toml NAME.toml``, ``csv NAME.csv``
    A file of this name, written into the folder of the moment.
``python``, ``toml``
    A snippet: Python is run, settings are loaded.
``sh``
    Commands that cannot be run here, such as an installation; they are checked for what can be.
``text``
    Nothing to run.

``<!-- continues: PAGE.md -->`` begins a page in the folder that another page left behind.

Ids, the time of day and how long something took differ from run to run, so they only have to be there. An id
that a page shows stands, in its later commands, for the one that was printed in its place.
"""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path

from clew.config import load_settings

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
HOME = "/home/you"

_BLOCK = re.compile(r"^```(?P<kind>\w+)(?: +(?P<name>\S+))?\n(?P<body>.*?)^```$", re.MULTILINE | re.DOTALL)
_CONTINUES = re.compile(r"^<!-- continues: (?P<page>\S+) -->$", re.MULTILINE)
_ID = re.compile(r"\b(?:backtest-[0-9a-f]{10}|[0-9a-f]{12})\b")
_PROGRESS = re.compile(r"^ *\d+%  .*\n", re.MULTILINE)
_VARYING = (
    (_ID, "ID"),
    (re.compile(r"\b20(?:2[6-9]|[3-9]\d)-\d\d-\d\d \d\d:\d\d(?::\d\d)?"), "TIME"),
    (re.compile(r"\b20\d{6}T\d{6}Z(?:-[0-9a-f]{6})?\b"), "STAMP"),
    # Files that were written in the last two seconds are read once more.
    (re.compile(r"\b\d+ read\b"), "READ"),
    (re.compile(r"\b\d[\d.]* (?:s|ms)\b|\b\d+ min \d+ s\b"), "SECONDS"),
    # A package holds digits of numbers, whose count depends on the processor that computed them.
    (re.compile(r"\b\d[\d.,]* (?:bytes|kB|MB|GB)\b"), "BYTES"),
    (re.compile(r"─+"), "─"),
    (re.compile(r"[ \t]+"), " "),
)


class ExampleFailed(AssertionError):
    """A page shows something that does not work."""


@dataclass(frozen=True)
class Block:
    """One piece between backticks; `line` is that of its first line in the page, from 1."""

    kind: str
    name: str
    body: str
    line: int


@dataclass(frozen=True)
class Command:
    """A command of a console block, and the lines that the page shows below it."""

    typed: str
    shown: tuple[str, ...]
    line: int


@dataclass(frozen=True)
class Step:
    """A command that was run: where it stands, what the page shows, what it printed."""

    command: Command
    printed: tuple[str, ...]

    @property
    def is_true(self) -> bool:
        return is_shown(self.command.shown, self.printed)


@dataclass
class Walk:
    """Somebody who does what a page says, in a home of their own."""

    home: Path
    variables: Mapping[str, str]
    folder: Path = field(init=False)
    ids: dict[str, str] = field(default_factory=dict)
    steps: list[Step] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.folder = self.home

    def follow(self, page: Path) -> None:
        """Do everything that the page shows, from its beginning to its end."""
        names: dict[str, object] = {"__name__": "snippets"}
        for block in blocks(page.read_text(encoding="utf-8")):
            try:
                self._do(block, names)
            except Exception as error:
                raise ExampleFailed(f"{page}, line {block.line}: {type(error).__name__}: {error}") from error

    def _do(self, block: Block, names: dict[str, object]) -> None:
        if block.name:
            (self.folder / block.name).write_text(block.body, encoding="utf-8")
        elif block.kind == "console":
            self.steps += [self._typed(command) for command in commands(block)]
        elif block.kind == "python":
            exec(compile(block.body, "<snippet>", "exec"), names)
        elif block.kind == "toml":
            self._load(block.body)

    def _load(self, settings: str) -> None:
        wanted = re.findall(r'"\$(\w+)"', settings)
        with tempfile.TemporaryDirectory() as place:
            Path(place, "clew.toml").write_text(settings, encoding="utf-8")
            load_settings(Path(place), dict.fromkeys(wanted, "https://you.example"))

    def _typed(self, command: Command) -> Step:
        line = _ID.sub(lambda found: self.ids.get(found[0], found[0]), command.typed)
        words = shlex.split(line)
        if words[0] == "cd":
            self.folder = (self.folder / words[1]).resolve(strict=True)
            return Step(command, ())
        done = subprocess.run(
            ["bash", "-c", line], cwd=self.folder, env=self._environment(), text=True, check=False,
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip
        printed = _PROGRESS.sub("", done.stdout).replace(str(self.home), HOME)
        if done.returncode != 0:
            raise ExampleFailed(f"$ {line}\n{printed}\nended with {done.returncode}")
        step = Step(command, tuple(line.rstrip() for line in printed.rstrip().splitlines()))
        self._learn_ids(step)
        return step

    def _environment(self) -> dict[str, str]:
        own = {name: value for name, value in os.environ.items() if not name.startswith("CLEW_")}
        path = f"{Path(sys.executable).parent}{os.pathsep}{own.get('PATH', os.defpath)}"
        return own | {"HOME": str(self.home), "PATH": path, "NO_COLOR": "1", **self.variables}

    def _learn_ids(self, step: Step) -> None:
        shown, printed = (_ID.findall("\n".join(lines)) for lines in (step.command.shown, step.printed))
        if len(shown) == len(printed):
            self.ids |= dict(zip(shown, printed, strict=True))


# -- reading a page ------------------------------------------------------------------------------------


def blocks(text: str) -> Iterator[Block]:
    """The blocks of a page, in order.

    >>> [(block.kind, block.name, block.line) for block in blocks("a\\n```toml clew.toml\\nx = 1\\n```\\n")]
    [('toml', 'clew.toml', 3)]
    """
    for found in _BLOCK.finditer(text):
        line = text.count("\n", 0, found.start("body")) + 1
        yield Block(found["kind"], found["name"] or "", found["body"], line)


def commands(block: Block) -> list[Command]:
    """The commands of a console block; a line that ends with a backslash goes on in the next.

    >>> block = Block("console", "", "$ a \\\\\\n    b\\nout\\n$ c\\n", 1)
    >>> [(command.typed, command.shown) for command in commands(block)]
    [('a b', ('out',)), ('c', ())]
    """
    found: list[Command] = []
    for typed, rest in re.findall(r"^\$ ((?:.*\\\n)*.*)\n((?:(?!\$ ).*\n)*)", block.body, re.MULTILINE):
        line = block.line + block.body[: block.body.index(f"$ {typed}\n")].count("\n")
        shown = tuple(line.rstrip() for line in rest.rstrip().splitlines())
        found.append(Command(re.sub(r"\s*\\\n\s*", " ", typed), shown, line))
    return found


def all_pages() -> list[Path]:
    """The README and every page that people wrote; what ``make docs`` writes is left out."""
    written = [page for page in sorted(DOCS.rglob("*.md")) if DOCS / "reference" not in page.parents]
    return [ROOT / "README.md", *written]


def begins_in(page: Path) -> Path | None:
    """The page in whose folder this one begins."""
    found = _CONTINUES.search(page.read_text(encoding="utf-8"))
    return (page.parent / found["page"]).resolve(strict=True) if found else None


# -- comparing -----------------------------------------------------------------------------------------


def is_shown(shown: tuple[str, ...], printed: tuple[str, ...]) -> bool:
    """Whether a page shows what was printed, whatever varies from run to run.

    >>> is_shown(("took 0.1 s", "...", "end"), ("took 12 s", "1", "2", "end"))
    True
    >>> is_shown(("one",), ("one", "two"))
    False
    """
    pattern = "".join(r"(?:.*\n)*" if line == "..." else re.escape(masked(line)) + r"\n" for line in shown)
    return re.fullmatch(pattern, "".join(f"{masked(line)}\n" for line in printed)) is not None


def masked(line: str) -> str:
    """The line without what varies.

    >>> masked("run   5ae4c90f5548  took 0.1 s, at most 253 MB")
    'run ID took SECONDS, at most BYTES'
    """
    for pattern, word in _VARYING:
        line = pattern.sub(word, line)
    return line.strip()


def rewritten(text: str, steps: list[Step], ids: Mapping[str, str]) -> str:
    """The page with what its commands print now, where it shows something else."""
    lines = text.splitlines()
    for step in sorted(steps, key=lambda step: step.command.line, reverse=True):
        if not step.is_true:
            start = step.command.line - 1
            start += next(n for n, line in enumerate(lines[start:], 1) if not line.endswith("\\"))
            lines[start : start + _n_shown(lines, start)] = _abridged(step)
    text = "\n".join(lines) + "\n"
    return _ID.sub(lambda found: ids.get(found[0], found[0]), text)


def _n_shown(lines: list[str], start: int) -> int:
    ends = (n for n, line in enumerate(lines[start:]) if line.startswith(("$ ", "```")))
    n_lines = next(ends)
    while n_lines and not lines[start + n_lines - 1].strip():
        n_lines -= 1  # an empty line before the next command is the page's own
    return n_lines


def _abridged(step: Step) -> list[str]:
    """What was printed, cut as the page cuts it: as many lines before and after its ``...``."""
    shown = list(step.command.shown)
    if "..." not in shown:
        return list(step.printed)
    n_before, n_after = shown.index("..."), len(shown) - 1 - shown.index("...")
    end = step.printed[len(step.printed) - n_after :] if n_after else ()
    return [*chain(step.printed[:n_before], ["..."], end)]
