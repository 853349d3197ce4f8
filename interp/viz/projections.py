"""Projections: contrasts over layers on their null band, layers by components, and contributors.

Contrasts (treated - placebo) are in standard deviations of the placebo prompts' projections, + =
towards the positive (moral) class. A row that is ``sure`` differs from zero: its interval excludes 0
over enough clusters, and so says the test corrected over its family.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from interp.stats.columns import require_columns
from interp.viz.curves import Curve, add_curve, band, grey_out, layer_range
from interp.viz.outlines import outline
from interp.viz.theme import (
    DIVERGING,
    INK,
    MUTED,
    PAPER,
    ZERO,
    apply_style,
    colour_of,
    escape_label,
)

_UNIT = "placebo SDs"
_BAND = ("#9a9a9a", "#c9c9c9")
_KINDS = {
    "covariance": "nulls with the states' covariance",
    "placebo": "between placebo texts",
    "contrast": "non-moral contrasts",
}
_COMPONENTS = ("embedding", "resid_pre", "resid_mid", "resid_post", "attn_out", "mlp_out", "head")


def projection_contrast(
    contrasts: pd.DataFrame,
    nulls: pd.DataFrame,
    *,
    title: str,
    subtitle: str = "",
    at_chance: Sequence[int] = (),
) -> go.Figure:
    """Contrast per layer of each condition with its 95 % band, on the band of the null directions.

    Args:
        contrasts: one component's rows, with ``condition``, ``layer``, ``estimate``, ``low``,
            ``high`` and ``beyond``. Rings mark the layers that are beyond: sure, and larger than the
            nulls, which belong to the condition asked about (a control is never beyond).
        nulls: ``kind``, ``name``, ``layer``, ``estimate``; may be empty. Dark grey holds 95 % of the
            covariance nulls at each layer; dotted lines span the non-moral contrasts.
        title: the figure's title.
        subtitle: a line of its own before the legend's.
        at_chance: layers at which the direction does not separate held-out sentences
            (:attr:`interp.directions.DirectionStack.layers_at_chance`): greyed, and without rings.

    Raises:
        InterpError: a column is missing.
    """
    needed = ("condition", "layer", "estimate", "low", "high", "beyond")
    require_columns(contrasts, needed, "projection_contrast: the frame")
    figure = make_subplots()
    said = [_add_nulls(figure, nulls, kind) for kind in ("covariance", "contrast")]
    for k, (name, rows) in enumerate(contrasts.groupby("condition", sort=False)):
        rows = rows.sort_values("layer")
        layers, shade = rows["layer"].tolist(), colour_of(str(name), k)
        add_curve(figure, layers, Curve.of(rows), f"{name} − placebo", shade, col=1)
    marked = contrasts[contrasts["beyond"].astype(bool) & ~contrasts["layer"].isin(at_chance)]
    if len(marked):
        figure.add_trace(_marks(marked))
        said.append("rings: beyond zero, the grey nulls at any layer, and the contrasts there")
    figure.update_xaxes(title="layer", showgrid=False, range=layer_range(contrasts["layer"]))
    figure.update_yaxes(title=f"contrast, {_UNIT}", **ZERO)
    line = "; ".join(part for part in ("bands: 95 % intervals", *said) if part)
    lines = (subtitle, line, grey_out(figure, at_chance))
    return apply_style(figure, title=title, subtitle=lines, height=460, legend=True)


def projection_map(
    contrasts: pd.DataFrame, *, title: str, at_chance: Sequence[int] = ()
) -> go.Figure:
    """Layer by component, the contrast in placebo SDs, RdBu around 0; outlined: differs from zero.

    ``contrasts`` holds one condition's ``component``, ``head``, ``layer``, ``estimate``,
    ``p_corrected`` (family-wise) and ``sure``; ``at_chance``: see :func:`projection_contrast`.

    Raises:
        InterpError: a column is missing.
    """
    needed = ("component", "head", "layer", "estimate", "p_corrected", "sure")
    require_columns(contrasts, needed, "projection_map: the frame")
    rows = contrasts.assign(
        order=contrasts["component"].map(_COMPONENTS.index),
        name=[_name(c, h) for c, h in zip(contrasts["component"], contrasts["head"], strict=True)],
    ).sort_values(["order", "head"], kind="stable")
    names = list(dict.fromkeys(rows["name"]))
    layers = sorted(set(rows["layer"]))
    grids = [
        rows.pivot(index="name", columns="layer", values=v).reindex(names)[layers].to_numpy(float)
        for v in ("estimate", "p_corrected", "sure")
    ]
    largest = float(np.nan_to_num(np.abs(grids[0])).max()) or 1.0
    figure = go.Figure(
        go.Heatmap(
            z=grids[0],
            x=layers,
            y=list(range(len(names))),
            colorscale=DIVERGING,
            zmid=0,
            zmin=-largest,
            zmax=largest,
            customdata=grids[1],
            colorbar={"title": {"text": _UNIT}, "thickness": 14, "outlinewidth": 0},
            hovertemplate="layer %{x}: %{z:.3f}<br>p = %{customdata:.3f}<extra></extra>",
            hoverongaps=False,
            xgap=1,
            ygap=1,
        )
    )
    read = ~np.isin(layers, list(at_chance))
    outline(figure, (grids[2] == 1) & read, name="differs from zero", xs=layers)
    greyed = grey_out(figure, [layer for layer in layers if layer in at_chance], above=True)
    figure.update_xaxes(title="layer", showgrid=False, range=layer_range(layers))
    figure.update_yaxes(
        tickvals=list(range(len(names))),
        ticktext=[escape_label(name) for name in names],
        range=[len(names) - 0.5, -0.5],
        showgrid=False,
    )
    line = "blue: towards the moral class; outlined: differs from zero, corrected over its layers"
    return apply_style(
        figure, title=title, subtitle=(line, greyed), height=max(280, 200 + 26 * len(names))
    )


def top_contributors(parts: pd.DataFrame, *, title: str, n: int = 15) -> go.Figure:
    """The parts of the decomposition with the largest |contrast|, bars with 95 % intervals.

    ``parts`` holds one condition's ``label``, ``component``, ``estimate``, ``low``, ``high``,
    ``p_corrected`` (family-wise over all parts) and ``sure``, which are filled. They were picked for
    their size.

    Raises:
        InterpError: a column is missing.
    """
    needed = ("label", "component", "estimate", "low", "high", "p_corrected", "sure")
    require_columns(parts, needed, "top_contributors: the frame")
    size = parts["estimate"].abs()
    rows = parts.loc[size.sort_values(ascending=False, kind="stable").index].head(n)
    estimate, low, high = (rows[c].to_numpy(float) for c in ("estimate", "low", "high"))
    colours = [_colour(component) for component in rows["component"]]
    sure = rows["sure"].to_numpy(bool)
    figure = go.Figure(
        go.Bar(
            x=estimate,
            y=list(range(len(rows))),
            orientation="h",
            marker={
                "color": [c if s else PAPER for c, s in zip(colours, sure, strict=True)],
                "line": {"color": colours, "width": 1.5},
            },
            error_x={
                "type": "data",
                "symmetric": False,
                "array": np.nan_to_num(high - estimate).tolist(),
                "arrayminus": np.nan_to_num(estimate - low).tolist(),
                "color": INK,
                "thickness": 1.2,
                "width": 3,
            },
            customdata=np.stack([low, high, rows["p_corrected"].to_numpy(float)], axis=-1),
            hovertemplate="%{x:.3f} [%{customdata[0]:.3f}, %{customdata[1]:.3f}], "
            "p = %{customdata[2]:.3f}<extra></extra>",
        )
    )
    figure.update_yaxes(
        tickvals=list(range(len(rows))),
        ticktext=[escape_label(label) for label in rows["label"]],
        range=[len(rows) - 0.5, -0.5],
        showgrid=False,
    )
    figure.update_xaxes(title=f"contrast, {_UNIT} of the whole projection", **ZERO)
    line = f"{len(rows)} of {len(parts)} parts; filled: differs from zero, all parts corrected for"
    legend = "blue: heads; orange: MLPs; grey: embedding and attention bias"
    height = max(280, 180 + 24 * len(rows))
    return apply_style(figure, title=title, subtitle=(line, legend), height=height)


def _add_nulls(figure: go.Figure, nulls: pd.DataFrame, kind: str) -> str:
    """Draw one kind of null over layers; returns the words for the subtitle."""
    rows = nulls[nulls["kind"] == kind]
    if rows.empty:
        return ""
    table = rows.pivot(index="layer", columns="name", values="estimate").sort_index()
    layers, values = table.index.tolist(), np.nan_to_num(table.to_numpy(float))
    if kind == "covariance":
        low, high = np.quantile(values, [0.025, 0.975], axis=1)
        figure.add_trace(band(layers, low, high, _KINDS[kind], _BAND[0]))
        _add_key(figure, f"{_KINDS[kind]} (95 %)", _BAND[0])
        return f"grey: 95 % of {values.shape[1]} {_KINDS[kind]}"
    for k, edge in enumerate((values.min(axis=1), values.max(axis=1))):
        figure.add_trace(
            go.Scatter(
                x=layers,
                y=edge,
                mode="lines",
                line={"color": MUTED, "width": 1, "dash": "dot"},
                name=f"range of {values.shape[1]} {_KINDS[kind]}",
                legendgroup=kind,
                showlegend=k == 0,
                hoverinfo="skip",
            )
        )
    return ""


def _add_key(figure: go.Figure, name: str, colour: str) -> None:
    """A legend entry for a band, which has no line of its own."""
    marker = {"size": 12, "symbol": "square", "color": colour, "opacity": 0.35}
    figure.add_trace(go.Scatter(x=[None], y=[None], mode="markers", marker=marker, name=name))


def _marks(rows: pd.DataFrame) -> go.Scatter:
    return go.Scatter(
        x=rows["layer"].tolist(),
        y=rows["estimate"].to_numpy(float),
        mode="markers",
        marker={"size": 11, "symbol": "circle-open", "color": INK, "line": {"width": 1.8}},
        name="beyond zero and nulls",
        hoverinfo="skip",
    )


def _name(component: str, head: int) -> str:
    return f"head {head}" if component == "head" else component


def _colour(component: str) -> str:
    return {"head": colour_of("", 0), "mlp_out": colour_of("", 1)}.get(component, MUTED)
