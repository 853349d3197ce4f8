"""A run's report in a browser without a network: light, dark, narrow, and printed."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from analyses.demo.config import DemoConfig
from analyses.demo.study import Demo
from analyses.runner import run
from tests.browsing import (
    Scheme,
    asked_of_others,
    chromium,
    look_as,
    opened,
    printed,
    too_wide,
)

pytestmark = pytest.mark.browser

DRAWN = """
const plots = [...document.querySelectorAll(".plotly-graph-div")];
return [plots.length, plots.filter(plot => plot.querySelector(".cartesianlayer .subplot")).length];
"""
READY = (
    "document.readyState === 'complete' && "
    "[...document.querySelectorAll('.plotly-graph-div')]"
    ".every(plot => plot.querySelector('.cartesianlayer .subplot'))"
)


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    with chromium(tmp_path_factory.mktemp("browser")) as session:
        yield session


@pytest.fixture(scope="module")
def report(tiny_folder: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page of a small demo, alone in its folder."""
    out = tmp_path_factory.mktemp("demo")
    small = {"items": "bundled", "limit": 4, "texts": 2, "pairs": 2, "read": 2}
    config = DemoConfig(model=str(tiny_folder("llama")), out=out / "run", **small)
    page = run(Demo(), config, progress=False).report
    return page.rename(out / "report.html")


@pytest.mark.parametrize("width", [1280, 500])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_all_figures_are_drawn_and_nothing_sticks_out(
    browser: Any, report: Path, scheme: Scheme, width: int
) -> None:
    look_as(browser, scheme, width)
    assert opened(browser, report, READY) == []
    figures, drawn = browser.execute_script(DRAWN)
    assert figures == drawn == report.read_text().count("Plotly.newPlot(")
    assert figures >= 8
    assert too_wide(browser) <= 0
    assert asked_of_others(browser) == []
    page, ink = browser.execute_script(
        "const seen = getComputedStyle(document.body), title = document.querySelector('.gtitle');"
        "return [seen.backgroundColor, getComputedStyle(title).fill];"
    )
    dark = scheme == "dark"
    assert (brightness(page) < 60) == dark
    assert (brightness(ink) > 200) == dark


def brightness(colour: str) -> float:
    red, green, blue = (int(part) for part in re.findall(r"\d+", colour)[:3])
    return (red + green + blue) / 3


def test_the_theme_is_changed_on_the_page_and_kept(browser: Any, report: Path) -> None:
    look_as(browser, "light", 1280)
    opened(browser, report, READY)
    browser.find_element("css selector", ".theme").click()
    now = "return document.documentElement.dataset.theme"
    assert browser.execute_script(now) == "dark"
    opened(browser, report, READY)
    assert browser.execute_script(now) == "dark"
    browser.execute_script("localStorage.clear()")


def test_every_figure_can_be_saved_as_png_and_svg(browser: Any, report: Path) -> None:
    look_as(browser, "dark", 1280)
    opened(browser, report, READY)
    buttons = browser.execute_script(
        "return [...document.querySelectorAll('.save button')].map(b => b.dataset.format)"
    )
    assert buttons == ["png", "svg"] * (len(buttons) // 2)
    assert len(buttons) == 2 * browser.execute_script(DRAWN)[0]
    svg = browser.execute_async_script(
        "const done = arguments[0]; const plot = document.querySelector('.plotly-graph-div');"
        "Plotly.toImage(plot, {format: 'svg', width: 800, height: 400}).then(done);"
    )
    assert "rgb(34, 34, 34)" in svg.replace("%20", " ").replace(
        "%2C", ","
    )  # light, also of a dark page


@pytest.mark.parametrize("width", [1280, 500])
def test_print_is_light_and_holds_every_figure_on_the_sheet(
    browser: Any, report: Path, width: int
) -> None:
    look_as(browser, "dark", width)
    opened(browser, report, READY)
    browser.execute_script(
        "addEventListener('beforeprint', () => {"
        "  const plots = [...document.querySelectorAll('.plotly-graph-div')];"
        "  window.onSheet = plots.filter(p => p.getBoundingClientRect().width > 0).length;"
        "  window.paper = getComputedStyle(document.body).backgroundColor; });"
    )
    sheets = printed(browser)
    assert sheets.startswith(b"%PDF")
    assert len(re.findall(rb"/Type\s*/Page\b", sheets)) >= 5
    assert browser.execute_script("return window.onSheet") == browser.execute_script(DRAWN)[0]
    assert browser.execute_script("return window.paper") == "rgb(255, 255, 255)"
    assert (
        browser.execute_script("return document.documentElement.dataset.theme") == "dark"
    )  # again


def test_the_report_is_one_file_of_less_than_8_megabytes(report: Path) -> None:
    assert [path.name for path in report.parent.iterdir() if path.suffix == ".html"] == [
        report.name
    ]
    assert report.stat().st_size < 8_000_000
