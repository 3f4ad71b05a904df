"""The figures of prediction workers: read from the files they leave, summed, set out for Prometheus.

Each worker replaces ``run/workers/<worker>.json`` once a second. Its numbers only grow, so what happened
lately is the difference of two readings.
"""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeVar

import msgspec
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import Metric

from clew.serving.figures_file import BUCKETS_SECONDS, VersionFigures, WorkerFigures, read_figures

if TYPE_CHECKING:
    from clew.storage import Store

K = TypeVar("K")

STALE_SECONDS = 15.0
"""A file that was not replaced for so long was left by a worker that is no more."""

LATELY_SECONDS = 60.0

FAILED = "MODEL_FAILED"
"""The kind of error that a caller, or a rollout, has to know of."""


@dataclass(frozen=True, slots=True)
class Lately:
    """What requests of a model were like in the last minute, over all workers.

    `p50` and `p99` are the upper ends of the buckets they fall into, in seconds; None without requests.
    """

    requests_per_second: float = 0.0
    errors: int = 0
    p50: float | None = None
    p99: float | None = None
    log_bytes: int | None = None


@dataclass(frozen=True, slots=True)
class VersionLately:
    """What a version did in the last minute, over all workers.

    Attributes
    ----------
    beside_per_second
        Rows that it was asked about as a shadow, whose answers no caller saw.
    errors
        Rows that it failed to answer, as a shadow too.
    seconds_per_row
        What its model took for a row; None when it was asked about none.
    """

    version: int
    requests_per_second: float
    beside_per_second: float
    errors: int
    p50: float | None
    p99: float | None
    seconds_per_row: float | None


def living_figures(store: Store) -> list[WorkerFigures]:
    """The figures of the workers there are, by number; those that a killed worker left are left out."""
    try:
        found = list(read_figures(store))
    except msgspec.DecodeError:  # of another version of Clew, which is being replaced in this moment
        return []
    oldest = (time.time() - STALE_SECONDS) * 1e6
    return [figures for figures in found if figures.written_at >= oldest]


@dataclass(slots=True)
class Recent:
    """Keeps readings of the last minute, to tell what happened lately."""

    _readings: deque[tuple[float, dict[int, WorkerFigures]]] = field(default_factory=deque)

    def add(self, figures: Iterable[WorkerFigures], at_seconds: float) -> None:
        self._readings.append((at_seconds, {each.worker: each for each in figures}))
        while len(self._readings) > 2 and self._readings[1][0] <= at_seconds - LATELY_SECONDS:
            self._readings.popleft()

    def lately(self) -> dict[str, Lately]:
        """By model; shadows are left out, since they answer nobody."""
        seconds, grown = self._seconds(), self._grown()
        waiting = sum(figures.log_bytes for figures in self._readings[-1][1].values()) if grown else None
        return {
            deployment: Lately(
                requests_per_second=sum(v.n_requests for v in each) / seconds,
                errors=sum(v.errors.get(FAILED, 0) for v in each),
                p50=quantile(_summed(each), 0.5),
                p99=quantile(_summed(each), 0.99),
                log_bytes=waiting,
            )
            for deployment, each in _by(grown, lambda figures: figures.deployment).items()
        }

    def lately_by_version(self) -> dict[str, list[VersionLately]]:
        """By model its versions that were asked anything, as shadows too."""
        seconds, found = self._seconds(), dict[str, list[VersionLately]]()
        for (deployment, version), each in sorted(_by(self._grown(), _name_of).items()):
            n_rows, n_beside = (sum(getattr(v, name) for v in each) for name in ("n_rows", "n_beside"))
            errors = sum(v.errors.get(FAILED, 0) for v in each)
            if not n_rows + n_beside + errors:
                continue
            of_version = VersionLately(
                version=version,
                requests_per_second=sum(v.n_requests for v in each) / seconds,
                beside_per_second=n_beside / seconds,
                errors=errors,
                p50=quantile(_summed(each), 0.5),
                p99=quantile(_summed(each), 0.99),
                seconds_per_row=sum(v.model_seconds for v in each) / max(n_rows + n_beside, 1),
            )
            found.setdefault(deployment, []).append(of_version)
        return found

    def _seconds(self) -> float:
        return max(self._readings[-1][0] - self._readings[0][0], 1.0) if self._readings else 1.0

    def _grown(self) -> list[VersionFigures]:
        """What each version did on each worker since the oldest reading that is kept."""
        if not self._readings:
            return []
        before, now = self._readings[0][1], self._readings[-1][1]
        return [
            _growth(version, before[worker].versions.get(name) if worker in before else None)
            for worker, figures in now.items()
            for name, version in figures.versions.items()
        ]


def _by(
    figures: Iterable[VersionFigures], key: Callable[[VersionFigures], K]
) -> dict[K, list[VersionFigures]]:
    groups: dict[K, list[VersionFigures]] = {}
    for each in figures:
        groups.setdefault(key(each), []).append(each)
    return groups


def _name_of(figures: VersionFigures) -> tuple[str, int]:
    return figures.deployment, figures.version


def quantile(latency: Sequence[int], share: float) -> float | None:
    """The upper end, in seconds, of the bucket in which this share of requests is reached.

    None without requests; infinite when that is the last bucket, which has no end.

    Examples
    --------
    >>> n_by_bucket = [50, 0, 0, 49] + [0] * 11 + [1]
    >>> quantile(n_by_bucket, 0.5), quantile(n_by_bucket, 0.99), quantile(n_by_bucket, 1.0)
    (0.0001, 0.001, inf)
    """
    total = sum(latency)
    if not total:
        return None
    reached = 0
    for end, n in zip((*BUCKETS_SECONDS, math.inf), latency, strict=True):
        reached += n
        if n and reached >= share * total:
            return end
    return math.inf


def _growth(now: VersionFigures, before: VersionFigures | None) -> VersionFigures:
    if before is None:
        return now
    return VersionFigures(
        now.deployment,
        now.version,
        n_requests=now.n_requests - before.n_requests,
        n_rows=now.n_rows - before.n_rows,
        n_beside=now.n_beside - before.n_beside,
        model_seconds=now.model_seconds - before.model_seconds,
        latency=[n - was for n, was in zip(now.latency, before.latency, strict=True)],
        errors={kind: n - before.errors.get(kind, 0) for kind, n in now.errors.items()},
    )


def _summed(versions: Sequence[VersionFigures]) -> list[int]:
    return [sum(counts) for counts in zip(*(version.latency for version in versions), strict=True)]


# -- Prometheus ------------------------------------------------------------------------------------------


def exposition(figures: Sequence[WorkerFigures]) -> bytes:
    """The figures in the text format of Prometheus, with labels for worker, model, version and role."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Collector(figures))
    return generate_latest(registry)


_OF_WORKERS = (
    ("clew_worker_cpu_seconds", "counter", "cpu_seconds", "CPU of a prediction worker."),
    ("clew_worker_memory_bytes", "gauge", "memory_bytes", "Memory of a prediction worker."),
    ("clew_worker_in_flight_requests", "gauge", "n_in_flight", "Requests that wait or are being answered."),
    ("clew_worker_requests", "counter", "n_requests", "Requests that came, answered or not."),
    ("clew_worker_labels", "counter", "n_labels", "Labels that were accepted."),
    (
        "clew_worker_labels_of_unknown_classes",
        "counter",
        "n_unknown_classes",
        "Labels that were accepted, of a class that the champion never saw.",
    ),
    ("clew_worker_generation", "gauge", "generation", "The routes that a worker answers by."),
    ("clew_log_bytes", "gauge", "log_bytes", "Of the prediction log, not compacted yet."),
    ("clew_log_failures", "counter", "n_log_failures", "Times the prediction log could not be written."),
    ("clew_log_unlogged", "counter", "n_unlogged", "Answers that were given without being logged."),
)
_OF_VERSIONS = (
    ("clew_predictions_requests", "n_requests", "Requests answered, by the version that answered."),
    ("clew_predictions_rows", "n_rows", "Rows answered, by the version that answered."),
    ("clew_predictions_beside_rows", "n_beside", "Rows that a version was asked about as a shadow."),
    ("clew_predictions_model_seconds", "model_seconds", "What models took, shadows included."),
)
_SECONDS = "clew_predictions_seconds"


class _Collector:
    def __init__(self, figures: Sequence[WorkerFigures]) -> None:
        self._figures = figures

    def collect(self) -> Iterator[Metric]:
        for name, kind, attribute, words in _OF_WORKERS:
            metric = Metric(name, words, kind)
            for figures in self._figures:
                suffix = "_total" if kind == "counter" else ""
                metric.add_sample(name + suffix, _worker(figures), getattr(figures, attribute))
            yield metric
        for name, attribute, words in _OF_VERSIONS:
            metric = Metric(name, words, "counter")
            for labels, version in self._versions():
                metric.add_sample(f"{name}_total", labels, getattr(version, attribute))
            yield metric
        yield self._latency()
        yield self._errors()
        yield self._refused()

    def _latency(self) -> Metric:
        metric = Metric(_SECONDS, "From the complete request to the finished answer.", "histogram")
        for labels, version in self._versions():
            n_so_far = 0
            for end, n in zip((*BUCKETS_SECONDS, math.inf), version.latency, strict=True):
                n_so_far += n
                le = "+Inf" if math.isinf(end) else repr(end)
                metric.add_sample(f"{_SECONDS}_bucket", labels | {"le": le}, n_so_far)
            metric.add_sample(f"{_SECONDS}_count", labels, n_so_far)
            metric.add_sample(f"{_SECONDS}_sum", labels, version.latency_seconds)
        return metric

    def _errors(self) -> Metric:
        metric = Metric(
            "clew_predictions_errors", "Rows that a version failed to answer, by kind.", "counter"
        )
        for labels, version in self._versions():
            for kind, n in version.errors.items():
                metric.add_sample(f"{metric.name}_total", labels | {"kind": kind}, n)
        return metric

    def _refused(self) -> Metric:
        metric = Metric("clew_worker_refused", "Requests that got an error instead of an answer.", "counter")
        for figures in self._figures:
            for name, n in figures.refused.items():
                model, _, code = name.rpartition("/")
                labels = _worker(figures) | {"model": model, "code": code}
                metric.add_sample(f"{metric.name}_total", labels, n)
        return metric

    def _versions(self) -> Iterator[tuple[dict[str, str], VersionFigures]]:
        for figures in self._figures:
            for version in figures.versions.values():
                of_version = {"model": version.deployment, "version": str(version.version)}
                yield _worker(figures) | of_version, version


def _worker(figures: WorkerFigures) -> dict[str, str]:
    return {"worker": str(figures.worker)}
