"""Measure and draw anew what the README shows: its tables, and the pictures of the two timelines.

    python tools/showcase.py              all of it
    python tools/showcase.py backtest     only the backtest of the bicycles
    python tools/showcase.py live         only their life through real servers
    python tools/showcase.py tables       only set out again what was measured

Each runs in a folder of its own what ``make demo`` runs; its figures go to docs/results, and the timeline of
its page, as a browser draws it, to docs/images. The numbers of the benchmarks are those that ``make bench``
has kept. The pictures need chromium.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
README = ROOT / "README.md"
BIKES = ROOT / "docs" / "results" / "bikes.json"
LIVE = ROOT / "docs" / "results" / "live.json"
PICTURES = {
    ROOT / "docs" / "images" / "timeline.png": (1180, 790),
    ROOT / "docs" / "images" / "live.png": (1180, 745),
}
"""With their sizes: the title of the second is a line shorter."""

BENCHMARKS = ROOT / "benchmarks" / "results"

BROWSERS = ("chromium", "chromium-browser", "google-chrome")
BROWSER_FLAGS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync", "--hide-scrollbars"),
)
SHOWN_ALONE = """<style>
main > section:not([aria-labelledby=timeline-title]), #timeline-title, .hint, .lede, .figure ~ p {
  display: none
}
</style>"""

WORDS = {
    "alarms": "errors rise from 8 to 13 %, 100 labels a day: until the page",
    "backtest": "a whole backtest",
    "betting": "evidence of harm, a row",
    "binning": "counting values for drift",
    "footprint": "memory of `clew up` at rest",
    "prediction_log": "logging an answer, moving it to Parquet included",
    "row_prediction": "a row answered by a package",
    "serving": "a row answered over HTTP, all included",
    "startup": "`clew --help`",
}
"""What the table calls a benchmark whose own name says too little."""


def main(arguments: list[str]) -> int:
    backtest_picture, live_picture = PICTURES
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.html"
        if arguments in ([], ["backtest"]):
            write_json(BIKES, kept_of(backtest_bikes(Path(folder), report)))
            draw(report, backtest_picture)
        if arguments in ([], ["live"]):
            write_json(LIVE, kept_of_life(live_with_bikes(Path(folder), report)))
            draw(report, live_picture)
    README.write_text(with_tables(README.read_text(encoding="utf-8")), encoding="utf-8")
    return 0


# -- measuring -----------------------------------------------------------------------------------------


def backtest_bikes(folder: Path, report: Path) -> dict[str, Any]:
    """Run the demo's command in a copy of the example; its JSON document."""
    shutil.copytree(ROOT / "examples" / "bikes", folder / "bikes", ignore=shutil.ignore_patterns(".clew"))
    command = [*demo_command(), "--report", str(report), "--json"]
    clew = Path(sys.executable).parent / command[0]
    done = subprocess.run(
        [str(clew), *command[1:]], cwd=folder / "bikes", check=True, stdout=subprocess.PIPE, text=True
    )
    result: dict[str, Any] = json.loads(done.stdout)
    return result


def live_with_bikes(folder: Path, report: Path) -> dict[str, Any]:
    """Run the demo's second half in a copy of it; what it wrote."""
    example = ROOT / "examples" / "bikes" / "live"
    shutil.copytree(example, folder / "live", ignore=shutil.ignore_patterns(".clew", "*.csv", "__*"))
    written = folder / "live.json"
    subprocess.run(
        [sys.executable, "feeder.py", "--result", str(written), "--report", str(report)],
        cwd=folder / "live", check=True, stdout=subprocess.DEVNULL, stdin=subprocess.DEVNULL,
    )  # fmt: skip
    result: dict[str, Any] = json.loads(written.read_text(encoding="utf-8"))
    return result


def demo_command() -> list[str]:
    """What ``make demo`` runs, as typed in the example's folder and without its report."""
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    recipe = re.search(r"^demo:.*\n\t\$\(BIN\)/(clew .*?) --report", makefile, re.MULTILINE)
    if recipe is None:
        raise LookupError("The Makefile has no target demo that runs clew with --report.")
    return recipe[1].replace("examples/bikes/", "").split()


def kept_of(result: dict[str, Any]) -> dict[str, Any]:
    """Of a backtest's document what does not depend on the machine."""
    about = ("model", "metric", "margin", "start", "end", "seed", "snapshot")
    columns = ("start", "end", "n", "clew", "frozen", "blind", "version")
    return {
        "command": demo_command(),
        **{name: result[name] for name in about},
        "summary": {name: value for name, value in result["summary"].items() if name != "seconds"},
        "windows": [{name: window[name] for name in columns} for window in result["windows"]],
        "events": [
            {name: event[name] for name in ("time", "kind", "sentence")} for event in result["events"]
        ],
    }


def kept_of_life(result: dict[str, Any]) -> dict[str, Any]:
    """Of the live demo's result all but its 13,000 answers and the intervals."""
    columns = ("start", "end", "n", "clew", "frozen", "version")
    windows = [{name: window[name] for name in columns} for window in result["windows"]]
    return {name: value for name, value in result.items() if name != "answers"} | {"windows": windows}


def write_json(path: Path, value: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


# -- drawing -------------------------------------------------------------------------------------------


def draw(report: Path, picture: Path) -> None:
    """Let a browser draw the report's timeline, with all else of the page hidden."""
    browser = next(filter(None, map(shutil.which, BROWSERS)), None)
    if browser is None:
        raise LookupError(f"Drawing needs a browser: one of {', '.join(BROWSERS)}.")
    page = report.with_name("timeline.html")
    page.write_text(report.read_text(encoding="utf-8").replace("</head>", f"{SHOWN_ALONE}</head>", 1))
    picture.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as profile:
        width, height = PICTURES[picture]
        subprocess.run(
            [browser, *BROWSER_FLAGS, f"--user-data-dir={profile}", f"--window-size={width},{height}",
             "--virtual-time-budget=10000", f"--screenshot={picture}", page.as_uri()],
            check=True, stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip


# -- tables --------------------------------------------------------------------------------------------


def with_tables(readme: str) -> str:
    """The README with its tables set out from what was measured."""
    bikes, live = (json.loads(path.read_text(encoding="utf-8")) for path in (BIKES, LIVE))
    tables = {"bikes": bikes_table(bikes), "live": live_table(live), "speed": speed_table()}
    for name, table in tables.items():
        marked = re.compile(rf"(?<=<!-- {name} -->\n\n).*?(?=\n\n<!-- end of {name} -->)", re.DOTALL)
        if marked.search(readme) is None:
            raise LookupError(f"The README has no place between <!-- {name} --> and <!-- end of {name} -->.")
        readme = marked.sub(table.replace("\\", r"\\"), readme)
    return readme


def bikes_table(kept: dict[str, Any]) -> str:
    summary = kept["summary"]
    rows = [
        ["with Clew", f"**{summary['clew']:.3f}**", str(summary["fits"])],
        ["refitted blindly every month", f"{summary['blind']:.3f}", str(summary["blind_fits"])],
        ["the first model, left alone", f"{summary['frozen']:.3f}", "0"],
    ]
    return markdown_table([f"replayed {months(kept)}", kept["metric"], "fits"], rows)


def live_table(kept: dict[str, Any]) -> str:
    summary = kept["summary"]
    rows = [
        ["with Clew", f"**{summary['clew']:.3f}**", str(summary["fits"])],
        ["the first model, left alone", f"{summary['frozen']:.3f}", "0"],
    ]
    return markdown_table([f"lived {months(kept)}", kept["metric"], "fits"], rows)


def months(kept: dict[str, Any]) -> str:
    return f"{kept['windows'][0]['start'][:7]} to {kept['windows'][-1]['start'][:7]}"


def speed_table() -> str:
    kept = {path.stem: json.loads(path.read_text(encoding="utf-8")) for path in BENCHMARKS.glob("*.json")}
    rows = [speed_row(name, each["result"]) for name, each in sorted(kept.items())]
    return markdown_table(["what", "measured", "goal", "beside it"], rows)


def speed_row(name: str, result: dict[str, Any]) -> list[str]:
    sign = "≤" if result["better"] == "lower" else "≥"
    unit = result.get("unit", "")
    beside = {**(result["floor"] if isinstance(result.get("floor"), dict) else {}), **result.get("peers", {})}
    return [
        WORDS.get(name, result["name"]),
        f"{result['value']:g} {unit}".strip(),
        f"{sign} {result['goal']:g}",
        "; ".join(f"{peer}: {value:g}" for peer, value in beside.items()),
    ]


def markdown_table(heads: list[str], rows: list[list[str]]) -> str:
    lines = [heads, ["---"] * len(heads), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
