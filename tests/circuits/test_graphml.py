from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest

from interp.circuits import CircuitEdge, CircuitNode, write_graphml
from interp.circuits.units import score_table
from interp.errors import InterpError

NODES = [CircuitNode(layer, head) for layer in range(2) for head in (0, 1, None)]
SCORES = score_table(NODES, [0.5, -1.25, 0, 2, 1e-9, 3])
CIRCUIT = [CircuitNode(0, 1), CircuitNode(0), CircuitNode(1)]
GROUPED = [*((f"H{k}", "q") for k in range(4)), *((f"KV{k}", "v") for k in range(2))]
SPACE = {"g": "http://graphml.graphdrawing.org/xmlns"}


def edges_of(path: Path) -> set[tuple[str, str]]:
    graph = ElementTree.parse(path).getroot().find("g:graph", SPACE)
    assert graph is not None
    return {(e.attrib["source"], e.attrib["target"]) for e in graph.findall("g:edge", SPACE)}


def test_it_parses_and_holds_every_node_with_its_facts(tmp_path: Path) -> None:
    path = write_graphml(tmp_path / "c.graphml", SCORES, CIRCUIT)
    root = ElementTree.parse(path).getroot()
    keys = {key.attrib["id"]: key.attrib["attr.type"] for key in root.findall("g:key", SPACE)}
    assert keys["score"] == "double"
    facts = {
        node.attrib["id"]: {d.attrib["key"]: d.text for d in node.findall("g:data", SPACE)}
        for node in root.findall("g:graph/g:node", SPACE)
    }
    assert list(facts) == ["embed", *(node.label for node in NODES), "logits"]
    assert facts["L0H1"] == {
        "label": "L0H1", "kind": "head", "layer": "0", "head": "1", "score": "-1.25", "kept": "true",
    }  # fmt: skip
    assert "head" not in facts["L1 MLP"]
    assert facts["L1H0"]["kept"] == "false"
    assert set().union(*facts.values()) <= set(keys)


def test_edges_are_the_connections_that_the_circuit_keeps(tmp_path: Path) -> None:
    within = {("L0H1", "L1 MLP"), ("L0 MLP", "L1 MLP"), ("L0H1", "L0 MLP")}
    kept = {node.label for node in CIRCUIT}
    outside = {("embed", k) for k in kept} | {(k, "logits") for k in kept} | {("embed", "logits")}
    assert edges_of(write_graphml(tmp_path / "a", SCORES, CIRCUIT)) == within | outside
    parallel = edges_of(write_graphml(tmp_path / "b", SCORES, CIRCUIT, parallel=True))
    assert parallel == (within | outside) - {("L0H1", "L0 MLP")}


def test_a_circuit_of_edges_has_these_and_groups_of_heads(tmp_path: Path) -> None:
    labels = [("embed", f"L0{to}", name) for to, name in GROUPED]
    edges = [CircuitEdge(*label) for label in labels]
    edges += [CircuitEdge("L0H1", "L0 MLP", "mlp"), CircuitEdge("L0 MLP", "logits", "logits")]
    scores = score_table(edges, np.arange(len(edges)) - 2.0)
    path = write_graphml(tmp_path / "c", scores, [edges[2], edges[5], edges[-1]])
    # the group that is kept leads to its two heads
    assert edges_of(path) == {
        ("embed", "L0H2"), ("embed", "L0KV1"), ("L0 MLP", "logits"), ("L0KV1", "L0H2"),
        ("L0KV1", "L0H3"),
    }  # fmt: skip
    root = ElementTree.parse(path).getroot()
    facts = {
        node.attrib["id"]: {d.attrib["key"]: d.text for d in node.findall("g:data", SPACE)}
        for node in root.findall("g:graph/g:node", SPACE)
    }
    assert facts["L0KV1"] == {"label": "L0KV1", "kind": "key_value", "layer": "0", "kept": "true"}
    assert facts["L0H1"]["kept"] == "false"
    first = root.findall("g:graph/g:edge", SPACE)[0]
    found = {d.attrib["key"]: d.text for d in first.findall("g:data", SPACE)}
    assert found == {"input": "q", "edge_score": "0.0"}
    with pytest.raises(InterpError, match=r"no row for embed -> L9H0 \(q\) of the circuit"):
        write_graphml(tmp_path / "d", scores, [CircuitEdge("embed", "L9H0", "q")])


def test_what_cannot_be_written_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InterpError, match="no row for L5 MLP of the circuit"):
        write_graphml(tmp_path / "c", SCORES, [CircuitNode(5)])
    with pytest.raises(InterpError, match="cannot be written"):
        write_graphml(tmp_path / "none" / "c", SCORES, CIRCUIT)
