"""What user code may do to its process, and what must not come of it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import psutil
import pytest

from clew.entities import ModelDeclaration, RowRange
from clew.errors import TrainingFailed
from clew.training import Child
from tests.training.projects import columns, project, rides, write

MODELS = """
def model(function=None, **options):
    declare = clew.model(rides, metric="accuracy", margin=0.01, **options)
    return declare if function is None else declare(function)

@model
def busy_hour(train, cut=0.0):
    return Cut(cut)

@model
def sleeps(train, seconds=60.0):
    import time
    print("going to sleep")
    time.sleep(seconds)
    return Cut(0.0)

@model(time_limit="1m")
def hogs(train):
    sum(range(10**13))  # never lets go of the interpreter

@model(memory_limit="400MB")
def eats(train):
    import time
    import numpy as np
    kept = []
    while True:
        kept.append(np.ones(2_500_000))
        time.sleep(0.01)

@model
def killed(train):
    import os
    os.kill(os.getpid(), 9)

@model
def crashes(train):
    import ctypes
    ctypes.string_at(0)

@model
def leaves(train):
    import os
    print("bye")
    os._exit(3)

@model
def floods(train):
    import sys
    sys.stdout.write("begin\\n" + "x" * 50_000_000 + "\\nend\\n")
    return Cut(0.0)

@model
def closes_output(train):
    import os, sys
    sys.stdout.close()
    os.close(2)
    sys.stderr = None
    return Cut(0.0)

@model
def prints_natively(train):
    import ctypes, os, sys
    print("from Python")
    ctypes.CDLL(None).puts(b"from C")
    os.write(2, b"from the descriptor\\n")
    print("to the error stream", file=sys.stderr)
    sys.stdout = None
    return Cut(0.0)

@model
def closes_everything(train):
    import os
    os.closerange(3, 256)
    return Cut(0.0)

@model
def writes_into_everything(train):
    import os
    for fd in range(3, 64):
        try:
            os.write(fd, b"what is this pipe for?")
        except OSError:
            pass
    return Cut(0.0)

@model
def leaves_things_running(train):
    import subprocess, sys, threading, time
    threading.Thread(target=time.sleep, args=[3600]).start()
    print(subprocess.Popen([sys.executable, "-c", "import time; time.sleep(3600)"]).pid)
    return Cut(0.0)

@model
def dies_afterwards(train):
    import os, threading
    threading.Timer(0.2, os._exit, [5]).start()
    return Cut(0.0)

@model
def unsteady(train):
    from pathlib import Path
    was_fitted = Path("fitted").exists()
    Path("fitted").touch()
    return Cut(1.0 if was_fitted else 0.0)

class Deadly(Cut):
    n_asked = 0
    def predict(self, X):
        import os
        self.n_asked += 1
        if self.n_asked > 1:
            os._exit(9)
        return super().predict(X)

@model
def dies_predicting(train):
    return Deadly(0.0)

class DeadlyOnce(Deadly):
    def __init__(self, mark):
        self.cut, self.mark = 0.0, mark
    def predict(self, X):
        import pathlib
        if pathlib.Path(self.mark).exists():
            return Cut.predict(self, X)
        if self.n_asked:
            pathlib.Path(self.mark).touch()
        return super().predict(X)

@model
def dies_predicting_once(train, mark=""):
    return DeadlyOnce(mark)
"""


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return project(tmp_path_factory.mktemp("project"), MODELS)


@pytest.fixture(scope="module")
def child(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Child]:
    with Child.start(root, root, tmp_path_factory.mktemp("scratch")) as child:
        yield child


@pytest.fixture(scope="module")
def declared(child: Child) -> dict[str, ModelDeclaration]:
    return {described.model.name: described.model for described in child.describe(["bikes.py"])}


@pytest.fixture
def use(child: Child, declared: dict[str, ModelDeclaration]) -> Any:
    def use(model: str) -> Child:
        child.use(rides(), declared[model], "bikes.py", columns(rides()))
        return child

    return use


ROWS = RowRange(0, 200)


def failure(child: Child, **given: Any) -> TrainingFailed:
    with pytest.raises(TrainingFailed) as caught:
        child.fit("bad", ROWS, **given)
    return caught.value


def wait_until(is_so: Callable[[], bool], seconds: float = 10.0) -> bool:
    deadline = time.monotonic() + seconds
    while not is_so():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


def is_gone(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


# -- limits --------------------------------------------------------------------------------------------


def test_a_fit_beyond_its_time_is_ended_and_says_how_to_get_more(use: Any) -> None:
    child = use("sleeps")
    child.fit("good", ROWS, {"seconds": 0.0})  # so that nothing needs to be imported within the limit
    start = time.monotonic()
    told = failure(child, time_limit=timedelta(seconds=0.5))
    assert time.monotonic() - start < 5
    assert str(told) == (
        "sleeps() ran longer than its limit of 0.5 seconds. If it needs longer, raise the limit with"
        " time_limit= in @clew.model: time_limit='4h'. The last it printed: going to sleep"
    )
    assert told.output == b"going to sleep\n"
    assert child.fit("good", ROWS, {"seconds": 0.0}).n_rows == 180


def test_code_that_never_lets_go_of_the_interpreter_is_ended_too(use: Any) -> None:
    assert "ran longer than its limit of 0.3 seconds" in str(
        failure(use("hogs"), time_limit=timedelta(seconds=0.3))
    )


def test_a_fit_beyond_its_memory_is_ended_and_says_how_to_get_more(use: Any) -> None:
    told = str(failure(use("eats")))
    assert told.startswith("eats() used ")
    assert (
        " MB of memory, more than its limit of 400 MB. If it needs more, raise the limit with memory_limit="
        in told
    )


def test_the_lower_of_two_memory_limits_holds(
    root: Path, declared: dict[str, ModelDeclaration], tmp_path: Path
) -> None:
    with Child.start(root, root, tmp_path, memory_limit_bytes=300 * 10**6) as child:
        child.use(rides(), declared["eats"], "bikes.py", columns(rides()))
        assert "more than its limit of 300 MB" in str(failure(child))


# -- ends ----------------------------------------------------------------------------------------------


def test_a_signal_is_named(use: Any) -> None:
    assert str(failure(use("killed"))) == (
        "killed() was killed by SIGKILL, which the kernel's out-of-memory killer sends when memory runs out;"
        " fit on fewer rows, or give the machine more memory."
    )


def test_a_crash_in_native_code_shows_where_it_was_called(use: Any) -> None:
    told = failure(use("crashes"))
    assert "crashes() was killed by SIGSEGV: native code that it called crashed or was ended" in str(told)
    assert str(told).endswith("ended from outside. It was called at bikes.py, line 50.")
    assert b'bikes.py", line ' in told.output
    assert b"in crashes" in told.output


def test_a_function_that_ends_the_process_is_told(use: Any) -> None:
    assert str(failure(use("leaves"))) == (
        "leaves() ended its own process with exit code 3, as os._exit() does. The last it printed: bye"
    )


def test_a_process_that_dies_between_two_calls_is_replaced(use: Any) -> None:
    child = use("dies_afterwards")
    child.fit("good", ROWS)
    time.sleep(0.5)
    assert len(use("busy_hour").predict("good", ROWS)) == 200


@pytest.mark.parametrize("model", ["closes_everything", "writes_into_everything"])
def test_pipes_of_ours_in_the_hands_of_user_code_do_no_harm(use: Any, model: str) -> None:
    failure(use(model))
    child = use("busy_hour")
    assert child.fit("good", ROWS).n_rows == 180


# -- models outlive their process ----------------------------------------------------------------------


def test_models_of_a_process_that_died_are_fitted_again_when_needed(use: Any) -> None:
    child = use("busy_hour")
    for cut in (0.0, 0.5):
        child.fit(f"cut {cut}", ROWS, {"cut": cut})
    before = [child.predict(f"cut {cut}", ROWS).predicted.tolist() for cut in (0.0, 0.5)]
    use("leaves")
    failure(child)
    assert [child.predict(f"cut {cut}", ROWS).predicted.tolist() for cut in (0.0, 0.5)] == before


def test_a_model_that_comes_out_different_the_second_time_is_not_passed_off_as_the_first(use: Any) -> None:
    child = use("unsteady")
    child.fit("once", ROWS)
    use("leaves")
    failure(child)
    with pytest.raises(TrainingFailed, match=r"unsteady\(\) made another model when it was fitted again"):
        child.predict("once", ROWS)


def test_a_model_that_kills_the_process_when_asked_is_told(use: Any) -> None:
    child = use("dies_predicting")
    child.fit("deadly", ROWS)
    with pytest.raises(TrainingFailed, match="Predicting with deadly ended its own process with exit code 9"):
        child.predict("deadly", ROWS)
    assert use("busy_hour").fit("good", ROWS).n_rows == 180


def test_a_process_that_is_lost_while_it_predicts_is_asked_once_more(use: Any, tmp_path: Path) -> None:
    child = use("dies_predicting_once")
    child.fit("lost", ROWS, params={"mark": str(tmp_path / "mark")})
    before = child.process_id
    assert len(child.predict("lost", ROWS)) == 200
    assert child.process_id != before


# -- what is printed -----------------------------------------------------------------------------------


def test_a_flood_of_output_is_cut_and_says_so(use: Any) -> None:
    output = use("floods").fit("good", ROWS).output
    assert output.startswith(b"begin\nxxx")
    assert output.endswith(b"xxx\nend\n")
    assert len(output) < 300_000
    assert b"bytes cut ...]" in output


def test_closed_output_is_open_again_for_the_next_fit(use: Any) -> None:
    use("closes_output").fit("good", ROWS)
    assert b"from Python" in use("prints_natively").fit("good", ROWS).output


def test_native_and_error_output_is_kept_in_order(use: Any) -> None:
    child = use("prints_natively")
    for _ in range(2):
        output = child.fit("good", ROWS).output
        assert output.startswith(b"from Python\n")
        assert output.index(b"from the descriptor\n") < output.index(b"to the error stream\n")
        assert b"from C\n" in output


# -- nothing stays behind ------------------------------------------------------------------------------


def test_threads_and_processes_that_a_fit_leaves_behind_end_with_the_child(use: Any) -> None:
    child = use("leaves_things_running")
    left = int(child.fit("good", ROWS).output)
    assert not is_gone(left)
    child.close()
    assert wait_until(lambda: is_gone(left))


def test_a_child_leaves_no_descriptor_and_no_process(root: Path, tmp_path: Path) -> None:
    def held() -> tuple[int, int]:
        return psutil.Process().num_fds(), len(psutil.Process().children())

    before = held()
    for _ in range(3):
        with Child.start(root, root, tmp_path) as child:
            child.describe(["bikes.py"])
            assert held() > before
    assert held() == before


def test_a_child_started_by_a_thread_outlives_the_thread(root: Path, tmp_path: Path) -> None:
    started: list[Child] = []
    thread = threading.Thread(target=lambda: started.append(Child.start(root, root, tmp_path)))
    thread.start()
    thread.join()
    with started[0] as child:
        child.describe(["bikes.py"])
        assert len(child.describe(["bikes.py"])) == MODELS.count("\n@model")


PARENT = """
import sys
from pathlib import Path
from clew.entities import RowRange
from clew.training import Child
from tests.training.projects import columns, rides
root, scratch, model = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3]
with Child.start(root, root, scratch) as child:
    declared = {described.model.name: described.model for described in child.describe(["bikes.py"])}
    child.use(rides(), declared[model], "bikes.py", columns(rides()))
    print(child.process_id, flush=True)
    child.fit("one", RowRange(0, 200))
"""


@pytest.fixture
def parent(root: Path, tmp_path: Path) -> Iterator[Callable[[str], tuple[subprocess.Popen[str], int]]]:
    """Starts a program that fits a model in a child; gives the program and the child's pid."""
    started: list[subprocess.Popen[str]] = []

    def start(model: str) -> tuple[subprocess.Popen[str], int]:
        program = subprocess.Popen(
            [sys.executable, "-c", PARENT, root, tmp_path, model],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
            start_new_session=True,
        )
        started.append(program)
        assert program.stdout is not None
        pid = int(program.stdout.readline())
        time.sleep(0.3)  # into the fit
        return program, pid

    yield start
    for program in started:
        program.kill()
        program.communicate()


@pytest.mark.parametrize("model", ["sleeps", "hogs"])
def test_no_child_survives_a_parent_that_is_killed(parent: Any, model: str) -> None:
    program, child_pid = parent(model)
    assert not is_gone(child_pid)
    program.kill()
    program.wait()
    assert wait_until(lambda: is_gone(child_pid), seconds=5)


def test_ctrl_c_ends_the_child_which_prints_nothing(parent: Any) -> None:
    program, child_pid = parent("sleeps")
    os.killpg(program.pid, signal.SIGINT)  # what a terminal sends: to the whole foreground group
    _, errors = program.communicate(timeout=10)
    assert program.returncode == -signal.SIGINT
    assert errors.count("Traceback") == 1, "the parent's own"
    assert "going to sleep" not in errors
    assert wait_until(lambda: is_gone(child_pid), seconds=5)


def test_user_code_cannot_reach_the_standard_input(root: Path, tmp_path: Path) -> None:
    code = write(tmp_path / "p", {"asks.py": "input('password? ')\n"})
    with Child.start(code, code, tmp_path) as child, pytest.raises(Exception, match="EOFError"):
        child.describe(["asks.py"])
