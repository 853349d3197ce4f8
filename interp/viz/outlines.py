"""Cells of a map that differ from zero are outlined: a line around each group of neighbours.

A line is seen on pale and on dark cells alike (dark on a light rim), and unlike a dot it does not hide
the colour of what it marks.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import plotly.graph_objects as go
from jaxtyping import Bool

from interp.stats import FloatArray
from interp.viz.theme import ON_DARK_CELL, ON_MAP


def outline(
    figure: go.Figure,
    where: Bool[np.ndarray, "row column"],
    *,
    name: str,
    xs: Sequence[int | float] | None = None,
    ys: Sequence[int | float] | None = None,
) -> None:
    """Draw the borders of some cells of a heatmap; nothing without any.

    Args:
        figure: the map; row 0 is the first.
        where: the cells.
        name: what they are, for the trace.
        xs: centres of the columns; None numbers them.
        ys: centres of the rows.
    """
    if not where.any():
        return
    rows, columns = where.shape
    x_edges = _edges(range(columns) if xs is None else xs)
    y_edges = _edges(range(rows) if ys is None else ys)
    around = np.pad(where, 1)
    x: list[float | None] = []
    y: list[float | None] = []
    for i, j in np.argwhere(around[1:, 1:-1] != around[:-1, 1:-1]):
        x += [x_edges[j], x_edges[j + 1], None]
        y += [y_edges[i], y_edges[i], None]
    for i, j in np.argwhere(around[1:-1, 1:] != around[1:-1, :-1]):
        x += [x_edges[j], x_edges[j], None]
        y += [y_edges[i], y_edges[i + 1], None]
    for colour, width in ((ON_DARK_CELL, 4.5), (ON_MAP, 2)):
        figure.add_trace(
            go.Scatter(
                x=x,
                y=y,
                mode="lines",
                line={"color": colour, "width": width},
                name=name,
                hoverinfo="skip",
                showlegend=False,
                cliponaxis=False,
            )
        )


def _edges(centres: Sequence[int | float]) -> list[float]:
    """Where cells with these centres begin and end, as plotly draws them."""
    at: FloatArray = np.asarray(centres, dtype=float)
    if len(at) == 1:
        return [float(at[0]) - 0.5, float(at[0]) + 0.5]
    inner = (at[1:] + at[:-1]) / 2
    ends = [at[0] - (at[1] - at[0]) / 2, *inner, at[-1] + (at[-1] - at[-2]) / 2]
    return [float(edge) for edge in ends]
