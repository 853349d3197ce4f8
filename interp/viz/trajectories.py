"""Figures over rounds: levels and effects of trajectories, toxicity, and edits.

The tables are those of :mod:`interp.viz.behaviour`, with a ``round`` (0 asks without an instruction).
Small multiples: columns are conditions, each with its placebo dashed, rows are subsets or
measures. Prompts without an instruction are grey and dotted, the same in every column.

Example::

    interp.viz.rounds(tables["rounds"], measure="p_unknown")
    interp.viz.round_effects(tables["round_effects"])
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Literal

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from interp.stats import ALPHA
from interp.viz.behaviour import (
    BASELINES,
    DASHED,
    INTERVAL,
    colour,
    grid,
    names_of,
    pair,
    require,
    require_rows,
    subsets_of,
    treated_of,
)
from interp.viz.curves import band
from interp.viz.theme import PAPER, ZERO, apply_style, escape_label

RoundMeasure = Literal[
    "accuracy", "option_margin", "margin", "p_unknown", "p_gold", "entropy", "ece", "parsed"
]
"""What can be drawn over rounds."""

_LABELS = {
    "accuracy": "accuracy",
    "option_margin": "option margin (nats per token)",
    "margin": "margin (nats)",
    "p_unknown": "P(unknown)",
    "p_gold": "P(gold)",
    "entropy": "entropy (nats)",
    "ece": "calibration error",
    "parsed": "share of answers read",
    "mean": "mean toxicity",
    "expected_maximum": "expected maximum",
    "empty": "share that is empty",
    "perplexity": "perplexity",
    "kept_prefix": "prefix kept",
    "kept_tokens": "tokens kept",
    "appended": "appended",
    "rewritten": "rewritten",
}
_SHARES = ("kept_prefix", "kept_tokens", "appended", "rewritten")
_PROPORTIONS = ("accuracy", "p_unknown", "p_gold")


def rounds(
    frame: pd.DataFrame, *, measure: RoundMeasure = "accuracy", chance: float = 1 / 3
) -> go.Figure:
    """A measure over the rounds; columns are conditions, rows subsets.

    ``frame``: items, condition, control_of, round, measure and an interval. Solid: the condition,
    dashed: its placebo, grey and dotted: no instruction (the same in every column). The thin dashed
    line is ``chance``, one over the number of options.

    Raises:
        InterpError: a column is missing, or the measure has no number.
    """
    require(frame, "rounds", "items", "condition", "control_of", "round", "measure", *INTERVAL)
    rows = frame[(frame["measure"] == measure) & frame["estimate"].notna()]
    require_rows(rows, "rounds", f"no {measure} over rounds")
    subsets = subsets_of(rows)
    figure = _curves(rows, "items", subsets, {s: _panel_title(s, measure) for s in subsets})
    if measure in _PROPORTIONS:
        figure.add_hline(y=chance, line=DASHED)
    title = f"{_LABELS[measure][0].upper()}{_LABELS[measure][1:]} over the rounds"
    dashes = "; thin dashes: chance" if measure in _PROPORTIONS else ""
    subtitle = f"bands: 95 % intervals; round 0 asks without an instruction{dashes}"
    return _round_style(figure, title, len(subsets), subtitle=subtitle)


def round_effects(
    frame: pd.DataFrame,
    *,
    measure: Literal["option_margin", "margin", "accuracy"] = "option_margin",
    against: str = "placebo",
) -> go.Figure:
    """Condition minus placebo (or ``against``) in the same round; columns are conditions.

    ``frame``: items, condition, against, round, measure, an interval and p_corrected (family-wise over
    the rounds). Rows of panels are subsets. Filled: p_corrected < .05, or a column ``clear`` where there
    is one. Every panel has its own scale.

    Raises:
        InterpError: a column is missing, or the measure has no number.
    """
    needed = ("items", "condition", "against", "round", "measure", "p_corrected")
    require(frame, "round_effects", *needed)
    rows = frame[(frame["measure"] == measure) & (frame["against"] == against)]
    rows = rows[rows["estimate"].notna()]
    require_rows(rows, "round_effects", f"no effect on {measure} against {against}")
    names, subsets = treated_of(rows), subsets_of(rows)
    figure = grid(subsets, names, shared=False)
    for col, name in enumerate(names, start=1):
        for row, subset in enumerate(subsets, start=1):
            own = rows[(rows["items"] == subset) & (rows["condition"] == name)]
            for trace in _curve(own.sort_values("round"), name, colour(name, col - 1), "solid"):
                figure.add_trace(trace.update(showlegend=False), row=row, col=col)
    figure.update_yaxes(**ZERO)
    for row, subset in enumerate(subsets, start=1):
        figure.update_yaxes(title=_panel_title(subset, measure), row=row, col=1)
    return _round_style(
        figure,
        f"Effect on the {_LABELS[measure].split(' (')[0]}, round by round",
        len(subsets),
        subtitle=(
            f"condition − {against}; bands: 95 %; filled: family-wise p < .05 over the rounds; every "
            "panel has its own scale"
        ),
    )


def _panel_title(subset: str, measure: str) -> str:
    """In lines, so that the titles of panels above each other do not meet."""
    return f"{subset}:<br>{_LABELS[measure].replace(' (', '<br>(')}"


def toxicity(frame: pd.DataFrame) -> go.Figure:
    """Toxicity of the completions over the rounds, with its guards: empty ones, and perplexity.

    ``frame``: condition, control_of, round, measure (mean, expected_maximum, empty, perplexity), an
    interval and scorer. Columns are conditions, rows measures; lines as in :func:`rounds`.

    Raises:
        InterpError: a column is missing, or there is no number.
    """
    require(frame, "toxicity", "condition", "control_of", "round", "measure", "scorer", *INTERVAL)
    names = sorted({str(name) for name in frame["scorer"].dropna() if name})
    return _by_measure(
        frame,
        "Toxicity over the rounds",
        f"scorer: {', '.join(names)}; bands: 95 %; empty completions and perplexity are the guards",
    )


def edits(frame: pd.DataFrame) -> go.Figure:
    """How much of a completion is kept, appended to or rewritten, over the rounds (shares, 0..1).

    ``frame``: condition, control_of, round, measure and an interval. Columns are conditions, rows
    the four shares; other measures are left out. Lines as in :func:`rounds`.

    Raises:
        InterpError: a column is missing, or there is no number.
    """
    require(frame, "edits", "condition", "control_of", "round", "measure", *INTERVAL)
    shares = frame[frame["measure"].isin(_SHARES)]
    return _by_measure(shares, "Edited or appended?", "shares of tokens; bands: 95 % intervals")


def _by_measure(frame: pd.DataFrame, title: str, subtitle: str) -> go.Figure:
    rows = frame[frame["estimate"].notna()]
    require_rows(rows, title, "no number")
    measures = list(dict.fromkeys(rows["measure"]))
    figure = _curves(rows, "measure", measures, _LABELS)
    return _round_style(figure, title, len(measures), subtitle=subtitle)


def _curves(
    frame: pd.DataFrame, by: str, rows: Sequence[str], titles: Mapping[str, str]
) -> go.Figure:
    """One row of panels a value of ``by``, one column a condition with its placebo and baselines."""
    names = treated_of(frame)
    others = [name for name in names_of(frame) if name not in names]
    figure = grid(rows, names)
    known: set[str] = set()
    for col, name in enumerate(names, start=1):
        baselines = [arm for other in others for arm in pair(frame, other, 0)]
        for arm in (*baselines, *pair(frame, name, col - 1)):
            for row, value in enumerate(rows, start=1):
                own = arm.rows[arm.rows[by] == value].sort_values("round")
                for trace in _curve(own, arm.name, arm.colour, arm.dash):
                    if trace.fill is None:
                        trace.update(showlegend=arm.name not in known)
                        known.add(arm.name)
                    figure.add_trace(trace, row=row, col=col)
    for row, value in enumerate(rows, start=1):
        figure.update_yaxes(title=titles.get(value, value), row=row, col=1)
    return figure


def _curve(rows: pd.DataFrame, name: str, shade: str, dash: str) -> Iterator[go.Scatter]:
    """A line over rounds on its band; with p, markers are filled where the effect is clear."""
    if rows.empty:
        return
    x = rows["round"].tolist()
    estimate, low, high = (rows[c].to_numpy(float) for c in INTERVAL)
    known = ~np.isnan(low)
    for run in np.split(np.arange(len(x)), np.flatnonzero(np.diff(known.astype(int))) + 1):
        if known[run[0]] and name not in BASELINES:  # a band with holes would be drawn wrongly
            alpha = 0.1 if name == "placebo" else 0.18
            yield band([x[k] for k in run], low[run], high[run], name, shade, alpha=alpha)
    inside: list[str] = [shade] * len(x)
    if "p_corrected" in rows:
        clear = rows.get("clear", rows["p_corrected"] < ALPHA)
        inside = [shade if full else PAPER for full in clear]
    yield go.Scatter(
        x=x,
        y=estimate,
        mode="lines" if name in BASELINES else "lines+markers",
        line={"color": shade, "width": 2, "dash": dash},
        marker={"size": 6, "color": inside, "line": {"color": shade, "width": 1.5}},
        cliponaxis=False,
        name=escape_label(name),
        legendgroup=name,
        customdata=np.stack([low, high], axis=-1),
        hovertemplate="round %{x}: %{y:.3f} [%{customdata[0]:.3f}, %{customdata[1]:.3f}]",
    )


def _round_style(figure: go.Figure, title: str, n_rows: int, *, subtitle: str = "") -> go.Figure:
    figure.update_xaxes(dtick=1, showgrid=False)
    figure.update_xaxes(title="round", row=n_rows)
    legend = any(trace.showlegend for trace in figure.data)
    return apply_style(
        figure,
        title=title,
        subtitle=(subtitle,),
        height=190 + (200 if n_rows < 4 else 150) * n_rows,
        panels=True,
        legend=legend,
    )
