"""All tests of one circuit: the circuits that have to be run for them, and their outcome."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from transformer_lens.model_bridge import TransformerBridge

from interp.circuits.ablation import NodeOutputs
from interp.circuits.hypotheses import (
    QUANTILE,
    CircuitTest,
    circuit_equivalence,
    circuit_independence,
    circuit_minimality,
    circuit_sufficiency,
)
from interp.circuits.names import Ablation
from interp.circuits.runs import BATCH_SIZE, CircuitRuns, run_circuits
from interp.circuits.units import CircuitMasks, CircuitUnit, circuit_units, mask_of, unit_of
from interp.display import short_repr
from interp.errors import InterpError
from interp.patching.metrics import Metric
from interp.prompts import PromptPair
from interp.stats import rng

RANDOM_CIRCUITS = 100
"""Random circuits that one is tested against."""

MOST_LEFT_OUT = 100
"""Of a larger circuit so many nodes or edges, drawn at random, are tested for minimality."""


@dataclass(frozen=True, eq=False)
class CheckedCircuits:
    """The circuits that the tests of one need, each ``[.., unit]``.

    ``without``: the circuit less each of its nodes or edges, at most 100 of them; ``inflated``: with
    one other more; ``random``: others of its size.
    """

    circuit: CircuitMasks
    without: CircuitMasks
    inflated: CircuitMasks
    random: CircuitMasks

    @classmethod
    def of(
        cls, circuit: CircuitMasks, *, n_random: int = RANDOM_CIRCUITS, seed: int = 0
    ) -> CheckedCircuits:
        """Those of a circuit ``[unit]``.

        Random circuits are drawn with replacement among all of its size; what inflates it without, at
        most ``n_random`` of those outside.

        Raises:
            InterpError: a circuit of none or all, or fewer than one random circuit.
        """
        inside, outside = np.flatnonzero(circuit), np.flatnonzero(~circuit)
        if not len(inside) or not len(outside):
            raise InterpError(
                f"a circuit of {len(inside)} of {len(circuit)} units cannot be tested: give one that "
                "keeps some nodes and leaves some out"
            )
        if n_random < 1:
            raise InterpError(f"n_random is {n_random}: give at least one random circuit")
        generator = rng(seed, "checked circuits")
        left_out = inside
        if len(inside) > MOST_LEFT_OUT:
            drawn = rng(seed, "left out").permutation(inside)
            left_out = np.sort(drawn[:MOST_LEFT_OUT])
        without = np.repeat(circuit[None], len(left_out), axis=0)
        without[np.arange(len(left_out)), left_out] = False
        added = np.sort(generator.permutation(outside)[:n_random])
        inflated = np.repeat(circuit[None], len(added), axis=0)
        inflated[np.arange(len(added)), added] = True
        random = np.zeros((n_random, len(circuit)), dtype=bool)
        for row in random:
            row[generator.permutation(len(circuit))[: len(inside)]] = True
        return cls(circuit, without, inflated, random)

    @property
    def masks(self) -> CircuitMasks:
        """All of them, ``[circuit, unit]``: itself, its complement, without, inflated, random."""
        own = np.stack([self.circuit, ~self.circuit])
        return np.concatenate([own, self.without, self.inflated, self.random])

    def outcome(
        self,
        runs: CircuitRuns,
        units: Sequence[CircuitUnit],
        *,
        quantile: float = QUANTILE,
        seed: int = 0,
    ) -> CircuitTests:
        """The outcome, of the runs of :attr:`masks`; ``units`` are the model's."""
        own, complement = runs.values[:2]
        parts = (self.without, self.inflated, self.random)
        ends = np.cumsum([len(part) for part in parts])[:-1]
        without, inflated, random = np.split(runs.values[2:], ends)
        left_out = [units[int(k)] for k in (self.circuit & ~self.without).argmax(-1)]
        tests = (
            circuit_sufficiency(runs.full, own, random, quantile=quantile),
            circuit_equivalence(runs.full, own, runs.clusters),
            circuit_independence(runs.full, complement, runs.clusters, seed=seed),
        )
        minimality = circuit_minimality(own, without, inflated, left_out, quantile=quantile)
        return CircuitTests(tests, minimality)


@dataclass(frozen=True, eq=False)
class CircuitTests:
    """Sufficiency, equivalence and independence, and minimality one by one."""

    tests: tuple[CircuitTest, ...]
    minimality: pd.DataFrame

    __repr__ = short_repr

    def __getitem__(self, name: str) -> CircuitTest:
        """One of the tests, by name; minimality's has the smallest corrected p of all."""
        return {test.name: test for test in (*self.tests, self._minimality())}[name]

    def _minimality(self) -> CircuitTest:
        rows = self.minimality
        worst = rows.iloc[int(rows["p_holm"].argmin())]
        null = "each matters more than most random ones"
        return CircuitTest(
            "minimality",
            null,
            "retained",
            float(worst["beyond"]),
            float(worst["p_holm"]),
            int(worst["n"]),
        )

    def to_dataframe(self) -> pd.DataFrame:
        """One row per test: null hypothesis, statistic, n, p, what would be good, and whether it is."""
        rows = [
            {
                "test": test.name,
                "null hypothesis": test.null,
                "statistic": test.statistic,
                "n": test.n,
                "p": test.p,
                "good if": test.good,
                "passed": test.passed,
            }
            for test in (*self.tests, self._minimality())
        ]
        return pd.DataFrame(rows)


def check_circuit(
    model: TransformerBridge,
    pairs: PromptPair | Sequence[PromptPair],
    circuit: Collection[CircuitUnit],
    *,
    n_random: int = RANDOM_CIRCUITS,
    quantile: float = QUANTILE,
    seed: int = 0,
    ablation: Ablation = "resample",
    means: NodeOutputs | None = None,
    metric: str | Metric = "margin",
    batch_size: int = BATCH_SIZE,
    progress: bool = True,
) -> CircuitTests:
    """Test a circuit: sufficiency, equivalence, independence, minimality (arXiv 2410.13032).

    Args:
        model: a bridge in evaluation mode.
        pairs: source (the instructed prompt) and destination (its placebo); others than those that the
            circuit was found on.
        circuit: its nodes, or its edges.
        n_random: random circuits of its size, and at most so many inflated ones.
        quantile: share of random circuits that it is compared with.
        seed: of the random circuits and the permutations.
        ablation, means, metric, batch_size, progress: see :func:`interp.circuits.run_circuits`.

    Raises:
        InterpError: a circuit of none or all, a node or an edge that the model does not have, and what
            :func:`interp.circuits.run_circuits` refuses.

    Example:
        >>> tests = check_circuit(model, pairs, curve.circuit(20))   # doctest: +SKIP
        >>> tests["sufficiency"].p                                    # doctest: +SKIP
    """
    unit = unit_of(list(circuit))
    units = circuit_units(model, unit)
    checked = CheckedCircuits.of(mask_of(circuit, units), n_random=n_random, seed=seed)
    runs = run_circuits(
        model,
        pairs,
        checked.masks,
        unit=unit,
        ablation=ablation,
        means=means,
        metric=metric,
        batch_size=batch_size,
        progress=progress,
    )
    return checked.outcome(runs, units, quantile=quantile, seed=seed)
