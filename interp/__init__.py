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

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from interp import viz
    from interp.behaviour import score_options
    from interp.data import load_items, load_texts
    from interp.directions import fit_direction, project
    from interp.errors import InterpError
    from interp.lens import lens_trajectory
    from interp.models import load_model
    from interp.patching import attribute, knockout, sweep
    from interp.prompts import make_pair

_ROOM_OF = {
    "InterpError": "interp.errors",
    "attribute": "interp.patching",
    "fit_direction": "interp.directions",
    "knockout": "interp.patching",
    "lens_trajectory": "interp.lens",
    "load_items": "interp.data",
    "load_model": "interp.models",
    "load_texts": "interp.data",
    "make_pair": "interp.prompts",
    "project": "interp.directions",
    "score_options": "interp.behaviour",
    "sweep": "interp.patching",
}
_ROOMS = (
    "activations", "behaviour", "data", "directions", "lens", "models", "patching", "prompts",
    "stats", "viz",
)  # fmt: skip

__version__ = "0.1.0"
__all__ = [
    "InterpError",
    "attribute",
    "fit_direction",
    "knockout",
    "lens_trajectory",
    "load_items",
    "load_model",
    "load_texts",
    "make_pair",
    "project",
    "score_options",
    "sweep",
    "viz",
]


def __getattr__(name: str) -> Any:
    if name in _ROOM_OF:
        return getattr(import_module(_ROOM_OF[name]), name)
    if name in _ROOMS:
        return import_module(f"interp.{name}")
    raise AttributeError(f"module 'interp' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*__all__, *_ROOMS, "__version__"])
