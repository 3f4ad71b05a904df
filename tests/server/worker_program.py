"""A prediction worker in small: answers with its process number, leaves its figures, drains on SIGTERM."""

from __future__ import annotations

import os
import signal
import socket
import sys
import threading
import time
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from types import FrameType

import msgspec

from clew.config import load_settings
from clew.serving.figures_file import VersionFigures, WorkerFigures
from clew.tracking.lifeline import die_with_parent

FIGURES = WorkerFigures(worker=os.getpid(), pid=os.getpid(), versions={"dice@1": VersionFigures("dice", 1)})


class Answer(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        if self.path == "/slow":
            time.sleep(1.0)
        FIGURES.versions["dice@1"].answered(1, 0.0004)
        content = str(os.getpid()).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *arguments: object) -> None:  # noqa: A002
        pass


class Stopped(Exception):
    pass


def stop(_number: int, _frame: FrameType | None) -> None:
    server.is_stopping = True


class Server(HTTPServer):
    is_stopping = False

    def service_actions(self) -> None:
        FIGURES.written_at = int(datetime.now(UTC).timestamp() * 1e6)
        folder.mkdir(parents=True, exist_ok=True)
        fresh = folder / f".{os.getpid()}"
        fresh.write_bytes(msgspec.json.encode(FIGURES))
        fresh.replace(folder / f"{os.getpid()}.json")
        if self.is_stopping:
            threading.Thread(target=self.shutdown).start()


if __name__ == "__main__":
    root, descriptor, lifeline = sys.argv[1:4]
    die_with_parent(int(lifeline))
    folder = load_settings(Path(root)).store / "run" / "workers"
    server = Server(("127.0.0.1", 0), Answer, bind_and_activate=False)
    server.socket.close()
    server.socket = socket.socket(fileno=int(descriptor))
    signal.signal(signal.SIGTERM, stop)
    server.serve_forever(poll_interval=0.1)
