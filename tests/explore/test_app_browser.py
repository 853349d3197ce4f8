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
    """Red, green and blue of a figure's ink, its pane's and the figure's paper."""
    found = lab.browser.execute_script(
        f"{PANE} return [getComputedStyle(pane.querySelector('.gtitle, .xtitle')).fill, "
        "getComputedStyle(pane).color, "
        "getComputedStyle(pane.querySelector('.main-svg')).backgroundColor]",
        title,
    )
    return [[int(part) for part in re.findall(r"[\d.]+", colour)[:3]] for colour in found]


def test_a_cell_is_clicked_and_the_figure_and_the_answer_change(
    lab: Lab, tiny_folder: Callable[..., Path]
) -> None:
    from selenium.webdriver.common.action_chains import ActionChains

    browser = lab.browser
    lab.open(SOURCE.format(folder=str(tiny_folder("llama"))))
    lab.run()
    lab.until("return document.querySelector('.interp-explore') !== null")
    errors = lab.console()  # JupyterLab's own until here

    before = said(lab, "What is answered")
    assert before.startswith("instructed: ")
    ink, text, paper = colours(lab, "What is answered")
    assert ink == text  # a dark page: light ink on the page's own background
    assert min(ink) > 180
    assert max(paper) < 80

    browser.execute_script(TAB, "Map")
    assert "Not computed yet" in lab.until(f"{PANE} return pane?.innerText", "Patching map")
    browser.execute_script(f"{BUTTON} button.click()", "Compute the map")
    lab.until(f"{PANE} return pane.querySelector('.nsewdrag')", "Patching map")
    frames = f"{PANE} return pane.querySelectorAll('.shapelayer path').length"
    drawn = browser.execute_script(frames, "Patching map")  # brackets of spans, outlines
    drag = browser.execute_script(f"{PANE} return pane.querySelector('.nsewdrag')", "Patching map")
    ActionChains(browser).move_to_element_with_offset(drag, -60, 30).click().perform()
    lab.until(f"{frames} === {drawn + 1}", "Patching map")  # the figure changed: the cell is framed
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
    plain, edited = said(lab, "after the change").split("; ")
    assert plain.startswith("placebo: The farmer")
    assert edited.startswith("edited: The teacher")  # another answer

    browser.execute_script(f"{BUTTON} button.click()", "close")
    lab.until("return document.querySelector('.interp-explore') === null")
    assert [line for line in lab.console() if line not in errors] == []
    assert lab.hosts() == {lab.url.removeprefix("http://")}
