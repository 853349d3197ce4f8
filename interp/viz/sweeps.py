"""More of a sweep than its map: the largest cells with intervals, and the spans over layers."""

from __future__ import annotations

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from interp.errors import InterpError
from interp.patching.localising import is_ceiling, is_localising, patches_everything
from interp.patching.positions import ALL
from interp.patching.result import SweepResult
from interp.stats import ALPHA, FloatArray
from interp.viz.curves import band
from interp.viz.grids import cell_name, sample_line, unit_of
from interp.viz.theme import (
    LOWERS,
    MUTED,
    PAPER,
    RAISES,
    ZERO,
    apply_style,
    colour_of,
    escape_label,
    wrap_label,
)

_DASHES = ("solid", "dash", "dot")


def top_cells(
    result: SweepResult, *, k: int = 15, significance: bool = True, n_maps: int = 1
) -> go.Figure:
    """The ``k`` cells of largest |mean effect|, largest on top, with clustered 95 % intervals.

    Blue raises the metric, red lowers it. Filled markers: family-wise p < .05 (two-way max-t over
    all cells of the sweep; ``n_maps`` of them, Bonferroni); ``significance=False`` fills none. The
    cells are picked for their size, so their effects are biased upward by selection. A single cluster
    has neither intervals nor filled markers. Cells that copy everything, and those of spans that are
    patched in part, are left out (:func:`interp.patching.localising.is_localising`).

    Raises:
        InterpError: several metrics; choose one, ``result["margin"]``.
    """
    rows = largest_cells(result, k)
    names = [cell_name(row) for row in rows.to_dict("records")]
    effect, low, high, p = (
        rows[c].to_numpy(float) for c in ("estimate", "low", "high", "p_corrected")
    )
    filled = (p * n_maps < ALPHA) & significance
    colours = np.where(effect < 0, LOWERS, RAISES)
    places = np.arange(len(rows))
    figure = go.Figure()
    for colour in (RAISES, LOWERS):
        here = colours == colour
        figure.add_trace(
            go.Scatter(
                x=effect[here],
                y=places[here],
                mode="markers",
                marker={
                    "size": 9,
                    "color": np.where(filled[here], colour, PAPER).tolist(),
                    "line": {"color": colour, "width": 2},
                },
                error_x=_bars(effect[here], low[here], high[here], colour),
                customdata=[
                    [escape_label(names[i]), _facts(low[i], high[i], p[i])]
                    for i in np.flatnonzero(here)
                ],
                hovertemplate="%{customdata[0]}: %{x:.3f}%{customdata[1]}<extra></extra>",
                showlegend=False,
            )
        )
    figure.update_yaxes(
        tickvals=places.tolist(),
        ticktext=[wrap_label(name, 34) for name in names],
        range=[len(rows) - 0.5, -0.5],
    )
    figure.update_xaxes(title=f"mean effect, {escape_label(unit_of(result))}", **ZERO)
    n_cells = len(result.index_df)
    over = f"over all {n_cells:,} cells" + ("" if n_maps == 1 else f" of each of {n_maps} maps")
    fill = f"; filled: family-wise p < .05 {over}" if significance else ""
    tested = f"bars: 95 % over clusters{fill}" if len(set(result.clusters)) > 1 else ""
    return apply_style(
        figure,
        title=f"Largest cells: {result.title}",
        subtitle=(sample_line(result), tested, left_out_line(result)),
        height=max(300, 170 + 24 * len(rows)),
    )


def largest_cells(result: SweepResult, k: int) -> pd.DataFrame:
    """The first ``k`` rows of ``result.top()`` that have an effect and say something of their place."""
    if isinstance(k, bool) or k < 1:
        raise InterpError(f"k is {k}: name at least one cell")
    rows = result.top(len(result.index_df)).dropna(subset=["estimate"])
    kept = np.array(result.cell_labels(), dtype=object)[is_localising(result)]
    return rows[rows["label"].isin(kept)].head(k).reset_index(drop=True)


def left_out_line(result: SweepResult) -> str:
    """Which cells are not named as effects, and why; empty without any."""
    said = []
    if patches_everything(result).any():
        name = "the ceiling column" if is_ceiling(result).any() else "the column of everything"
        said.append(f"{name} is left out")
    if result.partly_patched().any():
        said.append(f"left out as patched in part: {', '.join(partly_patched_columns(result))}")
    return "; ".join(said)


def partly_patched_columns(result: SweepResult) -> list[str]:
    """``instruction (7 of 9 tokens not patched)`` of every column that is patched in part."""
    last = result.axis_names[-1]
    names = result.axis_labels[last] if last in ("pos", "span") else ["every cell"]
    partly = np.unique(result.columns_of_cells()[result.partly_patched()]).tolist()
    return [f"{names[k]} ({result.not_patched(k)})" for k in partly]


def layer_profile(result: SweepResult) -> go.Figure:
    """Mean effect per layer, one line per span (or one in all), with clustered 95 % bands.

    The column that patches everything from the first difference on is dashed grey, without a band (at
    equal lengths the ceiling). So are spans that are patched in part, dotted, with how many of their
    tokens are not.

    Raises:
        InterpError: another grid than ``[layer, span]`` or ``[layer]``, or several metrics.
    """
    if list(result.axis_names) not in (["layer", "span"], ["layer"]):
        raise InterpError(
            "layer_profile draws [layer, span] or [layer], this sweep is "
            f"[{', '.join(result.axis_names)}]: sweep with cells='layer_span', or draw its heatmap"
        )
    interval = result.effect_interval()
    estimate, low, high = (
        np.asarray(values, dtype=float).reshape(len(result.axis_labels["layer"]), -1)
        for values in (interval.estimate, interval.low, interval.high)
    )
    spans = result.axis_labels.get("span", ["all of them"])
    layers = [int(label.split("-")[0]) for label in result.axis_labels["layer"]]
    windows = any("-" in label for label in result.axis_labels["layer"])
    figure = go.Figure()
    for k, name in enumerate(spans):
        partly = result.not_patched(k)
        aside = name == ALL or bool(partly)
        colour = MUTED if aside else colour_of("", k)
        dash = ("dash" if name == ALL else "dot") if aside else _DASHES[k // 6 % len(_DASHES)]
        if not aside:  # at resid_pre its band is the subtitle's interval, at every layer
            kept = ~np.isnan(low[:, k])
            there = [layer for layer, known in zip(layers, kept, strict=True) if known]
            figure.add_trace(band(there, low[kept, k], high[kept, k], name, colour))
        figure.add_trace(
            go.Scatter(
                x=layers,
                y=estimate[:, k],
                mode="lines" if aside else "lines+markers",
                line={"color": colour, "width": 1.5 if aside else 2.5, "dash": dash},
                marker={"size": 5},
                name=escape_label(f"{name} ({partly})" if partly else name),
                legendgroup=name,
                showlegend=len(spans) > 1,
                customdata=np.stack([low[:, k], high[:, k]], axis=-1),
                hovertemplate="layer %{x}: %{y:.3f} [%{customdata[0]:.3f}, %{customdata[1]:.3f}]",
            )
        )
    figure.update_xaxes(
        title="first layer of the window" if windows else "layer",
        showgrid=False,
        range=[min(layers) - 0.5, max(layers) + 0.5],
        tickvals=layers[:: -(-len(layers) // 16)],
    )
    figure.update_yaxes(title=f"mean effect, {escape_label(unit_of(result))}", **ZERO)
    bands = "bands: 95 % over clusters" if not np.isnan(low).all() else ""
    return apply_style(
        figure,
        title=f"Over layers: {result.title}",
        subtitle=(sample_line(result), bands, *result.notes),
        height=430,
        legend=len(spans) > 1,
    )


def _bars(effect: FloatArray, low: FloatArray, high: FloatArray, colour: str) -> dict[str, object]:
    return {
        "type": "data",
        "symmetric": False,
        "array": np.nan_to_num(high - effect).tolist(),
        "arrayminus": np.nan_to_num(effect - low).tolist(),
        "color": colour,
        "thickness": 1.5,
        "width": 0,
    }


def _facts(low: float, high: float, p: float) -> str:
    interval = "" if np.isnan(low) else f" [{low:.3f}, {high:.3f}]"
    return interval + ("" if np.isnan(p) else f"<br>family-wise p = {p:.3f}")
