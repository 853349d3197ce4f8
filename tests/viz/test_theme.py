"""The template and its dark rules: every colour of the page has one, and all are seen."""

from __future__ import annotations

import re

import pytest

from interp.viz import CONDITION_COLOURS
from interp.viz.theme import (
    _DARK,
    INK,
    LOWERS,
    MUTED,
    PAPER,
    RAISES,
    dark_css,
    dark_page_css,
    wrap_label,
)


def luminance(colour: str) -> float:
    parts = [int(colour[k : k + 2], 16) / 255 for k in (1, 3, 5)]
    linear = [p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
    return sum(w * p for w, p in zip((0.2126, 0.7152, 0.0722), linear, strict=True))


def contrast(one: str, other: str) -> float:
    low, high = sorted([luminance(one), luminance(other)])
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("colour", [RAISES, LOWERS, *CONDITION_COLOURS.values()])
def test_every_colour_of_a_line_is_seen_on_dark_paper(colour: str) -> None:
    assert contrast(_DARK.get(colour, colour), _DARK[PAPER]) >= 3


@pytest.mark.parametrize("colour", [INK, MUTED])
def test_text_reads_on_light_and_on_dark_paper(colour: str) -> None:
    assert contrast(colour, PAPER) >= 4.5
    assert contrast(_DARK[colour], _DARK[PAPER]) >= 4.5


def test_dark_rules_are_for_screens_and_stay_in_their_scope() -> None:
    css = dark_css(".dark")
    assert css.startswith("@media screen{")
    selectors = re.findall(r"([^{};]+)\{", css.removeprefix("@media screen{"))
    assert selectors
    assert all(one.startswith(".dark") for part in selectors for one in re.split(r",(?! )", part))
    for light, dark in _DARK.items():
        rgb = ", ".join(str(int(light[k : k + 2], 16)) for k in (1, 3, 5))
        assert f'[style*="stroke: rgb({rgb})"]' in css
        assert f"stroke:{dark} !important" in css


def test_a_dark_page_has_its_colours_by_name_and_figures_in_them() -> None:
    css = dark_page_css(".dark")
    assert f"--paper:{_DARK[PAPER]};--ink:{_DARK[INK]};" in css
    assert css.endswith(dark_css(".dark"))
    assert css.count("@media screen{") == 2


def test_labels_are_wrapped_at_underscores() -> None:
    assert wrap_label("all_from_the_first") == "all_from_<br>the_first"
