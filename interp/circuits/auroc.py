"""How well scores tell the true nodes or edges of a known model from the others."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt
import pandas as pd
from sklearn.metrics import roc_auc_score

from interp.circuits.nodes import CircuitNode, nodes_of_table
from interp.errors import InterpError
from interp.stats import require_columns

_EDGE = ("source", "destination", "input")


@runtime_checkable
class _Place(Protocol):
    @property
    def layer(self) -> int: ...
    @property
    def head(self) -> int | None: ...


@runtime_checkable
class _Connection(Protocol):
    @property
    def source(self) -> str: ...
    @property
    def destination(self) -> str: ...
    @property
    def input(self) -> str: ...


def node_auroc(
    scores: pd.DataFrame, true_nodes: Iterable[_Place], *, absolute: bool = True
) -> float:
    """Area under the ROC curve of node scores against the true nodes: 1 finds them all, .5 is chance.

    Args:
        scores: a row per node, with ``layer``, ``head`` (missing for an MLP) and ``score``.
        true_nodes: anything with ``layer`` and ``head``: :class:`CircuitNode`, or
            ``truth.used_nodes`` of :mod:`interp.known`.
        absolute: rank by the size of the score.

    Raises:
        InterpError: a true node that is not in the table, all nodes or none true (no area is defined),
            or a score that is missing.
    """
    nodes = nodes_of_table(scores)
    true = {CircuitNode(node.layer, node.head) for node in true_nodes}
    unknown = true - set(nodes)
    if unknown:
        raise InterpError(
            f"the table of scores has no row for the true node {min(map(str, unknown))}"
        )
    return _auroc([node in true for node in nodes], scores["score"], "node", absolute)


def edge_auroc(
    scores: pd.DataFrame, true_edges: Iterable[_Connection], *, absolute: bool = True
) -> float:
    """The same of edges.

    Args:
        scores: a row per edge, with ``source``, ``destination``, ``input`` (``q``, ``k``, ``v``,
            ``mlp``, ``logits``) and ``score``; every edge that is none of the true ones is false.
        true_edges: anything with these three names: the used ones of ``truth.edges`` of
            :mod:`interp.known`, whose labels the table has to use. An edge that carries several
            variables counts once.
        absolute: rank by the size of the score.

    Raises:
        InterpError: as :func:`node_auroc`.
    """
    require_columns(scores, (*_EDGE, "score"), "the table of edge scores")
    edges = list(scores[list(_EDGE)].itertuples(index=False, name=None))
    if len(set(edges)) < len(edges):
        raise InterpError("the table of edge scores has an edge twice: give every edge one score")
    true = {(edge.source, edge.destination, edge.input) for edge in true_edges}
    unknown = sorted(true - set(edges))
    if unknown:
        raise InterpError(
            f"the table of edge scores has no row for the true edge {' -> '.join(unknown[0][:2])} "
            f"({unknown[0][2]})"
        )
    return _auroc([edge in true for edge in edges], scores["score"], "edge", absolute)


def _auroc(true: Sequence[bool], scores: npt.ArrayLike, what: str, absolute: bool) -> float:
    values = np.asarray(scores, dtype=np.float64)
    if np.isnan(values).any():
        raise InterpError(f"{int(np.isnan(values).sum())} of {len(values)} {what}s have no score")
    if not 0 < sum(true) < len(true):
        raise InterpError(
            f"{sum(true)} of {len(true)} {what}s are true: an AUROC needs true and false ones"
        )
    return float(roc_auc_score(list(true), np.abs(values) if absolute else values))
