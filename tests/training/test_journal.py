"""What a training leaves behind while it runs, also when it is killed, or when nobody can take it."""

from __future__ import annotations

import math
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from clew.entities import RowRange
from clew.errors import StoreBusy, StoreError, TrainingFailed, UsageError
from clew.training import ArtifactLimits, Child, Listener, Logged
from clew.training.following import following
from clew.training.journal import JournalReader, JournalWriter, open_journal
from tests.disks import small_disk
from tests.training.conftest import StartChild
from tests.training.projects import columns, project, rides

LIMITS = ArtifactLimits()


def read(folder: Path) -> list[Logged]:
    return [row for batch in JournalReader(folder).new_values(is_final=True) for row in batch]


def log_many(writer: JournalWriter, n: int) -> None:
    for step in range(n):
        writer.log("loss", step, 1.0)


def test_numbers_come_back_in_order_whatever_they_are(tmp_path: Path) -> None:
    writer = JournalWriter(tmp_path, LIMITS)
    given = [("loss", 1, 0.5), ("rate", None, math.nan), ("loss", -(2**63), math.inf), ("ärger\n", 0, -0.0)]
    for name, step, value in given:
        writer.log(name, step, value)
    found = read(tmp_path)
    assert [row[:2] for row in found] == [row[:2] for row in given]
    assert [str(row.value) for row in found] == ["0.5", "nan", "inf", "-0.0"]
    assert sorted(row.seconds for row in found) == [row.seconds for row in found]


def test_a_hundred_thousand_numbers_are_all_there(tmp_path: Path) -> None:
    writer = JournalWriter(tmp_path, LIMITS)
    for step in range(100_000):
        writer.log("loss", step, step / 7)
    assert [row.step for row in read(tmp_path)] == list(range(100_000))


def test_threads_may_log_at_once(tmp_path: Path) -> None:
    writer = JournalWriter(tmp_path, LIMITS)

    def log(name: str) -> None:
        for step in range(5_000):
            writer.log(name, step, 1.0)

    threads = [threading.Thread(target=log, args=(name,)) for name in "abc"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    found = read(tmp_path)
    for name in "abc":
        assert [row.step for row in found if row.name == name] == list(range(5_000))


def test_what_was_logged_is_there_after_a_kill(tmp_path: Path) -> None:
    code = (
        "import sys, os, signal; from pathlib import Path\n"
        "from clew.training.journal import JournalWriter, ArtifactLimits\n"
        "writer = JournalWriter(Path(sys.argv[1]), ArtifactLimits())\n"
        "for step in range(3000): writer.log('loss', step, 0.5)\n"
        "writer.save('a.txt', b'text')\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=False)
    assert done.returncode == -signal.SIGKILL
    assert [row.step for row in read(tmp_path)] == list(range(3000))
    assert JournalReader(tmp_path).artifacts()["a.txt"].read_bytes() == b"text"


def test_a_reader_takes_each_number_once_while_they_are_written(tmp_path: Path) -> None:
    writer, reader, taken = JournalWriter(tmp_path, LIMITS), JournalReader(tmp_path), list[int | None]()
    for step in range(20_000):
        writer.log("loss", step, 1.0)
        if step % 999 == 0:
            taken += [row.step for batch in reader.new_values() for row in batch]
    taken += [row.step for batch in reader.new_values(is_final=True) for row in batch]
    assert taken == list(range(20_000))


def test_numbers_that_were_not_taken_are_given_again(tmp_path: Path) -> None:
    writer, reader = JournalWriter(tmp_path, LIMITS), JournalReader(tmp_path)
    writer.log("loss", 1, 1.0)
    first = next(reader.new_values(is_final=True))  # whoever got it did not come back for more
    assert list(reader.new_values(is_final=True)) == [first]
    assert list(reader.new_values(is_final=True)) == []


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_a_forked_process_is_refused_by_name_and_disturbs_nothing(tmp_path: Path) -> None:
    writer = open_journal(tmp_path, LIMITS)
    writer.log("loss", 1, 1.0)
    pid = os.fork()
    if pid == 0:
        try:
            writer.log("loss", 2, 2.0)
        except UsageError as error:
            os._exit(0 if "Return what is to be recorded" in str(error) else 2)
        os._exit(1)
    assert os.waitpid(pid, 0)[1] == 0
    writer.log("loss", 3, 3.0)
    assert [row.step for row in read(tmp_path)] == [1, 3]


def test_a_full_disk_is_an_error_and_no_crash(tmp_path: Path) -> None:
    with small_disk(tmp_path / "small", "256k") as disk:
        writer = JournalWriter(disk, LIMITS)
        with pytest.raises(StoreError, match=r"train\.log\(\) cannot write: No space left"):
            log_many(writer, 100_000)
        with pytest.raises(StoreError, match=r"train\.artifact\(\) cannot write"):
            writer.save("a", bytes(10**6))
        assert len(read(disk)) > 1000
        writer.close()


# -- artifacts -----------------------------------------------------------------------------------------


def test_artifacts_are_copied_when_they_are_given(tmp_path: Path) -> None:
    journal = tmp_path / "journal"
    journal.mkdir()
    writer = JournalWriter(journal, LIMITS)
    (tmp_path / "plot.png").write_bytes(b"first")
    writer.save("plots/a.png", tmp_path / "plot.png")
    (tmp_path / "plot.png").write_bytes(b"second")
    writer.save("b", str(tmp_path / "plot.png"))
    writer.save("b", b"third")
    found = {name: path.read_bytes() for name, path in JournalReader(journal).artifacts().items()}
    assert found == {"plots/a.png": b"first", "b": b"third"}


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("../a", b"", "cannot be named"),
        ("clew/mine", b"", "where Clew's own are"),
        ("a", "nowhere.png", "there is no file nowhere.png"),
        ("a", 7, "got 'int'; give the path of a file, or bytes"),
        ("a", bytes(11), "11 bytes, more than 10.*max_artifact_bytes"),
        ("c", bytes(8), "16 bytes with the run's others, more than 15.*max_run_artifact_bytes"),
    ],
)
def test_an_artifact_that_cannot_be_kept_is_refused(
    name: str, content: Any, words: str, tmp_path: Path
) -> None:
    writer = JournalWriter(tmp_path, ArtifactLimits(10, 15, 2))
    writer.save("b", bytes(8))
    with pytest.raises(UsageError, match=words):
        writer.save(name, content)
    writer.save("b", bytes(9))  # in the place of the first
    assert list(JournalReader(tmp_path).artifacts()) == ["b"]


def test_a_run_has_so_many_artifacts(tmp_path: Path) -> None:
    writer = JournalWriter(tmp_path, ArtifactLimits(n_files=1))
    writer.save("a", b"")
    with pytest.raises(UsageError, match=r"2 artifacts, it included, more than 1\. .*max_run_artifacts"):
        writer.save("b", b"")


# -- following -----------------------------------------------------------------------------------------


class Heard:
    """A listener that can be away for a while."""

    def __init__(self, is_away: bool = False) -> None:
        self.rows: list[Logged] = []
        self.files: dict[str, bytes] = {}
        self.is_away, self.n_refused = is_away, 0

    @property
    def listener(self) -> Listener:
        return Listener(self._logged, self._artifacts)

    def _logged(self, rows: Sequence[Logged]) -> None:
        if self.is_away:
            self.n_refused += 1
            raise StoreBusy("busy")
        self.rows += rows

    def _artifacts(self, files: Mapping[str, Path]) -> None:
        self.files = {name: path.read_bytes() for name, path in files.items()}


def until(what: Any) -> None:
    deadline = time.monotonic() + 30
    while not what():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_numbers_are_heard_while_the_training_goes_on(tmp_path: Path) -> None:
    heard, folder = Heard(), tmp_path / "journal"
    with following(folder, heard.listener):
        writer = JournalWriter(folder, LIMITS)
        writer.log("loss", 1, 1.0)
        until(lambda: heard.rows)
        writer.log("loss", 2, 1.0)
    assert [row.step for row in heard.rows] == [1, 2]
    assert not folder.exists()


def test_a_store_that_is_away_gets_everything_once_it_is_back(tmp_path: Path) -> None:
    heard, folder = Heard(is_away=True), tmp_path / "journal"
    with following(folder, heard.listener):
        writer = JournalWriter(folder, LIMITS)
        for step in range(25_000):
            writer.log("loss", step, 1.0)
        until(lambda: heard.n_refused)
        heard.is_away = False
    assert [row.step for row in heard.rows] == list(range(25_000))


def test_a_store_that_stays_away_is_an_error_in_the_end(tmp_path: Path) -> None:
    heard = Heard(is_away=True)
    with pytest.raises(StoreBusy), following(tmp_path / "journal", heard.listener):
        JournalWriter(tmp_path / "journal", LIMITS).log("loss", 1, 1.0)


# -- a real child --------------------------------------------------------------------------------------

LOGGER = """
@clew.model(rides, metric="accuracy", margin=0.01)
def busy_hour(train, end="return", seconds=0):
    import os, signal, time
    time.sleep(seconds)
    train.artifact("words.txt", b"words")
    for step in range(2000):
        train.log(loss=1 / (step + 1), step=step)
    if end == "raise":
        raise ValueError("no")
    if end == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    return Cut(0.0)
"""


@pytest.fixture
def child(start: StartChild, tmp_path: Path) -> Child:
    table = rides()
    child = start(project(tmp_path / "project", LOGGER))
    child.use(table, child.describe(["bikes.py"])[0].model, "bikes.py", columns(table))
    return child


@pytest.mark.parametrize("end", ["return", "raise", "kill"])
def test_what_a_child_logged_and_saved_is_heard_however_it_ends(end: str, child: Child) -> None:
    heard = Heard()
    try:
        child.fit("one", RowRange(0, 200), {"end": end}, listener=heard.listener)
    except TrainingFailed:
        assert end != "return"
    assert [row.step for row in heard.rows] == list(range(2000))
    assert heard.files == {"words.txt": b"words"}


def test_a_child_that_is_interrupted_from_another_thread_tells_its_caller(child: Child) -> None:
    timer = threading.Timer(1.0, child.interrupt)
    timer.start()
    with pytest.raises(TrainingFailed, match="SIGKILL"):
        child.fit("one", RowRange(0, 200), {"seconds": 600})
    timer.join()
