"""How well scores tell the true nodes or edges of a known model from the others."""

from __future__ import annotations

from collections.abc import Iterable, Set
from typing import Protocol, runtime_checkable

import numpy as np
import pandas as pd
from sklearn.metrics import roc_auc_score

from interp.circuits.edges import CircuitEdge
from interp.circuits.nodes import CircuitNode
from interp.circuits.units import CircuitUnit, units_of_table
from interp.errors import InterpError


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
    true = {CircuitNode(node.layer, node.head) for node in true_nodes}
    return _auroc(scores, true, "node", absolute)


def edge_auroc(
    scores: pd.DataFrame, true_edges: Iterable[_Connection], *, absolute: bool = True
) -> float:
    """The same of edges.

    Args:
        scores: a row per edge, with ``source``, ``destination``, ``input`` (``q``, ``k``, ``v``,
            ``mlp``, ``logits``) and ``score``; every edge that is none of the true ones is false.
        true_edges: anything with these three names: the used ones of ``truth.edges`` of
            :mod:`interp.known`. An edge that carries several variables counts once.
        absolute: rank by the size of the score.

    Raises:
        InterpError: as :func:`node_auroc`.
    """
    true = {CircuitEdge(edge.source, edge.destination, edge.input) for edge in true_edges}
    return _auroc(scores, true, "edge", absolute)


def _auroc(scores: pd.DataFrame, true: Set[CircuitUnit], what: str, absolute: bool) -> float:
    units = units_of_table(scores)
    unknown = true - set(units)
    if unknown:
        raise InterpError(
            f"the table of scores has no row for the true {what} {min(map(str, unknown))}"
        )
    is_true = [unit in true for unit in units]
    values = np.asarray(scores["score"], dtype=np.float64)
    if np.isnan(values).any():
        raise InterpError(f"{int(np.isnan(values).sum())} of {len(values)} {what}s have no score")
    if not 0 < sum(is_true) < len(is_true):
        raise InterpError(
            f"{sum(is_true)} of {len(is_true)} {what}s are true: an AUROC needs true and false ones"
        )
    return float(roc_auc_score(is_true, np.abs(values) if absolute else values))
