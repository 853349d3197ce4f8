"""Single runs side by side: the options' probabilities, and readings over layers.

What a patch, a knockout or a dose of steering does to one prompt: every run has a name and a colour,
conditions their own.

Example::

    read = interp.patching.read_options
    interp.viz.option_probabilities(
        {"instructed": read(model, pair, run="source"), "placebo": read(model, pair)}
    )
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from interp.directions import Projections
from interp.errors import InterpError
from interp.lens.trajectory import lens_title
from interp.patching.result import SweepResult
from interp.stats import FloatArray, IntArray
from interp.stats.columns import require_columns
from interp.viz.curves import layer_range
from interp.viz.grids import cell_name, unit_of
from interp.viz.theme import ZERO, apply_style, colour_of, escape_label, wrap_label

_EDITED = 5
"""The palette's colour of a run that is neither source nor destination."""


def option_probabilities(readings: Mapping[str, pd.DataFrame]) -> go.Figure:
    """The probability of every option in some runs of one prompt, a bar per run.

    Probabilities are the softmax over the options of their mean log-probability per token. ✓ marks the
    right option (of two answers the better one).

    Args:
        readings: by the run's name, what :func:`interp.patching.read_options` gives of it.

    Raises:
        InterpError: no run, a column is missing, or runs of other options.
    """
    frames = _frames(readings, ("option", "gold", "probability"), "option_probabilities")
    first = next(iter(frames.values()))
    options = first["option"].tolist()
    if any(frame["option"].tolist() != options for frame in frames.values()):
        raise InterpError(
            "option_probabilities: the runs have other options: give runs of one item"
        )
    figure = go.Figure()
    for k, (name, frame) in enumerate(frames.items()):
        figure.add_trace(
            go.Bar(
                x=frame["probability"].tolist(),
                y=list(range(len(options))),
                orientation="h",
                name=escape_label(name),
                marker={"color": _colour(name, k)},
                text=[f"{p:.2f}" for p in frame["probability"]],
                textposition="outside",
                cliponaxis=False,
                customdata=frame["log_prob"].tolist() if "log_prob" in frame else None,
                hovertemplate="%{x:.4f}; %{customdata:.3f} nats per token",
            )
        )
    labels = [
        f"{wrap_label(text.strip(), 22)}{' ✓' * bool(gold)}"
        for text, gold in zip(options, first["gold"], strict=True)
    ]
    figure.update_yaxes(
        tickvals=list(range(len(options))),
        ticktext=labels,
        range=[len(options) - 0.5, -0.5],
        showgrid=False,
    )
    figure.update_xaxes(title="probability among the options", range=[0, 1.08])
    figure.update_layout(barmode="group", bargap=0.25, legend={"traceorder": "normal"})
    height = 170 + len(options) * (16 + 18 * len(frames))
    return apply_style(figure, title="The options", height=max(260, height), legend=True)


def lens_runs(readings: Mapping[str, pd.DataFrame], *, column: str = "margin") -> go.Figure:
    """The lens margin (logit difference) per layer of some runs of one prompt, in nats.

    Layer 0 is the embedding, the last one the model's own output; + is the better answer.

    Args:
        readings: by the run's name, what :func:`interp.lens.lens_prompt` gives of it.
        column: what is drawn.

    Raises:
        InterpError: no run, or a column is missing.
    """
    frames = _frames(readings, ("layer", column), "lens_runs")
    lines = {
        name: (frame["layer"].tolist(), frame[column].to_numpy(float))
        for name, frame in frames.items()
    }
    figure = _lines(lines, "layer (0 = embedding)", lens_title("margin"))
    return apply_style(figure, title="The lens of each run", height=360, legend=True)


def projection_runs(projections: Projections) -> go.Figure:
    """The projection per layer of every run of one pair, or of single prompts.

    In class units (+ = moral; +1 and -1 are the class means) where the direction was learned at
    the layer, else as dot products with its unit vector.

    Raises:
        InterpError: several positions per run.
    """
    frame = projections.to_dataframe()
    frame = frame[frame["component"] == frame["component"].iloc[0]]
    if frame.duplicated(["pair", "run", "layer"]).any():
        raise InterpError("projection_runs draws one place per run: these have several positions")
    own = frame["projection"].notna().sum() > len(frame) / 2
    column, unit = ("projection", "class units") if own else ("dot", "dot product")
    lines = {}
    for (_, condition), rows in frame.groupby(["run", "condition"], sort=False):
        rows = rows.sort_values("layer")
        lines[str(condition)] = (rows["layer"].tolist(), rows[column].to_numpy(float))
    figure = _lines(lines, "layer", f"projection, {unit}")
    note = leave_out_far(figure, frame["layer"].to_numpy(), frame[column].to_numpy(float))
    return apply_style(
        figure, title="Projection onto the direction", subtitle=(note,), height=360, legend=True
    )


def leave_out_far(figure: go.Figure, layers: IntArray, values: FloatArray) -> str:
    """End the axis where a few layers lie far off, and name these; the others could not be read."""
    far = np.abs(values) > 4 * np.nanquantile(np.abs(values), 0.8)
    if not far.any() or far.all():
        return ""
    shown = np.append(values[~far], 0.0)
    low, high = float(np.nanmin(shown)), float(np.nanmax(shown))
    figure.update_yaxes(range=[low - 0.06 * (high - low), high + 0.06 * (high - low)])
    named = ", ".join(str(layer) for layer in sorted(set(layers[far].tolist())))
    return f"beyond the axis: layer {named}"


def cell_effects(result: SweepResult, cell: int) -> go.Figure:
    """The effect of one cell on every pair of a sweep, in the metric's unit.

    Args:
        result: a sweep of one metric.
        cell: which row of ``result.index_df``.

    Raises:
        InterpError: several metrics, or no such cell.
    """
    if isinstance(cell, bool) or not 0 <= cell < len(result.index_df):
        raise InterpError(f"no cell {cell}: the sweep has 0..{len(result.index_df) - 1}")
    frame = result.to_dataframe()
    n = len(result.pair_labels)
    rows = frame.iloc[cell * n : (cell + 1) * n].sort_values("effect", kind="stable")
    effect = rows["effect"].to_numpy(float)
    figure = go.Figure(
        go.Bar(
            x=list(range(n)),
            y=effect,
            marker={"color": np.where(effect < 0, "#b2182b", "#2166ac").tolist()},
            customdata=[escape_label(name) for name in rows["pair"]],
            hovertemplate="%{customdata}: %{y:.3f}<extra></extra>",
        )
    )
    name = cell_name(result.index_df.astype(str).iloc[cell].to_dict())
    figure.update_xaxes(title="pairs, by effect", showticklabels=False)
    figure.update_yaxes(title=f"patched − destination, {escape_label(unit_of(result))}", **ZERO)
    return apply_style(figure, title=f"{name}, pair by pair", height=320)


def _frames(
    readings: Mapping[str, pd.DataFrame], needed: Sequence[str], function: str
) -> dict[str, pd.DataFrame]:
    if not isinstance(readings, Mapping) or not readings:
        raise InterpError(f"{function}: give a mapping from names of runs to their readings")
    frames = {str(name): frame for name, frame in readings.items()}
    for name, frame in frames.items():
        if not isinstance(frame, pd.DataFrame):
            raise InterpError(f"{function}: the reading {name!r} is no table")
        require_columns(frame, tuple(needed), f"{function}: the reading {name!r}")
    return frames


def _lines(
    lines: Mapping[str, tuple[list[int], np.ndarray]], x_title: str, y_title: str
) -> go.Figure:
    figure = go.Figure()
    for k, (name, (layers, values)) in enumerate(lines.items()):
        figure.add_trace(
            go.Scatter(
                x=layers,
                y=values,
                mode="lines+markers",
                line={"color": _colour(name, k), "width": 2.5, "dash": "dot" if k > 1 else "solid"},
                marker={"size": 5},
                name=escape_label(name),
                hovertemplate="layer %{x}: %{y:.3f}",
            )
        )
    layers = [layer for shown, _ in lines.values() for layer in shown]
    figure.update_xaxes(title=x_title, showgrid=False, range=layer_range(layers))
    figure.update_yaxes(title=y_title, **ZERO)
    return figure


def _colour(name: str, k: int) -> str:
    return colour_of(name, k if k < 2 else _EDITED)
