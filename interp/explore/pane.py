"""The one widget of our own: a view with its title, its line, its figure and its code.

It draws plotly figures itself rather than through plotly's ``FigureWidget``, of which every one sends
plotly.js (4.8 MB) along: here all panes of a page share it. It is dark on a dark page, by the style
sheet of all figures, and reports a click as the point's x and y.
"""

from __future__ import annotations

import json
from importlib.resources import files
from typing import Any

import anywidget
import plotly.graph_objects as go
import traitlets
from plotly.offline import get_plotlyjs

from interp.explore.views import Drawn
from interp.viz.theme import dark_css

_PAGE = files("interp.explore") / "page"


class Pane(anywidget.AnyWidget):
    """A view on the page. ``note`` stands where there is no figure yet, ``error`` is one line."""

    _esm = (_PAGE / "pane.js").read_text(encoding="utf-8")
    _css = (_PAGE / "pane.css").read_text(encoding="utf-8") + dark_css(".interp-pane-dark")

    title = traitlets.Unicode("").tag(sync=True)
    said = traitlets.Unicode("").tag(sync=True)
    error = traitlets.Unicode("").tag(sync=True)
    note = traitlets.Unicode("").tag(sync=True)
    code = traitlets.Unicode("").tag(sync=True)
    html = traitlets.Unicode("").tag(sync=True)
    figure = traitlets.Dict(None, allow_none=True).tag(sync=True)
    busy = traitlets.Bool(False).tag(sync=True)
    greyed = traitlets.Bool(False).tag(sync=True)
    clicked = traitlets.Dict(None, allow_none=True).tag(sync=True)

    def __init__(self, title: str, note: str = "", **traits: Any) -> None:
        super().__init__(title=title, note=note, **traits)
        self.on_msg(_answer)

    def show(self, drawn: Drawn, figure: Any = None) -> None:
        """A view; ``figure`` is shown in place of its own."""
        shown: Any = drawn.figure if figure is None else figure
        is_plot = isinstance(shown, go.Figure)
        with self.hold_sync():
            self.said, self.code, self.error, self.note = drawn.said, drawn.code, "", ""
            self.html = "" if is_plot else str(shown._repr_html_())
            self.figure = _untitled(json.loads(shown.to_json())) if is_plot else None

    def fail(self, line: str) -> None:
        """One line instead of a view."""
        self.empty("")
        self.error = line

    def empty(self, note: str) -> None:
        """No view, and why."""
        with self.hold_sync():
            self.said = self.code = self.html = self.error = ""
            self.note, self.figure = note, None


def _untitled(figure: dict[str, Any]) -> dict[str, Any]:
    """A figure whose title says no more than the pane's, without it."""
    layout = figure["layout"]
    title = layout.get("title", {})
    if title.get("text") and not title.get("subtitle", {}).get("text"):
        layout["title"] = {"text": ""}
        layout["margin"] = {**layout.get("margin", {}), "t": 16}
        if "height" in layout:
            layout["height"] -= 48
    return figure


def _answer(pane: Pane, content: Any, buffers: Any) -> None:
    """The page asks for plotly.js, once."""
    if isinstance(content, dict) and content.get("ask") == "plotly":
        pane.send({"plotly": get_plotlyjs()})
