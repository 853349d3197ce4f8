"""Steering: effects over the strength of a step, and against what the step costs.

Both take a frame with one row per outcome, subset and step: ``outcome``, ``subset``, ``kind``
(``learned``, or the kind of a null direction), ``direction``, ``strength`` (class units) and an
effect's ``estimate``, ``low``, ``high``. Null directions are grey; their sign has no meaning.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from interp.errors import InterpError
from interp.stats import FloatArray
from interp.stats.columns import require_columns
from interp.viz.theme import MUTED, ZERO, apply_style, colour_of, escape_label, fade

LEARNED = "learned"
_COLUMNS = ("outcome", "subset", "kind", "direction", "strength", "estimate", "low", "high")
_SYMBOLS = {"covariance": "circle-open", "placebo": "diamond-open", "contrast": "square-open"}
_NULL_LINE = "#b5b5b5"

Panel = tuple[str, str]
"""(outcome, subset)."""


def dose_response(
    effects: pd.DataFrame,
    cells: Mapping[Panel, str],
    *,
    title: str = "Effect of a step along the direction",
    unit: str = "nats",
) -> go.Figure:
    """Effect over strength: the learned direction with its 95 % band, null directions in grey.

    Args:
        effects: see the module; the unsteered reading (0, 0) is added.
        cells: panels, ``(outcome, subset)`` to the panel's title.
        title: the figure's title.
        unit: unit of the effect, for the axis.

    Raises:
        InterpError: a column is missing, or a panel has no row of the learned direction.
    """
    _require(effects, cells)
    figure = make_subplots(
        cols=len(cells), subplot_titles=[escape_label(t) for t in cells.values()]
    )
    for col, cell in enumerate(cells, start=1):
        rows = _rows(effects, cell)
        nulls = [g for _, g in rows[rows["kind"] != LEARNED].groupby("direction", sort=False)]
        for k, own in enumerate(nulls):
            figure.add_trace(
                _null_line(own, len(nulls), legend=col == 1 and k == 0), row=1, col=col
            )
        own = _through_zero(rows[rows["kind"] == LEARNED])
        colour = colour_of("instructed")
        x, low, high = (own[name].to_numpy(float) for name in ("strength", "low", "high"))
        if not np.isnan([low, high]).any():  # a band with holes would be drawn wrongly
            figure.add_trace(_band(x, low, high, colour), row=1, col=col)
        figure.add_trace(_learned_line(own, colour, legend=col == 1), row=1, col=col)
        figure.update_xaxes(title="step, class units", dtick=_tick(x), row=1, col=col)
        figure.update_yaxes(title=f"effect, {unit}" if col == 1 else "", row=1, col=col, **ZERO)
    subtitle = "+ = the better answer, or the moral sentences the likelier; band: 95 % interval"
    return apply_style(
        figure, title=title, subtitle=(subtitle,), height=430, panels=True, legend=True
    )


def effect_against_cost(
    effects: pd.DataFrame,
    cells: Mapping[Panel, str],
    *,
    cost: Panel = ("nll", "all"),
    title: str = "What a step does, and what it costs",
    unit: str = "nats",
) -> go.Figure:
    """Every step as a point: its cost (change of nats per token) and its effect.

    A direction that matters lies high or low at a small cost. The learned one's largest steps are
    labelled by their strength; intervals are :func:`dose_response`'s.
    Null directions are shown at both signs of their step.

    Raises:
        InterpError: see :func:`dose_response`; also without rows of the cost.
    """
    _require(effects, [*cells, cost])
    figure = make_subplots(
        cols=len(cells), subplot_titles=[escape_label(t) for t in cells.values()]
    )
    key = ["kind", "direction", "strength"]
    costs = _rows(effects, cost)[[*key, "estimate"]].rename(columns={"estimate": "cost"})
    for col, cell in enumerate(cells, start=1):
        rows = _rows(effects, cell).merge(costs, on=key, how="left")
        for kind, own in rows.groupby("kind", sort=False):
            if kind != LEARNED:
                figure.add_trace(_null_points(str(kind), own, legend=col == 1), row=1, col=col)
        own = rows[rows["kind"] == LEARNED]
        figure.add_trace(_learned_points(own, legend=col == 1), row=1, col=col)
        figure.update_xaxes(title="cost, nats per token", row=1, col=col, **ZERO)
        figure.update_yaxes(title=f"effect, {unit}" if col == 1 else "", row=1, col=col, **ZERO)
    subtitle = (
        "cost: rise of the negative log-likelihood of plain sentences; numbers: the largest steps"
    )
    return apply_style(
        figure, title=title, subtitle=(subtitle,), height=440, panels=True, legend=True
    )


def _require(effects: pd.DataFrame, cells: Mapping[Panel, str] | Sequence[Panel]) -> None:
    require_columns(effects, _COLUMNS, "the frame of effects")
    for cell in cells:
        if not (_rows(effects, cell)["kind"] == LEARNED).any():
            raise InterpError(f"no effect of the learned direction on {cell[0]}, {cell[1]}")


def _rows(effects: pd.DataFrame, cell: Panel) -> pd.DataFrame:
    return effects[(effects["outcome"] == cell[0]) & (effects["subset"] == cell[1])]


def _through_zero(rows: pd.DataFrame) -> pd.DataFrame:
    numbers = rows[["strength", "estimate", "low", "high"]].astype(float)
    zero = pd.DataFrame([[0.0] * 4], columns=numbers.columns)
    return pd.concat([numbers, zero], ignore_index=True).sort_values("strength")


def _null_line(rows: pd.DataFrame, n: int, *, legend: bool) -> go.Scatter:
    own = _through_zero(rows)
    return go.Scatter(
        x=own["strength"],
        y=own["estimate"],
        mode="lines",
        line={"color": _NULL_LINE, "width": 1},
        opacity=0.7,
        name=f"null directions ({n})",
        legendgroup="nulls",
        showlegend=legend,
        hovertemplate=(
            f"{escape_label(rows['direction'].iloc[0])}, step %{{x}}: %{{y:.3f}}<extra></extra>"
        ),
    )


def _learned_line(own: pd.DataFrame, colour: str, *, legend: bool) -> go.Scatter:
    return go.Scatter(
        x=own["strength"],
        y=own["estimate"],
        mode="lines+markers",
        line={"color": colour, "width": 2.5},
        marker={"size": 7},
        name="learned direction",
        legendgroup="learned direction",
        showlegend=legend,
        customdata=own[["low", "high"]].to_numpy(),
        hovertemplate="step %{x}: %{y:.3f} [%{customdata[0]:.3f}, %{customdata[1]:.3f}]",
    )


def _band(x: FloatArray, low: FloatArray, high: FloatArray, colour: str) -> go.Scatter:
    return go.Scatter(
        x=[*x, *x[::-1]],
        y=[*high, *low[::-1]],
        fill="toself",
        fillcolor=fade(colour, 0.18),
        mode="lines",
        line={"width": 0},
        hoverinfo="skip",
        name="learned direction, 95 %",
        legendgroup="learned direction",
        showlegend=False,
    )


def _null_points(kind: str, rows: pd.DataFrame, *, legend: bool) -> go.Scatter:
    return go.Scatter(
        x=rows["cost"],
        y=rows["estimate"],
        mode="markers",
        marker={"color": MUTED, "size": 7, "symbol": _SYMBOLS.get(kind, "x-open")},
        name=f"null: {escape_label(kind)}",
        legendgroup=kind,
        showlegend=legend,
        customdata=rows[["direction", "strength"]].astype(str).map(escape_label).to_numpy(),
        hovertemplate="%{customdata[0]}, step %{customdata[1]}: %{y:.3f} at %{x:.3f}"
        "<extra></extra>",
    )


def _learned_points(own: pd.DataFrame, *, legend: bool) -> go.Scatter:
    colour = colour_of("instructed")
    largest = own["strength"].abs().max()
    return go.Scatter(
        x=own["cost"],
        y=own["estimate"],
        mode="markers+text",
        marker={"color": colour, "size": 10},
        text=[f"{s:+g}" if abs(s) == largest else "" for s in own["strength"]],
        textposition="middle right",
        textfont={"color": colour},
        cliponaxis=False,
        name="learned direction",
        legendgroup="learned direction",
        showlegend=legend,
        customdata=own["strength"],
        hovertemplate="step %{customdata:+}: %{y:.3f} at %{x:.3f}",
    )


def _tick(strengths: FloatArray) -> float:
    """Whole numbers where a panel is wide enough for them."""
    return float(max(1.0, np.ceil(np.ptp(strengths) / 6))) if np.ptp(strengths) >= 2 else 0.5
