"""Nodes taken out one by one and all together: do they back each other up?

Where a second route does the work of one that is taken out (self-repair, arXiv 2307.15771), no single
ablation shows what the nodes do, and they do more together than the sum of what each does alone.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any, get_args

import numpy as np
import pandas as pd
from transformer_lens.model_bridge import TransformerBridge

from interp.circuits.names import Ablation
from interp.circuits.nodes import CircuitNode, circuit_nodes
from interp.circuits.runs import run_circuits
from interp.circuits.units import mask_of
from interp.errors import InterpError
from interp.prompts import PromptPair
from interp.stats import FloatArray, Interval, interval_columns
from interp.stats.means import cluster_mean


@dataclass(frozen=True, eq=False)
class JointAblation:
    """What the metric of the source prompt loses without some nodes, in the metric's unit.

    ``single`` ``[node, pair]``: without one of them; ``joint`` ``[pair]``: without any. Positive: the
    nodes raise the metric.
    """

    nodes: tuple[CircuitNode, ...]
    single: FloatArray
    joint: FloatArray
    clusters: tuple[str, ...]
    wordings: tuple[str, ...]
    metric: str
    ablation: Ablation

    @property
    def excess(self) -> Interval:
        """The joint loss minus the sum of the single ones. 0 where nodes act independently."""
        return self._mean(self.joint - self.single.sum(0))

    @property
    def backed_up(self) -> bool:
        """Whether the nodes do more together than one by one, in the joint loss's own direction."""
        sign = np.sign(self.joint.mean())
        excess = self.excess
        return bool(min(sign * excess.low, sign * excess.high) > 0)

    def to_dataframe(self) -> pd.DataFrame:
        """A row per node, then the sum of these, the joint loss, and the excess, with intervals."""
        losses = {node.label: values for node, values in zip(self.nodes, self.single, strict=True)}
        losses |= {"sum": self.single.sum(0), "joint": self.joint}
        rows = [{"without": name} | interval_columns(self._mean(v)) for name, v in losses.items()]
        return pd.DataFrame([*rows, {"without": "joint - sum"} | interval_columns(self.excess)])

    def _mean(self, values: FloatArray) -> Interval:
        wordings = self.wordings if len(set(self.wordings)) > 1 else None
        return cluster_mean(values, self.clusters, wordings=wordings)


def joint_ablation(
    model: TransformerBridge,
    pairs: PromptPair | Sequence[PromptPair],
    nodes: Collection[CircuitNode],
    **options: Any,
) -> JointAblation:
    """Ablate every node alone and all together in the source prompt.

    Args:
        model: a bridge in evaluation mode.
        pairs: source (the instructed prompt) and destination (its placebo).
        nodes: at least two.
        options: ``ablation``, ``means``, ``metric``, ``batch_size``, ``progress`` of
            :func:`interp.circuits.run_circuits`.

    Raises:
        InterpError: fewer than two nodes, one that the model does not have, and what
            :func:`interp.circuits.run_circuits` refuses.

    Example:
        >>> joint = joint_ablation(model, pairs, [CircuitNode(9, 3), CircuitNode(10)])  # doctest: +SKIP
        >>> joint.backed_up                                                             # doctest: +SKIP
    """
    every = circuit_nodes(model)
    taken = mask_of(nodes, every)
    if taken.sum() < 2:
        raise InterpError("joint_ablation: give at least two nodes, or there is nothing to compare")
    places = np.flatnonzero(taken)
    masks = np.ones((len(places) + 1, len(every)), dtype=bool)
    masks[np.arange(len(places)), places] = False
    masks[-1, places] = False
    runs = run_circuits(model, pairs, masks, **options)
    lost = runs.full - runs.values
    return JointAblation(
        nodes=tuple(every[k] for k in places),
        single=lost[:-1],
        joint=lost[-1],
        clusters=runs.clusters,
        wordings=runs.wordings,
        metric=runs.metric,
        ablation=runs.ablation,
    )


def faithfulness_by_ablation(
    model: TransformerBridge,
    pairs: PromptPair | Sequence[PromptPair],
    circuit: Collection[CircuitNode],
    **options: Any,
) -> pd.DataFrame:
    """Faithfulness of one circuit with the other nodes resampled, at their mean, and at zero.

    A circuit's faithfulness depends on what stands in for the rest (arXiv 2407.08734): one that holds
    with a single ablation value holds for that value.

    Args:
        model, pairs: see :func:`joint_ablation`.
        circuit: its nodes.
        options: ``metric``, ``batch_size``, ``progress`` of :func:`interp.circuits.run_circuits`.

    Returns:
        One row per ``ablation`` with the interval of the faithfulness; NaN where the full model does not
        differ from the empty circuit.

    Raises:
        InterpError: a node that the model does not have, and what :func:`run_circuits` refuses.
    """
    mask = mask_of(circuit, circuit_nodes(model))[None]
    rows = []
    for ablation in get_args(Ablation):
        found = run_circuits(model, pairs, mask, ablation=ablation, **options)
        rows.append({"ablation": ablation} | interval_columns(found.interval().at(0)))
    return pd.DataFrame(rows)
