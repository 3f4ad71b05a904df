"""Text that appears over a mark."""

from __future__ import annotations

import html
import textwrap


def hover_text(text: str, width: int = 64) -> str:
    """The text as a hover label shows it: wrapped, and with nothing that could be read as markup.

    Examples
    --------
    >>> hover_text("age < 30 & income unknown")
    'age &lt; 30 &amp; income unknown'
    """
    return "<br>".join(html.escape(line, quote=False) for line in textwrap.wrap(text, width))
