"""Learned directions: how well they separate held-out sentences, their nulls, how they agree."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from interp.directions.direction import DirectionStack
from interp.directions.fit import DirectionFits
from interp.directions.methods import FitMethod
from interp.directions.transfer import Transfer
from interp.stats import FloatArray
from interp.viz.curves import add_baseline, add_curve, band, layer_range
from interp.viz.theme import DIVERGING, FAINT, MUTED, apply_style, colour_of, escape_label

METHOD_NAMES = {
    "mean_difference": "difference of means",
    "logistic_regression": "logistic regression",
    "lda": "LDA",
    "pca": "PCA of pair differences",
    "statements": "statements, same layer",
    "statements_last": "statements, last layer",
}
_SHUFFLED = "shuffled labels"


def direction_scores(fits: DirectionFits) -> go.Figure:
    """Held-out ROC-AUC by layer, one panel per site and one line per method.

    Grey: 95 % of the AUCs under shuffled labels (difference of means, or the first method that was
    shuffled everywhere); dotted: the bag of words; dashed: chance.
    """
    sites = list(dict.fromkeys(site for _, site in fits.stacks))
    methods = list(dict.fromkeys(method for method, _ in fits.stacks))
    figure = make_subplots(
        cols=len(sites), shared_yaxes=True, horizontal_spacing=0.04, subplot_titles=sites
    )
    for col, site in enumerate(sites, start=1):
        stacks = [fits[method, site] for method in methods]
        layers = list(stacks[0].layers)
        null = next((s.shuffled for s in stacks if not np.isnan(s.shuffled.low).any()), None)
        if null is not None:
            figure.add_trace(band(layers, null.low, null.high, _SHUFFLED, MUTED), row=1, col=col)
        for k, (method, stack) in enumerate(zip(methods, stacks, strict=True)):
            figure.add_trace(
                _line(layers, stack, method, colour_of("", k), legend=col == 1), row=1, col=col
            )
        words = fits.baselines["bag of words"].estimate
        for level, dash in ((0.5, "dash"), (words, "dot")):
            line = {"color": MUTED, "width": 1, "dash": dash}
            figure.add_hline(y=level, line=line, row=1, col=col)
    figure.update_xaxes(title="layer", showgrid=False)
    figure.update_yaxes(title="held-out AUC", col=1)
    first = next(iter(fits))
    return apply_style(
        figure,
        title=f"How well directions separate {first.facts.source}",
        subtitle=(
            f"{first.facts.n_texts} texts, held-out folds; grey: 95 % under shuffled labels; "
            f"dashed: chance; dotted: bag of words ({fits.baselines['bag of words'].estimate:.2f})",
        ),
        height=430,
        panels=True,
        legend=True,
    )


def _line(
    layers: list[int], stack: DirectionStack, method: FitMethod, colour: str, *, legend: bool
) -> go.Scatter:
    return go.Scatter(
        x=layers,
        y=np.asarray(stack.auc.estimate),
        mode="lines",
        line={"color": colour, "width": 2},
        name=METHOD_NAMES[method],
        legendgroup=method,
        showlegend=legend,
        customdata=np.stack([stack.auc.low, stack.auc.high], axis=-1),
        hovertemplate="layer %{x}: %{y:.3f} [%{customdata[0]:.3f}, %{customdata[1]:.3f}]",
    )


def direction_nulls(fits: DirectionFits, method: FitMethod, site: str) -> go.Figure:
    """A direction's held-out AUC against null directions, scored on the same sentences.

    Grey band: 95 % of random directions with the states' own covariance. Grey lines: directions of
    non-moral contrasts fitted the same way, each turned to the side on which it separates (they are
    not held out and need not be: they never saw these labels). A contrast that separates as well
    says what the direction may be reading.
    """
    stack = fits[method, site]  # type: ignore[index]
    layers, name = list(stack.layers), METHOD_NAMES[method]
    rows = fits.nulls[fits.nulls["site"] == site]
    figure = make_subplots()
    random = rows[rows["null"] == "covariance"].groupby("layer")["auc"]
    low, high = (random.quantile(q).loc[layers].to_numpy() for q in (0.025, 0.975))
    figure.add_trace(band(layers, low, high, "random, same covariance", MUTED))
    contrasts = rows[(rows["null"] == "contrast") & (rows["method"] == method)]
    for k, (contrast, one) in enumerate(contrasts.groupby("name", sort=False)):
        auc = one.set_index("layer")["auc"].loc[layers].to_numpy()
        figure.add_trace(
            _contrast_line(layers, str(contrast), np.maximum(auc, 1 - auc), first=k == 0)
        )
    add_curve(figure, layers, stack.auc, name, colour_of("instructed"), col=1)
    add_baseline(figure, layers, "bag of words", fits.baselines["bag of words"], colour_of("", 1))
    figure.add_hline(y=0.5, line={"color": MUTED, "width": 1, "dash": "dash"})
    figure.update_xaxes(title="layer", showgrid=False, range=layer_range(layers))
    figure.update_yaxes(title="AUC")
    return apply_style(
        figure,
        title=f"{name[:1].upper()}{name[1:]} at {site}, against null directions",
        subtitle=(
            "grey band: 95 % of random directions with the states' covariance; grey lines: "
            "non-moral contrasts fitted the same way (the better side)",
        ),
        height=430,
        legend=True,
    )


def _contrast_line(layers: list[int], name: str, auc: FloatArray, *, first: bool) -> go.Scatter:
    return go.Scatter(
        x=layers,
        y=auc,
        mode="lines",
        line={"color": FAINT, "width": 1},
        name="non-moral contrasts",
        legendgroup="contrasts",
        showlegend=first,
        hovertemplate=f"{escape_label(name)}, layer %{{x}}: %{{y:.3f}}<extra></extra>",
    )


def direction_cosines(fits: DirectionFits, site: str, layer: int) -> go.Figure:
    """Cosines between the methods' directions at a layer, and of neighbouring layers by method."""
    stacks = {method: stack for (method, at), stack in fits.stacks.items() if at == site}
    names = [METHOD_NAMES[method] for method in stacks]
    row = next(iter(stacks.values())).layers.index(layer)
    vectors = np.stack([stack.vectors[row].double().numpy() for stack in stacks.values()])
    figure = make_subplots(
        cols=2,
        column_widths=[0.42, 0.58],
        horizontal_spacing=0.12,
        subplot_titles=[f"methods, layer {layer}", "neighbouring layers"],
    )
    figure.add_trace(_matrix(vectors @ vectors.T, names, names, zmin=-1.0, zmax=1.0), row=1, col=1)
    for k, (method, stack) in enumerate(stacks.items()):
        figure.add_trace(
            go.Scatter(
                x=list(stack.layers[1:]),
                y=(stack.vectors[1:] * stack.vectors[:-1]).sum(-1).numpy(),
                mode="lines",
                line={"color": colour_of("", k), "width": 2},
                name=METHOD_NAMES[method],
                hovertemplate="layers %{x} and before: %{y:.2f}",
            ),
            row=1,
            col=2,
        )
    figure.update_yaxes(autorange="reversed", col=1)
    figure.update_xaxes(tickangle=-40, col=1)
    figure.update_xaxes(title="layer (with the one before)", showgrid=False, col=2)
    figure.update_yaxes(title="cosine", range=[min(0.0, _lowest(figure)), 1.05], col=2)
    return apply_style(
        figure,
        title=f"Do the methods agree, do the layers? ({site})",
        subtitle=(
            f"cosines of unit vectors; chance is about ±{2 / np.sqrt(vectors.shape[1]):.2f}",
        ),
        height=470,
        panels=True,
        legend=True,
    )


def _lowest(figure: go.Figure) -> float:
    return float(min(np.min(trace.y) for trace in figure.data if trace.type == "scatter")) - 0.05


def transfer_heatmap(transfer: Transfer) -> go.Figure:
    """AUC of directions trained on one set (rows) and tested on another (columns), and of words.

    Red: above chance, blue: below, where the direction points the other way. The diagonal is held
    out.
    """
    figure = make_subplots(
        cols=2,
        horizontal_spacing=0.06,
        shared_yaxes=True,
        subplot_titles=[f"{METHOD_NAMES[transfer.method]}, {transfer.site}", "bag of words"],
    )
    for col, reader in enumerate(("direction", "bag of words"), start=1):
        table = transfer.table(reader)
        trace = _matrix(
            table.to_numpy(), list(table.columns), list(table.index), zmin=0.0, zmax=1.0
        )
        figure.add_trace(trace, row=1, col=col)
    figure.update_yaxes(autorange="reversed")
    figure.update_yaxes(title="trained on", col=1)
    figure.update_xaxes(title="tested on", tickangle=-30)
    return apply_style(
        figure,
        title="Does a direction learned on one data set separate another?",
        subtitle=("ROC-AUC, .5 is chance; diagonal: held-out folds; blue is above chance",),
        height=180 + 46 * len(transfer.table()),
        panels=True,
    )


def _matrix(
    values: npt.NDArray[np.float64],
    columns: list[str],
    rows: list[str],
    *,
    zmin: float,
    zmax: float,
) -> go.Heatmap:
    return go.Heatmap(
        z=values,
        x=[escape_label(name) for name in columns],
        y=[escape_label(name) for name in rows],
        zmin=zmin,
        zmax=zmax,
        colorscale=DIVERGING,
        showscale=False,
        texttemplate="%{z:.2f}",
        textfont={"size": 11},
        hovertemplate="%{y} -> %{x}: %{z:.3f}<extra></extra>",
        xgap=1,
        ygap=1,
    )
