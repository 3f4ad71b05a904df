from __future__ import annotations

import dataclasses
import json
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest

from clew.cli.report import render_report, write_report
from clew.entities import GateReport
from clew.loop.result import BacktestResult, Event, GateRecord
from tests.cli.results import backtest_result, live_result

COMMAND = "clew backtest bikes.py --start 2011-07-01 --report 'my report.html'"
LOADS = {"src", "href", "srcset", "data", "poster", "action", "background"}


class Page(HTMLParser):
    """What a page would load, its text, its JSON scripts, its ids and links."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.loads: list[str] = []
        self.ids: list[str] = []
        self.tags: list[str] = []
        self.text = ""
        self.policy = ""
        self.figures: dict[str, str] = {}
        self._script: dict[str, str | None] | None = None
        self.styles = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        self.tags.append(tag)
        self.loads += [value for name, value in attrs if name in LOADS and value]
        self.ids += [value for name, value in attrs if name == "id" and value]
        if given.get("http-equiv") == "Content-Security-Policy":
            self.policy = given["content"] or ""
        self._script = given | {"tag": tag} if tag in ("script", "style") else None

    def handle_data(self, data: str) -> None:
        if self._script is None:
            self.text += data
        elif self._script["tag"] == "style":
            self.styles += data
        elif self._script.get("type") == "application/json":
            self.figures[str(self._script["id"])] = data

    def handle_endtag(self, tag: str) -> None:  # noqa: ARG002 - the parser's own signature
        self._script = None


@pytest.fixture(scope="module")
def result() -> BacktestResult:
    return backtest_result()


@pytest.fixture(scope="module")
def page(result: BacktestResult) -> Page:
    return Page(render_report(result, command=COMMAND))


def squeezed(text: str) -> str:
    return " ".join(text.split())


def test_the_title_says_the_outcome_in_words(page: Page, result: BacktestResult) -> None:
    summary = result.summary
    title = (
        f"With Clew {summary.clew:.3f}; frozen {summary.frozen:.3f};"
        f" refitted blindly every month {summary.blind:.3f}"
    )
    assert title in squeezed(page.text)


def test_every_event_is_told_with_its_evidence(page: Page, result: BacktestResult) -> None:
    for event in result.events:
        assert event.sentence in page.text
    assert "gate, slices" in page.text
    assert "0.7781" in page.text


def test_every_check_of_every_gate_is_told(page: Page, result: BacktestResult) -> None:
    for record in result.gates:
        for check in record.report.checks:
            assert check.sentence in page.text
    assert "−0.120 to −0.040" in page.text


def test_every_window_version_note_and_age_is_told(page: Page, result: BacktestResult) -> None:
    for window in result.windows:
        assert f"{window.start:%Y-%m-%d}" in page.text
    for text in (*result.notes, *(version.recipe for version in result.versions), "60 to 90"):
        assert text in page.text


def test_it_says_how_to_get_it_again(page: Page, result: BacktestResult) -> None:
    for text in (COMMAND, result.id, result.snapshot):
        assert text in page.text


def test_nothing_is_loaded_from_anywhere(page: Page) -> None:
    assert [target for target in page.loads if not target.startswith("#")] == []
    assert not re.search(r"@import|url\(", page.styles)
    assert "default-src 'none'" in page.policy
    assert not {"link", "iframe", "img", "object", "embed"} & set(page.tags)


def test_the_charts_library_lies_in_the_page(result: BacktestResult) -> None:
    assert "plotly.js v" in render_report(result, command=COMMAND)[:400_000]


def test_charts_are_there_for_light_and_dark(page: Page) -> None:
    assert set(page.figures) == {"timeline-light", "timeline-dark", "staleness-light", "staleness-dark"}
    timeline = json.loads(page.figures["timeline-light"])
    names = [trace["name"] for trace in timeline["data"]]
    assert {"with Clew", "frozen first model", "refitted blindly", "page", "promoted", "v1", "v3"} <= set(
        names
    )


def test_every_link_leads_somewhere(page: Page) -> None:
    assert {target.removeprefix("#") for target in page.loads} <= set(page.ids)
    assert "#gate-1" in page.loads
    assert "#gate-2" in page.loads


def test_ids_are_unique(page: Page) -> None:
    assert len(page.ids) == len(set(page.ids))


def test_what_the_project_says_is_never_markup(result: BacktestResult) -> None:
    nasty = "</script><script>alert('x')</script><img src=x onerror=alert(1)>"
    event = Event(result.start, "page", nasty, {nasty: nasty})
    hostile = dataclasses.replace(
        result,
        model=nasty,
        events=(event,),
        notes=(nasty,),
        versions=(dataclasses.replace(result.versions[0], recipe=nasty),),
        gates=(GateRecord(result.start, nasty, GateReport(result.gates[0].report.checks)),),
    )
    text = render_report(hostile, command=nasty)
    assert nasty not in text
    tags = Page(text).tags
    assert tags.count("script") == Page(render_report(result, command=COMMAND)).tags.count("script")
    assert "img" not in tags


def test_a_quiet_backtest_makes_a_page_too(result: BacktestResult) -> None:
    quiet = dataclasses.replace(result, events=(), gates=(), staleness=(), notes=())
    page = Page(render_report(quiet, command=COMMAND))
    assert "no alarm" in page.text
    assert "No gate was held" in page.text
    assert set(page.figures) == {"timeline-light", "timeline-dark"}


def test_the_file_is_written_whole_and_readable(result: BacktestResult, tmp_path: Path) -> None:
    path = tmp_path / "report.html"
    path.write_text("an older one")
    write_report(result, path, command=COMMAND)
    assert path.read_text(encoding="utf-8").rstrip().endswith("</html>")
    assert [each.name for each in tmp_path.iterdir()] == ["report.html"]
    assert path.stat().st_mode & 0o444 == 0o444


# ---------------------------------------------------------------- of a running model


def test_of_a_running_model_nothing_is_said_about_blind_retraining() -> None:
    result = live_result()
    page = Page(render_report(result, command="clew status busy_hour --report busy_hour.html"))
    said = squeezed(page.text)
    assert said.startswith(
        f"busy_hour: With Clew {result.summary.clew:.3f}; frozen {result.summary.frozen:.3f}"
    )
    assert "Live record of busy_hour" in said
    assert "What happened" in said
    assert "blind" not in said.lower()
    assert [trace["name"] for trace in json.loads(page.figures["timeline-light"])["data"]][:4] == [
        *("frozen first model, 95 % interval", "with Clew, 95 % interval"),
        *("frozen first model", "with Clew"),
    ]


def test_of_a_running_model_it_is_said_who_answered_how_much() -> None:
    said = squeezed(Page(render_report(live_result(), command="clew status busy_hour")).text)
    assert "8,000 rows: 3,000 by version 1, 2,900 by version 2, 2,100 by version 3" in said
    assert "seed" not in said
    assert "The replay took" not in said
