"""Every command and snippet of README and docs does what the page says."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.docs.pages import ROOT, ExampleFailed, Step, Walk, all_pages, blocks, rewritten
from tests.docs.walks import Walks
from tests.servers import S3Server

RUNNABLE = {"console", "python", "toml", "csv"}
STORE_PAGE = "docs/how-to/postgres-and-s3.md"

MEND = "Write it anew with: .venv/bin/python -m pytest tests/docs -n0 --write-examples"


def name_of(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


def with_examples() -> list[str]:
    pages = {name_of(page): blocks(page.read_text(encoding="utf-8")) for page in all_pages()}
    return [name for name, found in pages.items() if any(block.kind in RUNNABLE for block in found)]


@pytest.mark.timeout(400)
@pytest.mark.parametrize("name", with_examples())
def test_what_a_page_shows_is_what_happens(name: str, walks: Walks, request: pytest.FixtureRequest) -> None:
    page = ROOT / name
    variables = request.getfixturevalue("store_variables") if name == STORE_PAGE else {}
    walk = walks.through(page, variables)
    if request.config.getoption("--write-examples", default=False):
        page.write_text(rewritten(page.read_text(encoding="utf-8"), walk.steps, walk.ids), encoding="utf-8")
        return
    assert [difference(name, step) for step in walk.steps if not step.is_true] == [], MEND


def difference(name: str, step: Step) -> str:
    shown, printed = ("\n".join(lines) for lines in (step.command.shown, step.printed))
    return f"{name}, line {step.command.line}: $ {step.command.typed}\nshows\n{shown}\nbut prints\n{printed}"


@pytest.fixture
def store_variables(postgres_url: str, s3_url: str, s3: S3Server) -> dict[str, str]:
    """What the page on other stores has its reader set."""
    return {
        "CLEW_DATABASE": postgres_url,
        "CLEW_BUCKET": s3_url,
        "S3_ENDPOINT": s3.endpoint,
        "S3_KEY": s3.access_key,
        "S3_SECRET": s3.secret_key,
    }


# ---------------------------------------------------------------- a page that lies is noticed

PAGE = """# A page

```console
$ echo one \\
    two
one
two
$ echo 0123456789ab
ab0123456789
$ echo ab0123456789 && seq 5
ab0123456789
1
...
4
```
"""


def test_what_is_no_longer_printed_is_noticed_and_written_anew(tmp_path: Path) -> None:
    (tmp_path / "page.md").write_text(PAGE)
    walk = Walk(tmp_path, {})
    walk.follow(tmp_path / "page.md")
    assert [step.is_true for step in walk.steps] == [False, True, False]
    # The third command names the id that the page shows, and is given the one that was printed.
    assert walk.steps[2].printed == ("0123456789ab", "1", "2", "3", "4", "5")
    anew = rewritten(PAGE, walk.steps, walk.ids)
    assert anew.splitlines()[3:] == [
        "$ echo one \\",
        "    two",
        "one two",
        "$ echo 0123456789ab",
        "0123456789ab",
        "$ echo 0123456789ab && seq 5",
        "0123456789ab",
        "1",
        "...",
        "5",
        "```",
    ]


@pytest.mark.parametrize(
    ("block", "said"),
    [
        ("```console\n$ clew tyr\n```\n", "Did you mean 'try'"),
        ("```python\nimport clew.no_such_room\n```\n", "no_such_room"),
        ("```toml\nmodel = []\n```\n", "Did you mean 'models'"),
    ],
)
def test_an_example_that_fails_is_noticed(block: str, said: str, tmp_path: Path) -> None:
    (tmp_path / "page.md").write_text(block)
    with pytest.raises(ExampleFailed, match=said):
        Walk(tmp_path, {}).follow(tmp_path / "page.md")
