"""What holds for every page: links lead somewhere, a sentence has a line, numbers are those of the code."""

from __future__ import annotations

import re
from inspect import signature as signature_of
from pathlib import Path
from typing import get_args, get_type_hints

import pytest

from clew.cli.verbs import init
from clew.datasets import cutting, parts
from clew.declare import parse_retrain
from clew.entities import Trigger
from clew.loop import gate, policy, reproduction, rollout
from clew.monitoring import budget, contract, drift, reference
from clew.notifications import command, outbox, signature, webhook
from clew.notifications.notices import TOLD_DECISIONS
from clew.server import supervisor
from clew.serving import first_answers, own_code
from clew.storage import LogWriter, database
from clew.tracking import code, project_files
from tests.docs.pages import DOCS, ROOT, all_pages, begins_in, blocks

PAGES = [page.relative_to(ROOT).as_posix() for page in all_pages()]

_FENCED = re.compile(r"^```.*?^```$", re.MULTILINE | re.DOTALL)
_LINK = re.compile(r"!?\[[^\]]*\]\((?P<target>[^)\s]+)\)")
_TWO_SENTENCES = re.compile(r"[^\d][.!?] +[A-Z`]")


def text_of(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def prose_of(text: str) -> list[str]:
    """The lines that are sentences: neither code, nor headings, tables or markers."""
    lines = _FENCED.sub("", text).splitlines()
    return [line for line in lines if line.strip() and not line.startswith(("#", "|", "<!--", "!["))]


# ---------------------------------------------------------------- links


def dead_links(page: Path, text: str) -> list[str]:
    return [link["target"] for link in _LINK.finditer(_FENCED.sub("", text)) if is_dead(page, link["target"])]


def is_dead(page: Path, target: str) -> bool:
    path, _, heading = target.partition("#")
    place = (page.parent / path).resolve() if path else page
    if not place.exists():
        return True
    return bool(heading) and heading not in anchors(place.read_text(encoding="utf-8"))


def anchors(text: str) -> set[str]:
    """Of each heading the name by which it can be linked."""
    headings = re.findall(r"^#+ (.+)$", _FENCED.sub("", text), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading).strip().lower().replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("name", PAGES)
def test_every_link_leads_to_a_page_and_a_heading_that_exist(name: str) -> None:
    assert dead_links(ROOT / name, text_of(name)) == []


def test_a_dead_link_is_noticed() -> None:
    page = ROOT / "README.md"
    assert dead_links(page, "[a](no-such.md) [b](README.md#no-such) [c](LICENSE)") == [
        "no-such.md",
        "README.md#no-such",
    ]


def test_every_page_can_be_reached_from_the_readme() -> None:
    known, new = set[Path](), {ROOT / "README.md"}
    while new:
        known |= new
        links = [(page, link["target"]) for page in new for link in _LINK.finditer(page.read_text())]
        targets = {(page.parent / target.partition("#")[0]).resolve() for page, target in links}
        new = {target for target in targets if target.suffix == ".md" and target.is_file()} - known
    # The decisions are linked as a folder.
    written = {page for page in DOCS.rglob("*.md") if page.parent.name != "decisions"}
    assert written - known == set()


# ---------------------------------------------------------------- prose


def crowded_lines(text: str) -> list[str]:
    return [line for line in prose_of(text) if _TWO_SENTENCES.search(line)]


@pytest.mark.parametrize("name", PAGES)
def test_each_sentence_has_a_line_of_its_own(name: str) -> None:
    assert crowded_lines(text_of(name)) == []


def test_two_sentences_in_a_line_are_noticed() -> None:
    assert crowded_lines("One sentence. And another.\n\n```text\nOne. Two.\n```\n") == [
        "One sentence. And another."
    ]


def test_decisions_are_numbered_without_a_gap_and_say_what_they_cost() -> None:
    decisions = sorted((DOCS / "decisions").glob("*.md"))
    assert [int(page.name[:4]) for page in decisions] == list(range(1, len(decisions) + 1))
    for page in decisions:
        text = page.read_text(encoding="utf-8")
        assert text.startswith(f"# {int(page.name[:4])}. ")
        for part in ("**Context.**", "**Decision.**", "**Cost.**"):
            assert part in text, f"{page.name} has no {part}"


def test_a_page_that_continues_another_says_so_to_its_reader() -> None:
    for page in all_pages():
        before = begins_in(page)
        if before is not None:
            link = f"(../{before.relative_to(DOCS).as_posix()})"
            assert link in page.read_text(encoding="utf-8"), page.name


# ---------------------------------------------------------------- what pages say of the program


def test_the_tutorial_shows_the_file_that_init_writes() -> None:
    shown = {block.name: block.body for block in blocks(text_of("docs/tutorials/first-model.md"))}
    assert shown["model.py"] == init.project_files("loans")["model.py"]


SAID = {
    "docs/explanation/the-loop.md": {
        "at least 100, unless `train_window=`": policy.SMALLEST_WINDOW == 100 and policy.WINDOW_SHARE == 3,
        "- The newest 3W rows.": policy.RECIPES[1:] == (3.0, 1.0),
        "every W/2 rows, and only when a quarter": policy.REFIT_EVERY == 0.5
        and policy.REFIT_NEW_SHARE == 0.25,
        "the last 3 retired champions": policy.RETIRED_KEPT == 3,
        "within sixteen days": policy.TICKS_PER_WINDOW == 16,
        "5 %, shared by all who compete: with five contestants the evidence must reach 1:100": 5
        / policy.ALPHA_BETTER
        == 100,
        "at least 50 rows": policy.SMALLEST_SCORED == 50,
        "When W/2 rows went by": policy.TIE_AFTER == 0.5,
        "more than half the margin than champion and than anchor (95 %": policy.TIE_MARGIN == 0.5
        and policy.TIE_CONFIDENCE == 0.9,
        "above 1:10.": policy.CALM_EVIDENCE == 10,
        "more than half of the rows; the labels": gate.MISSING_JUMP == 0.5,
        "not below a fiftieth": gate.TOO_GOOD == 1 / 50,
        "at most 0.15, or 0.05 more": gate.CALIBRATION_LIMIT == 0.15 and gate.CALIBRATION_LOSS == 0.05,
        "at most 1 in 100 is": rollout.ROLLBACK_ALPHA == 0.01,
        "fitted at 100, 200, 400 rows": policy.ONSET_FIRST_FIT == 100,
        "W rows after the onset nothing better": policy.EPISODE_PATIENCE == 1,
        "half of the skill that the first champion": policy.SKILL_FLOOR == 0.5,
        "within 3W rows with a chance": policy.EVIDENCE_SPREAD == 3,
        "waits W/4 rows": policy.BACK_OFF == 0.25,
        "with a 99 % limit": policy.REFERENCE_CONFIDENCE == 0.98,
    },
    "docs/explanation/alarms.md": {
        "none gets more than 0.01 a quarter": budget.LARGEST_ALPHA == 0.01,
        "1 false page in 100 quarters": budget.page_alpha(1, 1, 1) == 0.01,
        "with a thousand models each gets a thousandth": budget.page_alpha(1, 1000, 1) == 0.001,
        "newest day, week or four weeks": reference.MERGE_DAYS == (1, 7, 28),
        "more than a tenth of the rows lie in other bins": drift.FLOOR == 0.1,
        "widened by half of it to either side": reference.RANGE_ROOM == 0.5,
        "a tenth of the rows more than usual": contract.SMALLEST_EXCESS == 0.1,
        "certainly most of the rows": contract.PAGE_SHARE == 0.5,
    },
    "docs/explanation/a-running-system.md": {
        "after 0.1 seconds, and after twice as long each time, at most 10 seconds": (
            supervisor.FIRST_DELAY_SECONDS,
            supervisor.LONGEST_DELAY_SECONDS,
        )
        == (0.1, 10),
        "until it has lived for a minute": supervisor.HEALTHY_SECONDS == 60,
        "within 30 seconds is ended": own_code.ANSWER_SECONDS == 30,
        "within 50 ms": signature_of(LogWriter).parameters["sync_seconds"].default == 0.05,
        "again, within a day": first_answers.KEPT_SECONDS == 86_400,
    },
    "docs/explanation/snapshots.md": {
        "digests of every 65,536 rows": parts.ROWS_A_BLOCK == 65_536,
        "about 64 parts at first": cutting.PARTS_AT_FIRST == 64,
        "less than about 8,192 rows": 2 * cutting.SMALLEST_REACH == 8_192,
        "more than about 1,024 parts": cutting.MOST_PARTS == 1_024,
    },
    "docs/explanation/code-and-environment.md": {
        "up to 1 MB each and 50 MB in all": code.MOST_BYTES_A_FILE == 1e6 and code.MOST_BYTES_IN_ALL == 50e6,
    },
    "docs/how-to/get-told.md": {
        "12 attempts within a day": outbox.MOST_ATTEMPTS == 12,
        "after a minute, then after twice as long each time, at most six hours": [
            outbox.pause_after(n).total_seconds() for n in (1, 2, 99)
        ]
        == [60, 120, 6 * 3600],
        "at most 10 seconds for a webhook and 30 seconds": webhook.TIMEOUT_SECONDS == 10
        and command.LIMIT_SECONDS == 30,
        "> timedelta(minutes=5)": signature.TOLERANCE.total_seconds() == 300,
    },
    "docs/how-to/postgres-and-s3.md": {
        "after 30 seconds a writer gives up": database.BUSY_TIMEOUT_SECONDS == 30,
    },
    "docs/how-to/reproduce-and-compare.md": {
        "within a millionth": reproduction.TOLERANCE == 1e-6,
        "up to 10,000 mixed": reproduction.MOST_MIXED == 10_000,
    },
    "docs/how-to/retrain-words.md": {
        "after 100, 200, 400, 800, 1,600 and 3,200 such rows": policy.ORDERED_LOOKS
        == (100, 200, 400, 800, 1600, 3200),
        "more than half the margin": policy.TIE_MARGIN == 0.5,
    },
    "docs/how-to/set-limits-and-minimums.md": {
        "fewer than 30 judged rows": gate.SMALLEST_SLICE == 30,
        "more than half of it": policy.TIE_MARGIN == 0.5,
    },
}
"""By page what it says, and whether that is so."""


@pytest.mark.parametrize("name", SAID)
def test_a_number_in_a_page_is_that_of_the_code(name: str) -> None:
    text = text_of(name)
    assert [words for words in SAID[name] if words not in text] == [], "the page no longer says so"
    assert [words for words, is_so in SAID[name].items() if not is_so] == [], "the code no longer does so"


def test_every_kind_of_secret_that_is_left_out_is_named() -> None:
    text = text_of("docs/how-to/keep-secrets-out.md")
    names = {name for name in project_files.SECRET_NAMES if not name.startswith("id_")}
    assert {name for name in names if name.removesuffix("*") not in text} == set()
    assert {folder for folder in project_files.SECRET_FOLDERS if folder not in text} == set()


def test_everything_that_is_told_is_named_with_its_level() -> None:
    rows = re.findall(r"^\| (\w+) \| (`.+`) \|", text_of("docs/how-to/get-told.md"), re.MULTILINE)
    named = {(kind.strip("`"), level) for level, kinds in rows for kind in kinds.split(", ")}
    assert set(TOLD_DECISIONS.items()) - named == set()


def test_the_words_of_retrain_are_those_that_are_taken() -> None:
    rows = re.findall(r'^\| `"([^"]+)"` \|', text_of("docs/how-to/retrain-words.md"), re.MULTILINE)
    assert [str(parse_retrain(word)[0]) for word in rows] == rows
    assert {word.split()[0] for word in rows} == set(get_args(get_type_hints(Trigger)["kind"]))
