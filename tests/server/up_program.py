"""``clew up`` as it is typed, with the parts in small: python up_program.py WORDS."""

from __future__ import annotations

import sys

from clew.cli import run
from clew.server import supervisor
from clew.server.supervisor import Programs

IN_SMALL = Programs(
    control=(sys.executable, "-m", "tests.server.control_program"),
    worker=(sys.executable, "-m", "tests.server.worker_program"),
)

if __name__ == "__main__":
    supervisor.DEFAULT_PROGRAMS = IN_SMALL
    sys.exit(run(["up", *sys.argv[1:]]))
