"""The explorer in a real JupyterLab: clicked, and the figure and the answer change."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.explore.lab import Lab, started

pytestmark = pytest.mark.browser

SOURCE = """
import interp
from interp.data import Choice, ChoiceItem
model = interp.load_model({folder!r})
choices = (
    Choice("Not known", "unknown"),
    Choice("The farmer", "stereotyped"),
    Choice("The teacher", "counter"),
)
items = [
    ChoiceItem(
        "q0", "own", "own", "The farmer met the old teacher near the river.",
        "Who was more careful with the money?", choices, 0, "ambiguous", "c",
    )
]
explorer = interp.explore(model, items)
explorer
"""
PANE = """
const pane = [...document.querySelectorAll('.interp-pane')].find((one) =>
  one.offsetParent && one.querySelector('.interp-pane-title').textContent.includes(arguments[0]));
"""
BUTTON = """
const button = [...document.querySelectorAll('.interp-explore button')].find(
  (one) => one.offsetParent && one.textContent.includes(arguments[0]));
"""
TAB = """
const tab = [...document.querySelectorAll('.interp-explore .lm-TabBar-tab')].find(
  (one) => one.textContent.trim() === arguments[0]);
const box = tab.getBoundingClientRect();
for (const kind of ['pointerdown', 'mousedown', 'pointerup', 'mouseup', 'click'])
  tab.dispatchEvent(new MouseEvent(kind, { bubbles: true, clientX: box.x + 5, clientY: box.y + 5 }));
"""
READ = """
window.copied = [];
navigator.clipboard.writeText = async (text) => { window.copied.push(text); };
"""


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    pytest.importorskip("jupyterlab")
    pytest.importorskip("anywidget")
    pytest.importorskip("selenium")
    if shutil.which("chromium") is None or shutil.which("chromedriver") is None:
        pytest.skip("chromium or chromedriver is not installed")
    with started(tmp_path_factory.mktemp("lab"), theme="JupyterLab Dark") as opened:
        yield opened


def said(lab: Lab, title: str) -> str:
    """The line of a pane, once its figure is drawn."""
    return str(
        lab.until(
            f"{PANE} return pane?.querySelector('.main-svg') && !pane.matches('.interp-pane-busy') "
            "&& pane.querySelector('.interp-pane-said').textContent",
            title,
        )
    )


def colours(lab: Lab, title: str) -> list[list[int]]:
    """Red, green, blue (and opacity) of a figure's ink and of its paper."""
    found = lab.browser.execute_script(
        f"{PANE} return [getComputedStyle(pane.querySelector('.gtitle, .xtitle')).fill, "
        "getComputedStyle(pane.querySelector('.main-svg')).backgroundColor]",
        title,
    )
    return [[int(part) for part in re.findall(r"[\d.]+", colour)] for colour in found]


def test_a_cell_is_clicked_and_the_figure_and_the_answer_change(
    lab: Lab, tiny_folder: Callable[..., Path]
) -> None:
    from selenium.webdriver.common.action_chains import ActionChains

    browser = lab.browser
    lab.open(SOURCE.format(folder=str(tiny_folder("llama"))))
    lab.run()
    lab.until("return document.querySelector('.interp-explore') !== null")

    before = said(lab, "What is answered")
    assert before.startswith("instructed: ")
    ink, paper = colours(lab, "What is answered")
    assert min(ink) > 180  # a dark page: light ink
    assert paper == [0, 0, 0, 0]  # on the page's own background

    browser.execute_script(TAB, "Map")
    lab.until(f"{PANE} return pane?.innerText.includes('Not computed yet')", "Patching map")
    browser.execute_script(f"{BUTTON} button.click()", "Compute the map")
    surface = f"{PANE} return pane.querySelector('.nsewdrag')"
    lab.until(surface, "Patching map")

    def click() -> None:
        place = browser.execute_script(surface, "Patching map")
        ActionChains(browser).move_to_element_with_offset(place, -60, 30).perform()
        lab.until(f"{PANE} return pane.querySelector('.hovertext')", "Patching map")
        ActionChains(browser).click().perform()

    framed = (  # the figure changed: its cell is framed
        f"{PANE} return [...pane.querySelectorAll('.shapelayer path')].some((one) => "
        "one.style.stroke === 'rgb(213, 94, 0)')"
    )
    assert not browser.execute_script(framed, "Patching map")
    lab.act(click, framed, "Patching map")
    cell = said(lab, ": what is answered")
    assert cell.startswith("placebo: ")
    assert "; patched: " in cell
    bars = f"{PANE} return pane.querySelectorAll('.bars .point').length"
    assert lab.until(bars, ": what is answered") == 9  # three options, three runs
    lab.until(f"{PANE} return pane?.innerText.includes('what position')", "The cell: attention")

    browser.save_screenshot(str(lab.folder / "map.png"))  # to look at
    browser.execute_script(READ)
    browser.execute_script(
        f"{PANE} pane.querySelector('.interp-pane-copy').click()", "Patching map"
    )
    (code,) = lab.until("return window.copied.length && window.copied")
    assert "interp.viz.heatmap(interp.sweep(model, pair, site='resid_pre'" in code

    browser.execute_script(TAB, "Knock out, steer")
    browser.execute_script(f"{BUTTON} button.click()", "a span")
    plain, edited = said(lab, "answered after the change").split("; ")
    assert plain.startswith("placebo: The farmer")
    assert edited.startswith("edited: The teacher")  # another answer

    browser.execute_script(f"{BUTTON} button.click()", "close")
    lab.until("return document.querySelector('.interp-explore') === null")
    assert [line for line in lab.console() if not line.startswith(lab.url)] == []
    assert lab.hosts() == {lab.url.removeprefix("http://")}
