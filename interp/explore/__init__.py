"""The explorer: one prompt pair looked into, and what happens when a part of it is changed.

    interp.explore(model, items)              # in a notebook: choose, click a cell, knock out, steer
    interp.explore(model, pair, direction=v)
    interp.explore(load("runs/age"))          # a finished run, without a model

What is chosen is one value (:class:`ExplorerState`); every view is a function of it, is computed when
it is looked at, kept, and hands out the code that makes it again. The widgets only show views.

What is said after a knockout or a step along the direction is shown as the options' probabilities, and,
at the press of a button, as a greedy continuation without the change and with it. What the widgets
report is handled between cells, also where JupyterLab sends it to a thread beside them: a view's hooks
never reach a cell that runs.

The page needs the widgets of ipywidgets and anywidget and nothing of JupyterLab itself: it is tested in
JupyterLab, and was looked at on a page of ipywidgets' HTML manager, which is how VS Code shows widgets
(not in VS Code itself). Figures are drawn by plotly.js, which the kernel sends once: a page without a
kernel shows prompts, lines and controls, and says what the figures wait for.
"""

from typing import TYPE_CHECKING

from interp.lazy import attach

if TYPE_CHECKING:
    from interp.explore.explore import explore
    from interp.explore.explorer import Explorer
    from interp.explore.state import ExplorerState
    from interp.explore.views import Drawn

__all__ = ["Drawn", "Explorer", "ExplorerState", "explore"]

attach(__name__)
