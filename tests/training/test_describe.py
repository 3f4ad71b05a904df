from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from clew.config import Settings
from clew.entities import RowRange
from clew.errors import ClewError, DeclarationError, MissingExtra, ProjectError, TrainingFailed
from clew.storage import open_store
from clew.tracking import capture_code, materialise_code
from clew.training import Child
from tests.tracking.conftest import NOW
from tests.training.conftest import StartChild
from tests.training.projects import DATASET, MODEL, columns, project, rides, write

IMPORT_CLEW = "import clew\n"


def names(child: Child, *files: str) -> list[tuple[str, str]]:
    return [(described.file, described.model.name) for described in child.describe(files)]


def fault(child: Child, *files: str) -> ClewError:
    with pytest.raises(ClewError) as caught:
        child.describe(files)
    return caught.value


# -- what is declared ----------------------------------------------------------------------------------


def test_declarations_arrive_as_they_were_written(start: StartChild, tmp_path: Path) -> None:
    model = """
    @clew.model(rides, metric="log_loss", margin="2%", minimum={"accuracy": 0.75}, slices=["city"],
                retrain=["auto", "every 60d"], rollout="shadow 1d, canary 10% 1d", train_window="3mo",
                memory_limit="2GB", time_limit="90m")
    def busy_hour(train, layers=(10, 5), rate=0.1, name=None, deep={"a": [1, 2]}):
        ...
    """
    found = start(project(tmp_path / "p", model)).describe(["bikes.py"])[0].model
    assert (found.name, found.metric, str(found.margin), found.minimum) == (
        "busy_hour",
        "log_loss",
        "2%",
        {"accuracy": 0.75},
    )
    assert [str(trigger) for trigger in found.retrain] == ["auto", "every 60d"]
    assert [str(step) for step in found.rollout] == ["shadow 1d", "canary 10% 1d"]
    assert (str(found.train_window), found.memory_limit_bytes, str(found.time_limit)) == (
        "3mo",
        2 * 10**9,
        "90m",
    )
    assert (found.params["layers"], found.params["name"], found.params["deep"]) == (
        [10, 5],
        None,
        {"a": [1, 2]},
    )
    assert found.params["rate"] == 0.1
    assert (found.dataset.name, found.dataset.key, str(found.dataset.label_delay)) == (
        "rides",
        "hour_id",
        "1d",
    )


def test_models_come_in_the_order_of_files_and_lines(start: StartChild, tmp_path: Path) -> None:
    second = MODEL.replace("busy_hour", "quiet_hour")
    root = project(tmp_path / "p", MODEL, second)
    write(root, {"a.py": "from bikes import clew, rides\n" + MODEL.replace("busy_hour", "early_hour")})
    child = start(root)
    assert names(child, "bikes.py", "a.py") == [
        ("bikes.py", "busy_hour"),
        ("bikes.py", "quiet_hour"),
        ("a.py", "early_hour"),
    ]


def test_a_model_that_another_file_imports_is_reported_once(start: StartChild, tmp_path: Path) -> None:
    root = project(tmp_path / "p")
    write(root, {"all_models.py": "from bikes import busy_hour\nsame = busy_hour\n"})
    assert names(start(root), "bikes.py", "all_models.py") == [("bikes.py", "busy_hour")]


def test_two_models_of_one_name_are_refused_naming_both_files(start: StartChild, tmp_path: Path) -> None:
    root = project(tmp_path / "p")
    write(root, {"other.py": DATASET.replace("rides(", "trips(") + MODEL.replace("rides", "trips")})
    told = str(fault(start(root), "bikes.py", "other.py"))
    assert told.startswith("The project has two models named 'busy_hour', one in bikes.py, one in other.py.")


def test_two_datasets_of_one_name_are_refused(start: StartChild, tmp_path: Path) -> None:
    root = project(tmp_path / "p")
    write(root, {"other.py": DATASET + MODEL.replace("busy_hour", "quiet_hour")})
    assert "two datasets named 'rides', one in bikes.py, one in other.py" in str(
        fault(start(root), "bikes.py", "other.py")
    )


# -- where files may lie -------------------------------------------------------------------------------

RELATIVE = "from .data import clew, rides\n" + MODEL.replace("Cut(cut)", "None")


@pytest.mark.parametrize(
    ("folder", "named"),
    [
        ("pkg/", "pkg/models.py"),
        ("pkg/", "pkg.models"),
        ("pkg/deep/", "pkg/deep/models.py"),
        ("src/pkg/", "src/pkg/models.py"),
        ("src/pkg/", "pkg.models"),
    ],
)
def test_a_file_in_a_package_may_import_relatively(
    start: StartChild, tmp_path: Path, folder: str, named: str
) -> None:
    files = {f"{folder}models.py": RELATIVE, f"{folder}data.py": DATASET, f"{folder}__init__.py": ""}
    files |= {"pkg/__init__.py": ""} if folder.startswith("pkg") else {}
    assert names(start(write(tmp_path / "p", files)), named) == [(named, "busy_hour")]


def test_a_file_in_a_plain_folder_finds_its_neighbours(start: StartChild, tmp_path: Path) -> None:
    absolute = "import data\nfrom data import clew, rides\n" + MODEL.replace("Cut(cut)", "None")
    root = write(tmp_path / "p", {"models/bikes.py": absolute, "models/data.py": DATASET})
    assert names(start(root), "models/bikes.py") == [("models/bikes.py", "busy_hour")]


def test_of_two_packages_of_one_name_the_one_in_src_counts(start: StartChild, tmp_path: Path) -> None:
    files = {"src/pkg/__init__.py": "", "src/pkg/models.py": DATASET + MODEL}
    root = write(tmp_path / "p", files | {"pkg/__init__.py": "", "pkg/models.py": ""})
    assert names(start(root), "pkg.models") == [("pkg.models", "busy_hour")]


def test_a_package_itself_may_be_named(start: StartChild, tmp_path: Path) -> None:
    root = write(
        tmp_path / "p",
        {"credit/__init__.py": "from .models import busy_hour\n", "credit/models.py": DATASET + MODEL},
    )
    assert names(start(root), "credit") == [("credit", "busy_hour")]


def test_a_project_whose_root_is_a_package_may_import_relatively(start: StartChild, tmp_path: Path) -> None:
    root = write(tmp_path / "rides_pkg", {"models.py": RELATIVE, "data.py": DATASET, "__init__.py": ""})
    assert names(start(root), "models.py") == [("models.py", "busy_hour")]


def test_a_file_name_that_is_no_module_name_works(start: StartChild, tmp_path: Path) -> None:
    root = write(tmp_path / "p", {"my-bikes 2.py": DATASET + MODEL})
    assert names(start(root), "my-bikes 2.py") == [("my-bikes 2.py", "busy_hour")]


def test_an_absolute_path_into_the_project_works(start: StartChild, tmp_path: Path) -> None:
    root = project(tmp_path / "p")
    assert names(start(root), str(root / "bikes.py")) == [(str(root / "bikes.py"), "busy_hour")]


# -- what is refused, and how it is said ---------------------------------------------------------------


REFUSED = {
    "bike.py": "There is no file 'bike.py' in {root}. Did you mean 'bikes.py'?",
    "bike.models": (
        "The project {root} has no module 'bike.models': there is neither bike/models.py"
        " nor bike/models/__init__.py."
    ),
    "notes.ipynb": (
        "notes.ipynb is a notebook, whose cells may run in any order. Save its code as a .py file."
    ),
    "../outside.py": "../outside.py lies outside the project {root}; name files below it.",
    "notes.txt": "notes.txt is not a Python file; name the file that declares the model.",
    "empty.py": "empty.py declares no model. Declare one with @clew.model.",
}


@pytest.mark.parametrize("named", REFUSED)
def test_a_file_that_cannot_be_taken_is_told(start: StartChild, tmp_path: Path, named: str) -> None:
    write(tmp_path, {"outside.py": DATASET + MODEL})
    root = write(project(tmp_path / "p"), {"notes.ipynb": "{}", "notes.txt": "", "empty.py": DATASET})
    told = fault(start(root), named)
    assert isinstance(told, ProjectError)
    assert str(told) == REFUSED[named].format(root=root)


IMPORT_FAULTS = {
    "syntax": ("import clew\ndef f(:\n", "broken.py, line 2 is not valid Python: invalid syntax."),
    "bracket": ("f(1\n", "broken.py, line 1 is not valid Python: '(' was never closed."),
    "name": (
        "\n\nundefined\n",
        "broken.py cannot be imported: NameError: name 'undefined' is not defined (broken.py, line 3)",
    ),
    "module": (
        "import nonesuch.deep\n",
        (
            "broken.py, line 1 imports 'nonesuch', which is neither a file of the project nor installed."
            " If it is a package: pip install nonesuch"
        ),
    ),
    "exit": (
        "import sys\nsys.exit(3)\n",
        "broken.py cannot be imported: SystemExit: 3 (broken.py, line 2)",
    ),
    "relative": (
        "from . import data\n",
        (
            "broken.py, line 1 imports relatively, but its folder is no package;"
            " add an empty __init__.py there."
        ),
    ),
    "model not called": (
        DATASET + "@clew.model\ndef busy(train): ...\n",
        (
            "broken.py, line 13: @clew.model needs its arguments: @clew.model(rides, metric=…, margin=…):"
            " model() missing 2 required keyword-only arguments: 'metric' and 'margin'."
        ),
    ),
    "dataset not called": (
        "import clew\n@clew.dataset\ndef rides(table): ...\n",
        (
            "broken.py, line 2: @clew.dataset needs its arguments:"
            ' @clew.dataset("rides.parquet", time=…, key=…, label=…, label_delay=…): dataset() missing 4'
            " required keyword-only arguments: 'time', 'key', 'label', and 'label_delay'."
        ),
    ),
    "unknown argument": (
        DATASET + '@clew.model(rides, metric="accuracy", margin=0.1, slice=[])\ndef busy(train): ...\n',
        "broken.py, line 13: @clew.model has no argument 'slice'. Did you mean 'slices'?",
    ),
    "indirect": (
        "import helpers\n",
        "broken.py cannot be imported: ZeroDivisionError: division by zero (helpers.py, line 2)",
    ),
    "unprintable": (
        "class Odd(Exception):\n    def __str__(self): raise ValueError\nraise Odd\n",
        "broken.py cannot be imported: Odd: <exception str() failed> (broken.py, line 3)",
    ),
}


@pytest.mark.parametrize("kind", IMPORT_FAULTS)
def test_a_file_that_cannot_be_imported_is_told(start: StartChild, tmp_path: Path, kind: str) -> None:
    content, sentence = IMPORT_FAULTS[kind]
    root = write(
        tmp_path / "p", {"broken.py": content, "helpers.py": "def half(x):\n    return x / 0\nhalf(1)\n"}
    )
    told = fault(start(root), "broken.py")
    assert isinstance(told, ProjectError)
    assert str(told) == sentence


def test_the_traceback_is_the_users_own(start: StartChild, tmp_path: Path) -> None:
    root = write(
        tmp_path / "p", {"broken.py": "import pkg.deep\n", "pkg/deep.py": "import json\njson.loads('x')\n"}
    )
    told = fault(start(root), "broken.py")
    assert isinstance(told, ProjectError)
    assert told.traceback.splitlines() == [
        "Traceback (most recent call last):",
        '  File "broken.py", line 1, in <module>',
        "    import pkg.deep",
        '  File "pkg/deep.py", line 2, in <module>',
        "    json.loads('x')",
        "json.decoder.JSONDecodeError: Expecting value: line 1 column 1 (char 0)",
    ]


def test_a_wrong_declaration_is_told_with_its_line(start: StartChild, tmp_path: Path) -> None:
    root = project(
        tmp_path / "p", '\n@clew.model(rides, metric="acuracy", margin=0.01)\ndef busy(train): ...\n'
    )
    told = fault(start(root), "bikes.py")
    assert isinstance(told, DeclarationError)
    assert str(told) == "bikes.py, line 14: metric is 'acuracy'. Did you mean 'accuracy'?"


@pytest.mark.parametrize(
    ("package", "extra"),
    [("lightgbm", "lightgbm"), ("sklearn", "sklearn"), ("pandas", "sklearn"), ("polars", "polars")],
)
def test_a_missing_optional_package_is_told_with_its_extra(
    start: StartChild, tmp_path: Path, package: str, extra: str
) -> None:
    # None in sys.modules is how Python itself says that a module is not there.
    root = write(
        tmp_path / "p", {"bikes.py": f"import sys\nsys.modules[{package!r}] = None\nimport {package}\n"}
    )
    told = fault(start(root), "bikes.py")
    assert isinstance(told, MissingExtra)
    assert (told.package, told.extra) == (package, extra)
    assert str(told) == (
        f"bikes.py, line 3 needs the package {package!r}, which is not installed."
        f' Run: pip install "clew[{extra}]"'
    )


def test_a_file_named_like_an_installed_module_is_told(start: StartChild, tmp_path: Path) -> None:
    root = write(tmp_path / "p", {"json.py": DATASET + MODEL})
    assert str(fault(start(root), "json.py")) == (
        "json.py has the name of the installed module 'json', which hides it; rename the file."
    )


def test_an_import_that_ends_the_process_is_told(start: StartChild, tmp_path: Path) -> None:
    child = start(write(project(tmp_path / "p"), {"broken.py": "import os\nprint('so long')\nos._exit(7)\n"}))
    told = fault(child, "broken.py")
    assert isinstance(told, TrainingFailed)
    assert str(told) == (
        "Importing broken.py ended its own process with exit code 7, as os._exit() does."
        " The last it printed: so long"
    )
    assert names(child, "bikes.py") == [("bikes.py", "busy_hour")], "another process goes on"


def test_describing_twice_after_an_error_works(start: StartChild, tmp_path: Path) -> None:
    child = start(write(project(tmp_path / "p"), {"broken.py": "undefined\n"}))
    assert "NameError" in str(fault(child, "broken.py"))
    assert names(child, "bikes.py") == [("bikes.py", "busy_hour")]
    assert "NameError" in str(fault(child, "broken.py"))


# -- the captured code alone ---------------------------------------------------------------------------

SPREAD = {
    "credit/__init__.py": "",
    "credit/queries.py": """
        from pathlib import Path
        CUT = float(Path(__file__).with_name("cut.sql").read_text())
    """,
    "credit/cut.sql": "0.25",
    "credit/data.py": DATASET,
    "credit/models.py": "from .data import Cut, clew, rides\nfrom .queries import CUT\n"
    + MODEL.replace("Cut(cut)", "Cut(cut + CUT)"),
    "clew.toml": 'models = ["credit.models"]\n',
}


def test_a_project_of_several_modules_runs_from_its_captured_code(tmp_path: Path) -> None:
    root = write(tmp_path / "project", SPREAD)
    with open_store(Settings(root=root, store=tmp_path / "store"), now=NOW) as store:
        tree = capture_code(store, root, now=NOW)
        materialise_code(store, tree.id, tmp_path / "elsewhere" / "code")
        shutil.rmtree(root)  # nothing of it is needed any more
        table = rides()
        with (
            store.scratch("fit") as scratch,
            Child.start(tmp_path / "elsewhere" / "code", root, scratch) as child,
        ):
            described = child.describe(["credit.models"])[0]
            child.use(table, described.model, "credit.models", columns(table))
            child.fit("one", RowRange(0, 100))
            predicted = child.predict("one", RowRange(100, 200)).predicted
    assert (predicted == (table["warmth"].to_numpy()[100:200] > 0.25)).all()


def test_edits_after_the_capture_change_nothing(tmp_path: Path) -> None:
    root = project(tmp_path / "project", MODEL)
    with open_store(Settings(root=root, store=tmp_path / "store"), now=NOW) as store:
        tree = capture_code(store, root, now=NOW)
        write(root, {"bikes.py": "raise SystemExit('edited')\n", "new_module.py": ""})
        materialise_code(store, tree.id, tmp_path / "code")
        with store.scratch("fit") as scratch, Child.start(tmp_path / "code", root, scratch) as child:
            assert names(child, "bikes.py") == [("bikes.py", "busy_hour")]


def test_search_paths_into_the_project_are_not_followed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, start: StartChild
) -> None:
    root = write(tmp_path / "project", {"bikes.py": DATASET + MODEL, "lib/extra.py": "x = 1\n"})
    code = write(tmp_path / "code", {"bikes.py": "import extra\n"})
    monkeypatch.setenv("PYTHONPATH", str(root / "lib"))
    with Child.start(code, root, tmp_path) as child:
        assert "imports 'extra', which is neither" in str(fault(child, "bikes.py"))


def test_a_module_that_was_not_captured_is_told_so(tmp_path: Path) -> None:
    root = write(tmp_path / "project", {"bikes.py": "import features\n", "features.py": ""})
    code = write(tmp_path / "code", {"bikes.py": "import features\n"})
    with Child.start(code, root, tmp_path) as child:
        assert str(fault(child, "bikes.py")) == (
            "bikes.py, line 1 imports 'features', but features.py is not part of the captured code;"
            " is it ignored by git?"
        )
        assert "exists but is not part of the captured code" in str(fault(child, "features.py"))
