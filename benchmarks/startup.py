"""How long `clew --help` and `import clew` take, beside a bare Python.

The commands take turns, so that a busy moment of the machine falls on all of them alike; medians are
compared. `clew --help` is the value; the imports stand among the peers, and the details say whether the
import met its own goal.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import time
from pathlib import Path

IMPORT_GOAL_MS = 60
HELP_GOAL_MS = 150

PYTHON = sys.executable
COMMANDS = {
    "python -c pass": [PYTHON, "-c", "pass"],
    "import clew": [PYTHON, "-c", "import clew"],
    "import clew and its decorators": [PYTHON, "-c", "import clew; clew.dataset, clew.model"],
    "clew --help": [str(Path(PYTHON).parent / "clew"), "--help"],
}


def milliseconds(command: list[str]) -> float:
    started = time.perf_counter()
    subprocess.run(command, check=True, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    return (time.perf_counter() - started) * 1000


def median_milliseconds(n_rounds: int) -> dict[str, float]:
    for command in COMMANDS.values():
        milliseconds(command)  # the first start of each reads from disk and writes bytecode
    rounds = [{name: milliseconds(command) for name, command in COMMANDS.items()} for _ in range(n_rounds)]
    return {name: round(statistics.median(each[name] for each in rounds), 1) for name in COMMANDS}


def main() -> None:
    median = median_milliseconds(n_rounds=1 if "--smoke" in sys.argv[1:] else 31)
    result = {
        "name": "clew --help",
        "value": median["clew --help"],
        "unit": "ms",
        "goal": HELP_GOAL_MS,
        "better": "lower",
        "floor": {"python -c pass": median["python -c pass"]},
        "peers": {name: took for name, took in median.items() if name.startswith("import")},
        "details": {"import_goal": IMPORT_GOAL_MS, "import_met": median["import clew"] <= IMPORT_GOAL_MS},
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
