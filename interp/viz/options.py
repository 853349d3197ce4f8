"""Option scores as figures: the effects of instructions, the levels behind them, position bias."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Literal, get_args

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from interp.behaviour.scores import PRIMARY, OptionScores
from interp.data.items import ContextCondition
from interp.errors import InterpError
from interp.viz.theme import (
    MUTED,
    ZERO,
    apply_style,
    colour_of,
    escape_label,
    fade,
    symbol_of,
    wrap_label,
)

_LIGHT = 0.45
_METRICS: tuple[tuple[str, Literal["correct", "p_unknown"]], ...] = (
    ("accuracy", "correct"),
    ("P(unknown)", "p_unknown"),
)


def effects(scores: OptionScores) -> go.Figure:
    """Forest plot of every contrast, in nats per token of option margin: right of 0 = a better answer.

    Filled: a condition minus its matched placebos (the estimand). Pale and open: the second
    readings, minus the clean prompt; ``placebo - clean`` is the artefact of length and position.
    Bars are 95 % intervals over texts x item clusters. One panel per context condition.

    Raises:
        InterpError: only one condition was scored, so there is no contrast.
    """
    frame = scores.effects()
    if frame.empty:
        raise InterpError(
            f"no contrast to draw: only {', '.join(scores.conditions)} was scored; add conditions"
        )
    frame = frame[frame["metric"] == PRIMARY]
    panels = list(dict.fromkeys(frame["items"]))
    contrasts = list(dict.fromkeys(frame["contrast"]))[::-1]
    figure = make_subplots(
        cols=len(panels),
        shared_yaxes=True,
        horizontal_spacing=0.06,
        subplot_titles=panels,
    )
    for k, panel in enumerate(panels, start=1):
        for row in frame[frame["items"] == panel].to_dict("records"):
            figure.add_trace(_effect_trace(row, contrasts), row=1, col=k)
    title = "effect on the option margin, nats per token"
    if len(panels) > 1:  # titles of narrow panels would run into each other
        title = wrap_label(title, 24)
    figure.update_xaxes(title=title, nticks=7, matches="x", **ZERO)
    labels = [escape_label(name).replace(" - ", " − ") for name in contrasts]
    figure.update_yaxes(
        tickvals=list(range(len(contrasts))), ticktext=labels, range=[-0.6, len(contrasts) - 0.4]
    )
    return apply_style(
        figure,
        title="Effect of each instruction",
        subtitle=(
            "95 % intervals over texts and item clusters; + = a better answer; pale: minus clean",
            _sample(frame),
        ),
        height=226 + 34 * len(contrasts),
        panels=True,
    )


def levels(scores: OptionScores) -> go.Figure:
    """Accuracy and P(unknown) under every condition, with clustered 95 % intervals.

    Filled markers are ambiguous items, open ones disambiguated items. The dashed line is chance,
    one over the number of options. P(unknown) is the option score of the abstention, where there is
    one. A condition that fits ambiguous items alone has no open marker.
    """
    conditions = list(scores.conditions)[::-1]
    subsets = [s for s in get_args(ContextCondition) if s in _subsets(scores)]
    metrics = [(n, m) for n, m in _METRICS if scores.frame[m].notna().any()]
    figure = make_subplots(
        cols=len(metrics), shared_yaxes=True, horizontal_spacing=0.06,
        subplot_titles=[name for name, _ in metrics],
    )  # fmt: skip
    for col, (_, metric) in enumerate(metrics, start=1):
        figure.add_trace(_chance(1 / _n_options(scores), len(conditions)), row=1, col=col)
        for offset, subset in zip(_offsets(len(subsets)), subsets, strict=True):
            for condition in scores.conditions_of(subset):
                k = conditions.index(condition)
                trace = _level_trace(scores, condition, subset, metric, k + offset)
                figure.add_trace(trace, row=1, col=col)
    for subset in subsets if len(subsets) > 1 else []:
        figure.add_trace(_key(subset, open_marker=subset == "disambiguated"), row=1, col=1)
    figure.update_yaxes(
        tickvals=list(range(len(conditions))),
        ticktext=[escape_label(name) for name in conditions],
        range=[-0.6, len(conditions) - 0.4],
    )
    figure.update_xaxes(title="proportion", col=1)
    if len(metrics) > 1:
        figure.update_xaxes(title="option score", col=2)
    return apply_style(
        figure,
        title="Levels under each condition",
        subtitle=("95 % intervals over item clusters; dashed: chance",),
        height=230 + 44 * len(conditions),
        panels=True,
        legend=True,
    )


def position_bias(scores: OptionScores) -> go.Figure:
    """Mean option score, and probability of answering by letter, per listed position.

    Over all cyclic orders every choice is once at every position: a reader without position
    bias lies on the dashed line, one over the number of options, whatever it answers.
    """
    frame = scores.position_bias()
    panels = (("option score", "text of the option"), ("letter", "letter alone"))
    figure = make_subplots(
        cols=2, shared_yaxes=True, horizontal_spacing=0.05,
        subplot_titles=[title for _, title in panels],
    )  # fmt: skip
    for col, (column, _) in enumerate(panels, start=1):
        for k, (name, rows) in enumerate(frame.groupby("condition", sort=False)):
            shift = 0.07 * (k - (len(scores.conditions) - 1) / 2)  # keeps equal values apart
            trace = _position_trace(str(name), rows, column, shift=shift, legend=col == 1)
            figure.add_trace(trace, row=1, col=col)
        fair = 1 / frame["position"].nunique()
        figure.add_hline(y=fair, line={"color": MUTED, "width": 1, "dash": "dash"}, row=1, col=col)
    ticks = [f"({letter})" for letter in dict.fromkeys(frame["position"])]
    figure.update_xaxes(
        title="listed position", tickvals=list(range(len(ticks))), ticktext=ticks, showgrid=False,
        range=[-0.4, len(ticks) - 0.6],
    )  # fmt: skip
    figure.update_yaxes(rangemode="tozero")
    figure.update_yaxes(title="mean probability", col=1)
    return apply_style(
        figure,
        title="Position bias",
        subtitle=("mean over items, texts and cyclic orders; dashed: no bias",),
        height=400,
        panels=True,
        legend=True,
    )


def _effect_trace(row: dict[Any, Any], contrasts: Sequence[str]) -> go.Scatter:
    condition, against = row["contrast"].split(" - ")
    pale = against == "clean"
    colour = colour_of(condition)
    shade = fade(colour, _LIGHT) if pale else colour
    return go.Scatter(
        x=[row["estimate"]],
        y=[contrasts.index(row["contrast"])],
        mode="markers",
        marker={
            "size": 7 if pale else 10,
            "symbol": symbol_of(condition) + "-open" * pale,
            "color": shade,
            "line": {"width": 1.5, "color": shade},
        },
        error_x=_error(row["estimate"], row["low"], row["high"], shade, 1.5 if pale else 2.5),
        name=row["contrast"],
        showlegend=False,
        hovertemplate=(
            f"{escape_label(row['contrast'])}: {row['estimate']:.3f} "
            f"[{row['low']:.3f}, {row['high']:.3f}] nats per token<br>p = {row['p_raw']:.3f}, "
            f"{row['n']} items in "
            f"{row['n_clusters']} clusters<extra></extra>"
        ),
    )


def _level_trace(
    scores: OptionScores,
    condition: str,
    subset: ContextCondition,
    metric: Literal["correct", "p_unknown"],
    y: float,
) -> go.Scatter:
    level = scores.level(condition, subset=subset, metric=metric)
    colour, open_marker = colour_of(condition), subset == "disambiguated"
    return go.Scatter(
        x=[level.estimate],
        y=[y],
        mode="markers",
        marker={
            "size": 9,
            "symbol": "circle-open" if open_marker else "circle",
            "color": colour,
            "line": {"width": 2, "color": colour},
        },
        error_x=_error(level.estimate, level.low, level.high, colour, 1.5),
        name=f"{condition}, {subset}",
        showlegend=False,
        hovertemplate=f"{escape_label(condition)}, {subset}: {level}<extra></extra>",
    )


def _position_trace(
    name: str, rows: pd.DataFrame, column: str, *, shift: float, legend: bool
) -> go.Scatter:
    return go.Scatter(
        x=np.arange(len(rows)) + shift,
        y=rows[column].to_numpy(),
        mode="lines+markers",
        line={"color": fade(colour_of(name), 0.35), "width": 1.5},
        marker={"size": 9, "symbol": symbol_of(name), "color": colour_of(name)},
        name=escape_label(name),
        legendgroup=name,
        showlegend=legend,
        hovertemplate="%{y:.3f}",
    )


def _error(estimate: float, low: float, high: float, colour: str, width: float) -> dict[str, Any]:
    """Error bars; none where there is no interval."""
    if np.isnan(low):
        return {"visible": False}
    return {
        "type": "data",
        "symmetric": False,
        "array": [high - estimate],
        "arrayminus": [estimate - low],
        "color": colour,
        "thickness": width,
        "width": 0,
    }


def _chance(x: float, n_rows: int) -> go.Scatter:
    """A trace, not a shape, so that the axis always reaches it."""
    return go.Scatter(
        x=[x, x],
        y=[-0.6, n_rows - 0.4],
        mode="lines+markers",  # markers, unseen, keep the line off the panel's edge
        marker={"size": 9, "opacity": 0},
        line={"color": MUTED, "width": 1, "dash": "dash"},
        name="chance",
        showlegend=False,
        hoverinfo="skip",
    )


def _key(name: str, *, open_marker: bool) -> go.Scatter:
    symbol = "circle-open" if open_marker else "circle"
    marker = {"size": 9, "symbol": symbol, "color": MUTED, "line": {"width": 2, "color": MUTED}}
    return go.Scatter(x=[None], y=[None], mode="markers", marker=marker, name=f"{name} items")


def _sample(frame: pd.DataFrame) -> str:
    counts = frame.groupby("items", sort=False)[["n", "n_clusters"]].max()
    return "; ".join(
        f"{items}: {row.n} items in {row.n_clusters} clusters"
        for items, row in zip(counts.index, counts.itertuples(), strict=True)
    )


def _subsets(scores: OptionScores) -> set[str]:
    return set(scores.frame["context_condition"])


def _n_options(scores: OptionScores) -> int:
    return sum(column.startswith("p_position_") for column in scores.frame.columns)


def _offsets(n: int) -> Iterator[float]:
    """Heights that keep ``n`` markers of one row apart, the first on top."""
    return iter([0.0] if n == 1 else np.linspace(0.16, -0.16, n).tolist())
