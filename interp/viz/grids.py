"""Grids: what a sweep says per layer and span, and attention per layer and head.

Rows are layers, ascending upwards; axes are numbered and labelled, so equal names stay two rows.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import plotly.graph_objects as go
from jaxtyping import Float
from plotly.subplots import make_subplots
from torch import Tensor

from interp.patching.result import SweepResult
from interp.patching.plan import ALL
from interp.stats import Interval, MaxT
from interp.viz.theme import DIVERGING, INK, MUTED, SEQUENTIAL, plain, styled, wrapped

_ALPHA = 0.05
_MOST_TICKS = 16


def heatmap(
    result: SweepResult,
    *,
    value: Literal["effect", "share"] = "effect",
    significance: bool = True,
) -> go.Figure:
    """A sweep as layer (upwards) x span, RdBu around 0: blue = the patch brings the better answer.

    ``value="effect"`` is mean(patched - destination) in nats of margin; ``"share"`` divides it by
    mean(source - destination): 0 is the destination, 1 the source. The hover shows the clustered
    95 % interval and the family-wise p; dots mark cells with p < .05 (sign-flip max-T over all
    cells). With a single cluster there is neither interval nor test, and the subtitle says so. A
    share without a defined denominator leaves the grid empty, with the reason.
    """
    interval = result.effect_interval() if value == "effect" else result.share()
    test = result.max_t()
    rows, columns = (result.axis_labels[name] for name in result.axis_names[:2])
    z = np.asarray(interval.estimate, dtype=float)
    unit = "nats" if value == "effect" else "share"
    figure = go.Figure(
        go.Heatmap(
            z=z,
            **_diverging(z),
            colorbar={"title": {"text": unit}, "thickness": 14, "outlinewidth": 0},
            customdata=_hover_columns(interval, np.asarray(test.p_corrected, dtype=float), columns),
            hovertemplate=(
                f"{result.axis_names[0]} %{{y}}, %{{customdata[0]}}<br>"
                f"{value} %{{z:.3f}} {unit if value == 'effect' else ''}%{{customdata[1]}}"
                "<extra></extra>"
            ),
            hoverongaps=False,
            xgap=1,
            ygap=1,
        )
    )
    if significance and test.n_clusters > 1:
        _mark(figure, np.asarray(test.p_corrected) < _ALPHA)
    _label_grid(figure, rows, columns, result.axis_names)
    _set_ceiling_apart(figure, columns)
    if np.isnan(z).all():
        _say(figure, f"{value} undefined: {np.asarray(interval.reason).flat[0]}")
    return styled(
        figure,
        title=result.title,
        subtitle=(_sample_line(result, test, significance), *result.notes),
        height=max(380, 190 + 15 * len(rows)),
    )


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
        cols=3, shared_yaxes=True, subplot_titles=[plain(name) for name, _ in panels],
        horizontal_spacing=0.11,
    )  # fmt: skip
    top = float(np.nanmax([first, second]))
    for k, (name, z) in enumerate(panels):
        scale = _diverging(z) if k == 2 else {"colorscale": SEQUENTIAL, "zmin": 0.0, "zmax": top}
        bar = {"thickness": 10, "outlinewidth": 0, "x": (0, 0.63, 1.0)[k], "xpad": 6}
        figure.add_trace(
            go.Heatmap(
                z=z, **scale, name=plain(name), xgap=1, ygap=1, colorbar=bar, showscale=k > 0,
                hovertemplate="L%{y}H%{x}: %{z:.3f}",
            ),
            row=1, col=k + 1,
        )  # fmt: skip
    figure.update_xaxes(title="head", showgrid=False, **_ticks(heads, most=8))
    figure.update_yaxes(showgrid=False, **_ticks(rows))
    figure.update_yaxes(title="layer", col=1)
    return styled(
        figure,
        title=f"Attention to the {span}",
        subtitle=("mean mass (0 to 1) that later positions give to the span",),
        height=max(360, 170 + 13 * len(rows)),
        panels=True,
    )


def _diverging(z: npt.NDArray[np.float64]) -> dict[str, Any]:
    """RdBu, symmetric around 0."""
    finite = np.abs(z[np.isfinite(z)])
    top = float(finite.max()) if finite.size and finite.max() > 0 else 1.0
    return {"colorscale": DIVERGING, "zmid": 0.0, "zmin": -top, "zmax": top}


def _hover_columns(
    interval: Interval, p: npt.NDArray[np.float64], columns: Sequence[str]
) -> list[list[list[str]]]:
    low, high = np.asarray(interval.low), np.asarray(interval.high)
    reason = np.broadcast_to(np.asarray(interval.reason, dtype=object), low.shape)

    def facts(i: int, j: int) -> str:
        if np.isnan(low[i, j]):
            return f"<br>{reason[i, j]}"
        corrected = "" if np.isnan(p[i, j]) else f"<br>family-wise p = {p[i, j]:.3f}"
        return f" [{low[i, j]:.3f}, {high[i, j]:.3f}]{corrected}"

    return [[[plain(name), facts(i, j)] for j, name in enumerate(columns)] for i in range(len(low))]


def _mark(figure: go.Figure, significant: npt.NDArray[np.bool_]) -> None:
    y, x = np.nonzero(significant)
    figure.add_trace(
        go.Scatter(
            x=x,
            y=y,
            mode="markers",
            marker={"size": 5, "color": INK, "line": {"color": "white", "width": 1}},
            name="family-wise p < .05",
            hoverinfo="skip",
            showlegend=False,
        )
    )


def _label_grid(
    figure: go.Figure, rows: Sequence[str], columns: Sequence[str], names: Sequence[str]
) -> None:
    figure.update_xaxes(
        title=plain(names[1]),
        tickvals=list(range(len(columns))),
        ticktext=[wrapped(name, 16) for name in columns],
        range=[-0.5, len(columns) - 0.5],
        tickangle=0,
        showgrid=False,
    )
    figure.update_yaxes(title=plain(names[0]), showgrid=False, **_ticks(rows))


def _ticks(labels: Sequence[str], most: int = _MOST_TICKS) -> dict[str, Any]:
    """Numbered ticks of at most ``most`` rows: equal labels would be merged by plotly."""
    step = -(-len(labels) // most)
    return {
        "tickvals": list(range(0, len(labels), step)),
        "ticktext": [plain(label) for label in labels[::step]],
        "range": [-0.5, len(labels) - 0.5],
    }


def _set_ceiling_apart(figure: go.Figure, columns: Sequence[str]) -> None:
    """A white gap before the column that patches everything, which is the ceiling, not a span."""
    if ALL not in columns or len(columns) == 1:
        return
    k = list(columns).index(ALL)
    for edge in {k - 0.5, k + 0.5} - {-0.5, len(columns) - 0.5}:
        figure.add_vline(x=edge, line={"color": "white", "width": 8})
    labels = [wrapped(name, 16) for name in columns]
    labels[k] += "<br>(ceiling)"
    figure.update_xaxes(ticktext=labels)


def _sample_line(result: SweepResult, test: MaxT, significance: bool) -> str:
    n, n_clusters = len(result.pair_labels), len(set(result.clusters))
    sample = f"{n} pair{'s' * (n != 1)}, {n_clusters} cluster{'s' * (n_clusters != 1)}"
    total = result.total()
    if test.n_clusters < 2:
        return f"{sample}: no interval, no test; source - destination = {total.estimate:.3f} nats"
    reached = bool((np.asarray(test.p_corrected) < _ALPHA).any())
    marked = "dots: family-wise p < .05" if reached else "no cell reaches family-wise p < .05"
    marks = f"; {marked}" if significance else ""
    return (
        f"{sample}; source - destination = {total.estimate:.3f} "
        f"[{total.low:.3f}, {total.high:.3f}] nats{marks}"
    )


def _say(figure: go.Figure, text: str) -> None:
    figure.add_annotation(
        text=plain(text), x=0.5, y=0.5, xref="paper", yref="paper", showarrow=False,
        font={"color": MUTED, "size": 13},
    )  # fmt: skip
