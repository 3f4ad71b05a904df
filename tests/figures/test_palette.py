"""Colours are held to outside truths: WCAG contrast, and a published model of colour-blind vision."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest

from clew.figures import DARK, LIGHT, Theme
from clew.figures.palette import DASHES, Rgb

THEMES = [LIGHT, DARK]

# Machado, Oliveira, Fernandes (2009), A physiologically-based model for simulation of color vision
# deficiency, severity 1.0: rows give red, green, blue as seen, in linear light.
VISIONS = {
    "full": np.eye(3),
    "protanopia": np.array(
        [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]]
    ),
    "deuteranopia": np.array(
        [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]]
    ),
    "tritanopia": np.array(
        [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.303900]]
    ),
}


def linear_light(colour: Rgb) -> np.ndarray:
    share = np.array(colour) / 255
    return np.where(share <= 0.04045, share / 12.92, ((share + 0.055) / 1.055) ** 2.4)


def contrast(one: Rgb, other: Rgb) -> float:
    """The ratio of WCAG 2.2, 1 to 21."""
    light, dark = sorted(
        (linear_light(each) @ [0.2126, 0.7152, 0.0722] for each in (one, other)), reverse=True
    )
    return float((light + 0.05) / (dark + 0.05))


def lab(linear: np.ndarray) -> np.ndarray:
    """CIE L*a*b* under D65."""
    xyz = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]]) @ np.clip(
        linear, 0, 1
    )
    t = xyz / np.array([0.9505, 1.0, 1.089])
    f = np.where(t > 0.008856, np.cbrt(t), 7.787 * t + 16 / 116)
    return np.array([116 * f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])])


@pytest.mark.parametrize("theme", THEMES, ids=lambda theme: theme.name)
def test_text_can_be_read(theme: Theme) -> None:
    for colour in (theme.ink, theme.muted):
        assert contrast(colour, theme.surface) >= 4.5


@pytest.mark.parametrize("theme", THEMES, ids=lambda theme: theme.name)
def test_lines_and_marks_stand_out_from_the_page(theme: Theme) -> None:
    for colour in (
        theme.clew,
        theme.frozen,
        theme.blind,
        theme.alarm,
        theme.caution,
        theme.good,
        theme.plain,
    ):
        assert contrast(colour, theme.surface) >= 3


@pytest.mark.parametrize("theme", THEMES, ids=lambda theme: theme.name)
@pytest.mark.parametrize("vision", VISIONS)
def test_the_three_policies_stay_apart_in_any_colour_vision(theme: Theme, vision: str) -> None:
    seen = [lab(VISIONS[vision] @ linear_light(c)) for c in (theme.clew, theme.frozen, theme.blind)]
    # 2.3 is just noticeable side by side; thin lines apart from each other need several times that.
    assert min(float(np.linalg.norm(a - b)) for a, b in combinations(seen, 2)) > 12


def test_the_policies_differ_in_dash_too() -> None:
    assert len(set(DASHES.values())) == 3
