"""Colours, dashes and symbols that every figure shares."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

Policy: TypeAlias = Literal["clew", "frozen", "blind"]
Rgb: TypeAlias = tuple[int, int, int]


@dataclass(frozen=True, slots=True)
class Theme:
    """What a figure looks like on a light or a dark page. The background is the page's own.

    Attributes
    ----------
    ink, muted, grid
        Text, quieter text and rules.
    clew, frozen, blind
        The three policies that a backtest compares.
    alarm, caution, good, plain
        Marks: harm, doubt, improvement, everything else.
    """

    name: Literal["light", "dark"]
    ink: Rgb
    muted: Rgb
    grid: Rgb
    surface: Rgb
    clew: Rgb
    frozen: Rgb
    blind: Rgb
    alarm: Rgb
    caution: Rgb
    good: Rgb
    plain: Rgb

    def policy(self, policy: Policy) -> Rgb:
        return {"clew": self.clew, "frozen": self.frozen, "blind": self.blind}[policy]


# Blue, vermilion and grey of the palette by Okabe and Ito (2008): told apart with any colour vision,
# and, with the dashes below, in grey print.
LIGHT = Theme(
    name="light",
    ink=(31, 41, 55),
    muted=(91, 101, 117),
    grid=(229, 231, 235),
    surface=(255, 255, 255),
    clew=(0, 114, 178),
    frozen=(213, 94, 0),
    blind=(107, 114, 128),
    alarm=(190, 50, 20),
    caution=(180, 120, 0),
    good=(0, 114, 178),
    plain=(107, 114, 128),
)
DARK = Theme(
    name="dark",
    ink=(229, 231, 235),
    muted=(156, 165, 180),
    grid=(51, 60, 74),
    surface=(17, 24, 39),
    clew=(86, 180, 233),
    frozen=(240, 138, 64),
    blind=(168, 176, 187),
    alarm=(255, 125, 95),
    caution=(240, 190, 80),
    good=(86, 180, 233),
    plain=(168, 176, 187),
)

DASHES: dict[Policy, str] = {"clew": "solid", "frozen": "dash", "blind": "dot"}

FONT = "system-ui, -apple-system, 'Segoe UI', Roboto, 'Helvetica Neue', sans-serif"


def css(colour: Rgb, opacity: float = 1.0) -> str:
    """The colour as Plotly and CSS spell it.

    Examples
    --------
    >>> css((0, 114, 178)), css((0, 114, 178), 0.15)
    ('rgb(0, 114, 178)', 'rgba(0, 114, 178, 0.15)')
    """
    red, green, blue = colour
    return f"rgb({red}, {green}, {blue})" if opacity == 1 else f"rgba({red}, {green}, {blue}, {opacity})"


def quiet_axis(theme: Theme, title: str = "", **more: Any) -> dict[str, Any]:
    """An axis without a box: hair-line grid, muted labels."""
    return {
        "gridcolor": css(theme.grid),
        "linecolor": css(theme.grid),
        "tickfont": {"color": css(theme.muted), "size": 12},
        "title": {"text": title, "font": {"color": css(theme.muted), "size": 12}},
        "zeroline": False,
        "automargin": True,
        **more,
    }


def quiet_layout(theme: Theme, **more: Any) -> dict[str, Any]:
    """What all figures have in common, with `more` on top."""
    return {
        # An explicit empty template: Plotly's default one would add its own colours and 7 kB.
        "template": {"layout": {}},
        "paper_bgcolor": "rgba(0,0,0,0)",
        "plot_bgcolor": "rgba(0,0,0,0)",
        "font": {"family": FONT, "color": css(theme.ink), "size": 13},
        "hoverlabel": {
            "align": "left",
            "bgcolor": css(theme.surface),
            "bordercolor": css(theme.grid),
            "font": {"family": FONT, "color": css(theme.ink), "size": 13},
        },
        "hovermode": "closest",
        "margin": {"l": 8, "r": 12, "t": 8, "b": 8},
        "legend": {
            "orientation": "h",
            "traceorder": "reversed",
            "x": 0,
            "y": 1.02,
            "yanchor": "bottom",
            "font": {"color": css(theme.ink), "size": 13},
        },
        **more,
    }
