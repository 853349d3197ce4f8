"""Logit-lens figures: margins, effects, the options themselves, and divergences over layers.

The margin is the logit difference of the two answers. Layer 0 is the embedding, the last one the
model's own output. Bands are 95 % intervals; + is the better answer.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from interp.errors import InterpError
from interp.lens import LensConditions, LensMetric, LensTrajectory
from interp.lens.trajectory import lens_title
from interp.stats import Interval
from interp.stats.columns import require_columns
from interp.viz.curves import Curve, add_curve, layer_range, mean_per_layer
from interp.viz.theme import INK, MUTED, ZERO, apply_style, colour_of, fade

_EFFECT_COLUMNS = ("contrast", "layer", "estimate", "low", "high", "clear")
_NAMES = {"margin": "Margin (logit difference)", "option_margin": "Option margin"}
_LAYER = "layer (0 = embedding)"
_OFF_SCALE = "layer 0 may lie off the scale"


def lens_margin(trajectory: LensTrajectory) -> go.Figure:
    """The lens margin (logit difference) per layer in nats, and source - destination.

    + is the better answer. Layer 0 is the embedding, the last one the model's own output. Lines are
    means over pairs; bands are 95 % intervals over item clusters. A
    single cluster has no band. Single prompts have a line each and no difference.
    """
    frame = trajectory.frame
    runs = [run for run in ("source", "destination", "prompt") if run in set(frame["run"])]
    titles = ["both runs", "source − destination"] if trajectory.paired else ["each prompt"]
    figure = make_subplots(cols=len(titles), horizontal_spacing=0.1, subplot_titles=titles)
    lines = [
        (run, str(name), rows)
        for run in runs
        for name, rows in frame[frame["run"] == run].groupby("condition", sort=False)
    ]
    drawn = []
    for k, (run, name, rows) in enumerate(lines):
        layers, margin = mean_per_layer(rows, trajectory.metric)
        label = name if run in (name, "prompt") else f"{name} ({run})"
        add_curve(figure, layers, margin, label, colour_of(name, k), col=1)
        drawn.append(margin)
    if trajectory.paired:
        layers, difference = mean_per_layer(trajectory.difference(), "difference")
        add_curve(figure, layers, difference, "source − destination", INK, col=2, legend=False)
        figure.update_yaxes(title="difference, nats", col=2, **ZERO)
        drawn = [difference]
    figure.update_xaxes(title=_LAYER, showgrid=False, range=layer_range(frame["layer"]))
    figure.update_yaxes(title=lens_title(trajectory.metric), col=1, **ZERO)
    return apply_style(
        figure,
        title=f"{_NAMES[trajectory.metric]} through the layers",
        subtitle=(_sample(drawn[0], "pair" if trajectory.paired else "prompt"),),
        height=430,
        panels=True,
        legend=True,
    )


def lens_levels(lens: LensConditions) -> go.Figure:
    """The lens margin (logit difference) of every condition per layer, in nats.

    Lines are means over texts and items, bands 95 % intervals over item clusters (texts fixed: the
    effects' figure has both). The placebos of the positive control are dashed.
    """
    figure = make_subplots()
    drawn = []
    for line in _lines(lens):
        layers, interval = mean_per_layer(line.rows, lens.metric, unit="item")
        drawn.append(interval)
        add_curve(
            figure, layers, interval, line.name, line.colour, col=1, dash=line.dash, light=True
        )
    figure.update_xaxes(title=_LAYER, showgrid=False, range=layer_range(lens.frame["layer"]))
    figure.update_yaxes(
        title=lens_title(lens.metric), **{**ZERO, "range": _beyond_embedding(drawn)}
    )
    return apply_style(
        figure,
        title=f"{_NAMES[lens.metric]} through the layers, by condition",
        subtitle=(_sample(drawn[0], "item"), _OFF_SCALE),
        height=440,
        legend=True,
    )


def lens_effects(
    effects: pd.DataFrame,
    parting: Mapping[str, Interval] | None = None,
    *,
    metric: LensMetric = "margin",
) -> go.Figure:
    """Condition minus its placebo per layer, one panel a contrast, each with its own scale.

    Args:
        effects: rows of :func:`~interp.lens.layer_effects`, of one or several contrasts. Filled
            markers are ``clear`` layers.
        parting: per contrast the :func:`~interp.lens.parting_layer`: a vertical line, its interval
            shaded.
        metric: what the effects were read from.

    Raises:
        InterpError: a column is missing.
    """
    require_columns(effects, _EFFECT_COLUMNS, "lens_effects: the frame")
    parting = parting or {}
    contrasts = [str(name) for name in effects["contrast"].unique()]
    titles = [f"{name} − its placebo{_parts(parting.get(name))}" for name in contrasts]
    figure = make_subplots(cols=len(contrasts), horizontal_spacing=0.1, subplot_titles=titles)
    for col, name in enumerate(contrasts, start=1):
        rows = effects[effects["contrast"] == name].sort_values("layer")
        add_curve(
            figure,
            rows["layer"].tolist(),
            Curve.of(rows),
            name,
            colour_of(name, col - 1),
            col=col,
            legend=False,
            filled=rows["clear"].astype(bool).tolist(),
        )
        _mark_parting(figure, parting.get(name), col)
    figure.update_xaxes(title=_LAYER, showgrid=False, range=layer_range(effects["layer"]))
    figure.update_yaxes(**ZERO)
    figure.update_yaxes(title=f"effect on the {lens_title(metric)}", col=1)
    return apply_style(
        figure,
        title="Effect of each instruction through the layers",
        subtitle=(
            "bands: 95 % over texts and item clusters, each layer for itself; filled: family-wise p "
            "< .05 over layers",
        ),
        height=430,
        panels=True,
    )


def lens_options(lens: LensConditions) -> go.Figure:
    """Log-probability and rank of both options' tokens per layer, by condition.

    The upper row is a (the better answer), the lower b. Ranks are geometric means on a log axis, 1 at
    the top; bands are 95 % intervals over item clusters.
    """
    figure = make_subplots(
        rows=2, cols=2, horizontal_spacing=0.1, vertical_spacing=0.13, shared_xaxes=True,
        subplot_titles=[
            f"{what} of the {which} answer" for which in ("better", "worse")
            for what in ("log-probability", "rank")
        ],
    )  # fmt: skip
    drawn: dict[int, list[Interval]] = {1: [], 2: []}
    for line in _lines(lens):
        for row, option in enumerate("ab", start=1):
            layers, interval = mean_per_layer(line.rows, f"log_prob_{option}", unit="item")
            drawn[row].append(interval)
            add_curve(
                figure, layers, interval, line.name, line.colour,
                row=row, col=1, dash=line.dash, legend=row == 1, light=True,
            )  # fmt: skip
            logs = line.rows.assign(rank=np.log10(line.rows[f"rank_{option}"]))
            layers, rank = mean_per_layer(logs, "rank", unit="item")
            low, high = (10.0 ** np.asarray(x) for x in (rank.low, rank.high))
            rank = replace(rank, estimate=10.0**rank.estimate, low=low, high=high)
            add_curve(
                figure, layers, rank, line.name, line.colour,
                row=row, col=2, dash=line.dash, legend=False, light=True,
            )  # fmt: skip
    figure.update_xaxes(showgrid=False, range=layer_range(lens.frame["layer"]))
    figure.update_xaxes(title=_LAYER, row=2)
    for row, intervals in drawn.items():
        figure.update_yaxes(
            title="log-probability, nats", range=_beyond_embedding(intervals), row=row, col=1
        )
    powers = [10**k for k in range(7)]
    figure.update_yaxes(
        title="rank", type="log", autorange="reversed", col=2,
        tickvals=powers, ticktext=[f"{power:,}" for power in powers],
    )  # fmt: skip
    return apply_style(
        figure,
        title="The two answers' first tokens through the layers",
        subtitle=(
            _sample(drawn[1][0], "item"),
            f"ranks: geometric means; 1 = the most likely token; {_OFF_SCALE}",
        ),
        height=720,
        panels=True,
        legend=True,
    )


def lens_divergences(lens: LensConditions) -> go.Figure:
    """Jensen-Shannon and KL divergence (nats) and top-k overlap of two prompts per layer.

    Solid: a text and its own placebo, with 95 % bands over item clusters. Dotted: two placebos, the
    scale of any two sentences. Dashed: instruction and placebo against the clean prompt, which is
    shorter. Means over texts and items; divergences on log axes, where a 0 is not drawn.

    Raises:
        InterpError: nothing was compared: a single condition.
    """
    frame = lens.divergences()
    if frame.empty:
        raise InterpError("no two prompts were compared: add placebo or clean to the conditions")
    panels = {
        "js": "Jensen–Shannon divergence, nats",
        "kl": "KL divergence, nats",
        "overlap": f"share of the top {lens.k} in common",
    }
    figure = make_subplots(cols=3, horizontal_spacing=0.08, subplot_titles=list(panels.values()))
    sample = ""
    for name, line in _compared(frame):
        for col, column in enumerate(panels, start=1):
            layers, interval = mean_per_layer(line.rows, column, unit="item")
            sample = sample or _sample(interval, "item")
            shown = interval if line.dash == "solid" else _bare(interval)
            add_curve(
                figure, *_positive(layers, shown), name, line.colour,
                col=col, dash=line.dash, legend=col == 1, light=True,
            )  # fmt: skip
    figure.update_xaxes(title=_LAYER, showgrid=False, range=layer_range(frame["layer"]))
    for col in (1, 2):
        figure.update_yaxes(type="log", dtick=1, exponentformat="none", col=col)
    return apply_style(
        figure,
        title="How far apart the lens distributions are",
        subtitle=(sample, "solid: its placebo; dotted: two placebos; dashed: the clean prompt"),
        height=430,
        panels=True,
        legend=True,
    )


@dataclass(frozen=True)
class _Line:
    """One prompt variant of a figure."""

    name: str
    rows: pd.DataFrame
    colour: str
    dash: str


def _lines(lens: LensConditions) -> Iterator[_Line]:
    """Every condition; placebos beyond the first contrast's are dashed and named after theirs."""
    seen: set[str] = set()
    for (contrast, condition), rows in lens.frame.groupby(["contrast", "condition"], sort=False):
        again = condition in seen
        seen.add(str(condition))
        name = f"{condition} of {contrast}" if again else str(condition)
        yield _Line(name, rows, colour_of(str(condition)), "dash" if again else "solid")


def _compared(frame: pd.DataFrame) -> Iterator[tuple[str, _Line]]:
    """The comparisons worth drawing: the control's placebos and its distance from clean are not."""
    control = [name for name in frame["contrast"].unique() if name != frame["contrast"].iloc[0]]
    for (contrast, condition, against), rows in frame.groupby(
        ["contrast", "condition", "against"], sort=False
    ):
        if contrast in control and (condition == "placebo" or against == "clean"):
            continue
        name = "two placebos" if against == "another placebo" else f"{condition}, {against}"
        dash = {"clean": "dash", "another placebo": "dot"}.get(str(against), "solid")
        yield name, _Line(name, rows, colour_of(str(condition)), dash)


def _bare(interval: Interval) -> Interval:
    nothing = np.full(np.shape(interval.estimate), np.nan)
    return replace(interval, low=nothing, high=nothing)


def _positive(layers: list[int], interval: Interval) -> tuple[list[int], Interval]:
    """What a log axis can show: layers where the estimate and its bounds are above 0."""
    kept = (np.asarray(interval.estimate) > 0) & ~(np.asarray(interval.low) <= 0)
    fields = {name: getattr(interval, name)[kept] for name in ("estimate", "low", "high")}
    return [layer for layer, k in zip(layers, kept, strict=True) if k], replace(interval, **fields)


def _beyond_embedding(intervals: Sequence[Interval]) -> list[float]:
    """A range that holds 0 and every curve from layer 1 on: the embedding's reading lies far out."""
    values = np.concatenate(
        [np.asarray(bound)[1:] for i in intervals for bound in (i.estimate, i.low, i.high)]
    )
    low, high = min(0.0, np.nanmin(values)), max(0.0, np.nanmax(values))
    air = 0.04 * (high - low)
    return [low - air, high + air]


def _mark_parting(figure: go.Figure, parting: Interval | None, col: int) -> None:
    if parting is None or np.isnan(parting.estimate):
        return
    shade = fade(MUTED, 0.12)
    figure.add_vrect(
        x0=parting.low,
        x1=parting.high,
        fillcolor=shade,
        line_width=0,
        layer="below",
        row=1,
        col=col,
    )
    line = {"color": MUTED, "width": 1.5, "dash": "dash"}
    figure.add_vline(x=parting.estimate, line=line, row=1, col=col)


def _parts(parting: Interval | None) -> str:
    if parting is None:
        return ""
    if np.isnan(parting.estimate):
        return ": does not part"
    return f": parts at {parting.estimate:.0f} [{parting.low:.0f}, {parting.high:.0f}]"


def _sample(interval: Interval, unit: str) -> str:
    n, clusters = int(np.max(interval.n)), int(np.max(interval.n_clusters))
    sample = f"{n} {unit}{'s' * (n != 1)}, {clusters} cluster{'s' * (clusters != 1)}"
    return f"{sample}; bands: 95 % over clusters" if clusters > 1 else f"{sample}: no interval"
