"""The process of a version with its own code; `clew.serving.own_code` starts it and talks to it."""

from __future__ import annotations

import socket
import sys
from pathlib import Path
from typing import Any

from clew.entities import Json
from clew.errors import ClewError, DataError
from clew.registry import load_package
from clew.registry.arrow_rows import ArrowRows
from clew.serving.answering import describe_failure
from clew.serving.own_code import receive, send
from clew.tracking.lifeline import die_with_parent


def main(arguments: list[str]) -> int:
    descriptor, lifeline, package, digest, code = arguments
    die_with_parent(int(lifeline))
    with socket.socket(fileno=int(descriptor)) as worker:
        try:
            model = ArrowRows(load_package(Path(package), code_folder=Path(code), expected_digest=digest))
        # Importing user code may raise anything; the worker says it wherever this version is asked for.
        except Exception as error:  # noqa: BLE001
            why = str(error) if isinstance(error, ClewError) else describe_failure(error)
            send(worker, {"error": why, "is_loaded": False})
            return 1
        send(worker, {})
        while True:
            try:
                rows = receive(worker)
            except EOFError:
                return 0
            send(worker, _answer(model, rows))


def _answer(model: ArrowRows, rows: list[Any]) -> Json:
    try:
        predicted, probabilities = model.answer(rows)
    except DataError as error:
        return {"error": str(error), "column": error.column, "rows": error.rows}
    # As in a worker: whatever a model raises, the caller is told and the next question is answered.
    except Exception as error:  # noqa: BLE001
        return {"error": describe_failure(error)}
    return {"predicted": predicted, "probabilities": probabilities}


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
