"""The loop of such a program: a request on each line of stdin, the seconds it took on each line of stdout.

It needs nothing but pyarrow, since it runs where neither Clew nor another tool is installed.
"""

from __future__ import annotations

import gc
import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

WORDS = ["word", "place"]


def serve(make: Callable[[Path], Any]) -> None:
    """Answer requests until stdin ends.

    A request names a method of the tool and the rows of the table it is about, or a path.
    """
    tables: dict[str, pa.Table] = {}
    tool: Any = None
    reply: dict[str, float | None]
    replies = sys.stdout
    sys.stdout = sys.stderr  # what tools print is no reply
    for line in sys.stdin:
        request = json.loads(line)
        if request["do"] == "begin":
            tool, reply = make(Path(request["folder"])), {}
        elif request["do"] == "bytes":
            reply = {"bytes": n_bytes(tool.stored)}
        elif not hasattr(tool, request["do"]):
            reply = {"seconds": None, "cpu": None}
        else:
            seconds, cpu = timed(getattr(tool, request["do"]), arguments(request, tables))
            reply = {"seconds": seconds, "cpu": cpu}
        replies.write(json.dumps(reply) + "\n")
        replies.flush()


def arguments(request: dict[str, Any], tables: dict[str, pa.Table]) -> list[Any]:
    if "path" in request:
        return [Path(request["path"])]
    if "rows" not in request:
        return []
    if request["table"] not in tables:
        with pa.OSFile(request["table"]) as file, pa.ipc.open_file(file) as reader:
            tables[request["table"]] = reader.read_all()
    first, last = request["rows"]
    return [tables[request["table"]].slice(first, last - first)]


def timed(action: Callable[..., object], given: list[Any]) -> tuple[float, float]:
    """Seconds by the clock, and of the processors: of this process and those that it started."""
    gc.collect()
    began, began_cpu = time.perf_counter(), cpu_seconds()
    action(*given)
    return time.perf_counter() - began, cpu_seconds() - began_cpu


def cpu_seconds() -> float:
    spent = os.times()
    return spent.user + spent.system + spent.children_user + spent.children_system


def n_bytes(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def write_parquet(table: pa.Table, path: Path) -> None:
    """As the plain file is written that all are compared with."""
    pq.write_table(table, path, compression="zstd", use_dictionary=WORDS)
