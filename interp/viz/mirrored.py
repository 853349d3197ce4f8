"""Answers that flip: right -> wrong beside wrong -> right, as mirrored bars.

The tables hold counts of items by correctness before and after (``right_wrong``: right, then wrong),
``net``, the change of accuracy in -1..1, and its 95 % interval ``net_low``, ``net_high``. Every
condition has its placebo beside it. Conventions are those of :mod:`interp.viz.behaviour`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import pandas as pd
import plotly.graph_objects as go

from interp.viz.behaviour import (
    INTERVAL,
    Arm,
    dots,
    grid,
    name_rows,
    names_of,
    pair,
    panels,
    require,
    require_rows,
    subsets_of,
)
from interp.viz.theme import INK, MUTED, ZERO, apply_style, escape_label, fade

_COUNTS = ("right_right", "right_wrong", "wrong_right", "wrong_wrong")
_NET = ("net", "net_low", "net_high")


def flips(frame: pd.DataFrame) -> go.Figure:
    """Right -> wrong beside wrong -> right as mirrored bars, each condition above its placebo.

    ``frame``: items, condition, control_of, the four counts, net, net_low, net_high. Lengths are
    shares of the items compared, labels counts; the diamond is the net change of accuracy.

    Raises:
        InterpError: a column is missing, or there is no row.
    """
    require(frame, "flips", "items", "condition", "control_of", *_COUNTS, *_NET)
    require_rows(frame, "flips")
    subsets = subsets_of(frame)
    order = [(k, arm) for k, name in enumerate(names_of(frame)) for arm in pair(frame, name, k)]
    heights = {arm.label: -(n + 0.6 * k) for n, (k, arm) in enumerate(order)}
    figure = panels(subsets)
    for col, subset in enumerate(subsets, start=1):
        for _, arm in order:
            own = arm.rows[arm.rows["items"] == subset]
            for trace in _bars(own, arm, [heights[arm.label]] * len(own), horizontal=True):
                figure.add_trace(trace, row=1, col=col)
    figure.update_xaxes(title="share of items", tickformat=".0%", nticks=5, matches="x", **ZERO)
    name_rows(figure, list(heights), list(heights.values()))
    return _style(
        figure,
        "Answers that flip",
        "against the clean prompt's answer, in the first order of the options; numbers are counts",
        height=200 + 40 * len(heights),
    )


def round_flips(frame: pd.DataFrame) -> go.Figure:
    """:func:`flips` from round 0 to every later round; columns are conditions, rows subsets.

    ``frame``: as for :func:`flips`, with ``round``. The placebo's bars stand at the right of each
    pair.

    Raises:
        InterpError: a column is missing, or there is no row.
    """
    require(frame, "round_flips", "items", "condition", "control_of", "round", *_COUNTS, *_NET)
    require_rows(frame, "round_flips")
    names, subsets = names_of(frame), subsets_of(frame)
    figure = grid(subsets, names)
    for k, name in enumerate(names):
        arms = list(pair(frame, name, k))
        for arm, shift in zip(arms, (-0.2, 0.2) if len(arms) == 2 else (0.0,), strict=True):
            for row, subset in enumerate(subsets, start=1):
                own = arm.rows[arm.rows["items"] == subset].sort_values("round")
                at = (own["round"] + shift).tolist()
                for trace in _bars(own, arm, at, horizontal=False):
                    figure.add_trace(trace, row=row, col=k + 1)
    figure.update_xaxes(dtick=1, showgrid=False)
    figure.update_xaxes(title="round", row=len(subsets))
    figure.update_yaxes(tickformat=".0%", **ZERO)
    for row, subset in enumerate(subsets, start=1):
        figure.update_yaxes(title=f"{subset}, share of items", row=row, col=1)
    return _style(
        figure,
        "Answers that flip after round 0",
        "against the answer of round 0; in each pair the placebo stands at the right",
        height=190 + 200 * len(subsets),
    )


def _bars(
    rows: pd.DataFrame, arm: Arm, at: Sequence[float | int], *, horizontal: bool
) -> Iterator[go.Bar | go.Scatter]:
    """Mirrored bars of right -> wrong (pale) and wrong -> right, and the net change's diamond.

    Horizontal bars carry their counts, and the net change lies beneath them.
    """
    along, across = ("x", "y") if horizontal else ("y", "x")
    n = rows[list(_COUNTS)].sum(axis=1).clip(lower=1)
    bars, net = ([y + 0.14 for y in at], [y - 0.3 for y in at]) if horizontal else (at, at)
    for column, sign, opacity in (("right_wrong", -1, 0.4), ("wrong_right", 1, 0.85)):
        what = column.replace("_", " → ").replace("right", "correct").replace("wrong", "incorrect")
        yield go.Bar(
            {along: sign * rows[column] / n, across: bars},
            orientation="h" if horizontal else "v",
            width=0.54 if horizontal else 0.36,
            marker={"color": fade(arm.colour, opacity), "line": {"width": 0}},
            text=[str(k) if k else "" for k in rows[column]] if horizontal else None,
            customdata=rows[column],
            textposition="outside",
            textfont={"size": 10, "color": MUTED},
            cliponaxis=False,
            name=f"{escape_label(arm.label)}, {what}",
            showlegend=False,
            hovertemplate=f"{escape_label(arm.label)}, {what}: %{{customdata}}<extra></extra>",
        )
    change = rows.rename(
        columns=dict(zip((*_NET, "net_reason"), (*INTERVAL, "reason"), strict=True))
    )
    trace = dots(change, arm.label, INK, across=net, horizontal=horizontal)
    yield trace.update(marker_symbol="diamond", marker_size=6, showlegend=False)


def _style(figure: go.Figure, title: str, subtitle: str, *, height: int) -> go.Figure:
    """The key of :func:`_bars`, and the house's look."""
    for name, symbol, shade in (
        ("correct → incorrect", "square", fade(MUTED, 0.4)),
        ("incorrect → correct", "square", fade(MUTED, 0.85)),
        ("net change of accuracy, 95 %", "diamond", INK),
    ):
        key = {"size": 10 if symbol == "square" else 7, "symbol": symbol, "color": shade}
        figure.add_trace(
            go.Scatter(x=[None], y=[None], mode="markers", marker=key, name=name, legendgroup=name)
        )
    figure.update_layout(barmode="overlay")
    return apply_style(
        figure, title=title, subtitle=(subtitle,), height=height, panels=True, legend=True
    )
