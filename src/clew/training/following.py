"""Taking over what a training logs and saves while it still runs, without ever making it wait."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

from clew.errors import ClewError
from clew.training.journal import JournalReader, Logged

LOOK_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class Listener:
    """Who is told what a training leaves behind.

    Attributes
    ----------
    on_logged
        Called with new numbers about once a second, in another thread, and with the last of them at the end.
        When it raises, it is given the same numbers again at the next look; at the end the error is raised.
    on_artifacts
        Called at the end with files by name, if there are any; they are gone afterwards.
    """

    on_logged: Callable[[Sequence[Logged]], None]
    on_artifacts: Callable[[Mapping[str, Path]], None]


Follow: TypeAlias = Listener | None


@contextmanager
def following(folder: Path, listener: Listener) -> Iterator[None]:
    """Tell the listener what is written into the journal `folder` by the block, also when it fails."""
    folder.mkdir()
    reader, is_over = JournalReader(folder), threading.Event()
    thread = threading.Thread(target=_follow, args=(reader, listener, is_over), name="clew-log", daemon=True)
    thread.start()
    try:
        yield
    except BaseException as error:
        is_over.set()
        thread.join()
        try:
            _take_the_rest(reader, listener)
        except ClewError as second:
            # Why the training failed is what people need to read.
            error.add_note(f"What it logged last could not be recorded: {second}")
        raise
    else:
        is_over.set()
        thread.join()
        _take_the_rest(reader, listener)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _follow(reader: JournalReader, listener: Listener, is_over: threading.Event) -> None:
    while not is_over.wait(LOOK_SECONDS):
        try:
            for batch in reader.new_values():
                listener.on_logged(batch)
        except ClewError:
            continue  # a store that is away or busy for a while: the numbers wait where they are


def _take_the_rest(reader: JournalReader, listener: Listener) -> None:
    for batch in reader.new_values(is_final=True):
        listener.on_logged(batch)
    artifacts = reader.artifacts()
    if artifacts:
        listener.on_artifacts(artifacts)
