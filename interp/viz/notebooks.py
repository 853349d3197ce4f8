"""Figures in Jupyter: a PNG beside plotly's own output, and dark colours on a dark page.

plotly's output is drawn by JavaScript: on GitHub, in a printed page or wherever scripts are off there
is nothing to see. So every plotly figure of a notebook is also drawn once as a PNG, which is what such
a page shows. Importing :mod:`interp.viz` in Jupyter sets this up; to leave it off, choose a renderer of
plotly's yourself (``PLOTLY_RENDERER=plotly_mimetype``, or ``plotly.io.renderers.default``).
"""

from __future__ import annotations

import base64
import os
import warnings
from typing import Any

import plotly.graph_objects as go
import plotly.io
from IPython import get_ipython
from IPython.display import display
from plotly.io.base_renderers import PlotlyRenderer

from interp.errors import InterpError
from interp.viz.export import draw
from interp.viz.theme import dark_css

NAME = "interp"
"""The renderer's name among plotly's."""

_CHOSEN_BY_PLOTLY = ("plotly_mimetype", "vscode")
_WIDTH, _SCALE = 900, 1.25
_DARK_PAGES = ('[data-jp-theme-light="false"]', ".vscode-dark")
"""The body of JupyterLab and of VS Code's notebooks, in dark."""


class FigureRenderer(PlotlyRenderer):
    """plotly's output for Jupyter with a PNG beside it; where no browser draws, without, said once."""

    def __init__(self) -> None:
        super().__init__()
        self._draws = True
        self._styled = -1

    def to_mimebundle(self, fig_dict: dict[str, Any]) -> dict[str, Any]:
        """The output of a figure by its kinds; the plotly JSON is as plotly makes it."""
        self._show_style()
        bundle: dict[str, Any] = super().to_mimebundle(fig_dict)
        if self._draws:
            try:
                figure = go.Figure(fig_dict, skip_invalid=True)
                width = figure.layout.width or _WIDTH
                picture = draw(figure, "png", width=width, scale=_SCALE)
                bundle["image/png"] = base64.b64encode(picture).decode()
            except InterpError as error:
                self._draws = False
                warnings.warn(
                    f"figures of this notebook are drawn by JavaScript alone, without a PNG: {error}",
                    stacklevel=2,
                )
        return bundle

    def _show_style(self) -> None:
        """The dark rules, once in every cell: clearing one cell's output leaves those of the others."""
        shell = get_ipython()
        cell = getattr(shell, "execution_count", 0)
        if cell != self._styled:
            self._styled = cell
            rules = "".join(dark_css(page) for page in _DARK_PAGES)
            display({"text/html": f"<style>{rules}</style>"}, raw=True)


def set_up() -> None:
    """Make :class:`FigureRenderer` plotly's renderer, unless another one has been chosen."""
    if "PLOTLY_RENDERER" in os.environ or plotly.io.renderers.default not in _CHOSEN_BY_PLOTLY:
        return
    plotly.io.renderers[NAME] = FigureRenderer()
    plotly.io.renderers.default = NAME
