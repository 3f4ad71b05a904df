from __future__ import annotations

import fcntl
import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clew.config import Settings
from clew.errors import DataError, LogFailed, NotFound, StoreTooNew
from clew.storage import LogWriter, parse_prediction_id, read_since
from clew.storage.log import prediction_id
from clew.storage.log_segments import HEADER_BYTES, OpenSegment, list_segments, segment_path
from clew.storage.records import Label, Record, decode_record, encode_record
from tests.storage import log_records, processes
from tests.storage.log_records import mixed, prediction
from tests.storage.processes import StartChild

APPEND_FOR_EVER = """
from clew.storage import LogWriter
from tests.storage.log_records import prediction

writer = LogWriter(settings.store / "log", worker=7, segment_bytes=20_000)
n = int(sys.stdin.readline())
while True:
    ids = writer.append([prediction(n), prediction(n + 1)])
    os.write(1, f"{n} {' '.join(ids)}\\n".encode())  # only what was appended is answered
    n += 2
"""


@contextmanager
def writing(folder: Path, worker: int = 1, segment_bytes: int = 64_000_000) -> Iterator[LogWriter]:
    writer = LogWriter(folder, worker, segment_bytes=segment_bytes)
    try:
        yield writer
    finally:
        writer.close()


def written(folder: Path, *groups: list[Record], segment_bytes: int = 64_000_000) -> list[str]:
    with writing(folder, segment_bytes=segment_bytes) as writer:
        return [each for group in groups for each in writer.append(group)]


def read_all(folder: Path) -> list[tuple[str, Record]]:
    return read_since(folder, {})[0]


# ---------------------------------------------------------------- ids


@given(worker=st.integers(0, 2**63), segment=st.integers(0, 2**63), offset=st.integers(0, 2**63))
def test_an_id_leads_back_to_its_place(worker: int, segment: int, offset: int) -> None:
    assert parse_prediction_id(prediction_id(worker, segment, offset)) == (worker, segment, offset)


@pytest.mark.parametrize(
    "text", ["", "1-2", "1-2-3-4", "x-1-2", "01-1-2", "1-1-2\n", "1--2", "A-1-2", "1-1-" + "1" * 17]
)
def test_what_is_no_id_is_said_so(text: str) -> None:
    with pytest.raises(NotFound, match="no prediction id"):
        parse_prediction_id(text)


# ---------------------------------------------------------------- what was appended is read


def test_what_was_appended_is_read_in_order_under_its_ids(tmp_path: Path) -> None:
    given = [mixed(n) for n in range(50)]
    ids = written(tmp_path, given[:20], given[20:21], given[21:])
    assert read_all(tmp_path) == list(zip(ids, given, strict=True))
    assert len(set(ids)) == 50


def test_a_record_is_read_while_its_writer_still_writes(tmp_path: Path) -> None:
    with writing(tmp_path) as writer:
        assert writer.append([]) == []
        ids = writer.append([prediction(1)])
        assert read_all(tmp_path) == [(ids[0], prediction(1))]


@settings(max_examples=50, deadline=None)
@given(given=st.lists(log_records.records, max_size=10))
def test_any_record_comes_back_as_it_was(
    tmp_path_factory: pytest.TempPathFactory, given: list[Record]
) -> None:
    folder = tmp_path_factory.mktemp("log")
    written(folder, given)
    assert [record for _, record in read_all(folder)] == given


def test_a_log_that_is_not_there_is_empty(tmp_path: Path) -> None:
    assert read_since(tmp_path / "none", {}) == ([], {})


def test_other_files_beside_the_segments_are_left_alone(tmp_path: Path) -> None:
    written(tmp_path, [prediction(1)])
    (tmp_path / "open.lock").touch()
    (tmp_path / "1" / "notes.txt").write_text("hello")
    (tmp_path / "other").mkdir()
    assert len(read_all(tmp_path)) == 1


@settings(max_examples=30, deadline=None)
@given(groups=st.lists(st.tuples(st.integers(1, 3), st.integers(0, 3), st.booleans()), max_size=12))
def test_reading_in_pieces_is_reading_at_once(
    tmp_path_factory: pytest.TempPathFactory, groups: list[tuple[int, int, bool]]
) -> None:
    folder = tmp_path_factory.mktemp("log")
    writers = {worker: LogWriter(folder, worker, segment_bytes=500) for worker in (1, 2, 3)}
    pieces: list[tuple[str, Record]] = []
    positions: dict[str, int] = {}
    n = 0
    for worker, n_records, is_read in groups:
        writers[worker].append([mixed(n + i) for i in range(n_records)])
        n += n_records
        if is_read:
            new, positions = read_since(folder, positions)
            pieces += new
    for writer in writers.values():
        writer.close()
    new, positions = read_since(folder, positions)
    pieces += new
    whole, ends = read_since(folder, {})
    assert positions == ends
    assert sorted(pieces, key=lambda piece: parse_prediction_id(piece[0])) == whole
    assert len(whole) == n
    assert read_since(folder, positions) == ([], positions)


# ---------------------------------------------------------------- tears and damage


def test_a_segment_torn_at_any_byte_gives_the_records_before_the_tear(tmp_path: Path) -> None:
    given = [mixed(n) for n in range(4)]
    ids = written(tmp_path, given)
    path = segment_path(tmp_path, 1, 1)
    content = path.read_bytes()
    starts = [parse_prediction_id(each)[2] for each in ids] + [len(content)]
    for n_bytes in range(len(content) + 1):
        path.write_bytes(content[:n_bytes])
        found, positions = read_since(tmp_path, {})
        n_whole = sum(start <= n_bytes for start in starts[1:])
        assert [record for _, record in found] == given[:n_whole]
        assert positions.get("1/1", HEADER_BYTES) <= starts[n_whole]


def test_a_damaged_byte_is_never_read_as_a_record(tmp_path: Path) -> None:
    given = [mixed(n) for n in range(3)]
    written(tmp_path, given)
    path = segment_path(tmp_path, 1, 1)
    content = path.read_bytes()
    for at in range(HEADER_BYTES, len(content)):
        path.write_bytes(content[:at] + bytes([content[at] ^ 0x41]) + content[at + 1 :])
        found = [record for _, record in read_all(tmp_path)]
        assert len(found) < 3
        assert found == given[: len(found)]


def test_the_zeros_a_power_cut_leaves_are_no_record(tmp_path: Path) -> None:
    written(tmp_path, [prediction(1)])
    with segment_path(tmp_path, 1, 1).open("ab") as file:
        file.write(bytes(4096))
    segment_path(tmp_path, 1, 2).write_bytes(bytes(4096))
    assert [record for _, record in read_all(tmp_path)] == [prediction(1)]


def test_a_tail_that_a_power_cut_took_after_it_was_read_is_not_read_again(tmp_path: Path) -> None:
    written(tmp_path, [prediction(1), prediction(2)])
    _, positions = read_since(tmp_path, {})
    path = segment_path(tmp_path, 1, 1)
    os.truncate(path, path.stat().st_size - 10)
    assert read_since(tmp_path, positions) == ([], positions)


def test_nobody_appends_after_a_tear(tmp_path: Path) -> None:
    written(tmp_path, [prediction(1), prediction(2)])
    path = segment_path(tmp_path, 1, 1)
    os.truncate(path, path.stat().st_size - 1)
    torn = path.read_bytes()
    written(tmp_path, [prediction(3)])
    assert path.read_bytes() == torn
    assert [record for _, record in read_all(tmp_path)] == [prediction(1), prediction(3)]


def test_a_record_inside_a_record_is_none(tmp_path: Path) -> None:
    """Bytes of a whole segment, sent in as a feature, are not read as records of their own."""
    written(tmp_path / "a", [prediction(1)])
    smuggled = segment_path(tmp_path / "a", 1, 1).read_bytes()[HEADER_BYTES:]
    carrier = prediction(2, text=smuggled.decode("latin-1"))
    [name] = written(tmp_path / "b", [carrier])
    path = segment_path(tmp_path / "b", 1, 1)
    offset = parse_prediction_id(name)[2]
    with OpenSegment(path) as opened:
        readable = [at for at in range(path.stat().st_size + 2) if opened.content_at(at) is not None]
    assert readable == [offset]


def test_a_segment_of_a_newer_clew_is_refused(tmp_path: Path) -> None:
    written(tmp_path, [prediction(1)])
    path = segment_path(tmp_path, 1, 1)
    path.write_bytes(b"clewlog\x03" + path.read_bytes()[8:])
    with pytest.raises(StoreTooNew, match="has format 3"):
        read_all(tmp_path)


# ---------------------------------------------------------------- writers


def test_a_full_segment_is_left_for_the_next(tmp_path: Path) -> None:
    with writing(tmp_path, segment_bytes=600) as writer:
        ids = [writer.append([prediction(n)])[0] for n in range(30)]
        numbers = sorted({parse_prediction_id(each)[1] for each in ids})
        assert numbers == list(range(1, numbers[-1] + 1))
        assert numbers[-1] >= 5
    assert read_all(tmp_path) == [(name, prediction(n)) for n, name in enumerate(ids)]
    assert all(segment.n_bytes < 1000 for segment in list_segments(tmp_path))


def is_locked(path: Path) -> bool:
    with path.open("rb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        return False


def test_a_segment_is_locked_as_long_as_it_may_be_written(tmp_path: Path) -> None:
    writer = LogWriter(tmp_path, 1, segment_bytes=100, sync_seconds=0)
    writer.append([prediction(1), prediction(2)])
    first, second = segment_path(tmp_path, 1, 1), segment_path(tmp_path, 1, 2)
    assert is_locked(first)
    writer.append([prediction(3)])
    deadline = time.monotonic() + 20
    while is_locked(first):  # until the disk has it
        assert time.monotonic() < deadline
    assert is_locked(second)
    writer.close()
    assert not is_locked(second)


def test_two_writers_of_one_number_never_share_a_segment(tmp_path: Path) -> None:
    with writing(tmp_path) as one, writing(tmp_path) as other:
        ids = [each.append([prediction(n)])[0] for n in range(20) for each in (one, other)]
    assert len(set(ids)) == 40
    assert dict(read_all(tmp_path)).keys() == set(ids)


def test_threads_may_append_to_one_writer(tmp_path: Path) -> None:
    answered: list[tuple[str, Record]] = []

    def work(first: int) -> None:
        for n in range(first, first + 200):
            record = prediction(n)
            answered.append((writer.append([record])[0], record))

    with writing(tmp_path, segment_bytes=5000) as writer:
        threads = [threading.Thread(target=work, args=[n * 1000]) for n in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert len(answered) == 800
    assert dict(read_all(tmp_path)) == dict(answered)


def test_many_writers_that_begin_at_once_get_segments_of_their_own(
    settings: Settings, start: StartChild
) -> None:
    code = """
    from clew.storage import LogWriter
    from tests.storage.log_records import prediction
    say("ready"); wait()
    for n in range(20):
        writer = LogWriter(settings.store / "log", worker=1)
        say(writer.append([prediction(n)])[0])
        writer.close()
    """
    children = [start(settings, code) for _ in range(3)]
    assert [processes.hear(child) for child in children] == ["ready"] * 3
    for child in children:
        processes.tell(child)
    ids = [name for child in children for name in processes.finish(child).split()]
    assert len(set(ids)) == 60
    assert {name for name, _ in read_all(settings.store / "log")} == set(ids)


def test_a_closed_writer_takes_nothing_more(tmp_path: Path) -> None:
    writer = LogWriter(tmp_path, 1)
    writer.close()
    writer.close()
    with pytest.raises(LogFailed, match="was closed"):
        writer.append([prediction(1)])


def test_a_value_that_cannot_be_kept_is_refused_and_nothing_written(tmp_path: Path) -> None:
    with writing(tmp_path) as writer:
        for value in (2**64, "\ud800"):
            bad = Label("busy_hour", 0, value, None, "http", "ann")
            with pytest.raises(DataError, match="'busy_hour' has a value that cannot be kept"):
                writer.append([prediction(1), bad])
        writer.append([prediction(2)])
    assert [record for _, record in read_all(tmp_path)] == [prediction(2)]


# ---------------------------------------------------------------- death and full disks


def test_every_answer_of_killed_writers_is_in_the_log_once(settings: Settings, start: StartChild) -> None:
    answered: dict[str, int] = {}
    for life in range(12):
        child = start(settings, APPEND_FOR_EVER)
        assert child.stdin is not None
        assert child.stdout is not None
        child.stdin.write(f"{life * 1_000_000}\n")
        child.stdin.flush()
        lines = [child.stdout.readline() for _ in range(5 + life * 37)]
        child.kill()
        lines += child.stdout.read().splitlines(keepends=True)
        assert child.wait() == -9
        for line in lines:
            if line.endswith("\n"):  # else it was killed while it answered
                n, first, second = line.split()
                answered[first], answered[second] = int(n), int(n) + 1
    assert len(answered) > 1000
    found = read_all(settings.store / "log")
    assert len({name for name, _ in found}) == len(found)
    by_id = dict(found)
    assert {name: by_id[name] for name in answered} == {name: prediction(n) for name, n in answered.items()}
    # Beside what was answered there is at most what each life had appended and not yet said.
    assert len(found) - len(answered) <= 12 * 2 * 2
    assert len({record.request for _, record in found if hasattr(record, "request")}) == len(found)


FILL_THE_DISK = """
import resource, signal
from clew.errors import LogFailed
from clew.storage import LogWriter
from tests.storage.log_records import prediction

signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
writer = LogWriter(settings.store / "log", worker=1)
resource.setrlimit(resource.RLIMIT_FSIZE, (5000, resource.RLIM_INFINITY))
n, n_failed = 0, 0
while n_failed < 50:
    try:
        say(writer.append([prediction(n), prediction(n + 1), prediction(n + 2)]))
    except LogFailed as error:
        n_failed += 1
        words = str(error)
    n += 3
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
say(writer.append([prediction(n)]))
writer.close()
say(words)
"""


def test_a_full_disk_fails_the_answer_and_once_there_is_room_it_goes_on(
    settings: Settings, start: StartChild
) -> None:
    *answers, words = processes.finish(start(settings, FILL_THE_DISK)).splitlines()
    assert "cannot be written: " in words
    assert "Free some space" in words
    ids = [name for answer in answers for name in answer.strip("[]").replace("'", "").split(", ")]
    folder = settings.store / "log"
    assert len(list_segments(folder)) == 1
    found = read_all(folder)
    assert {name for name, _ in found} >= set(ids)
    assert len(found) - len(ids) < 50 * 3
    assert found[-1][0] == ids[-1]


@pytest.mark.skipif(os.getuid() != 0, reason="only root may mount a file system of 64 kB")
def test_on_a_file_system_that_is_full_nothing_is_half_written(tmp_path: Path, start: StartChild) -> None:
    small = tmp_path / "small"
    small.mkdir()
    if os.system(f"mount -t tmpfs -o size=64k tmpfs {small} 2>/dev/null") != 0:
        pytest.skip("this machine lets nobody mount a tmpfs")
    try:
        ids: list[str] = []
        failures: list[str] = []
        n = 0
        with writing(small / "log", segment_bytes=20_000) as writer:
            while len(failures) < 20:
                try:
                    ids += writer.append([prediction(n, text="x" * 300)])
                    n += 1
                except LogFailed as error:
                    failures.append(str(error))
            with pytest.raises(LogFailed, match="No space left on device"), writing(small / "log"):
                pytest.fail("there was still room")
            assert read_all(small / "log") == [(ids[i], prediction(i, text="x" * 300)) for i in range(n)]
            segment_path(small / "log", 1, 1).unlink()
            writer.append([prediction(n)])
        assert read_all(small / "log")[-1][1] == prediction(n)
    finally:
        os.system(f"umount -l {small}")


def test_a_folder_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    (tmp_path / "log").write_text("a file")
    with pytest.raises(LogFailed, match="cannot be written"):
        LogWriter(tmp_path / "log", 1)


def test_when_the_disk_keeps_nothing_the_next_answer_fails_and_then_it_goes_on(
    settings: Settings, start: StartChild
) -> None:
    code = """
    from clew.errors import LogFailed
    from clew.storage import LogWriter
    from tests.storage.log_records import prediction
    writer = LogWriter(settings.store / "log", worker=1, sync_seconds=0)
    writer.append([prediction(1)])
    read_end, write_end = os.pipe()
    kept = os.dup(writer._segment.descriptor)
    os.dup2(write_end, writer._segment.descriptor)  # a pipe cannot be synced
    writer._wake.set()
    while writer._sync_failure is None:
        time.sleep(0.001)
    os.dup2(kept, writer._segment.descriptor)
    try:
        writer.append([prediction(2)])
    except LogFailed as error:
        say(error)
    say(writer.append([prediction(3)])[0])
    writer.close()
    """
    words, name = processes.finish(start(settings, code)).splitlines()
    assert "cannot be written: Invalid argument" in words
    assert parse_prediction_id(name)[:2] == (1, 2)
    assert [record for _, record in read_all(settings.store / "log")] == [prediction(1), prediction(3)]


def test_a_prediction_of_before_there_were_thresholds_is_read() -> None:
    whole = msgspec.msgpack.decode(encode_record(prediction(1)))
    assert decode_record(msgspec.msgpack.encode(whole[:-1])) == prediction(1)
