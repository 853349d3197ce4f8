"""A workbench for asking where inside a transformer an instruction acts.

The names below are the whole first hour; each is also importable from its room. They load on first
use, so that ``import interp`` is instant::

    import interp
    model = interp.load_model()
    items = interp.load_items("bbq:Age", limit=20, seed=0)
    pair = interp.make_pair(model, items[0], "instructed", against="placebo")
    result = interp.sweep(model, pair, site="resid_pre")
    interp.viz.heatmap(result)
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from interp.lazy import attach

if TYPE_CHECKING:
    from interp import (
        activations,
        behaviour,
        circuits,
        data,
        directions,
        known,
        lens,
        models,
        patching,
        prompts,
        stats,
        viz,
    )
    from interp.behaviour import score_options
    from interp.data import load_items, load_texts
    from interp.directions import fit_direction, project
    from interp.errors import InterpError
    from interp.explore import explore
    from interp.lens import lens_trajectory
    from interp.models import load_model
    from interp.patching import attribute, knockout, sweep
    from interp.prompts import make_pair
    from interp.superficiality import superficiality

__version__ = "0.1.0"
__all__ = [
    "InterpError",
    "activations",
    "attribute",
    "behaviour",
    "circuits",
    "data",
    "directions",
    "explore",
    "fit_direction",
    "knockout",
    "known",
    "lens",
    "lens_trajectory",
    "load_items",
    "load_model",
    "load_texts",
    "make_pair",
    "models",
    "patching",
    "project",
    "prompts",
    "score_options",
    "stats",
    "superficiality",
    "sweep",
    "viz",
]

attach(__name__)
