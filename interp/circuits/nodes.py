"""The nodes of a circuit: every attention head and every MLP of a model, and their scores as a table.

A table of scores has the columns ``node`` (the label), ``layer``, ``head`` (missing for an MLP) and
``score``, one row per node. A circuit is a row of booleans over the model's nodes, in the order of
:func:`circuit_nodes`, true for the nodes that are kept.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from transformer_lens.model_bridge import TransformerBridge

from interp.errors import InterpError
from interp.stats import FloatArray, IntArray, require_columns

CircuitMasks = npt.NDArray[np.bool_]
"""Circuits ``[circuit, node]``, or one ``[node]``: true for the nodes that are kept."""


@dataclass(frozen=True)
class CircuitNode:
    """An attention head, or with ``head=None`` the MLP of a layer."""

    layer: int
    head: int | None = None

    @property
    def label(self) -> str:
        """``L3H2`` or ``L3 MLP``."""
        return f"L{self.layer} MLP" if self.head is None else f"L{self.layer}H{self.head}"

    def __str__(self) -> str:
        return self.label


def circuit_nodes(model: TransformerBridge) -> tuple[CircuitNode, ...]:
    """All heads and MLPs of a model: by layer, the heads before the MLP."""
    heads = [*range(int(model.cfg.n_heads)), None]
    return tuple(CircuitNode(layer, h) for layer in range(int(model.cfg.n_layers)) for h in heads)


def score_table(nodes: Sequence[CircuitNode], scores: npt.ArrayLike) -> pd.DataFrame:
    """The scores of nodes as a table."""
    return pd.DataFrame(
        {
            "node": [node.label for node in nodes],
            "layer": [node.layer for node in nodes],
            "head": pd.array([node.head for node in nodes], dtype="Int64"),
            "score": np.asarray(scores, dtype=np.float64),
        }
    )


def node_of_row(row: Any) -> CircuitNode:
    """The node that a row (a mapping or a Series) names by ``layer`` and ``head``."""
    return CircuitNode(int(row["layer"]), None if pd.isna(row["head"]) else int(row["head"]))


def nodes_of_table(scores: pd.DataFrame) -> tuple[CircuitNode, ...]:
    """The nodes of a table of scores, in its order.

    Raises:
        InterpError: a missing column, or a node that stands there twice.
    """
    require_columns(scores, ("layer", "head", "score"), "the table of scores")
    nodes = tuple(node_of_row(row) for row in scores[["layer", "head"]].to_dict("records"))
    twice = next((node for node in nodes if nodes.count(node) > 1), None)
    if twice is not None:
        raise InterpError(f"the table of scores has {twice} twice: give every node one score")
    return nodes


def scores_of(scores: pd.DataFrame, nodes: Sequence[CircuitNode]) -> FloatArray:
    """The score of every node ``[node]``.

    Raises:
        InterpError: a node without a score, or one that the model does not have.
    """
    found = dict(zip(nodes_of_table(scores), scores["score"].astype(float), strict=True))
    missing = [node for node in nodes if not np.isfinite(found.get(node, np.nan))]
    if missing:
        raise InterpError(
            f"the table of scores has no number for {missing[0]}, and lacks {len(missing)} of "
            f"{len(nodes)} nodes: score every head and every MLP"
        )
    unknown = found.keys() - set(nodes)
    if unknown:
        raise InterpError(
            f"the table of scores has {min(map(str, unknown))}, which is no node here"
        )
    return np.array([found[node] for node in nodes])


def rank_nodes(scores: FloatArray, *, absolute: bool = True) -> IntArray:
    """Indices of nodes by score, or by its size (``absolute``), the largest first; ties in order."""
    return np.argsort(-(np.abs(scores) if absolute else scores), kind="stable")


def top_nodes(scores: pd.DataFrame, n: int, *, absolute: bool = True) -> tuple[CircuitNode, ...]:
    """The ``n`` nodes of the largest score (``absolute``: in size), largest first.

    Raises:
        InterpError: fewer nodes than that.
    """
    nodes = nodes_of_table(scores)
    if not 0 <= n <= len(nodes):
        raise InterpError(f"a circuit of {n} nodes: the table of scores has {len(nodes)}")
    order = rank_nodes(scores["score"].to_numpy(float), absolute=absolute)
    return tuple(nodes[k] for k in order[:n])


def nested_circuits(order: IntArray, sizes: Sequence[int]) -> CircuitMasks:
    """The first ``n`` nodes of an order, for every size: ``[size, node]``."""
    place = np.empty(len(order), dtype=np.intp)
    place[order] = np.arange(len(order))
    return place[None] < np.asarray(sizes, dtype=np.intp)[:, None]


def mask_of(circuit: Collection[CircuitNode], nodes: Sequence[CircuitNode]) -> CircuitMasks:
    """A circuit given by its nodes, as a row over all nodes.

    Raises:
        InterpError: a node that the model does not have.
    """
    unknown = [node for node in circuit if node not in nodes]
    if unknown:
        raise InterpError(
            f"the model has no node {unknown[0]}; its nodes are {nodes[0]} to {nodes[-1]}"
        )
    return np.array([node in circuit for node in nodes])
