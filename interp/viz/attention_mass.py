"""Attention per layer and head: the mass that a span gets in two runs, and the difference."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import plotly.graph_objects as go
from jaxtyping import Float
from plotly.subplots import make_subplots
from torch import Tensor

from interp.viz.grids import diverging, numbered_ticks
from interp.viz.theme import SEQUENTIAL, apply_style, escape_label


def attention_to_span(
    source: Float[Tensor, "layer head"] | Float[np.ndarray, "layer head"],
    destination: Float[Tensor, "layer head"] | Float[np.ndarray, "layer head"],
    *,
    span: str = "instruction",
    layers: Sequence[int] | None = None,
    names: tuple[str, str] = ("instructed", "placebo"),
) -> go.Figure:
    """Mean attention mass to a span per layer and head: source, destination, their difference.

    Args:
        source: mass in 0..1, see :meth:`interp.activations.AttentionPatterns.to_span`.
        destination: the same of the other run.
        span: what is attended to; for the title.
        layers: the layer of each row; None numbers them from 0.
        names: the two conditions.
    """
    first, second = np.asarray(source, dtype=float), np.asarray(destination, dtype=float)
    panels = ((names[0], first), (names[1], second), (f"{names[0]} - {names[1]}", first - second))
    rows = [str(k) for k in (range(len(first)) if layers is None else layers)]
    heads = [str(k) for k in range(first.shape[1])]
    figure = make_subplots(
        cols=3, shared_yaxes=True, subplot_titles=[escape_label(name) for name, _ in panels],
        horizontal_spacing=0.11,
    )  # fmt: skip
    top = float(np.nanmax([first, second]))
    for k, (name, z) in enumerate(panels):
        scale = diverging(z) if k == 2 else {"colorscale": SEQUENTIAL, "zmin": 0.0, "zmax": top}
        bar = {"thickness": 10, "outlinewidth": 0, "x": (0, 0.63, 1.0)[k], "xpad": 6}
        figure.add_trace(
            go.Heatmap(
                z=z, **scale, name=escape_label(name), xgap=1, ygap=1, colorbar=bar, showscale=k > 0,
                hovertemplate="L%{y}H%{x}: %{z:.3f}",
            ),
            row=1, col=k + 1,
        )  # fmt: skip
    figure.update_xaxes(title="head", showgrid=False, **numbered_ticks(heads, most=8))
    figure.update_yaxes(showgrid=False, **numbered_ticks(rows))
    figure.update_yaxes(title="layer", col=1)
    return apply_style(
        figure,
        title=f"Attention to the {span}",
        subtitle=("mean mass (0 to 1) that later positions give to the span",),
        height=max(360, 170 + 13 * len(rows)),
        panels=True,
    )
