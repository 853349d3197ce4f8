"""Circuits: faithfulness over size beside random circuits, and where the kept nodes are."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from interp.circuits.areas import FIRST_SHARE
from interp.circuits.curve import FaithfulnessCurve
from interp.circuits.nodes import CircuitNode
from interp.circuits.random_draws import RandomCircuits
from interp.circuits.units import CircuitUnit, unit_of_table, units_of_table
from interp.errors import InterpError
from interp.stats import FloatArray
from interp.viz.curves import band
from interp.viz.edge_circuits import edge_graph
from interp.viz.theme import DIVERGING, FAINT, INK, MUTED, PAPER, apply_style, colour_of, fade

_RANDOM = "random circuits"
_CIRCUIT = "circuit"
_ONE_COLUMN_OF_TICKS = 24


def faithfulness(
    curve: FaithfulnessCurve, random: RandomCircuits | None = None, *, title: str = "Faithfulness"
) -> go.Figure:
    """Faithfulness over the number of nodes or edges kept, with CPR and CMD in a whole curve's title.

    0 is the empty circuit, 1 (dashed) the full one. The axis of sizes is logarithmic and starts at
    one; the areas are over the share of nodes on a linear scale. ``random``: the mean over draws with
    its 95 % interval, and each draw as a thin line. The circuit's own band is Fieller's 95 % interval
    over clusters of items, which is not there where the full circuit does not differ from the empty one.
    """
    table = curve.to_dataframe()
    table = table[table["size"] > 0]
    figure = go.Figure()
    ranges = [table["faithfulness"].to_numpy()]
    if random is not None:
        _add_random(figure, random, curve.unit)
        ranges.append(random.faithfulness[:, np.asarray(random.sizes) > 0].ravel())
    colour = colour_of("instructed")
    low, high = table["low"].to_numpy(float), table["high"].to_numpy(float)
    if not np.isnan(low).all():
        figure.add_trace(band(table["size"].tolist(), low, high, _CIRCUIT, colour))
    figure.add_trace(
        go.Scatter(
            x=table["size"],
            y=table["faithfulness"],
            mode="lines+markers",
            line={"color": colour, "width": 2.5},
            marker={"size": 6},
            name=_CIRCUIT,
            legendgroup=_CIRCUIT,
            legendrank=1,
            customdata=np.stack([100 * table["share_kept"], low, high], axis=-1),
            hovertemplate=(
                f"%{{x}} {curve.unit} "
                "(%{customdata[0]:.1f} %): %{y:.3f} [%{customdata[1]:.3f}, "
                "%{customdata[2]:.3f}]"
            ),
        )
    )
    figure.add_hline(y=1, line={"color": MUTED, "width": 1, "dash": "dash"})
    figure.update_xaxes(
        title=f"{curve.unit} kept, of {len(curve.ranking)} (log scale)",
        type="log",
        tickvals=table["size"].tolist(),
        ticktext=[str(n) for n in table["size"]],
        showgrid=False,
    )
    every = np.concatenate(ranges)
    bottom, top = min(0.0, float(every.min())), max(1.0, float(every.max()))
    room = 0.06 * (top - bottom)
    figure.update_yaxes(
        title="faithfulness",
        zeroline=True,
        zerolinecolor=MUTED,
        zerolinewidth=1,
        range=[bottom - room, top + room],
    )
    n, areas, beside = len(curve.ranking), "", ""
    whole = curve.sizes[0] <= FIRST_SHARE * n and curve.sizes[-1] == n
    if whole:
        areas = f": CPR {curve.cpr:.2f}, CMD {curve.cmd:.2f}"
    if whole and random is not None and random.sizes == curve.sizes:
        beside = f"random: CPR {random.cpr().estimate:.2f}, CMD {random.cmd().estimate:.2f}, "
        beside += f"{len(random.faithfulness)} draws"
    runs = curve.runs
    return apply_style(
        figure,
        title=f"{title}{areas}",
        subtitle=(
            beside,
            f"{runs.ablation} ablation, {runs.metric.replace('_', ' ')}, {runs.values.shape[1]} pairs; "
            "0 = empty circuit, 1 = full model; bands: 95 % intervals",
        ),
        height=430,
        legend=True,
    )


def _add_random(figure: go.Figure, random: RandomCircuits, unit: str) -> None:
    table = random.to_dataframe()
    drawn = (table["size"] > 0).to_numpy()
    table, sizes = table[drawn], table["size"][drawn].tolist()
    colour = colour_of("clean")
    for draw in random.faithfulness[:, drawn]:
        figure.add_trace(
            go.Scatter(
                x=sizes,
                y=draw,
                mode="lines",
                line={"color": fade(colour, 0.25), "width": 1},
                legendgroup=_RANDOM,
                showlegend=False,
                hoverinfo="skip",
                name="a draw",
            )
        )
    low, high = table["low"].to_numpy(float), table["high"].to_numpy(float)
    figure.add_trace(band(sizes, low, high, _RANDOM, colour))
    figure.add_trace(
        go.Scatter(
            x=sizes,
            y=table["estimate"],
            mode="lines+markers",
            line={"color": colour, "width": 2, "dash": "dot"},
            marker={"size": 5, "symbol": "square"},
            name=_RANDOM,
            legendgroup=_RANDOM,
            hovertemplate=f"%{{x}} random {unit}: %{{y:.3f}} (mean of draws)",
        )
    )


def circuit_graph(
    scores: pd.DataFrame, circuit: Collection[CircuitUnit], *, title: str = "The circuit"
) -> go.Figure:
    """The nodes of a model, layers upwards and heads across (the MLP last), those of a circuit filled.

    Colour is the score, RdBu around 0 (blue: patching the node raises the metric). Nodes outside the
    circuit are small and hollow. A circuit of edges is drawn as lines between them:
    :func:`interp.viz.edge_circuits.edge_graph`.

    Raises:
        InterpError: a node or an edge of the circuit that has no score.
    """
    units = units_of_table(scores)
    missing = set(circuit) - set(units)
    if missing:
        first = next(unit for unit in circuit if unit in missing)
        raise InterpError(f"the table of scores has no row for {first} of the circuit")
    if unit_of_table(scores) == "edges":
        return edge_graph(scores, circuit, title=title)
    nodes = [unit for unit in units if isinstance(unit, CircuitNode)]
    return _node_graph(nodes, scores["score"].to_numpy(float), circuit, title)


def _node_graph(
    nodes: Sequence[CircuitNode], score: FloatArray, circuit: Collection[CircuitUnit], title: str
) -> go.Figure:
    n_heads = 1 + max((node.head for node in nodes if node.head is not None), default=-1)
    n_layers = 1 + max(node.layer for node in nodes)
    kept = np.array([node in circuit for node in nodes])
    x = np.array([n_heads if node.head is None else node.head for node in nodes])
    y = np.array([node.layer for node in nodes])
    symbols = np.array(["square" if node.head is None else "circle" for node in nodes])
    labels = np.array([node.label for node in nodes])
    reach = float(np.abs(score).max()) or 1.0
    figure = go.Figure()
    for name, here, marker in (
        ("outside", ~kept, {"size": 6, "color": PAPER, "line": {"color": FAINT, "width": 1}}),
        (
            "kept",
            kept,
            {
                "size": 13,
                "color": score[kept],
                "colorscale": DIVERGING,
                "cmin": -reach,
                "cmax": reach,
                "line": {"color": INK, "width": 1},
                "colorbar": {"title": {"text": "score"}, "thickness": 14, "outlinewidth": 0},
            },
        ),
    ):
        figure.add_trace(
            go.Scatter(
                x=x[here],
                y=y[here],
                mode="markers",
                marker={**marker, "symbol": symbols[here].tolist()},
                customdata=np.stack([labels[here], score[here]], axis=-1),
                hovertemplate=f"%{{customdata[0]}}: %{{customdata[1]:.4f}} ({name})<extra></extra>",
                showlegend=False,
                name=name,
            )
        )
    step = 1 + n_heads // _ONE_COLUMN_OF_TICKS
    heads = list(range(0, n_heads, step))
    figure.update_xaxes(
        title="head",
        tickvals=[*heads, n_heads],
        ticktext=[*map(str, heads), "MLP"],
        range=[-0.7, n_heads + 0.7],
        showgrid=False,
    )
    figure.update_yaxes(
        title="layer", range=[-0.7, n_layers - 0.3], dtick=1 + n_layers // _ONE_COLUMN_OF_TICKS
    )
    n = sum(node in circuit and node.head is not None for node in nodes)
    kinds = [f"{k} {kind}{'s' * (k != 1)}" for k, kind in ((n, "head"), (len(circuit) - n, "MLP"))]
    return apply_style(
        figure,
        title=title,
        subtitle=(
            f"{len(circuit)} of {len(nodes)} nodes: {' and '.join(kinds)}; blue: patching it raises the "
            "metric",
        ),
        height=max(320, 170 + 18 * n_layers),
    )
