"""Figures of circuits draw the numbers they were given."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from interp.circuits import (
    CircuitEdge,
    CircuitNode,
    CircuitRuns,
    FaithfulnessCurve,
    RandomCircuits,
)
from interp.circuits.units import score_table
from interp.errors import InterpError
from interp.viz import circuit_graph, faithfulness

NODES = [CircuitNode(layer, head) for layer in range(3) for head in (0, 1, None)]


def make_curve(effect: float = 1.0) -> FaithfulnessCurve:
    draw, names = np.random.default_rng(0), tuple("abcdef")
    empty = draw.normal(size=6)
    full = empty + effect + 0.1 * draw.normal(size=6)
    values = np.stack([empty + share * (full - empty) for share in (0, 0.5, 1.1, 1)])
    runs = CircuitRuns(values, full, empty, names, names, ("",) * 6)
    return FaithfulnessCurve(tuple(NODES), (0, 1, 3, 9), runs)


def by_name(figure: Any, name: str) -> list[Any]:
    return [trace for trace in figure.data if trace.name == name]


def test_the_curve_stands_beside_random_circuits_under_its_areas() -> None:
    random = RandomCircuits((0, 1, 3, 9), 9, np.array([[0, 0.1, 0.2, 1], [0, 0.3, 0.2, 1]]))
    curve = make_curve()
    figure = faithfulness(curve, random)
    own = by_name(figure, "circuit")[0]
    assert list(own.x) == [1, 3, 9]
    np.testing.assert_allclose(own.y, [0.5, 1.1, 1])
    np.testing.assert_allclose(by_name(figure, "random circuits")[0].y, [0.2, 0.2, 1])
    assert len(by_name(figure, "a draw")) == 2
    assert len(by_name(figure, "circuit, 95 %")) == 1
    assert f"CPR {curve.cpr:.2f}, CMD {curve.cmd:.2f}" in figure.layout.title.text
    assert "2 draws" in figure.layout.title.subtitle.text
    assert figure.layout.yaxis.range[1] > 1.1
    assert figure.layout.shapes[0].y0 == 1


def test_a_curve_of_noise_has_no_band_and_random_ones_are_optional() -> None:
    figure = faithfulness(make_curve(effect=0.0))
    assert [trace.name for trace in figure.data] == ["circuit"]


def test_some_sizes_alone_have_no_areas() -> None:
    curve = make_curve()
    part = FaithfulnessCurve(curve.ranking, (1, 3), curve.runs.of([1, 2]))
    assert faithfulness(part).layout.title.text == "Faithfulness"


def test_the_graph_fills_the_nodes_of_the_circuit() -> None:
    scores = score_table(NODES, np.linspace(-2.0, 1.0, 9))
    circuit = [CircuitNode(2, 1), CircuitNode(0)]
    figure = circuit_graph(scores, circuit)
    kept = by_name(figure, "kept")[0]
    assert sorted(zip(kept.x, kept.y, strict=True)) == [(1, 2), (2, 0)]
    assert (kept.marker.cmin, kept.marker.cmax) == (-2.0, 2.0)
    assert list(kept.marker.symbol) == ["square", "circle"]
    assert len(by_name(figure, "outside")[0].x) == 7
    assert "2 of 9 nodes: 1 head and 1 MLP" in figure.layout.title.subtitle.text
    assert figure.layout.xaxis.ticktext[-1] == "MLP"
    with pytest.raises(InterpError, match="no row for L9 MLP"):
        circuit_graph(scores, [CircuitNode(9)])


def test_edges_are_lines_between_their_ends_coloured_by_sign() -> None:
    edges = [CircuitEdge("embed", f"L0H{k}", "q") for k in range(2)]
    edges += [CircuitEdge("L0H1", "L0 MLP", "mlp"), CircuitEdge("L0 MLP", "logits", "logits")]
    scores = score_table(edges, [1.0, -2.0, 0.5, 3.0])
    figure = circuit_graph(scores, edges[1:])
    raised, lowered = (
        by_name(figure, "raises the metric")[0],
        by_name(figure, "lowers the metric")[0],
    )
    assert len(raised.x) == 2 * 3
    assert lowered.text[0] == "embed -> L0H1 (q): -2.0000"
    assert list(lowered.y[:1]) == [-1]
    assert "3 of 4 edges" in figure.layout.title.subtitle.text
    nodes = by_name(figure, "nodes")[0]
    sizes = dict(zip(nodes.customdata, nodes.marker.size, strict=True))
    assert sizes["L0H0"] < sizes["L0H1"] == sizes["logits"]
    with pytest.raises(InterpError, match="no row for L0H1 -> logits"):
        circuit_graph(scores, [CircuitEdge("L0H1", "logits", "logits")])


def test_a_curve_of_edges_says_so() -> None:
    curve = make_curve()
    edges = tuple(CircuitEdge("embed", f"L{k} MLP", "mlp") for k in range(9))
    figure = faithfulness(FaithfulnessCurve(edges, curve.sizes, curve.runs))
    assert "edges kept, of 9" in figure.layout.xaxis.title.text
