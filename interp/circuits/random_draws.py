"""Random circuits: what any nodes or edges in such number would do."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from transformer_lens.model_bridge import TransformerBridge

from interp.circuits.ablation import NodeOutputs
from interp.circuits.areas import cmd, cpr
from interp.circuits.curve import require_sizes
from interp.circuits.names import Ablation, UnitKind
from interp.circuits.runs import BATCH_SIZE, CircuitRuns, run_circuits
from interp.circuits.units import CircuitMasks, n_units, nested_circuits
from interp.display import short_repr
from interp.errors import InterpError
from interp.patching.metrics import Metric
from interp.prompts import PromptPair
from interp.stats import FloatArray, Interval, cluster_mean, interval_columns, rng


@dataclass(frozen=True, eq=False)
class RandomCircuits:
    """Curves of random rankings: ``faithfulness [draw, size]``, of the means over pairs.

    A draw is one order of all nodes or edges; its circuits are the first of it.
    """

    sizes: tuple[int, ...]
    n_units: int
    faithfulness: FloatArray

    __repr__ = short_repr

    @classmethod
    def of_runs(cls, sizes: Sequence[int], n_units: int, runs: CircuitRuns) -> RandomCircuits:
        """Of the runs of :func:`random_masks`."""
        return cls(tuple(sizes), n_units, runs.faithfulness().reshape(-1, len(sizes)))

    @property
    def shares(self) -> FloatArray:
        """The share of all nodes or edges that circuits of each size keep, ``[size]``."""
        return np.asarray(self.sizes) / self.n_units

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
                "share_kept": self.shares,
                "draws": len(self.faithfulness),
                **interval_columns(self.mean()),
                "lowest": self.faithfulness.min(0),
                "highest": self.faithfulness.max(0),
            }
        )


def random_masks(sizes: Sequence[int], n_units: int, *, draws: int, seed: int) -> CircuitMasks:
    """The circuits of ``draws`` random rankings, ``[draw * size, unit]``, those of a draw together.

    Raises:
        InterpError: fewer than two draws.
    """
    if draws < 2:
        raise InterpError(f"draws is {draws}: a spread needs at least 2 random rankings")
    generator = rng(seed, "random circuits")
    orders = [generator.permutation(n_units) for _ in range(draws)]
    return np.concatenate([nested_circuits(order, sizes) for order in orders])


def random_circuits(
    model: TransformerBridge,
    pairs: PromptPair | Sequence[PromptPair],
    *,
    unit: UnitKind = "nodes",
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
    n = n_units(model, unit)
    sizes = require_sizes(sizes, n)
    runs = run_circuits(
        model,
        pairs,
        random_masks(sizes, n, draws=draws, seed=seed),
        unit=unit,
        ablation=ablation,
        means=means,
        metric=metric,
        batch_size=batch_size,
        progress=progress,
    )
    return RandomCircuits.of_runs(sizes, n, runs)
