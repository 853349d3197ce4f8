"""Random circuits: what any nodes in such number would do."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from transformer_lens.model_bridge import TransformerBridge

from interp.circuits.ablation import NodeOutputs
from interp.circuits.areas import cmd, cpr
from interp.circuits.curve import require_sizes
from interp.circuits.names import Ablation
from interp.circuits.nodes import CircuitMasks, circuit_nodes, nested_circuits
from interp.circuits.runs import BATCH_SIZE, CircuitRuns, run_circuits
from interp.errors import InterpError
from interp.patching.metrics import Metric
from interp.prompts import PromptPair
from interp.stats import FloatArray, Interval, cluster_mean, interval_columns, rng


@dataclass(frozen=True, eq=False)
class RandomCircuits:
    """Curves of random rankings: ``faithfulness [draw, size]``, of the means over pairs.

    A draw is one order of all nodes; its circuits are the first nodes of it.
    """

    sizes: tuple[int, ...]
    n_nodes: int
    faithfulness: FloatArray

    @classmethod
    def of_runs(cls, sizes: Sequence[int], n_nodes: int, runs: CircuitRuns) -> RandomCircuits:
        """Of the runs of :func:`random_masks`."""
        return cls(tuple(sizes), n_nodes, runs.faithfulness().reshape(-1, len(sizes)))

    @property
    def shares(self) -> FloatArray:
        """The share of all nodes that circuits of each size keep, ``[size]``."""
        return np.asarray(self.sizes) / self.n_nodes

    def mean(self) -> Interval:
        """Mean faithfulness per size, with a t interval over draws (of these pairs)."""
        return self._over_draws(self.faithfulness.T)

    def cpr(self) -> Interval:
        """Mean CPR of a random ranking, with a t interval over draws."""
        return self._over_draws(np.array([cpr(self.shares, f) for f in self.faithfulness]))

    def cmd(self) -> Interval:
        """Mean CMD of a random ranking, with a t interval over draws."""
        return self._over_draws(np.array([cmd(self.shares, f) for f in self.faithfulness]))

    def _over_draws(self, values: FloatArray) -> Interval:
        return cluster_mean(values, range(values.shape[-1]))

    def to_dataframe(self) -> pd.DataFrame:
        """One row per size: the mean's interval, and ``lowest`` and ``highest`` of the draws."""
        return pd.DataFrame(
            {
                "size": self.sizes,
                "share_of_nodes": self.shares,
                "draws": len(self.faithfulness),
                **interval_columns(self.mean()),
                "lowest": self.faithfulness.min(0),
                "highest": self.faithfulness.max(0),
            }
        )


def random_masks(sizes: Sequence[int], n_nodes: int, *, draws: int, seed: int) -> CircuitMasks:
    """The circuits of ``draws`` random rankings, ``[draw * size, node]``, those of a draw together.

    Raises:
        InterpError: fewer than two draws.
    """
    if draws < 2:
        raise InterpError(f"draws is {draws}: a spread needs at least 2 random rankings")
    generator = rng(seed, "random circuits")
    orders = [generator.permutation(n_nodes) for _ in range(draws)]
    return np.concatenate([nested_circuits(order, sizes) for order in orders])


def random_circuits(
    model: TransformerBridge,
    pairs: PromptPair | Sequence[PromptPair],
    *,
    sizes: Sequence[int] | None = None,
    draws: int = 10,
    seed: int = 0,
    ablation: Ablation = "resample",
    means: NodeOutputs | None = None,
    metric: str | Metric = "margin",
    batch_size: int = BATCH_SIZE,
    progress: bool = True,
) -> RandomCircuits:
    """The curve of :func:`interp.circuits.faithfulness_curve` with random scores, ``draws`` times.

    Raises:
        InterpError: fewer than two draws, and what :func:`interp.circuits.faithfulness_curve` refuses.
    """
    n = len(circuit_nodes(model))
    sizes = require_sizes(sizes, n)
    runs = run_circuits(
        model,
        pairs,
        random_masks(sizes, n, draws=draws, seed=seed),
        ablation=ablation,
        means=means,
        metric=metric,
        batch_size=batch_size,
        progress=progress,
    )
    return RandomCircuits.of_runs(sizes, n, runs)
