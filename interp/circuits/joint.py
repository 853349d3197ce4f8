"""Nodes or edges taken out one by one and all together: do they back each other up?

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
from interp.circuits.runs import CircuitRuns, run_circuits
from interp.circuits.units import CircuitMasks, CircuitUnit, circuit_units, mask_of, unit_of
from interp.display import short_repr
from interp.errors import InterpError
from interp.prompts import PromptPair
from interp.stats import FloatArray, IntArray, Interval, interval_columns, random_wordings
from interp.stats.means import cluster_mean


@dataclass(frozen=True, eq=False)
class JointAblation:
    """What the metric of the source prompt loses without some nodes or edges, in the metric's unit.

    ``single`` ``[unit, pair]``: without one of them; ``joint`` ``[pair]``: without any. Positive: they
    raise the metric.
    """

    units: tuple[CircuitUnit, ...]
    single: FloatArray
    joint: FloatArray
    clusters: tuple[str, ...]
    wordings: tuple[str, ...]
    metric: str
    ablation: Ablation

    __repr__ = short_repr

    @classmethod
    def of_runs(cls, units: Sequence[CircuitUnit], runs: CircuitRuns) -> JointAblation:
        """The losses, of the runs of :func:`joint_masks` of these units."""
        lost = runs.full - runs.values
        return cls(
            tuple(units),
            lost[:-1],
            lost[-1],
            runs.clusters,
            runs.wordings,
            runs.metric,
            runs.ablation,
        )

    @property
    def excess(self) -> Interval:
        """The joint loss minus the sum of the single ones. 0 where they act independently."""
        return self._mean(self.joint - self.single.sum(0))

    @property
    def backed_up(self) -> bool:
        """Whether they do more together than one by one, in the joint loss's own direction."""
        sign = np.sign(self.joint.mean())
        excess = self.excess
        return bool(min(sign * excess.low, sign * excess.high) > 0)

    def to_dataframe(self) -> pd.DataFrame:
        """A row per unit, then the sum of these, the joint loss, and the excess, with intervals."""
        losses = {unit.label: values for unit, values in zip(self.units, self.single, strict=True)}
        losses |= {"sum": self.single.sum(0), "joint": self.joint}
        rows = [{"without": name} | interval_columns(self._mean(v)) for name, v in losses.items()]
        return pd.DataFrame([*rows, {"without": "joint - sum"} | interval_columns(self.excess)])

    def _mean(self, values: FloatArray) -> Interval:
        return cluster_mean(values, self.clusters, wordings=random_wordings(self.wordings))


def joint_masks(taken: IntArray, n: int) -> CircuitMasks:
    """All of a model's ``n`` units but one of those at ``taken``, one by one; then all but these."""
    masks = np.ones((len(taken) + 1, n), dtype=bool)
    masks[np.arange(len(taken)), taken] = False
    masks[-1, taken] = False
    return masks


def joint_ablation(
    model: TransformerBridge,
    pairs: PromptPair | Sequence[PromptPair],
    units: Collection[CircuitUnit],
    **options: Any,
) -> JointAblation:
    """Ablate every node or edge alone and all together in the source prompt.

    Args:
        model: a bridge in evaluation mode.
        pairs: source (the instructed prompt) and destination (its placebo).
        units: at least two nodes, or two edges.
        options: ``ablation``, ``means``, ``metric``, ``batch_size``, ``progress`` of
            :func:`interp.circuits.run_circuits`.

    Raises:
        InterpError: fewer than two, one that the model does not have, and what
            :func:`interp.circuits.run_circuits` refuses.

    Example:
        >>> joint = joint_ablation(model, pairs, [CircuitNode(9, 3), CircuitNode(10)])  # doctest: +SKIP
        >>> joint.backed_up                                                             # doctest: +SKIP
    """
    kind = unit_of(list(units))
    every = circuit_units(model, kind)
    places = np.flatnonzero(mask_of(units, every))
    if len(places) < 2:
        raise InterpError(f"joint_ablation: give at least two {kind}, or nothing is compared")
    runs = run_circuits(model, pairs, joint_masks(places, len(every)), unit=kind, **options)
    return JointAblation.of_runs([every[k] for k in places], runs)


def faithfulness_by_ablation(
    model: TransformerBridge,
    pairs: PromptPair | Sequence[PromptPair],
    circuit: Collection[CircuitUnit],
    **options: Any,
) -> pd.DataFrame:
    """Faithfulness of one circuit with all else resampled, at its mean, and at zero.

    A circuit's faithfulness depends on what stands in for the rest (arXiv 2407.08734): one that holds
    with a single ablation value holds for that value.

    Args:
        model, pairs: see :func:`joint_ablation`.
        circuit: its nodes, or its edges.
        options: ``metric``, ``batch_size``, ``progress`` of :func:`interp.circuits.run_circuits`.

    Returns:
        One row per ``ablation`` with the interval of the faithfulness; NaN where the full model does not
        differ from the empty circuit.

    Raises:
        InterpError: a unit that the model does not have, and what :func:`run_circuits` refuses.
    """
    kind = unit_of(list(circuit))
    mask = mask_of(circuit, circuit_units(model, kind))[None]
    rows = []
    for ablation in get_args(Ablation):
        found = run_circuits(model, pairs, mask, unit=kind, ablation=ablation, **options)
        rows.append({"ablation": ablation} | interval_columns(found.interval().at(0)))
    return pd.DataFrame(rows)
