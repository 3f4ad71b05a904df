"""Importing the files of a user's project, in the child.

Modules get the names that Python itself would give them, so that relative imports work and a class of
the project is found again by its name: a file inside a package is named from the package's outermost
folder, any other file from the project's root (or from ``src/``).
"""

from __future__ import annotations

import importlib
import importlib.util
import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import TypeVar

from clew.declare import DatasetSpec, ModelSpec
from clew.entities import ModelDeclaration
from clew.errors import ProjectError, did_you_mean
from clew.training.faults import import_fault, is_orphan_relative_import

Spec = TypeVar("Spec", ModelSpec, DatasetSpec)


@dataclass(frozen=True, slots=True)
class Described:
    """A model, and the project's file that declares it as ``clew.toml`` names it."""

    file: str
    model: ModelDeclaration


class Project:
    """The user's files below `code_folder`, which were captured from `project_root`."""

    def __init__(self, code_folder: Path, project_root: Path) -> None:
        self._code_folder = code_folder.resolve()
        self._project_root = project_root.resolve()
        self._modules: dict[str, ModuleType] = {}
        self._bases = [self._code_folder]
        if _is_plain_folder(self._code_folder / "src"):
            self._bases.insert(0, self._code_folder / "src")
        sys.path[:0] = map(str, self._bases)

    def describe(self, files: Sequence[str]) -> list[Described]:
        """The models declared by `files`, in the order of files and lines.

        A model that a second file imports from the first is reported once, for the first.

        Raises
        ------
        ProjectError
            When a file cannot be imported, declares no model, or two declarations share a name.
        """
        found: list[Described] = []
        models: dict[str, tuple[str, ModelSpec]] = {}
        datasets: dict[str, tuple[str, DatasetSpec]] = {}
        for file in files:
            specs = _declared(self._module(file), ModelSpec)
            if not specs:
                raise ProjectError(f"{file} declares no model. Declare one with @clew.model.")
            for spec in specs:
                _refuse_twin("models", spec, file, *models.setdefault(spec.name, (file, spec)))
                used = spec.dataset
                _refuse_twin("datasets", used, file, *datasets.setdefault(used.name, (file, used)))
                if models[spec.name][0] == file:
                    found.append(Described(file, spec.declaration))
        return found

    def model(self, file: str, name: str) -> ModelSpec:
        specs = {spec.name: spec for spec in _declared(self._module(file), ModelSpec)}
        if name not in specs:
            raise ProjectError(f"{file} declares no model {name!r}. {did_you_mean(name, specs)}")
        return specs[name]

    def dataset(self, file: str, name: str) -> DatasetSpec:
        """The dataset `name`, declared in `file` or used by one of its models."""
        module = self._module(file)
        specs = {spec.name: spec for spec in _declared(module, DatasetSpec)}
        specs |= {spec.dataset.name: spec.dataset for spec in _declared(module, ModelSpec)}
        if name not in specs:
            raise ProjectError(f"{file} declares no dataset {name!r}. {did_you_mean(name, specs)}")
        return specs[name]

    def _module(self, file: str) -> ModuleType:
        if file not in self._modules:
            self._modules[file] = self._import(file, self._path(file))
        return self._modules[file]

    # -- from a name in clew.toml to a file ----------------------------------------------------------------

    def _path(self, file: str) -> Path:
        if file.endswith(".ipynb"):
            raise ProjectError(
                f"{file} is a notebook, whose cells may run in any order. Save its code as a .py file."
            )
        is_module = re.fullmatch(r"\w+(\.\w+)*", file) and not file.endswith(".py")
        if is_module and not (self._code_folder / file).is_file():
            return self._path_of_module(file)
        path = (self._code_folder / self._inside_project(file)).resolve()
        if not path.is_relative_to(self._code_folder):
            raise ProjectError(f"{file} lies outside the project {self._project_root}; name files below it.")
        if not path.is_file():
            raise ProjectError(self._missing(file))
        if path.suffix != ".py":
            raise ProjectError(f"{file} is not a Python file; name the file that declares the model.")
        return path

    def _inside_project(self, file: str) -> Path:
        path = Path(file)
        inside = path.is_absolute() and path.is_relative_to(self._project_root)
        return path.relative_to(self._project_root) if inside else path

    def _path_of_module(self, module: str) -> Path:
        relative = module.replace(".", "/")
        candidates = [
            base / name for base in self._bases for name in (f"{relative}.py", f"{relative}/__init__.py")
        ]
        found = next((path for path in candidates if path.is_file()), None)
        if found is None:
            raise ProjectError(
                f"The project {self._project_root} has no module {module!r}: there is neither {relative}.py"
                f" nor {relative}/__init__.py."
            )
        return found

    def _missing(self, file: str) -> str:
        if (self._project_root / file).is_file():
            return f"{file} exists but is not part of the captured code; is it ignored by git?"
        scripts = sorted(
            path.relative_to(self._code_folder).as_posix() for path in self._code_folder.glob("*.py")
        )
        return f"There is no file {file!r} in {self._project_root}. {did_you_mean(file, scripts)}"

    # -- importing -----------------------------------------------------------------------------------------

    def _import(self, file: str, path: Path) -> ModuleType:
        base, name = self._base_and_name(path)
        for folder in (base, path.parent):
            if str(folder) not in sys.path:
                sys.path.insert(len(self._bases), str(folder))
        try:
            module = self._import_named(name, path)
        # Whatever a file of the user's does when imported, sys.exit() included, is told as its fault.
        except BaseException as error:  # noqa: BLE001
            raise import_fault(file, error, self._code_folder, self._project_root) from None
        if Path(module.__file__ or "").resolve() != path:
            raise ProjectError(
                f"{file} has the name of the installed module {name!r}, which hides it; rename the file."
            )
        return module

    def _import_named(self, name: str, path: Path) -> ModuleType:
        if not all(part.isidentifier() for part in name.split(".")):
            return _import_file(re.sub(r"\W", "_", path.stem), path)
        try:
            return importlib.import_module(name)
        except ImportError as error:
            if not (is_orphan_relative_import(error) and (self._code_folder / "__init__.py").is_file()):
                raise
            # The project's root is itself a package, named by its folder.
            root = self._project_root.name
            _import_file(root, self._code_folder / "__init__.py", package_folder=self._code_folder)
            return importlib.import_module(f"{root}.{name}")

    def _base_and_name(self, path: Path) -> tuple[Path, str]:
        """The folder to search and the dotted name for the file `path`."""
        base = path.parent
        while base != self._code_folder and (base / "__init__.py").is_file():
            base = base.parent
        if base == path.parent:  # not in a package: named from the root, or from src/
            base = next(folder for folder in self._bases if path.is_relative_to(folder))
        parts = path.relative_to(base).with_suffix("").parts
        return base, ".".join(parts[:-1] if parts[-1] == "__init__" and len(parts) > 1 else parts)


def _import_file(name: str, path: Path, package_folder: Path | None = None) -> ModuleType:
    folders = [str(package_folder)] if package_folder else None
    spec = importlib.util.spec_from_file_location(name, path, submodule_search_locations=folders)
    if spec is None or spec.loader is None:
        raise ImportError(f"{path.name} cannot be loaded as a Python module", name=name)
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module


def _is_plain_folder(path: Path) -> bool:
    return path.is_dir() and not (path / "__init__.py").exists()


def _declared(module: ModuleType, kind: type[Spec]) -> list[Spec]:
    """What the module holds of `kind`, in the order of its lines, aliases once."""
    found = {id(value): value for value in vars(module).values() if isinstance(value, kind)}
    return list(found.values())


def _refuse_twin(what: str, spec: Spec, file: str, first_file: str, first: Spec) -> None:
    if spec is not first:
        files = f"both in {file}" if file == first_file else f"one in {first_file}, one in {file}"
        raise ProjectError(
            f"The project has two {what} named {spec.name!r}, {files}."
            " Names are unique in a project; rename one."
        )
