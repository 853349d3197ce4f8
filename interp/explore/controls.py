"""The explorer's controls: one widget per choice, which may stand in several tabs."""

from __future__ import annotations

from typing import Any, get_args

import ipywidgets as ipw

from interp.directions import Direction
from interp.explore.explorer import Explorer
from interp.explore.readings import layers_of
from interp.explore.subject import N_ROUNDS
from interp.patching.sites import MetricName, SweepSite

_GRIDS = [("by position", "layer_pos"), ("by span", "layer_span"), ("by head", "layer_head")]
_LABEL = {"description_width": "initial"}


def make_controls(explorer: Explorer) -> dict[str, Any]:
    """A widget per field of the state that a user sets, by its name; disabled without a model."""
    live, state = explorer.live, explorer.state
    names = explorer.explored.names if live else ("",)
    conditions = (explorer.explored.conditions if live else ()) or ("",)
    n_layers = int(explorer.model.cfg.n_layers) if live else 1
    n_heads = int(explorer.model.cfg.n_heads) if live else 1
    steers = live and explorer.direction is not None
    chosen = bool(live and explorer.explored.conditions)
    controls = {
        "item": _dropdown([(name[:110], k) for k, name in enumerate(names)], 0, "", "auto"),
        "condition": _dropdown(conditions, _known("instructed", conditions), "condition", "230px"),
        "against": _dropdown(conditions, _known("placebo", conditions), "against", "210px"),
        "wording": ipw.BoundedIntText(
            value=0, min=0, max=0, description="wording", style=_LABEL, layout={"width": "115px"}
        ),
        "order": _dropdown([0], 0, "order", "105px"),
        "round": _dropdown(list(range(1, N_ROUNDS + 1)), 1, "round", "105px"),
        "swapped": ipw.ToggleButton(
            description="⇄ other way", tooltip="exchange source and destination",
            layout={"width": "110px"},
        ),
        "site": _dropdown(get_args(SweepSite), state.site, "site", "170px"),
        "cells": _dropdown(_GRIDS, state.cells, "cells", "170px"),
        "metric": _dropdown(get_args(MetricName), state.metric, "reads", "190px"),
        "layer": _slider("layer", state.layer, n_layers),
        "head": _slider("head", state.head, n_heads),
        "query": _dropdown([("last position", -1)], -1, "from", "300px"),
        "blocked": ipw.ToggleButtons(
            options=[("nothing", "nothing"), ("a span", "span"), ("one head's view of it", "head")],
            value="nothing", description="knock out", style={**_LABEL, "button_width": "auto"},
            layout={"width": "max-content"},
        ),
        "span": _dropdown(["instruction"], "instruction", "span", "260px"),
        "dose": ipw.FloatSlider(
            value=0.0, min=-8.0, max=8.0, step=0.25, description="dose, class units",
            continuous_update=False, readout_format="+.2f", style=_LABEL, layout={"width": "420px"},
        ),
    }  # fmt: skip
    for name, control in controls.items():
        control.disabled = not live or (name == "dose" and not steers)
    for name in ("item", "condition", "against", "wording", "order", "round"):
        controls[name].disabled |= not chosen
    if isinstance(explorer.direction, Direction):
        controls["dose"].description = f"dose at layer {layers_of(explorer.direction)[0]}"
    return controls


def update_controls(explorer: Explorer, controls: dict[str, Any]) -> None:
    """Show the state, and the values that may be chosen in it."""
    state, explored = explorer.state, explorer.explored
    controls["wording"].max = max(explored.n_wordings(state.condition) - 1, state.wording)
    controls["order"].options = list(range(explored.n_orders(state.item)))
    for name in ("item", "wording", "order", "round", "swapped", "layer", "head"):
        controls[name].value = getattr(state, name)


def update_positions(explorer: Explorer, controls: dict[str, Any]) -> None:
    """The positions and spans of the pair that is chosen.

    Raises:
        InterpError: there is no such pair.
    """
    positions = [("last position", -1), *((name, k) for k, name in enumerate(explorer.positions()))]
    spans = explorer.spans()
    if list(controls["query"].options) != positions:
        controls["query"].options = positions
    if list(controls["span"].options) != spans:
        controls["span"].options = spans
    query, span = explorer.state.query, explorer.state.span
    query = query if query < len(positions) - 1 else -1
    span = span if span in spans else spans[0]
    explorer.choose(query=query, span=span)
    controls["query"].value, controls["span"].value = query, span


def _known(name: str, options: Any) -> Any:
    return name if name in options else options[0]


def _dropdown(options: Any, value: Any, description: str, width: str) -> Any:
    return ipw.Dropdown(
        options=options, value=value, description=description, style=_LABEL, layout={"width": width}
    )


def _slider(name: str, value: int, n: int) -> Any:
    return ipw.IntSlider(
        value=value, min=0, max=n - 1, description=name, continuous_update=False, style=_LABEL,
        layout={"width": "260px"},
    )  # fmt: skip
