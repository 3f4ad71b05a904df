"""Telling a user what went wrong in their code: their own frames, their own file names."""

from __future__ import annotations

import inspect
import os
import re
import traceback
from collections.abc import Iterator
from pathlib import Path

from clew import declare
from clew.errors import ClewError, MissingExtra, ProjectError, TrainingFailed, did_you_mean

# The extra that brings a package which projects often import.
EXTRAS = {
    "lightgbm": "lightgbm",
    "pandas": "sklearn",
    "polars": "polars",
    "scipy": "sklearn",
    "sklearn": "sklearn",
    "skops": "sklearn",
}
_LONGEST_TRACEBACK = 20_000
_LONGEST_SENTENCE = 2_000


def user_traceback(error: BaseException, code_folder: Path) -> str:
    """The traceback of `error` with only the frames of files below `code_folder`, named relative to it."""
    told = traceback.TracebackException.from_exception(error)
    for part in _chain(told):
        part.stack[:] = [
            _renamed(frame, code_folder) for frame in part.stack if _is_below(frame, code_folder)
        ]
    text = "".join(told.format()).replace(f"{code_folder}/", "")
    if len(text) <= _LONGEST_TRACEBACK:
        return text
    half = _LONGEST_TRACEBACK // 2
    return f"{text[:half]}\n[... {len(text) - 2 * half:,} characters cut ...]\n{text[-half:]}"


def sentence(error: BaseException) -> str:
    """``ValueError: the words``, also for an error that cannot be printed, of bounded length."""
    words = _words(error)
    text = f"{type(error).__name__}: {words}" if words else type(error).__name__
    return text if len(text) <= _LONGEST_SENTENCE else f"{text[:_LONGEST_SENTENCE]} [...]"


def location(error: BaseException, code_folder: Path) -> str:
    """``bikes.py, line 7``: the innermost of the user's own lines; empty when none is involved."""
    if isinstance(error, SyntaxError) and error.filename:
        return f"{_relative(error.filename, code_folder)}, line {error.lineno}"
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames if _is_below(frame, code_folder)]
    return f"{_relative(own[-1].filename, code_folder)}, line {own[-1].lineno}" if own else ""


def import_fault(file: str, error: BaseException, code_folder: Path, project_root: Path) -> ClewError:
    """What to raise when importing the user's `file` raised `error`."""
    where = location(error, code_folder) or file
    missing = _missing_extra(error, where)
    if missing is not None:
        return missing
    if isinstance(error, ClewError):
        return _with_prefix(error, f"{where}: ")
    return ProjectError(
        _import_sentence(file, error, where, project_root), user_traceback(error, code_folder)
    )


def function_fault(
    function: str, error: BaseException, code_folder: Path, project_root: Path | None = None
) -> ClewError:
    """What to raise when the user's function raised `error`.

    With `project_root` it is said, too, when a file was not found that only the project has.
    """
    where = location(error, code_folder)
    missing = _missing_extra(error, where or f"{function}()")
    if missing is not None:
        return missing
    what = "called sys.exit()" if isinstance(error, SystemExit) else f"raised {sentence(error)}"
    place = f" ({where})" if where else ""
    hint = "" if project_root is None else _left_behind(error, code_folder, project_root)
    return TrainingFailed(f"{function}() {what}{place}{hint}", user_traceback(error, code_folder))


def is_orphan_relative_import(error: ImportError) -> bool:
    """Whether a file outside any package did ``from . import x``."""
    return "no known parent package" in _words(error)


def _import_sentence(file: str, error: BaseException, where: str, project_root: Path) -> str:
    if isinstance(error, SyntaxError):
        return f"{where} is not valid Python: {error.msg}."
    if isinstance(error, ModuleNotFoundError) and error.name:
        return f"{where} imports {error.name!r}, {_why_missing(error.name, project_root)}"
    if isinstance(error, ImportError) and is_orphan_relative_import(error):
        return f"{where} imports relatively, but its folder is no package; add an empty __init__.py there."
    uncalled = re.match(r"(dataset|model)\(\) missing .* required", _words(error))
    if isinstance(error, TypeError) and uncalled:
        example = {
            "dataset": '"rides.parquet", time=…, key=…, label=…, label_delay=…',
            "model": "rides, metric=…, margin=…",
        }
        decorator = f"@clew.{uncalled[1]}"
        return f"{where}: {decorator} needs its arguments: {decorator}({example[uncalled[1]]}): {error}."
    unknown = re.match(r"(dataset|model)\(\) got an unexpected keyword argument '(\w+)'", _words(error))
    if isinstance(error, TypeError) and unknown:
        decorator, argument = unknown.groups()
        hint = did_you_mean(argument, inspect.signature(getattr(declare, decorator)).parameters)
        return f"{where}: @clew.{decorator} has no argument {argument!r}. {hint}"
    return f"{file} cannot be imported: {sentence(error)} ({where})"


def _left_behind(error: BaseException, code_folder: Path, project_root: Path) -> str:
    """A sentence when the file that was not found lies in the project, but is no code and so not captured."""
    if not isinstance(error, FileNotFoundError):
        return ""
    name = os.fspath(error.filename) if isinstance(error.filename, str | Path) else _last_word(error)
    name = name.removeprefix(f"{code_folder}/")
    if not name or Path(name).is_absolute() or not (project_root / name).is_file():
        return ""
    return (
        f". {name} lies in {project_root}, but the function runs from captured code, where data files are"
        " not. Name it by its absolute path, or let it be the source of a dataset."
    )


def _last_word(error: FileNotFoundError) -> str:
    # Arrow gives the path as the whole message, and no filename.
    return str(error.args[-1]) if error.args else ""


def _words(error: BaseException) -> str:
    return str(traceback.TracebackException.from_exception(error, limit=0))


def _why_missing(module: str, project_root: Path) -> str:
    path = module.replace(".", "/")
    for candidate in (f"{path}.py", f"src/{path}.py", f"{path}/__init__.py"):
        if (project_root / candidate).is_file():
            return f"but {candidate} is not part of the captured code; is it ignored by git?"
    package = module.partition(".")[0]
    return f"which is neither a file of the project nor installed. If it is a package: pip install {package}"


def _missing_extra(error: BaseException, purpose: str) -> MissingExtra | None:
    if isinstance(error, ModuleNotFoundError) and error.name in EXTRAS:
        return MissingExtra(error.name, EXTRAS[error.name], purpose)
    return error if isinstance(error, MissingExtra) else None


def _with_prefix(error: ClewError, prefix: str) -> ClewError:
    told = type(error).__new__(type(error))
    Exception.__init__(told, f"{prefix}{error}")
    vars(told).update(vars(error))
    return told


def _chain(told: traceback.TracebackException | None) -> Iterator[traceback.TracebackException]:
    """An exception, its causes and contexts, and the members of groups."""
    if told is not None:
        yield told
        for other in (told.__cause__, told.__context__, *(told.exceptions or ())):
            yield from _chain(other)


def _is_below(frame: traceback.FrameSummary, code_folder: Path) -> bool:
    return Path(frame.filename).is_relative_to(code_folder)


def _renamed(frame: traceback.FrameSummary, code_folder: Path) -> traceback.FrameSummary:
    _ = frame.line  # read from the file before it gets the name that the user knows
    frame.filename = _relative(frame.filename, code_folder)
    return frame


def _relative(filename: str, code_folder: Path) -> str:
    path = Path(filename)
    return path.relative_to(code_folder).as_posix() if path.is_relative_to(code_folder) else path.name
