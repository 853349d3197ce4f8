"""The attention view in a real browser without a network: choices change figures, the table sorts."""

from __future__ import annotations

from typing import Any

import pytest

from interp.data import bundled_choices
from interp.prompts import make_pair
from interp.viz import attention_page, attention_view
from tests.browsing import opened, until
from tests.viz.pages import make_patterns
from tests.viz.test_attention_view import HOSTILE, STRANGE
from tests.viz.test_report_browser import DARK_NOTEBOOK, browser

__all__ = ["browser"]
pytestmark = pytest.mark.browser

DRAWN = "document.querySelectorAll('.attention-view canvas').length"
PICTURES = (
    "return [...document.querySelectorAll('.attention-view .panels:not(.heads) canvas')]"
    ".map(canvas => canvas.toDataURL())"
)
REQUESTS = "return performance.getEntriesByType('resource').map(entry => entry.name)"


def column(browser: Any, k: int) -> list[str]:
    rows = "[...document.querySelectorAll('.attention-view .table tbody tr')]"
    return browser.execute_script(f"return {rows}.map(row => row.children[{k}].textContent)")


def choose(browser: Any, label: str, text: str) -> None:
    browser.execute_script(
        "const list = document.querySelector(`select[aria-label='${arguments[0]}']`);"
        "list.value = [...list.options].find(o => o.textContent === arguments[1]).value;"
        "list.dispatchEvent(new Event('change'));",
        label,
        text,
    )


def numbers(cells: list[str]) -> list[float]:
    return [float(cell.replace("−", "-")) for cell in cells]


def test_choosing_a_layer_a_head_and_a_span_changes_the_page(browser, tiny_model, tmp_path):
    pair = make_pair(tiny_model, bundled_choices()[0], "instructed")
    path = tmp_path / "attention.html"
    heads = [(1, 2), (3, 0), (3, 1)]
    page = attention_page(tiny_model, pair, heads=heads, path=path)
    errors = opened(browser, path, f"{DRAWN} === 6")
    before = browser.execute_script(PICTURES)
    assert len(set(before)) == 3
    choose(browser, "layer", "3")
    choose(browser, "head", "0")
    after = browser.execute_script(PICTURES)
    assert all(a != b for a, b in zip(before, after, strict=True))
    assert "Head L3H0" in browser.execute_script("return document.body.innerText")
    # a head whose tokens are not on the page is shown by span
    choose(browser, "layer", "0")
    assert browser.execute_script("return document.querySelectorAll('table.matrix').length") == 3
    # the table: every head, sorted by the difference, then by layer, then the other way
    frame = page.to_dataframe()
    found = numbers(column(browser, 4))
    assert found == pytest.approx(sorted(frame["difference"], reverse=True), abs=6e-4)
    first = "document.querySelector('.attention-view .table th button')"
    browser.execute_script(f"{first}.click()")
    assert numbers(column(browser, 0)) == sorted(frame["layer"])
    browser.execute_script(f"{first}.click()")
    assert numbers(column(browser, 0)) == sorted(frame["layer"], reverse=True)
    masses = page.masses["instructed"].mass("options", "instruction").flatten()
    choose(browser, "from", "instruction")
    choose(browser, "to", "options")
    assert sorted(numbers(column(browser, 2))) == pytest.approx(sorted(masses.tolist()), abs=6e-4)
    assert errors == []
    assert [e for e in browser.get_log("browser") if e["level"] == "SEVERE"] == []
    assert [name for name in browser.execute_script(REQUESTS) if not name.startswith("data:")] == []
    assert browser.execute_script("return document.documentElement.scrollWidth - innerWidth") <= 0


def test_a_click_shows_what_a_position_attends_to(browser, tmp_path):
    patterns = make_patterns([f" t{k}" for k in range(12)])
    path = tmp_path / "view.html"
    path.write_text(DARK_NOTEBOOK.format(html=attention_view(patterns)._repr_html_()))
    assert opened(browser, path, f"{DRAWN} === 2") == []
    browser.execute_script("document.querySelectorAll('.attention-view .text bdi')[5].click()")
    cells = "[...document.querySelectorAll('.attention-view .text bdi')]"
    coloured = browser.execute_script(f"return {cells}.map(cell => Boolean(cell.style.background))")
    assert coloured == [True] * 6 + [False] * 6
    assert "what position 5 attends to" in browser.execute_script("return document.body.innerText")


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_views_follow_the_notebooks_theme_and_hold_hostile_tokens(browser, tmp_path, theme):
    tokens = [*HOSTILE, *STRANGE]
    both = make_patterns(tokens), make_patterns(tokens, seed=1)
    # two displays, each with the script as a notebook has them
    html = attention_view(*both)._repr_html_() + both[0]._repr_html_()
    path = tmp_path / "notebook.html"
    path.write_text(DARK_NOTEBOOK.format(html=html), encoding="utf-8")
    media = {"features": [{"name": "prefers-color-scheme", "value": theme}]}
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", media)
    errors = opened(browser, path, f"{DRAWN} === 8")
    themes = "return [...document.querySelectorAll('.attention-view')].map(v => v.dataset.theme)"
    assert browser.execute_script(themes) == [theme, theme]
    other = "dark" if theme == "light" else "light"
    media["features"][0]["value"] = other
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", media)
    until(browser, f"{themes}.every(theme => theme === arguments[0])", other)
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": []})
    assert errors == []
    assert browser.execute_script("return window.broken || window.alerted") is None
    texts = browser.execute_script(
        "return [...document.querySelector('.attention-view .text').querySelectorAll('bdi')]"
        ".map(cell => cell.textContent)"
    )
    assert texts[0] == HOSTILE[0]
    assert len(texts) == len(tokens)
    assert browser.execute_script("return document.documentElement.scrollWidth - innerWidth") <= 0
