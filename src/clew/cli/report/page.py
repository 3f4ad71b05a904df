"""Pages of one self-contained HTML file: what a model lived through, in a backtest or for real, and others.

Everything the page needs lies in it: styles, scripts, the charts' library. A content security policy
forbids the browser to load anything else. Whatever comes from the project is escaped by the template.
"""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from clew import __version__
from clew.cli.report.charts import figures_of
from clew.cli.report.facts import facts_of

if TYPE_CHECKING:
    from jinja2 import Environment

    from clew.loop.result import Lived

ASSETS = Path(__file__).parent / "assets"


def write_report(result: Lived, path: Path, *, command: str) -> None:
    """Write the page to `path`, whole or not at all.

    Parameters
    ----------
    command
        The command line that made the result, for the reader who wants to repeat it.
    """
    write_page(render_report(result, command=command), path)


def render_report(result: Lived, *, command: str) -> str:
    """The page's text.

    Parameters
    ----------
    command
        The command line that made the result.
    """
    return render_page("report.html.j2", facts_of(result), figures_of(result), command=command)


def write_page(text: str, path: Path) -> None:
    """Write a page to `path`, whole or not at all."""
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
        # mkstemp makes files for the owner alone; a report is as readable as any other file.
        Path(name).chmod(0o644)
        Path(name).replace(path)
    finally:
        Path(name).unlink(missing_ok=True)


def render_page(template: str, facts: Mapping[str, Any], figures: Mapping[str, Any], *, command: str) -> str:
    """A page with everything it needs in it.

    Parameters
    ----------
    facts
        What the template shows.
    figures
        Plotly figures by the names under which the page finds them, one for each theme.
    """
    from plotly.offline import get_plotlyjs

    return (
        _environment()
        .get_template(template)
        .render(
            **facts,
            command=command,
            clew_version=__version__,
            figures={name: _for_script(figure) for name, figure in figures.items()},
            plotly_js=get_plotlyjs(),
            style=(ASSETS / "report.css").read_text(encoding="utf-8"),
            script=(ASSETS / "report.js").read_text(encoding="utf-8"),
        )
    )


@lru_cache(maxsize=1)
def _environment() -> Environment:
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    return Environment(
        loader=FileSystemLoader(ASSETS),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def _for_script(figure: Any) -> str:
    """A figure as JSON that may stand in a script element: nothing in it can end the element."""
    text = json.dumps(json.loads(figure.to_json()), separators=(",", ":"))
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")
