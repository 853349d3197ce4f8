"""The pages in a real browser without a network: drawn, and silent on the console."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pandas as pd
import plotly.graph_objects as go
import pytest
import torch

from interp.activations import AttentionPatterns
from interp.prompts import TokenizedPrompt
from interp.viz import (
    Section,
    attention_fragment,
    attention_to_span,
    coloured_tokens,
    render_report,
    save,
)
from tests.browsing import chromium, opened

pytestmark = pytest.mark.browser

HOSTILE = ["</script><script>window.broken=1</script>", "<!--", "\n", "\"'\\", "ünï 漢字", " the"]


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    with chromium(tmp_path_factory.mktemp("browser")) as session:
        yield session


def hostile_fragment() -> Any:
    n = 2 * len(HOSTILE)
    values = torch.rand(1, 2, n, n).tril()
    prompt = TokenizedPrompt(torch.arange(n), {"prompt": slice(0, n)}, tuple(HOSTILE * 2), "")
    return attention_fragment(AttentionPatterns(values, (0,), prompt))


def test_report_draws_plotly_and_circuitsvis_without_errors(browser, tmp_path):
    chart = go.Figure(go.Scatter(x=HOSTILE, y=[1] * len(HOSTILE), name=HOSTILE[0]))
    section = Section(
        HOSTILE[0],
        [HOSTILE[0]],
        [(pd.DataFrame({HOSTILE[0]: HOSTILE}), "")],
        [
            (chart, ""),
            (hostile_fragment(), ""),
            (attention_to_span(torch.rand(2, 3), torch.rand(2, 3)), ""),
            (hostile_fragment(), ""),
        ],
    )
    path = tmp_path / "report.html"
    render_report([section], title=HOSTILE[0], lead=HOSTILE[1], path=path)
    errors = opened(
        browser,
        path,
        "document.querySelectorAll('.plotly-graph-div svg.main-svg').length >= 4"
        " && document.querySelectorAll('.attention canvas').length == 6",
    )
    assert errors == []
    assert browser.execute_script("return window.broken") is None
    wide = browser.execute_script("return document.documentElement.scrollWidth - innerWidth")
    assert wide <= 0


DARK_NOTEBOOK = (
    "<!DOCTYPE html><meta charset='utf-8'><style>body {{ background: #fff; color: #222 }}"
    "@media (prefers-color-scheme: dark) {{ body {{ background: #111; color: #e0e0e0 }} }}</style>"
    "<body>{html}</body>"
)
CONTRASTS = """
const luminance = text => {
  const linear = text.match(/[0-9.]+/g).slice(0, 3).map(part => part / 255)
    .map(part => part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4);
  return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2];
};
const page = getComputedStyle(document.body).backgroundColor;
return [...document.querySelectorAll("bdi")].map(token => {
  const style = getComputedStyle(token);
  const back = style.backgroundColor === "rgba(0, 0, 0, 0)" ? page : style.backgroundColor;
  const both = [luminance(back), luminance(style.color)].sort((a, b) => b - a);
  return (both[0] + 0.05) / (both[1] + 0.05);
});
"""


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_coloured_tokens_read_in_a_light_and_a_dark_notebook(browser, tmp_path, theme):
    tokens = [*HOSTILE, "\u202e", "\u200b", "שלום", "👩‍👩‍👧", " word " * 3, "x" * 10_000] * 2
    values = torch.linspace(-1, 1, len(tokens))
    values[3] = float("nan")
    fragment = coloured_tokens(tokens, {"source": values, HOSTILE[0]: -values}, unit="nats")
    path = tmp_path / "notebook.html"
    path.write_text(DARK_NOTEBOOK.format(html=fragment._repr_html_()), encoding="utf-8")
    media = {"features": [{"name": "prefers-color-scheme", "value": theme}]}
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", media)
    errors = opened(browser, path, "document.querySelectorAll('bdi').length")
    contrasts = browser.execute_script(CONTRASTS)
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": []})
    assert errors == []
    assert browser.execute_script("return window.broken") is None
    assert len(contrasts) == 2 * len(tokens)
    assert min(contrasts) >= 4.5
    assert browser.execute_script("return document.documentElement.scrollWidth - innerWidth") <= 0


def test_a_saved_page_of_coloured_tokens_opens_without_errors(browser, tmp_path):
    fragment = coloured_tokens(HOSTILE, torch.arange(6.0), scale="sequential", unit="nats")
    path = save(fragment, tmp_path / "pages" / "tokens.html")
    assert opened(browser, path, "document.querySelectorAll('bdi').length == 6") == []
    assert browser.execute_script("return window.broken") is None
    shown = browser.execute_script("return document.querySelector('bdi').innerText")
    assert shown == HOSTILE[0]
