"""A circuit as GraphML, for Gephi, yEd, Cytoscape or networkx."""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from pathlib import Path
from xml.etree import ElementTree

import pandas as pd

from interp.circuits.edges import EMBEDDING, LOGITS, CircuitEdge
from interp.circuits.nodes import CircuitNode
from interp.circuits.units import CircuitUnit, unit_of_table, units_of_table
from interp.errors import InterpError

_SPACE = "http://graphml.graphdrawing.org/xmlns"
_KEYS = {
    "label": "string", "kind": "string", "layer": "int", "head": "int", "score": "double",
    "kept": "boolean",
}  # fmt: skip
_EDGE_KEYS = {"input": "string", "edge_score": "double"}
_LABEL = re.compile(r"L(?P<layer>\d+)(?:H(?P<head>\d+)|KV(?P<group>\d+)| MLP)")


def graphml_of(
    scores: pd.DataFrame, circuit: Collection[CircuitUnit], *, parallel: bool = False
) -> str:
    """All nodes of a table of scores, and the connections that a circuit keeps, as GraphML.

    Nodes have ``label``, ``kind`` (head, mlp, embed, logits), ``layer``, ``head``, ``score`` and
    ``kept``. A circuit of nodes keeps every connection between two of them, so that there is an edge
    from each kept node, and the embedding, to each kept node behind it, and the logits. Edges carry no
    score.

    Of scores of edges the edges are those that are kept, with ``input`` (q, k, v, mlp, logits) and
    ``edge_score``; a node is kept where one of them ends. Keys and values that a group of heads shares
    are a node of their own (kind ``key_value``), with an edge to each head of the group.

    Args:
        scores: a row per node or per edge, see :mod:`interp.circuits.units`.
        circuit: the nodes or edges that are kept.
        parallel: the MLP reads the same stream as the layer's heads
            (``model.cfg.parallel_attn_mlp``), so that no edge leads from these to it.

    Raises:
        InterpError: a node or an edge of the circuit without a score.
    """
    units = units_of_table(scores)
    missing = set(circuit) - set(units)
    if missing:
        first = next(unit for unit in circuit if unit in missing)
        raise InterpError(f"the table of scores has no row for {first} of the circuit")
    root = ElementTree.Element("graphml", {"xmlns": _SPACE})
    kinds = {"node": _KEYS, "edge": _EDGE_KEYS if unit_of_table(scores) == "edges" else {}}
    for of, keys in kinds.items():
        for name, kind in keys.items():
            facts = {"id": name, "for": of, "attr.name": name, "attr.type": kind}
            ElementTree.SubElement(root, "key", facts)
    graph = ElementTree.SubElement(root, "graph", {"id": "circuit", "edgedefault": "directed"})
    by_unit = dict(zip(units, scores["score"].astype(float), strict=True))
    if unit_of_table(scores) == "edges":
        _add_edge_circuit(graph, by_unit, [e for e in circuit if isinstance(e, CircuitEdge)])
    else:
        _add_node_circuit(graph, by_unit, circuit, parallel)
    ElementTree.indent(root)
    return ElementTree.tostring(root, encoding="unicode")


def _add_node_circuit(
    graph: ElementTree.Element,
    scores: dict[CircuitUnit, float],
    circuit: Collection[CircuitUnit],
    parallel: bool,
) -> None:
    nodes = [node for node in scores if isinstance(node, CircuitNode)]
    _add_node(graph, EMBEDDING, kept=True)
    for node in nodes:
        _add_node(graph, node.label, score=scores[node], kept=node in circuit)
    _add_node(graph, LOGITS, kept=True)
    for source, destination in _connections([node for node in nodes if node in circuit], parallel):
        ElementTree.SubElement(graph, "edge", {"source": source, "target": destination})


def _add_edge_circuit(
    graph: ElementTree.Element,
    scores: dict[CircuitUnit, float],
    circuit: Sequence[CircuitEdge],
) -> None:
    edges = [edge for edge in scores if isinstance(edge, CircuitEdge)]
    # in the order of the forward: the embedding, every layer's heads, groups and MLP, the logits
    labels = dict.fromkeys(
        [EMBEDDING, *(edge.destination for edge in edges if edge.input != "logits"), LOGITS]
    )
    kept = {end for edge in circuit for end in (edge.source, edge.destination)}
    groups = [(group, head) for group, head in _group_heads(labels) if group in kept]
    for label in labels:
        _add_node(graph, label, kept=label in kept)
    for edge in circuit:
        ends = {"source": edge.source, "target": edge.destination}
        element = ElementTree.SubElement(graph, "edge", ends)
        _add_facts(element, {"input": edge.input, "edge_score": scores[edge]})
    for group, head in groups:
        ElementTree.SubElement(graph, "edge", {"source": group, "target": head})


def _group_heads(labels: Collection[str]) -> list[tuple[str, str]]:
    """Every group of key and value heads with each of its query heads."""
    found: dict[tuple[str, str], list[str]] = {}
    for label in labels:
        place = _LABEL.fullmatch(label)
        if place is not None and " " not in label:
            found.setdefault((place["layer"], "head" if place["head"] else "group"), []).append(
                label
            )
    pairs = []
    for (layer, kind), groups in found.items():
        if kind == "group":
            heads = found[layer, "head"]
            size = len(heads) // len(groups)
            pairs += [(groups[k // size], head) for k, head in enumerate(heads)]
    return pairs


def write_graphml(
    path: Path | str,
    scores: pd.DataFrame,
    circuit: Collection[CircuitUnit],
    *,
    parallel: bool = False,
) -> Path:
    """Write :func:`graphml_of` to a file.

    Raises:
        InterpError: what :func:`graphml_of` refuses, or a file that cannot be written.
    """
    path, text = Path(path), graphml_of(scores, circuit, parallel=parallel)
    try:
        path.write_text(f"{text}\n", encoding="utf-8")
    except OSError as error:
        raise InterpError(f"{path}: cannot be written ({error.strerror})") from error
    return path


def _add_node(graph: ElementTree.Element, label: str, **facts: object) -> None:
    element = ElementTree.SubElement(graph, "node", {"id": label})
    place = _LABEL.fullmatch(label)
    where: dict[str, object] = {"label": label, "kind": label}
    if place is not None:
        kind = "head" if place["head"] else "key_value" if place["group"] else "mlp"
        where |= {"kind": kind, "layer": place["layer"], "head": place["head"]}
    _add_facts(element, where | facts)


def _add_facts(element: ElementTree.Element, facts: dict[str, object]) -> None:
    for name, value in facts.items():
        if value is not None:
            data = ElementTree.SubElement(element, "data", {"key": name})
            data.text = str(value).lower() if isinstance(value, bool) else str(value)


def _connections(kept: list[CircuitNode], parallel: bool) -> list[tuple[str, str]]:
    def reads(later: CircuitNode, earlier: CircuitNode) -> bool:
        if later.layer != earlier.layer:
            return later.layer > earlier.layer
        return not parallel and later.head is None and earlier.head is not None

    return [
        *(("embed", node.label) for node in kept),
        *((a.label, b.label) for b in kept for a in kept if reads(b, a)),
        *((node.label, "logits") for node in kept),
        ("embed", "logits"),
    ]
