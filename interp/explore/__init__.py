"""The explorer: one prompt pair looked into, and what happens when a part of it is changed.

    interp.explore(model, items)              # in a notebook: choose, click a cell, knock out, steer
    interp.explore(model, pair, direction=v)
    interp.explore(load("runs/age"))          # a finished run, without a model

What is chosen is one value (:class:`ExplorerState`); every view is a function of it, is computed when
it is looked at, kept, and hands out the code that makes it again. The widgets only show views.
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
