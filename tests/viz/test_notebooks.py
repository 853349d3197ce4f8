"""Figures in Jupyter: a PNG beside plotly's JSON, by itself, and one note where nothing draws it."""

from __future__ import annotations

import base64
import subprocess
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import plotly.graph_objects as go
import plotly.io
import pytest

from interp.errors import InterpError
from interp.viz import require_browser
from tests.browsing import asked_of_others, chromium, look_as, opened

pytest.importorskip("IPython")
from interp.viz import notebooks

PLOTLY, PNG = "application/vnd.plotly.v1+json", "image/png"


@pytest.fixture
def shown(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """What is displayed beside the figures."""
    outputs: list[Any] = []
    monkeypatch.setattr(notebooks, "display", lambda data, raw: outputs.append(data))
    return outputs


def figure() -> go.Figure:
    return go.Figure(go.Scatter(x=[1, 2], y=[3, 4]), go.Layout(height=300))


def test_a_figure_has_a_png_beside_its_json(
    monkeypatch: pytest.MonkeyPatch, shown: list[Any]
) -> None:
    drawn: list[Any] = []
    monkeypatch.setattr(notebooks, "draw", lambda *a, **size: drawn.append((a, size)) or b"picture")
    bundle = notebooks.FigureRenderer().to_mimebundle(figure().to_dict())
    assert bundle[PLOTLY]["data"][0]["type"] == "scatter"
    assert base64.b64decode(bundle[PNG]) == b"picture"
    assert set(bundle) == {PLOTLY, PNG}  # a script in HTML would hide the picture from static pages
    (((one, picture), size),) = drawn
    assert (picture, one.layout.height, size["width"]) == ("png", 300, 900)
    assert 1 <= size["scale"] <= 1.5


def test_dark_rules_come_once_a_cell(monkeypatch: pytest.MonkeyPatch, shown: list[Any]) -> None:
    monkeypatch.setattr(notebooks, "draw", lambda *a, **size: b"")
    renderer = notebooks.FigureRenderer()
    for cell in (1, 1, 2):
        shell = type("Shell", (), {"execution_count": cell})()
        monkeypatch.setattr(notebooks, "get_ipython", lambda shell=shell: shell)
        renderer.to_mimebundle(figure().to_dict())
    assert len(shown) == 2
    assert '[data-jp-theme-light="false"] .js-plotly-plot' in shown[0]["text/html"]


def test_without_a_browser_figures_are_plotly_alone_and_one_note_says_why(
    monkeypatch: pytest.MonkeyPatch, shown: list[Any]
) -> None:
    def fails(*given: Any, **size: Any) -> bytes:
        raise InterpError("install chromium")

    monkeypatch.setattr(notebooks, "draw", fails)
    renderer = notebooks.FigureRenderer()
    with pytest.warns(UserWarning, match="without a PNG: install chromium"):
        assert set(renderer.to_mimebundle(figure().to_dict())) == {PLOTLY}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert set(renderer.to_mimebundle(figure().to_dict())) == {PLOTLY}


@pytest.mark.parametrize(
    ("default", "environment", "taken"),
    [
        ("plotly_mimetype", None, True),
        ("vscode", None, True),
        ("png", None, False),
        ("plotly_mimetype+notebook_connected", None, False),
        ("plotly_mimetype", "plotly_mimetype", False),
    ],
)
def test_a_renderer_that_was_chosen_stays(
    monkeypatch: pytest.MonkeyPatch, default: str, environment: str | None, taken: bool
) -> None:
    monkeypatch.delenv("PLOTLY_RENDERER", raising=False)
    if environment is not None:
        monkeypatch.setenv("PLOTLY_RENDERER", environment)
    before = plotly.io.renderers.default
    try:
        plotly.io.renderers.default = default
        notebooks.set_up()
        assert (plotly.io.renderers.default == notebooks.NAME) == taken
    finally:
        plotly.io.renderers.default = before


def test_outside_of_jupyter_nothing_is_set_up_and_plotly_is_not_imported() -> None:
    code = "import interp.viz, sys; assert not {'plotly', 'IPython'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.fixture(scope="module")
def notebook(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A small notebook, run: a figure of ours, one of plotly's own, and no word of renderers."""
    nbclient = pytest.importorskip("nbclient")
    nbformat = pytest.importorskip("nbformat")
    try:
        require_browser()
    except InterpError as error:
        pytest.skip(str(error))
    cells = [
        "import interp",
        "import plotly.graph_objects as go\n"
        "interp.viz.attention_to_span([[0.1, 0.2]], [[0.3, 0.1]])",
        "go.Figure(go.Scatter(x=[1, 2], y=[3, 4]))",
    ]
    made = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells])
    folder = tmp_path_factory.mktemp("notebook")
    resources = {"metadata": {"path": str(folder)}}
    nbclient.NotebookClient(made, timeout=300, kernel_name="python3", resources=resources).execute()
    return made


@pytest.mark.browser
def test_a_notebook_that_is_run_carries_a_png_of_every_figure(notebook: Any) -> None:
    outputs = [o for cell in notebook.cells for o in cell.outputs if PLOTLY in o.get("data", {})]
    assert len(outputs) == 2
    for output in outputs:
        assert base64.b64decode(output["data"][PNG]).startswith(b"\x89PNG")
        assert len(output["data"][PNG]) < 200_000
        assert "text/html" not in output["data"]
    assert not any(
        output.output_type == "stream" for cell in notebook.cells for output in cell.outputs
    )


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    with chromium(tmp_path_factory.mktemp("browser")) as session:
        yield session


@pytest.mark.browser
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_notebook_as_a_static_page_shows_its_figures_without_javascript(
    browser: Any, notebook: Any, tmp_path: Path, scheme: Any
) -> None:
    nbconvert = pytest.importorskip("nbconvert")
    page, _ = nbconvert.HTMLExporter(theme=scheme).from_notebook_node(notebook)
    path = tmp_path / "notebook.html"
    path.write_text(page, encoding="utf-8")
    look_as(browser, scheme, 1280, scripts=False)
    pictures = "[...document.querySelectorAll('img')].filter(i => i.naturalWidth > 800)"
    try:
        assert opened(browser, path, f"{pictures}.length == 2") == []
        assert asked_of_others(browser) == []
    finally:
        look_as(browser, "light", 1280)
