"""A circuit of edges, drawn as lines between the nodes of a model."""

from __future__ import annotations

from collections.abc import Collection, Mapping

import pandas as pd
import plotly.graph_objects as go

from interp.circuits.edges import EMBEDDING, LOGITS, CircuitEdge
from interp.circuits.units import CircuitUnit
from interp.viz.theme import INK, MUTED, PAPER, apply_style, fade

_MOST_LINES = 200
_RAISES, _LOWERS = "#2166ac", "#b2182b"
_PARTS = {"q": -0.22, "k": 0.0, "v": 0.22, "mlp": 0.0, "logits": 0.0}
"""Where an edge into a head ends: queries left, keys in the middle, values right."""


def edge_graph(
    scores: pd.DataFrame, circuit: Collection[CircuitUnit], *, title: str = "The circuit"
) -> go.Figure:
    """The kept edges as lines, the embedding at the bottom, layers upwards, the logits on top.

    Blue: patching the edge raises the metric; red: lowers it. An edge into a head ends left of it (its
    queries), below it (keys) or right of it (values); into keys or values that a group of heads shares,
    at the group's middle. Of a larger circuit the 200 edges of the largest scores are drawn.
    """
    kept = scores[scores["edge"].isin({unit.label for unit in circuit})]
    drawn = kept.loc[kept["score"].abs().nlargest(_MOST_LINES).index]
    places = _places(scores)
    figure = go.Figure()
    for colour, rows, name in (
        (_RAISES, drawn[drawn["score"] >= 0], "raises the metric"),
        (_LOWERS, drawn[drawn["score"] < 0], "lowers the metric"),
    ):
        _add_lines(figure, rows, places, colour, name)
    ends = {*drawn["source"], *drawn["destination"]} & places.keys()
    _add_nodes(figure, {label: places[label] for label in places if "KV" not in label}, ends)
    layers = [int(y) for _, y in places.values()]
    figure.update_xaxes(title="head (the MLP last)", showticklabels=False, ticks="", showgrid=False)
    figure.update_yaxes(
        title="layer",
        range=[min(layers) - 0.6, max(layers) + 0.6],
        tickvals=list(range(max(layers))),  # embedding and logits are no layers
    )
    more = f", the largest {len(drawn)} drawn" if len(drawn) < len(kept) else ""
    return apply_style(
        figure,
        title=title,
        subtitle=(
            f"{len(kept)} of {len(scores)} edges{more}; blue: patching it raises the "
            "metric, red: lowers it",
        ),
        height=max(360, 200 + 26 * (max(layers) + 1)),
        legend=True,
    )


def _places(scores: pd.DataFrame) -> dict[str, tuple[float, float]]:
    """Where each sender and receiver is drawn, by its label."""
    labels = [label for label in scores["destination"].unique() if label != LOGITS]
    by_layer: dict[int, dict[str, list[str]]] = {}
    for label in labels:
        layer = int(label[1:].replace("H", " ").replace("KV", " ").split()[0])
        kind = "mlp" if label.endswith("MLP") else "group" if "KV" in label else "head"
        by_layer.setdefault(layer, {}).setdefault(kind, []).append(label)
    places: dict[str, tuple[float, float]] = {}
    width = 0
    for layer, kinds in by_layer.items():
        heads, groups = kinds.get("head", []), kinds.get("group", [])
        places |= {label: (float(k), float(layer)) for k, label in enumerate(heads)}
        size = len(heads) / max(len(groups), 1)
        places |= {
            label: (size * k + (size - 1) / 2, float(layer)) for k, label in enumerate(groups)
        }
        places |= {label: (float(len(heads)), float(layer)) for label in kinds.get("mlp", [])}
        width = max(width, len(heads))
    ends = {EMBEDDING: (width / 2, -1.0), LOGITS: (width / 2, float(max(by_layer) + 1))}
    return places | ends


def _add_lines(
    figure: go.Figure,
    rows: pd.DataFrame,
    places: Mapping[str, tuple[float, float]],
    colour: str,
    name: str,
) -> None:
    x: list[float | None] = []
    y: list[float | None] = []
    labels: list[str] = []
    for row in rows.to_dict("records"):
        edge = CircuitEdge(row["source"], row["destination"], row["input"])
        (x0, y0), (x1, y1) = places[edge.source], places[edge.destination]
        x += [x0, x1 + _PARTS[edge.input], None]
        y += [y0, y1 - 0.12, None]
        labels += [f"{edge.label}: {row['score']:.4f}"] * 3
    figure.add_trace(
        go.Scatter(
            x=x,
            y=y,
            mode="lines",
            line={"color": fade(colour, 0.55), "width": 1.4},
            text=labels,
            hovertemplate="%{text}<extra></extra>",
            name=name,
        )
    )


def _add_nodes(
    figure: go.Figure, places: Mapping[str, tuple[float, float]], ends: Collection[str]
) -> None:
    figure.add_trace(
        go.Scatter(
            x=[x for x, _ in places.values()],
            y=[y for _, y in places.values()],
            mode="markers+text",
            text=[label if label in (EMBEDDING, LOGITS) else "" for label in places],
            textposition="middle right",
            marker={
                "size": [9 if label in ends else 5 for label in places],
                "color": [INK if label in ends else PAPER for label in places],
                "symbol": ["square" if label.endswith("MLP") else "circle" for label in places],
                "line": {"color": MUTED, "width": 1},
            },
            customdata=list(places),
            hovertemplate="%{customdata}<extra></extra>",
            showlegend=False,
            name="nodes",
        )
    )
