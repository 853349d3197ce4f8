"""The scorecard in one figure: the effect, its shares by route, and the depth at which it is reached."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from interp.stats import Interval, intervals_of
from interp.superficiality.concentration import CONSTANT, TOP_TOKEN
from interp.superficiality.exchanges import DIRECTION, ORACLE, Exchange
from interp.superficiality.finding import Finding
from interp.superficiality.heads import TOP_HEADS
from interp.superficiality.mediation import BEYOND, R_IN
from interp.superficiality.polarity import POLARITY, VOCABULARY
from interp.superficiality.residue import REINJECTED
from interp.superficiality.rows import (
    BEHAVIOUR,
    CHANGED,
    CONTENT_EDGES,
    CONTENT_IN,
    CONTENT_OUT,
    INTERACTION,
    ONSET,
    OTHER_EDGES,
    metric_name,
)
from interp.superficiality.scorecard import Scorecard
from interp.superficiality.thresholds import DEEP_SHARE, SUPERFICIAL_SHARE
from interp.viz.curves import Curve, add_curve
from interp.viz.theme import FAINT, MUTED, ZERO, apply_style, colour_of, escape_label, wrap_label

_ROUTES = (CONTENT_IN, CONTENT_OUT, CHANGED, INTERACTION, CONTENT_EDGES, OTHER_EDGES)
_PARTS = (TOP_TOKEN, TOP_HEADS, CONSTANT, REINJECTED)
_SHARES = (*_ROUTES, *_PARTS)
_USUAL, _PER_ROW = 420, 44
"""Height of the figure with the rows of the route alone, and what each further share adds, pixels."""


def scorecard(card: Scorecard, *, title: str = "") -> go.Figure:
    """B in every metric, shares of B by route, and the share of B behind the instruction by layer.

    Beside B stand the negated instruction and moral words without a request, in the first metric; below
    the routes the shares of single tokens, of few heads, of a constant vector and of the re-injected
    answer, and those along a direction and its oracle, into the placebo, with null directions as ticks.
    Rows that are not read are hollow. Dotted lines: the bounds below which a route does not
    carry the effect and above which it does.

    Args:
        card: with a row of behaviour; rows that it does not have are left out.
        title: above the figure; by default the card's.
    """
    behaviour = card[BEHAVIOUR]
    found = {row.name: row for row in card}
    figure = make_subplots(
        cols=3,
        column_widths=[0.24, 0.42, 0.34],
        horizontal_spacing=0.12,
        subplot_titles=("B, by metric", "share of B", "share of B behind the instruction"),
    )
    metrics = [metric_name(str(name)) for name in behaviour.table["metric"]]
    for name, interval in zip(metrics, intervals_of(behaviour.table), strict=True):
        _add_interval(figure, name, interval, colour_of("instructed"), is_read=True, col=1)
    for name, interval in _others(found, metrics[0]).items():
        _add_interval(figure, name, interval, colour_of("negated"), is_read=True, col=1)
    shown = [found[name] for name in _SHARES if name in found]
    for row in shown:
        colour = colour_of("", 1 if row.name in _ROUTES else 2)
        _add_interval(figure, row.name, row.interval, colour, is_read=row.is_read, col=2)
    along = _along(found)
    for name, interval in along.items():
        _add_interval(figure, name, interval, colour_of("", 3), is_read=found[R_IN].is_read, col=2)
    if along:
        _add_nulls(figure, found, next(iter(along)))
    for bound in (SUPERFICIAL_SHARE, DEEP_SHARE):
        figure.add_vline(x=bound, line={"color": MUTED, "width": 1, "dash": "dot"}, col=2, row=1)
    if ONSET in found:
        table = found[ONSET].table
        curve = Curve(
            *(table[name].to_numpy(float) for name in ("share", "share_low", "share_high"))
        )
        shade = colour_of("instructed")
        add_curve(figure, table["layer"].tolist(), curve, "D(l)", shade, col=3, legend=False)
        figure.add_hline(y=0.5, line={"color": MUTED, "width": 1, "dash": "dot"}, col=3, row=1)
        figure.update_xaxes(title="layer", showgrid=False, col=3)
    figure.update_yaxes(autorange="reversed", showgrid=False, col=1)
    figure.update_yaxes(autorange="reversed", showgrid=False, col=2)
    for col in (1, 2):
        figure.update_xaxes(col=col, gridcolor=FAINT, **ZERO)
    figure.update_xaxes(title="nats (P(a) in probability)", col=1)
    figure.update_xaxes(title="0 = placebo run, 1 = corrected run", range=_span(shown), col=2)
    said = f"verdict: {card.verdict.name} (rule {card.verdict.rule})"
    if card.direction_verdict is not None:
        said += f", direction: {card.direction_verdict.name}"
    return apply_style(
        figure,
        title=title or card.title or "Is it superficial?",
        subtitle=(f"{said}; 95 % intervals",),
        height=_USUAL + _PER_ROW * (len(along) + sum(row.name in _PARTS for row in shown)),
        panels=True,
    )


def _others(found: Mapping[str, Finding], metric: str) -> dict[str, Interval]:
    """What other texts do in the first metric, by what they are called."""
    shown = {}
    for name, side in ((POLARITY, "negated"), (VOCABULARY, "vocabulary")):
        if name in found:
            table = found[name].table
            (shown[f"{side}, {metric}"],) = intervals_of(table[table["side"] == side])
    return shown


def _along(found: Mapping[str, Finding]) -> dict[str, Interval]:
    """The shares along the direction and along the oracle, into the placebo, as the rows take them."""
    if R_IN not in found:
        return {}
    table = found[R_IN].table
    shown: dict[str, Interval] = {}
    for space in (DIRECTION, ORACLE):
        usual = table[
            np.all([table[name] == value for name, value in vars(Exchange(space)).items()], 0)
        ]
        shown |= {f"along the {space}": interval for interval in intervals_of(usual)}
    return shown


def _add_nulls(figure: go.Figure, found: Mapping[str, Finding], name: str) -> None:
    """The shares along null directions, ticks on the direction's line."""
    if BEYOND not in found:
        return
    table = found[BEYOND].table
    nulls = table[table["direction"] != DIRECTION]
    figure.add_trace(
        go.Scatter(
            x=nulls["share"],
            y=[wrap_label(name, 16)] * len(nulls),
            mode="markers",
            marker={"color": MUTED, "size": 9, "symbol": "line-ns-open"},
            showlegend=False,
            customdata=[escape_label(one) for one in nulls["direction"]],
            hovertemplate="%{customdata}: %{x:.3f}<extra></extra>",
        ),
        row=1,
        col=2,
    )


def _span(shown: Sequence[Finding]) -> list[float]:
    """The axis of shares: 0 to 1, and all that is read; intervals that are not read may be cut off."""
    read = [row.interval for row in shown if row.is_read]
    ends = [float(end) for one in read for end in (one.low, one.high) if not np.isnan(end)]
    return [min([-0.05, *ends]) - 0.05, max([1.05, *ends]) + 0.05]


def _add_interval(
    figure: go.Figure, name: str, interval: Interval, colour: str, *, is_read: bool, col: int
) -> None:
    """A point with its interval; without a number a row of its own stays empty."""
    name = wrap_label(name, 16)
    estimate = float(interval.estimate)
    bounds = [float(interval.high) - estimate, estimate - float(interval.low)]
    plus, minus = (0.0 if np.isnan(bound) else bound for bound in bounds)
    figure.add_trace(
        go.Scatter(
            x=[estimate],
            y=[name],
            error_x={"array": [plus], "arrayminus": [minus], "thickness": 1.5, "width": 4},
            mode="markers",
            marker={
                "color": colour,
                "size": 9,
                "symbol": "circle" if is_read else "circle-open",
            },
            showlegend=False,
            hovertemplate=f"{name}: {interval}<extra></extra>",
        ),
        row=1,
        col=col,
    )
