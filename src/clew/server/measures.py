"""What the control process counts of itself, for ``/metrics``."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import datetime

import psutil
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.core import Metric

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


class LoopMeasures:
    """Ticks of the loop and requests to the control server; safe for several threads."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._ticks = Counter(
            "clew_loop_ticks", "Times the loop did what was due.", ["step"], registry=self.registry
        )
        self._failures = Counter(
            "clew_loop_failures", "Times the loop failed and went on.", ["step"], registry=self.registry
        )
        self._seconds = Counter(
            "clew_loop_seconds", "Seconds the loop was at work.", ["step"], registry=self.registry
        )
        self._clock = Gauge(
            "clew_clock_timestamp_seconds", "Where the system's clock stands.", registry=self.registry
        )
        self._due = Gauge(
            "clew_loop_next_due_timestamp_seconds",
            "When the loop has to do something next; 0 for never.",
            registry=self.registry,
        )
        self._requests = Histogram(
            "clew_control_request_seconds",
            "How long requests to the control server took.",
            ["method", "route", "status"],
            registry=self.registry,
        )
        self.registry.register(_OwnProcess())

    @contextmanager
    def timed(self, step: str) -> Iterator[None]:
        """Count the block as one tick of this step, once it is done."""
        begun = time.perf_counter()
        try:
            yield
            self._ticks.labels(step).inc()
        finally:
            self._seconds.labels(step).inc(time.perf_counter() - begun)

    def failed(self, step: str) -> None:
        self._failures.labels(step).inc()

    def stands(self, now: datetime, due: datetime | None) -> None:
        """Tell where the clock stands and when something is due."""
        self._clock.set(now.timestamp())
        self._due.set(due.timestamp() if due else 0)

    def answered(self, method: str, route: str, status: int, seconds: float) -> None:
        self._requests.labels(method, route, str(status)).observe(seconds)

    def exposition(self) -> bytes:
        """Everything counted here, in the text format of Prometheus."""
        return generate_latest(self.registry)


class _OwnProcess:
    """CPU and memory of this process, looked up when somebody asks."""

    def __init__(self) -> None:
        self._process = psutil.Process()

    def collect(self) -> Iterable[Metric]:
        times, memory = self._process.cpu_times(), self._process.memory_info()
        for name, kind, value, words in (
            ("clew_control_cpu_seconds", "counter", times.user + times.system, "CPU of the control process."),
            ("clew_control_memory_bytes", "gauge", memory.rss, "Memory of the control process."),
        ):
            metric = Metric(name, words, kind)
            metric.add_sample(f"{name}_total" if kind == "counter" else name, {}, value)
            yield metric
