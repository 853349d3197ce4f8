"""A circuit as GraphML, for Gephi, yEd, Cytoscape or networkx."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from xml.etree import ElementTree

import pandas as pd

from interp.circuits.nodes import CircuitNode, node_of_row, units_of_table
from interp.errors import InterpError

_SPACE = "http://graphml.graphdrawing.org/xmlns"
_KEYS = {
    "label": "string", "kind": "string", "layer": "int", "head": "int", "score": "double",
    "kept": "boolean",
}  # fmt: skip


def graphml_of(
    scores: pd.DataFrame, circuit: Collection[CircuitNode], *, parallel: bool = False
) -> str:
    """All nodes of a table of scores, and the connections that a circuit keeps, as GraphML.

    Nodes have ``label``, ``kind`` (head, mlp, embed, logits), ``layer``, ``head``, ``score`` and
    ``kept``. A circuit of nodes keeps every connection between two of them, so that there is an edge
    from each kept node, and the embedding, to each kept node behind it, and the logits. Edges carry no
    score.

    Args:
        scores: a row per node, with ``layer``, ``head`` and ``score``.
        circuit: the nodes that are kept.
        parallel: the MLP reads the same stream as the layer's heads
            (``model.cfg.parallel_attn_mlp``), so that no edge leads from these to it.

    Raises:
        InterpError: a node of the circuit without a score.
    """
    nodes = units_of_table(scores)
    missing = [node for node in circuit if node not in nodes]
    if missing:
        raise InterpError(f"the table of scores has no row for {missing[0]} of the circuit")
    root = ElementTree.Element("graphml", {"xmlns": _SPACE})
    for name, kind in _KEYS.items():
        ElementTree.SubElement(
            root, "key", {"id": name, "for": "node", "attr.name": name, "attr.type": kind}
        )
    graph = ElementTree.SubElement(root, "graph", {"id": "circuit", "edgedefault": "directed"})
    _add_node(graph, "embed", kind="embed", kept=True)
    for row in scores.to_dict("records"):
        node = node_of_row(row)
        _add_node(
            graph,
            node.label,
            kind="mlp" if node.head is None else "head",
            layer=node.layer,
            head=node.head,
            score=float(row["score"]),
            kept=node in circuit,
        )
    _add_node(graph, "logits", kind="logits", kept=True)
    for source, destination in _connections([node for node in nodes if node in circuit], parallel):
        ElementTree.SubElement(graph, "edge", {"source": source, "target": destination})
    ElementTree.indent(root)
    return ElementTree.tostring(root, encoding="unicode")


def write_graphml(
    path: Path | str,
    scores: pd.DataFrame,
    circuit: Collection[CircuitNode],
    *,
    parallel: bool = False,
) -> Path:
    """Write :func:`graphml_of` to a file.

    Raises:
        InterpError: a node of the circuit without a score, or a file that cannot be written.
    """
    path, text = Path(path), graphml_of(scores, circuit, parallel=parallel)
    try:
        path.write_text(f"{text}\n", encoding="utf-8")
    except OSError as error:
        raise InterpError(f"{path}: cannot be written ({error.strerror})") from error
    return path


def _add_node(graph: ElementTree.Element, label: str, **facts: object) -> None:
    element = ElementTree.SubElement(graph, "node", {"id": label})
    for name, value in {"label": label, **facts}.items():
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
