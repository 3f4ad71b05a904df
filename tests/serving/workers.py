"""Real stores with small models, and real worker processes that serve them on loopback."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from typing import Any

import httpx

from clew.config import load_settings
from clew.entities import Column, DatasetDeclaration, Duration, Margin, ModelDeclaration, Route
from clew.registry import ensure_deployment, register, save_package, store_package
from clew.registry.routes import get_route, move_route, next_generation
from clew.serving.doorbell import Doorbell
from clew.serving.fleet import running
from clew.storage import Store, open_store
from clew.storage.log_reading import read_since
from clew.storage.records import Failure, Label, Prediction, Record
from tests.registry.rides import busy, rides, signature_of

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
TOKEN = "a-token-of-tests"
ROW: dict[str, Any] = {"ride": "r1", "warmth": 0.5, "hour": 8, "holiday": False, "city": "Ulm"}
CLASSES = ("calm", "busy")
START_SECONDS = 60.0
TYPES = {
    "ride": "string",
    "at": "timestamp[us, tz=UTC]",
    "busy": "string",
    "warmth": "double",
    "hour": "int64",
    "holiday": "bool",
    "city": "string",
    "weekday": "string",
}


def wait_for(is_so: Callable[[], Any], what: str, seconds: float = START_SECONDS) -> Any:
    give_up = time.monotonic() + seconds
    while not (found := is_so()):
        assert time.monotonic() < give_up, f"still not: {what}"
        time.sleep(0.01)
    return found


def fitted(seed: int = 0, classes: Sequence[Any] | None = CLASSES, **settings: Any) -> Any:
    """A small LightGBM model of rides; other seeds answer otherwise."""
    from lightgbm import LGBMClassifier, LGBMRegressor

    table = rides(300, seed)
    X = signature_of(table, classes).to_frame(table)
    settings = {"n_estimators": 5, "n_jobs": 1, "verbose": -1} | settings
    if classes is None:
        return LGBMRegressor(**settings).fit(X, table["warmth"].to_numpy() * 3)
    return LGBMClassifier(**settings).fit(X, busy(table, classes))


@dataclass
class Place:
    """A project with a store, and what a control process would do in it."""

    root: Path
    store: Store
    doorbell: Doorbell
    _n_packages: int = 0
    _started: list[Worker] = field(default_factory=list)

    # -- records ---------------------------------------------------------------------------------------

    def deploy(self, name: str = "credit", types: dict[str, str] | None = None, **dataset: Any) -> None:
        """Make a deployment that waits for its first champion."""
        facts: dict[str, Any] = {
            "name": f"{name}_rides",
            "time": "at",
            "key": "ride",
            "label": "busy",
        } | dataset
        about = DatasetDeclaration(label_delay=Duration.parse("1d"), source="rides.parquet", **facts)
        declaration = ModelDeclaration(name, about, "accuracy", Margin.parse(0.01))
        ensure_deployment(self.store, name, "live", name, declaration, NOW)
        columns = [Column(each, kind) for each, kind in (TYPES | (types or {})).items()]
        row = {"columns": [{"name": c.name, "type": c.type, "is_categorical": False} for c in columns]}
        with self.store.write() as tx:
            tx.insert_if_absent("datasets", {"name": about.name, "created_at": NOW} | row)

    def register(self, model: Any, name: str = "credit", classes: Sequence[Any] | None = CLASSES) -> int:
        self._n_packages += 1
        folder = self.root / "packages" / f"{self._n_packages}"
        signature = signature_of(rides(), classes)
        info = save_package(model, folder, signature=signature, example=rides(20), allow_code=True, code="c1")
        return register(
            self.store,
            deployment=name,
            model=name,
            run=f"run-{self._n_packages}",
            package=store_package(self.store, folder),
            flavor=info.flavor,
            metrics={},
            now=NOW,
            actor="tests",
            reason="for a test",
        ).number

    def route(self, champion: int | None, name: str = "credit", *, ring: bool = True, **more: Any) -> int:
        with self.store.write() as tx:
            generation = move_route(
                tx, Route(name, 0, champion, **more), NOW, actor="tests", reason="for a test"
            )
        if ring:
            self.doorbell.ring(generation)
        return generation

    def serve(self, model: Any, name: str = "credit", classes: Sequence[Any] | None = CLASSES) -> int:
        """Deploy and register a model, and make it champion."""
        self.deploy(name)
        number = self.register(model, name, classes)
        self.route(number, name)
        return number

    def allow(self, token: str, name: str) -> None:
        digest = sha256(token.encode()).hexdigest()
        with self.store.write() as tx:
            tx.insert("tokens", {"name": name, "digest": digest, "created_at": NOW})
            generation = next_generation(tx)
        self.doorbell.ring(generation)

    def revoke(self, name: str) -> None:
        with self.store.write() as tx:
            tx.update("tokens", {"name": name}, {"revoked_at": NOW})
            next_generation(tx)

    def generation(self, name: str = "credit") -> int:
        with self.store.read() as reader:
            route = get_route(reader, name)
        assert route is not None
        return route.generation

    # -- the log ---------------------------------------------------------------------------------------

    def log(self) -> list[tuple[str, Record]]:
        return read_since(self.store.folder / "log", {})[0]

    def predictions(self) -> list[tuple[str, Prediction]]:
        return [(name, record) for name, record in self.log() if isinstance(record, Prediction)]

    def failures(self) -> list[Failure]:
        return [record for _, record in self.log() if isinstance(record, Failure)]

    def labels(self) -> list[Label]:
        return [record for _, record in self.log() if isinstance(record, Label)]

    # -- workers ---------------------------------------------------------------------------------------

    def settle(self, generation: int, n_workers: int = 1) -> None:
        """Wait until so many workers serve by this generation."""

        def have_settled() -> bool:
            there = running(self.store)
            return len(there) >= n_workers and all(worker.generation >= generation for worker in there)

        wait_for(have_settled, f"{n_workers} workers at generation {generation}")

    def start(self, n_workers: int = 1, settings: str = "", wait: bool = True) -> Worker:
        """Workers on one new socket; returns the first of them, which speaks for all."""
        (self.root / "clew.toml").write_text(f"[serving]\n{settings}\n")
        listening = socket.create_server(("127.0.0.1", 0))
        with listening:
            started = [self._start(listening) for _ in range(n_workers)]
        if wait:
            wait_for(lambda: len(running(self.store)) >= n_workers, "workers that joined")
            wait_for(started[0].is_ready, "a worker that is ready")
        return started[0]

    def beside(self, worker: Worker) -> Worker:
        """One more worker on the same socket as another."""
        with socket.socket(fileno=os.dup(worker.listening.fileno())) as listening:
            return self._start(listening)

    def _start(self, listening: socket.socket) -> Worker:
        reading, writing = os.pipe()
        handles = [str(listening.fileno()), str(reading)]
        with (self.root / "worker.err").open("ab") as errors:
            process = subprocess.Popen(
                [sys.executable, "-P", "-m", "clew.serving.worker", str(self.root), *handles],
                pass_fds=[listening.fileno(), reading],
                stdin=subprocess.DEVNULL,
                stderr=errors,
            )
        os.close(reading)
        worker = Worker(process, listening.dup(), writing)
        self._started.append(worker)
        return worker

    def errors(self) -> str:
        return (self.root / "worker.err").read_text()

    def close(self) -> None:
        for worker in self._started:
            worker.close()
        self.doorbell.close()
        self.store.close()


class Worker:
    """A worker process and a client that knows the token."""

    def __init__(self, process: subprocess.Popen[bytes], listening: socket.socket, lifeline: int) -> None:
        self.process, self.listening, self._lifeline = process, listening, lifeline
        self.port = listening.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self.client = httpx.Client(
            base_url=self.url, headers={"Authorization": f"Bearer {TOKEN}"}, timeout=30
        )

    def is_ready(self) -> bool:
        assert self.process.poll() is None, "the worker ended"
        with contextlib.suppress(httpx.TransportError):
            return self.client.get("/health").status_code == 200
        return False

    def predict(self, rows: Any = ROW, name: str = "credit", **headers: str) -> httpx.Response:
        headers = {key.replace("_", "-"): value for key, value in headers.items()}
        return self.client.post(f"/predict/{name}", json=rows, headers=headers)

    def label(self, rows: Any, name: str = "credit", **headers: str) -> httpx.Response:
        headers = {key.replace("_", "-"): value for key, value in headers.items()}
        return self.client.post(f"/labels/{name}", json=rows, headers=headers)

    def cut_lifeline(self) -> None:
        if self._lifeline >= 0:
            os.close(self._lifeline)
            self._lifeline = -1

    def stop(self) -> int:
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(30)

    def kill(self) -> None:
        self.process.kill()
        self.process.wait(30)

    def close(self) -> None:
        self.cut_lifeline()
        self.client.close()
        self.listening.close()
        self.process.kill()
        self.process.wait(30)


@contextlib.contextmanager
def new_place(root: Path) -> Iterator[Place]:
    """A fresh project whose store knows one token, of the name ``tests``."""
    root.mkdir(exist_ok=True)
    settings = load_settings(root, {})
    store = open_store(settings, now=NOW)
    place = Place(root, store, Doorbell(store.folder / "run"))
    try:
        place.allow(TOKEN, "tests")
        yield place
    finally:
        place.close()


def error_of(response: httpx.Response) -> tuple[int, str, int | None, str | None]:
    """Status, code, row and field of a refusal."""
    error = response.json()["error"]
    assert set(error) == {"code", "message", "row", "field"}
    return response.status_code, error["code"], error["row"], error["field"]
