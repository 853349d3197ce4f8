"""Faithfulness of the circuits that a score puts first, over their size."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from transformer_lens.model_bridge import TransformerBridge

from interp.circuits.ablation import NodeOutputs
from interp.circuits.areas import MIB_SHARES, area_weights, cmd, cpr
from interp.circuits.names import Ablation, UnitKind
from interp.circuits.runs import BATCH_SIZE, CircuitRuns, run_circuits
from interp.circuits.units import (
    CircuitUnit,
    circuit_units,
    nested_circuits,
    rank_units,
    scores_of,
    unit_of,
    unit_of_table,
)
from interp.display import short_repr
from interp.errors import InterpError
from interp.patching.metrics import Metric
from interp.prompts import PromptPair
from interp.stats import FloatArray, Interval, interval_columns, of_sums


@dataclass(frozen=True, eq=False)
class FaithfulnessCurve:
    """Faithfulness of the first ``n`` nodes or edges of a ranking, for some sizes ``n``.

    ``ranking``: all of them, the first that a circuit keeps first. ``sizes`` ascend. ``runs``: the
    metric of each size on each pair.
    """

    ranking: tuple[CircuitUnit, ...]
    sizes: tuple[int, ...]
    runs: CircuitRuns

    __repr__ = short_repr

    @property
    def unit(self) -> UnitKind:
        """What is ranked."""
        return unit_of(self.ranking)

    @property
    def shares(self) -> FloatArray:
        """The share of all nodes or edges that each circuit keeps, ``[size]``."""
        return np.asarray(self.sizes) / len(self.ranking)

    @property
    def faithfulness(self) -> FloatArray:
        """Of the means, ``[size]``: 0 for the empty circuit and 1 for the full one."""
        return self.runs.faithfulness()

    @property
    def cpr(self) -> float:
        """Area under the curve: see :func:`interp.circuits.cpr`; needs sizes from 0 to all."""
        return cpr(self.shares, self.faithfulness)

    @property
    def cmd(self) -> float:
        """Area between the curve and 1: see :func:`interp.circuits.cmd`."""
        return cmd(self.shares, self.faithfulness)

    def cpr_interval(self) -> Interval:
        """Fieller's interval of CPR, which is a ratio of means too; clusters and wordings are random."""
        above = self.runs.values - self.runs.empty
        return self.runs.share(area_weights(self.shares) @ above)

    def cmd_interval(self) -> Interval:
        """Jackknife-t interval of CMD over clusters of items; wordings are taken as they are.

        NaN with a reason where that of :meth:`cpr_interval` is.
        """
        runs, ratio = self.runs, self.cpr_interval()
        if ratio.reason:
            return ratio
        columns = np.concatenate([runs.values, runs.empty[None], runs.full[None]])

        def of(sums: FloatArray) -> FloatArray:
            curves = (sums[:-2] - sums[-2]) / (sums[-1] - sums[-2])
            return np.array([cmd(self.shares, curve) for curve in curves.T])

        return of_sums(of, columns, runs.clusters, undefined="full and empty circuit answer alike")

    def circuit(self, n: int) -> tuple[CircuitUnit, ...]:
        """The first ``n`` of the ranking.

        Raises:
            InterpError: more than there are.
        """
        if not 0 <= n <= len(self.ranking):
            raise InterpError(f"a circuit of {n} {self.unit}: the model has {len(self.ranking)}")
        return self.ranking[:n]

    def to_dataframe(self) -> pd.DataFrame:
        """One row per size: ``size``, ``share_kept``, ``faithfulness``, and its interval's columns.

        ``estimate`` is NaN, with a ``reason``, where m(full) - m(empty) does not differ from 0: then the
        curve is of noise.
        """
        return pd.DataFrame(
            {
                "size": self.sizes,
                "share_kept": self.shares,
                "faithfulness": self.faithfulness,
                **interval_columns(self.runs.interval()),
            }
        )


def default_sizes(n_units: int) -> tuple[int, ...]:
    """None, one, MIB's shares of all nodes or edges (rounded), and all."""
    return tuple(sorted({0, 1, n_units, *(round(share * n_units) for share in MIB_SHARES)}))


def require_sizes(sizes: Sequence[int] | None, n_units: int) -> tuple[int, ...]:
    """Sizes in ascending order, the usual ones of None.

    Raises:
        InterpError: none, or one beyond the number of nodes or edges.
    """
    if sizes is None:
        return default_sizes(n_units)
    found = tuple(sorted(set(sizes)))
    if not found or not 0 <= found[0] <= found[-1] <= n_units:
        raise InterpError(f"sizes are {list(sizes)}: give numbers between 0 and {n_units}")
    return found


def faithfulness_curve(
    model: TransformerBridge,
    pairs: PromptPair | Sequence[PromptPair],
    scores: pd.DataFrame,
    *,
    sizes: Sequence[int] | None = None,
    absolute: bool = True,
    ablation: Ablation = "resample",
    means: NodeOutputs | None = None,
    metric: str | Metric = "margin",
    batch_size: int = BATCH_SIZE,
    progress: bool = True,
) -> FaithfulnessCurve:
    """Keep the ``n`` nodes or edges of the largest score, ablate all others, compare with the model.

    The pairs should be others than those that the scores were computed on: a circuit that was chosen on
    the pairs it is measured on looks more faithful than it is.

    Args:
        model: a bridge in evaluation mode.
        pairs: source (the instructed prompt) and destination (its placebo).
        scores: one row per head and MLP, or per edge: see :func:`interp.circuits.node_scores` and
            :func:`interp.circuits.edge_scores`.
        sizes: numbers of them; by default 0, 1, MIB's shares, and all.
        absolute: the largest score in size first; False: the largest score first, so that what lowers
            the metric comes last.
        ablation, means, metric, batch_size, progress: see :func:`interp.circuits.run_circuits`.

    Returns:
        Faithfulness (m(circuit) - m(empty)) / (m(full) - m(empty)), per size and pair; a number without
        unit, 0 for the empty circuit and 1 for the full one. See MIB, arXiv 2504.13151.

    Raises:
        InterpError: a node or an edge without a score, sizes that cannot be, and what
            :func:`interp.circuits.run_circuits` refuses.

    Example:
        >>> scores = node_scores(model, pairs[:12])                    # doctest: +SKIP
        >>> curve = faithfulness_curve(model, pairs[12:], scores)      # doctest: +SKIP
        >>> curve.cpr, curve.cmd                                        # doctest: +SKIP
    """
    unit = unit_of_table(scores)
    units = circuit_units(model, unit)
    order = rank_units(scores_of(scores, units), absolute=absolute)
    sizes = require_sizes(sizes, len(units))
    runs = run_circuits(
        model,
        pairs,
        nested_circuits(order, sizes),
        unit=unit,
        ablation=ablation,
        means=means,
        metric=metric,
        batch_size=batch_size,
        progress=progress,
    )
    return FaithfulnessCurve(tuple(units[k] for k in order), tuple(sizes), runs)
