from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

import click
import pytest

from clew.config import Settings
from clew.errors import ClewError
from tools import docs


@dataclass(frozen=True)
class Inner:
    """Of the inner place.

    Attributes
    ----------
    url
        Where ``it`` is,
        on two lines.
    """

    url: str | None = None


@dataclass(frozen=True)
class Outer:
    """Of the whole.

    Attributes
    ----------
    root, size
        Told together.
    inner
        The inner place.
    """

    root: Path
    size: int = 3
    inner: Inner = field(default_factory=Inner)


@dataclass(frozen=True)
class Untold:
    """Nothing is said of the field."""

    size: int = 3


def test_the_reference_is_what_the_program_says() -> None:
    assert docs.stale_pages() == [], "write it anew with: make docs"


def test_a_changed_page_is_stale(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(docs, "REFERENCE", tmp_path)
    assert docs.main([]) == 0
    assert docs.main(["--check"]) == 0
    page = tmp_path / "errors.md"
    page.write_text(page.read_text().replace("500", "501", 1))
    assert docs.main(["--check"]) == 1
    assert docs.stale_pages() == ["errors.md"]


def test_every_setting_stands_under_its_section_with_default_and_text() -> None:
    page = docs.settings_page(Outer)
    assert "- **`size`** (`int`, by default `3`)  \n  Told together." in page
    assert (
        "## `[inner]`\n\nOf the inner place.\n\n- **`url`** (`str | None`)  \n  Where `it` is, on two lines."
        in page
    )
    assert "root" not in page


def test_a_setting_without_a_word_about_it_is_refused() -> None:
    with pytest.raises(LookupError, match="Untold has no Attributes entry for size"):
        docs.settings_page(Untold)


def test_the_real_settings_and_errors_can_be_set_out() -> None:
    assert "## `[budget]`" in docs.settings_page(Settings)
    errors = docs.errors_page(ClewError)
    assert (
        errors.index("`UsageError`")
        < errors.index("&nbsp;`SettingsError`")
        < errors.index("## `SettingsError`")
    )


def test_a_call_too_long_for_a_line_has_a_line_for_each_parameter() -> None:
    def short(a: int, *, b: str | None = None) -> None: ...

    def long(
        first: Iterable[str], *, second: Iterable[str] = (), third: Iterable[str] = (), fourth: int = 3
    ) -> None: ...

    assert docs.signature("short", short) == "clew.short(a: int, *, b: str | None = None)"
    assert docs.signature("long", long).splitlines()[:4] == [
        "clew.long(",
        "    first: Iterable[str],",
        "    *,",
        "    second: Iterable[str] = (),",
    ]


def test_the_command_line_is_set_out_with_what_lies_below_and_without_what_is_hidden() -> None:
    @click.group()
    def tool() -> None:
        """Do things."""

    @tool.command()
    @click.option("--times", default=2, show_default=True, help="How often.")
    def ring(times: int) -> None:
        """Ring the bell."""

    @tool.command(hidden=True)
    def secret() -> None:
        """Not for everyone."""

    page = docs.cli_page(tool)
    assert "## `clew ring`\n\n```text\nUsage: clew ring [OPTIONS]" in page
    assert "How often.  [default: 2]" in page
    assert "secret" not in page
