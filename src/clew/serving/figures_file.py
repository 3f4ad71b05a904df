"""A worker's technical figures: counted in memory, written to a small file once a second, read by others.

All counts grow from the worker's start and never shrink, so that a reader who knows earlier ones knows what
happened since.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator
from pathlib import Path

import msgspec

from clew.storage import Store

BUCKETS_SECONDS = (
    *(0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0),
)
"""Upper ends of the latency histogram's buckets; the last count is of everything above."""


class VersionFigures(msgspec.Struct):
    """What a version did on a worker since the worker's start.

    Attributes
    ----------
    n_requests, n_rows
        That it answered to callers, as champion or canary.
    n_beside
        Rows that it was asked about as a shadow, which no caller saw.
    latency
        How many of its requests took so long from the complete request to the finished answer, by
        `BUCKETS_SECONDS` and one more.
    model_seconds
        What its model took in all, shadows included.
    errors
        How often it failed, by kind: ``MODEL_FAILED``, as shadow too, and ``NOT_ASKED``, a shadow that was
        too slow for the requests that came.
    """

    deployment: str
    version: int
    n_requests: int = 0
    n_rows: int = 0
    n_beside: int = 0
    latency: list[int] = msgspec.field(default_factory=lambda: [0] * (len(BUCKETS_SECONDS) + 1))
    latency_seconds: float = 0.0
    model_seconds: float = 0.0
    errors: dict[str, int] = msgspec.field(default_factory=dict)

    def answered(self, n_rows: int, seconds: float) -> None:
        self.n_requests += 1
        self.n_rows += n_rows
        self.latency_seconds += seconds
        self.latency[bisect_left(BUCKETS_SECONDS, seconds)] += 1

    def failed(self, kind: str, n_rows: int) -> None:
        self.errors[kind] = self.errors.get(kind, 0) + n_rows


class WorkerFigures(msgspec.Struct):
    """What a worker did since its start.

    Attributes
    ----------
    written_at
        When, in microseconds since 1970 by the real clock.
    n_in_flight
        Requests that wait or are being answered now.
    refused
        Requests that got an error instead of an answer, by ``deployment/CODE``; the deployment is empty where
        the request named none.
    n_labels
        Labels that were accepted.
    n_unknown_classes
        Of these, labels of a class that the champion of their moment never saw.
    log_bytes
        Of the worker's segments of the prediction log that are not compacted yet.
    n_unlogged
        Answers that were given although the log could not be written (``log_failure = "answer"``).
    """

    worker: int
    pid: int
    generation: int = 0
    written_at: int = 0
    n_requests: int = 0
    n_in_flight: int = 0
    refused: dict[str, int] = msgspec.field(default_factory=dict)
    n_labels: int = 0
    n_unknown_classes: int = 0
    cpu_seconds: float = 0.0
    memory_bytes: int = 0
    log_bytes: int = 0
    n_log_failures: int = 0
    n_unlogged: int = 0
    versions: dict[str, VersionFigures] = msgspec.field(default_factory=dict)

    def of(self, deployment: str, version: int) -> VersionFigures:
        name = f"{deployment}@{version}"
        figures = self.versions.get(name)
        if figures is None:
            figures = self.versions[name] = VersionFigures(deployment, version)
        return figures

    def refuse(self, deployment: str, code: str) -> None:
        name = f"{deployment}/{code}"
        self.refused[name] = self.refused.get(name, 0) + 1


def figures_folder(store: Store) -> Path:
    return store.folder / "run" / "workers"


def write_figures(store: Store, figures: WorkerFigures) -> None:
    """Replace the worker's file, whole: a reader sees the old figures or the new ones."""
    folder = figures_folder(store)
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    unfinished = folder / f".{figures.worker}.unfinished"
    unfinished.write_bytes(msgspec.json.encode(figures))
    unfinished.replace(folder / f"{figures.worker}.json")


def remove_figures(store: Store, worker: int) -> None:
    (figures_folder(store) / f"{worker}.json").unlink(missing_ok=True)


def read_figures(store: Store) -> Iterator[WorkerFigures]:
    """The figures of every worker that has written some, also of one that was killed, by its number."""
    files = [path for path in figures_folder(store).glob("*.json") if path.stem.isdigit()]
    for path in sorted(files, key=lambda path: int(path.stem)):
        try:
            content = path.read_bytes()
        except FileNotFoundError:
            continue  # the worker left in this moment
        yield msgspec.json.decode(content, type=WorkerFigures)
