"""Curves over layers: projections on a direction, a direction's held-out AUC, and their parts."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from interp.directions.direction import DirectionStack
from interp.directions.project import Projections
from interp.stats import FloatArray, Interval, cluster_mean, interval_columns
from interp.stats.columns import require_columns
from interp.viz.theme import FAINT, MUTED, PAPER, ZERO, apply_style, colour_of, escape_label, fade


class Curve(NamedTuple):
    """Estimates over layers with their bounds, ``[layer]`` each; NaN bounds draw no band."""

    estimate: FloatArray
    low: FloatArray
    high: FloatArray

    @classmethod
    def of(cls, rows: pd.DataFrame) -> Curve:
        """The curve of a table's rows, one per layer."""
        return cls(*(rows[name].to_numpy(float) for name in cls._fields))


_SHIFT_COLUMNS = ("direction", "layer", "estimate", "low", "high", "is_null")


def projection_shift(
    shift: Projections | pd.DataFrame,
    *,
    title: str = "Shift along the direction",
    unit: str = "class units",
) -> go.Figure:
    """Projection contrast per layer: + = moral; in class units the class means lie 2 apart.

    Layers at which the direction is at chance are greyed
    (:attr:`interp.directions.DirectionStack.layers_at_chance`).

    Args:
        shift: :class:`~interp.directions.Projections` of some pairs (source - destination, interval
            over item clusters); or a frame with the columns ``direction``, ``layer``, ``estimate``,
            ``low``, ``high``, ``is_null``, one row per direction and layer. Null directions are
            drawn beneath, in grey and without bands.
        title: the figure's title.
        unit: unit of a frame's numbers, for the axis.

    Raises:
        InterpError: a column is missing.
    """
    at_chance: tuple[int, ...] = ()
    if isinstance(shift, Projections):
        frame, stack = _shift_frame(shift), shift.direction
        at_chance = stack.layers_at_chance if isinstance(stack, DirectionStack) else ()
    else:
        frame = shift
    require_columns(frame, _SHIFT_COLUMNS, "projection_shift: the frame")
    is_null = frame["is_null"].astype(bool)
    nulls = [rows for _, rows in frame[is_null].groupby("direction", sort=False)]
    figure = make_subplots()
    for k, rows in enumerate(nulls):
        figure.add_trace(_null_trace(rows.sort_values("layer"), len(nulls), legend=k == 0))
    for k, (name, rows) in enumerate(frame[~is_null].groupby("direction", sort=False)):
        rows = rows.sort_values("layer")
        layers, shade = rows["layer"].tolist(), colour_of(str(name), k)
        add_curve(figure, layers, Curve.of(rows), str(name), shade, col=1)
    figure.update_xaxes(title="layer", showgrid=False, range=layer_range(frame["layer"]))
    figure.update_yaxes(title=f"projection contrast, {unit}", **ZERO)
    said = grey_out(figure, at_chance)
    beneath = "; grey lines: null directions" if nulls else ""
    subtitle = f"+ = towards the moral class; bands: 95 % intervals{beneath}"
    return apply_style(figure, title=title, subtitle=(subtitle, said), height=430, legend=True)


def grey_out(figure: go.Figure, layers: Sequence[int], *, above: bool = False) -> str:
    """Grey the layers at which a direction is at chance; returns the sentence that says so.

    ``above``: over what is drawn there, as the cells of a map.
    """
    for layer in layers:
        figure.add_vrect(
            x0=layer - 0.5,
            x1=layer + 0.5,
            fillcolor=FAINT,
            opacity=0.7 if above else 0.35,
            line_width=0,
            layer="above" if above else "below",
        )
    return (
        "greyed layers: the direction does not separate held-out sentences there" if layers else ""
    )


def direction_auc(
    stack: DirectionStack, baselines: Mapping[str, float | Interval] | None = None
) -> go.Figure:
    """Held-out ROC-AUC of a direction per layer, with its 95 % interval of repeated cross-validation.

    .5 is chance (dashed). ``baselines`` (bag of words, length, ...) are horizontal lines, with a
    band when given as an interval: a direction is worth reading only above them.
    """
    figure = make_subplots()
    add_curve(figure, list(stack.layers), stack.auc, "direction", colour_of("instructed"), col=1)
    for k, (name, baseline) in enumerate((baselines or {}).items(), start=1):
        add_baseline(figure, stack.layers, name, baseline, colour_of("", k))
    figure.add_hline(y=0.5, line={"color": MUTED, "width": 1, "dash": "dash"})
    figure.update_xaxes(title="layer", showgrid=False, range=layer_range(stack.layers))
    figure.update_yaxes(title="held-out AUC")
    return apply_style(
        figure,
        title=f"How well {stack.facts.source} separates at {stack.site}",
        subtitle=(
            f"{stack.facts.method} on {stack.facts.n_texts} texts, held-out folds; dashed: chance",
        ),
        height=400,
        legend=True,
    )


def mean_per_layer(
    frame: pd.DataFrame, column: str, *, unit: str = "pair"
) -> tuple[list[int], Interval]:
    """Mean of a column per layer over pairs (or another ``unit``, its rows averaged first).

    In the interval the units' clusters are random.
    """
    table = frame.pivot_table(index="layer", columns=unit, values=column, sort=False, dropna=False)
    table = table.sort_index()
    clusters = frame.drop_duplicates(unit).set_index(unit)["cluster"].loc[table.columns]
    interval = cluster_mean(table.to_numpy(dtype=float), clusters.tolist())
    return [int(layer) for layer in table.index], interval


def _shift_frame(projections: Projections) -> pd.DataFrame:
    layers, interval = mean_per_layer(projections.shift(), "shift")
    return pd.DataFrame(
        {
            "direction": projections.direction.facts.source,
            "layer": layers,
            **interval_columns(interval),
            "is_null": False,
        }
    )


def add_curve(
    figure: go.Figure,
    layers: Sequence[int],
    interval: Interval | Curve,
    name: str,
    colour: str,
    *,
    col: int,
    row: int = 1,
    legend: bool = True,
    dash: str = "solid",
    filled: Sequence[bool] | None = None,
    light: bool = False,
) -> None:
    """A line over layers on its band; no band where there is no interval.

    ``filled``: which markers are filled, all of them by default. ``light``, for many curves in one
    panel: no markers, a thinner line and a paler band.
    """
    low, high = np.asarray(interval.low), np.asarray(interval.high)
    if not np.isnan(low).all():
        alpha = 0.07 if light else 0.18
        figure.add_trace(band(layers, low, high, name, colour, alpha=alpha), row=row, col=col)
    marker: dict[str, object] = {"size": 5}
    if filled is not None:
        inside = [colour if full else PAPER for full in filled]
        marker = {"size": 7, "color": inside, "line": {"color": colour, "width": 1.5}}
    figure.add_trace(
        go.Scatter(
            x=list(layers),
            y=np.asarray(interval.estimate),
            mode="lines" if light else "lines+markers",
            line={"color": colour, "width": 2 if light else 2.5, "dash": dash},
            marker=marker,
            name=escape_label(name),
            legendgroup=escape_label(name),
            showlegend=legend,
            customdata=np.stack([low, high], axis=-1),
            hovertemplate="layer %{x}: %{y:.3f} [%{customdata[0]:.3f}, %{customdata[1]:.3f}]",
        ),
        row=row,
        col=col,
    )


def band(
    layers: Sequence[int],
    low: FloatArray,
    high: FloatArray,
    name: str,
    colour: str,
    *,
    alpha: float = 0.18,
) -> go.Scatter:
    """An interval over layers, filled; it comes and goes with the line of the same name."""
    return go.Scatter(
        x=[*layers, *reversed(layers)],
        y=[*high, *low[::-1]],
        fill="toself",
        fillcolor=fade(colour, alpha),
        mode="lines",
        line={"width": 0},
        hoverinfo="skip",
        name=f"{escape_label(name)}, 95 %",
        legendgroup=escape_label(name),
        showlegend=False,
    )


def _null_trace(rows: pd.DataFrame, n: int, *, legend: bool) -> go.Scatter:
    name = escape_label(rows["direction"].iloc[0])
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


def add_baseline(
    figure: go.Figure, layers: Sequence[int], name: str, value: float | Interval, colour: str
) -> None:
    """A dotted level across all layers, with a band when it is an interval."""
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
            name=f"{escape_label(name)} ({level:.2f})",
            legendgroup=escape_label(name),
            hovertemplate="%{y:.3f}",
        )
    )


def layer_range(layers: Iterable[int]) -> list[float]:
    """The range of a layer axis, with a little air."""
    present = list(layers)
    return [min(present) - 0.5, max(present) + 0.5]
