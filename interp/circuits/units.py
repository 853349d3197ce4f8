"""What a circuit is made of, nodes or edges, and their scores as a table.

A table of scores of nodes has the columns ``node`` (the label), ``layer``, ``head`` (missing for an MLP)
and ``score``; one of edges ``edge`` (the label), ``source``, ``destination``, ``input`` and ``score``.
There is one row per unit. A circuit is a row of booleans over the model's units, in the order of
:func:`circuit_units`, true for those that are kept.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence
from typing import TypeAlias, cast, get_args

import numpy as np
import numpy.typing as npt
import pandas as pd
from transformer_lens.model_bridge import TransformerBridge

from interp.circuits.edges import CircuitEdge, EdgeGraph, circuit_edges
from interp.circuits.names import UnitKind
from interp.circuits.nodes import CircuitNode, circuit_nodes, node_of_row
from interp.errors import InterpError
from interp.stats import FloatArray, IntArray, require_columns

CircuitMasks = npt.NDArray[np.bool_]
"""Circuits ``[circuit, unit]``, or one ``[unit]``: true for the nodes or edges that are kept."""

CircuitUnit: TypeAlias = CircuitNode | CircuitEdge

_EDGE = ["source", "destination", "input"]


def circuit_units(model: TransformerBridge, unit: UnitKind) -> tuple[CircuitUnit, ...]:
    """All nodes or all edges of a model.

    Raises:
        InterpError: another word than ``"nodes"`` or ``"edges"``.
    """
    require_unit(unit)
    return circuit_nodes(model) if unit == "nodes" else circuit_edges(model)


def n_units(model: TransformerBridge, unit: UnitKind) -> int:
    """How many nodes or edges a model has.

    Raises:
        InterpError: another word than ``"nodes"`` or ``"edges"``.
    """
    require_unit(unit)
    return len(circuit_nodes(model)) if unit == "nodes" else EdgeGraph.of(model).n_edges


def require_unit(unit: str) -> None:
    """Refuse another word than those of :data:`interp.circuits.UnitKind`."""
    if unit not in get_args(UnitKind):
        raise InterpError(f"unit is {unit!r}; known: {', '.join(get_args(UnitKind))}")


def unit_of(units: Sequence[CircuitUnit]) -> UnitKind:
    """What some units are; nodes where there are none."""
    return "edges" if units and isinstance(units[0], CircuitEdge) else "nodes"


def unit_of_table(scores: pd.DataFrame) -> UnitKind:
    """What a table scores: ``edges`` where it has a column ``source``, else ``nodes``."""
    return "edges" if "source" in scores.columns else "nodes"


def unit_columns(units: Sequence[CircuitUnit]) -> dict[str, object]:
    """The columns that name units: their label, and what it is made of."""
    edges = [unit for unit in units if isinstance(unit, CircuitEdge)]
    if edges:
        parts = {name: [getattr(edge, name) for edge in edges] for name in _EDGE}
        return {"edge": [edge.label for edge in edges], **parts}
    nodes = cast(Sequence[CircuitNode], units)
    return {
        "node": [node.label for node in nodes],
        "layer": [node.layer for node in nodes],
        "head": pd.array([node.head for node in nodes], dtype="Int64"),
    }


def score_table(units: Sequence[CircuitUnit], scores: npt.ArrayLike) -> pd.DataFrame:
    """The scores of units as a table."""
    return pd.DataFrame({**unit_columns(units), "score": np.asarray(scores, dtype=np.float64)})


def units_of_table(scores: pd.DataFrame) -> tuple[CircuitUnit, ...]:
    """The nodes or edges of a table of scores, in its order.

    Raises:
        InterpError: a missing column, or a unit that stands there twice.
    """
    kind = unit_of_table(scores)
    names = _EDGE if kind == "edges" else ["layer", "head"]
    require_columns(scores, (*names, "score"), "the table of scores")
    units: tuple[CircuitUnit, ...]
    if kind == "edges":
        units = tuple(CircuitEdge(*row) for row in scores[names].itertuples(index=False, name=None))
    else:
        units = tuple(node_of_row(row) for row in scores[names].to_dict("records"))
    most = Counter(units).most_common(1)
    if most and most[0][1] > 1:
        raise InterpError(
            f"the table of scores has {most[0][0]} twice: give every {kind[:-1]} one score"
        )
    return units


def scores_of(scores: pd.DataFrame, units: Sequence[CircuitUnit]) -> FloatArray:
    """The score of every unit ``[unit]``.

    Raises:
        InterpError: a unit without a score, or one that the model does not have.
    """
    kind = unit_of_table(scores)
    found = dict(zip(units_of_table(scores), scores["score"].astype(float), strict=True))
    missing = [unit for unit in units if not np.isfinite(found.get(unit, np.nan))]
    if missing:
        every = "every edge" if kind == "edges" else "every head and every MLP"
        raise InterpError(
            f"the table of scores has no number for {missing[0]}, and lacks {len(missing)} of "
            f"{len(units)} {kind}: score {every}"
        )
    unknown = found.keys() - set(units)
    if unknown:
        raise InterpError(
            f"the table of scores has {min(map(str, unknown))}, which is no {kind[:-1]} here"
        )
    return np.array([found[unit] for unit in units])


def rank_units(scores: FloatArray, *, absolute: bool = True) -> IntArray:
    """Indices of units by score, or by its size (``absolute``), the largest first; ties in order."""
    return np.argsort(-(np.abs(scores) if absolute else scores), kind="stable")


def top_units(scores: pd.DataFrame, n: int, *, absolute: bool = True) -> tuple[CircuitUnit, ...]:
    """The ``n`` nodes or edges of the largest score (``absolute``: in size), largest first.

    Raises:
        InterpError: fewer of them than that.
    """
    units = units_of_table(scores)
    if not 0 <= n <= len(units):
        kind = unit_of_table(scores)
        raise InterpError(f"a circuit of {n} {kind}: the table of scores has {len(units)}")
    order = rank_units(scores["score"].to_numpy(float), absolute=absolute)
    return tuple(units[k] for k in order[:n])


def nested_circuits(order: IntArray, sizes: Sequence[int]) -> CircuitMasks:
    """The first ``n`` units of an order, for every size: ``[size, unit]``."""
    place = np.empty(len(order), dtype=np.intp)
    place[order] = np.arange(len(order))
    return place[None] < np.asarray(sizes, dtype=np.intp)[:, None]


def mask_of(circuit: Collection[CircuitUnit], units: Sequence[CircuitUnit]) -> CircuitMasks:
    """A circuit given by its nodes or edges, as a row over all of them.

    Raises:
        InterpError: a unit that the model does not have.
    """
    known, wanted = set(units), set(circuit)
    unknown = [unit for unit in circuit if unit not in known]
    if unknown:
        kind = "edge" if isinstance(unknown[0], CircuitEdge) else "node"
        raise InterpError(
            f"the model has no {kind} {unknown[0]}; its {kind}s are {units[0]} to {units[-1]}"
        )
    return np.array([unit in wanted for unit in units])
