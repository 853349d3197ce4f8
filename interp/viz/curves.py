"""Curves over layers: the lens margin, projections on a direction, a direction's held-out AUC."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from interp.directions.direction import DirectionStack
from interp.directions.project import Projections
from interp.errors import InterpError
from interp.lens import LensTrajectory
from interp.stats import FloatArray, Interval, cluster_bootstrap
from interp.viz.theme import FAINT, INK, MUTED, ZERO, colour_of, faded, plain, styled

_SHIFT_COLUMNS = ("direction", "layer", "estimate", "low", "high", "is_null")


def lens_margin(trajectory: LensTrajectory, *, seed: int = 0) -> go.Figure:
    """The lens margin per layer in nats (+ = the better answer), and source - destination.

    Layer 0 is the embedding, the last one the model's own output. Lines are means over pairs; bands
    are 95 % intervals of a bootstrap over item clusters (``seed``). A single cluster has no band.
    """
    frame = trajectory.frame
    figure = make_subplots(
        cols=2, horizontal_spacing=0.1, subplot_titles=["both runs", "source − destination"]
    )
    for k, run in enumerate(("source", "destination")):
        rows = frame[frame["run"] == run]
        name = str(rows["condition"].iloc[0])
        layers, margin = _clustered(rows, "margin", seed)
        label = f"{name} ({run})" if name != run else name
        _add_curve(figure, layers, margin, label, colour_of(name, k), col=1)
    layers, difference = _clustered(trajectory.difference(), "difference", seed)
    _add_curve(figure, layers, difference, "source − destination", INK, col=2, legend=False)
    figure.update_xaxes(
        title="layer (0 = embedding)", showgrid=False, range=_span_of(frame["layer"])
    )
    figure.update_yaxes(title="lens margin, nats", col=1, **ZERO)
    figure.update_yaxes(title="difference, nats", col=2, **ZERO)
    return styled(
        figure,
        title="Margin through the layers",
        subtitle=(_sample(difference),),
        height=430,
        panels=True,
        legend=True,
    )


def projection_shift(
    shift: Projections | pd.DataFrame,
    *,
    title: str = "Shift along the direction",
    unit: str = "class units",
    seed: int = 0,
) -> go.Figure:
    """Projection contrast per layer: + = moral; in class units the class means lie 2 apart.

    Args:
        shift: :class:`~interp.directions.Projections` of some pairs (source - destination, interval
            over item clusters); or a frame with the columns ``direction``, ``layer``, ``estimate``,
            ``low``, ``high``, ``is_null``, one row per direction and layer. Null directions are
            drawn beneath, in grey and without bands.
        title: the figure's title.
        unit: unit of a frame's numbers, for the axis.
        seed: seed of the bootstrap over clusters; only for ``Projections``.

    Raises:
        InterpError: a column is missing.
    """
    frame = _shift_frame(shift, seed) if isinstance(shift, Projections) else shift
    missing = [name for name in _SHIFT_COLUMNS if name not in frame.columns]
    if missing:
        raise InterpError(
            f"projection_shift: the frame has no column {missing[0]!r}; it needs "
            f"{', '.join(_SHIFT_COLUMNS)}"
        )
    is_null = frame["is_null"].astype(bool)
    nulls = [rows for _, rows in frame[is_null].groupby("direction", sort=False)]
    figure = make_subplots()
    for k, rows in enumerate(nulls):
        figure.add_trace(_null_trace(rows.sort_values("layer"), len(nulls), legend=k == 0))
    for k, (name, rows) in enumerate(frame[~is_null].groupby("direction", sort=False)):
        rows = rows.sort_values("layer")
        estimate, low, high = (rows[c].to_numpy(float) for c in ("estimate", "low", "high"))
        band = Interval(estimate, low, high, n=0, n_clusters=0)
        _add_curve(figure, rows["layer"].tolist(), band, str(name), colour_of(str(name), k), col=1)
    figure.update_xaxes(title="layer", showgrid=False, range=_span_of(frame["layer"]))
    figure.update_yaxes(title=f"projection contrast, {unit}", **ZERO)
    beneath = "; grey: null directions" if nulls else ""
    subtitle = f"+ = towards the moral class; bands: 95 % intervals{beneath}"
    return styled(figure, title=title, subtitle=(subtitle,), height=430, legend=True)


def direction_auc(
    stack: DirectionStack, baselines: Mapping[str, float | Interval] | None = None
) -> go.Figure:
    """Held-out ROC-AUC of a direction per layer, with its 95 % interval over groups of texts.

    .5 is chance (dashed). ``baselines`` (bag of words, length, ...) are horizontal lines, with a
    band when given as an interval: a direction is worth reading only above them.
    """
    figure = make_subplots()
    _add_curve(figure, list(stack.layers), stack.auc, "direction", colour_of("instructed"), col=1)
    for k, (name, baseline) in enumerate((baselines or {}).items(), start=1):
        _add_baseline(figure, stack.layers, name, baseline, colour_of("", k))
    figure.add_hline(y=0.5, line={"color": MUTED, "width": 1, "dash": "dash"})
    figure.update_xaxes(title="layer", showgrid=False, range=_span_of(stack.layers))
    figure.update_yaxes(title="held-out AUC")
    return styled(
        figure,
        title=f"How well {stack.source} separates at {stack.site}",
        subtitle=(f"{stack.method} on {stack.n_texts} texts, held-out folds; dashed: chance",),
        height=400,
        legend=True,
    )


def _clustered(frame: pd.DataFrame, column: str, seed: int) -> tuple[list[int], Interval]:
    """Mean of a column per layer over pairs, with a bootstrap over the pairs' clusters."""
    table = frame.pivot_table(
        index="layer", columns="pair", values=column, sort=False, dropna=False
    )
    table = table.sort_index()
    clusters = frame.drop_duplicates("pair").set_index("pair")["cluster"].loc[table.columns]
    interval = cluster_bootstrap(
        table.to_numpy(dtype=float), clusters.tolist(), seed=seed, labels=(column,)
    )
    return [int(layer) for layer in table.index], interval


def _shift_frame(projections: Projections, seed: int) -> pd.DataFrame:
    layers, interval = _clustered(projections.shift(), "shift", seed)
    return pd.DataFrame(
        {
            "direction": projections.direction.source,
            "layer": layers,
            "estimate": interval.estimate,
            "low": interval.low,
            "high": interval.high,
            "is_null": False,
        }
    )


def _add_curve(
    figure: go.Figure,
    layers: Sequence[int],
    interval: Interval,
    name: str,
    colour: str,
    *,
    col: int,
    legend: bool = True,
) -> None:
    """A line over layers on its band; no band where there is no interval."""
    low, high = np.asarray(interval.low), np.asarray(interval.high)
    if not np.isnan(low).all():
        figure.add_trace(band(layers, low, high, name, colour), row=1, col=col)
    figure.add_trace(
        go.Scatter(
            x=list(layers),
            y=np.asarray(interval.estimate),
            mode="lines+markers",
            line={"color": colour, "width": 2.5},
            marker={"size": 5},
            name=plain(name),
            legendgroup=name,
            showlegend=legend,
            customdata=np.stack([low, high], axis=-1),
            hovertemplate="layer %{x}: %{y:.3f} [%{customdata[0]:.3f}, %{customdata[1]:.3f}]",
        ),
        row=1,
        col=col,
    )


def band(
    layers: Sequence[int], low: FloatArray, high: FloatArray, name: str, colour: str
) -> go.Scatter:
    """An interval over layers, filled; it comes and goes with the line of the same name."""
    return go.Scatter(
        x=[*layers, *reversed(layers)],
        y=[*high, *low[::-1]],
        fill="toself",
        fillcolor=faded(colour, 0.18),
        mode="lines",
        line={"width": 0},
        hoverinfo="skip",
        name=f"{plain(name)}, 95 %",
        legendgroup=name,
        showlegend=False,
    )


def _null_trace(rows: pd.DataFrame, n: int, *, legend: bool) -> go.Scatter:
    name = plain(rows["direction"].iloc[0])
    return go.Scatter(
        x=rows["layer"].tolist(),
        y=rows["estimate"].to_numpy(float),
        mode="lines",
        line={"color": FAINT, "width": 1},
        name=f"null directions ({n})",
        legendgroup="null directions",
        showlegend=legend,
        hovertemplate=f"{name}, layer %{{x}}: %{{y:.3f}}<extra></extra>",
    )


def _add_baseline(
    figure: go.Figure, layers: Sequence[int], name: str, value: float | Interval, colour: str
) -> None:
    ends = [layers[0], layers[-1]]
    level = value.estimate if isinstance(value, Interval) else value
    if isinstance(value, Interval) and not np.isnan(value.low):
        low, high = np.full(2, value.low), np.full(2, value.high)
        figure.add_trace(band(ends, low, high, name, colour))
    figure.add_trace(
        go.Scatter(
            x=ends,
            y=[level, level],
            mode="lines",
            line={"color": colour, "width": 2, "dash": "dot"},
            name=f"{plain(name)} ({level:.2f})",
            legendgroup=name,
            hovertemplate="%{y:.3f}",
        )
    )


def _sample(interval: Interval) -> str:
    n, clusters = int(np.max(interval.n)), int(np.max(interval.n_clusters))
    sample = f"{n} pair{'s' * (n != 1)}, {clusters} cluster{'s' * (clusters != 1)}"
    return f"{sample}; bands: 95 % over clusters" if clusters > 1 else f"{sample}: no interval"


def _span_of(layers: Iterable[int]) -> list[float]:
    """The range of a layer axis, with a little air."""
    present = list(layers)
    return [min(present) - 0.5, max(present) + 0.5]
