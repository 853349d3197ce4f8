"""Hypothesis tests of a circuit, on the metric of some runs (arXiv 2410.13032, Shi et al. 2024).

============================== ==============================================================
:func:`circuit_sufficiency`    H0: as far from the model as the best random circuits. Good: rejected
:func:`circuit_equivalence`    H0: it beats the model as often as the reverse. Good: retained
:func:`circuit_independence`   H0: what is left without it says nothing of the model. Good: retained
:func:`circuit_minimality`     H0: each matters more than most random ones. Good: retained, of all
============================== ==============================================================

How far a circuit is from the model is the mean over pairs of the squared difference of their metrics,
as in the authors' code. A test whose null hypothesis is the good case shows nothing by being retained
on few items. Items of one cluster are no independent draws: where the paper counts items, cluster means
are counted here. Of the paper's tests partial necessity is not here.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy.stats import binom

from interp.circuits.units import CircuitUnit, unit_columns
from interp.errors import InterpError
from interp.stats import ALPHA, FloatArray, holm, rng

QUANTILE = 0.9
"""What random circuits are compared with: beyond this share of them, as in the paper."""

EPSILON = 0.1
"""How far the chance of beating the model may be from one half, as in the paper."""

PERMUTATIONS = 1000

_TIE = 1e-5  # of the largest metric: float32 rounding of two runs that are the same


@dataclass(frozen=True)
class CircuitTest:
    """A test: its null hypothesis, statistic and p value; ``n`` random circuits or clusters.

    ``good``: what speaks for the circuit, that the null hypothesis is rejected or that it is retained.
    """

    name: str
    null: str
    good: Literal["rejected", "retained"]
    statistic: float
    p: float
    n: int

    @property
    def passed(self) -> bool:
        """Whether the outcome at 5 % is the one that speaks for the circuit."""
        return (self.p < ALPHA) == (self.good == "rejected")


def distance(values: npt.ArrayLike, reference: npt.ArrayLike) -> FloatArray:
    """Mean squared difference over pairs ``[..., pair]``, in squared units of the metric."""
    a, b = (np.asarray(x, dtype=np.float64) for x in (values, reference))
    return np.asarray(((a - b) ** 2).mean(-1))


def circuit_sufficiency(
    full: npt.ArrayLike,
    circuit: npt.ArrayLike,
    random: npt.ArrayLike,
    *,
    quantile: float = QUANTILE,
) -> CircuitTest:
    """Whether a circuit is nearer to the model than a share ``quantile`` of random ones of its size.

    The statistic is the share of random circuits that are farther; under the null hypothesis each is
    so with a chance of at most ``quantile``, and p is the binomial tail from there up. One as near, to
    rounding, is not farther: where circuits of this size all fail alike, none is sufficient. With fewer
    than 29 random circuits a quantile of .9 can never be rejected at 5 %.

    Args:
        full: the model's metric ``[pair]``.
        circuit: the circuit's ``[pair]``.
        random: that of the random circuits ``[draw, pair]``.
        quantile: see above.

    Raises:
        InterpError: shapes that do not belong together, or a quantile outside 0..1.
    """
    full, circuit = _pairs(full=full, circuit=circuit)
    random = _draws("random", random, len(full))
    _require_share("quantile", quantile)
    n = len(random)
    farther = int(_farther(distance(random, full), distance(circuit, full), _tie(full)).sum())
    p = float(binom.sf(farther - 1, n, quantile))
    null = f"no nearer to the model than {quantile:.0%} of random circuits"
    return CircuitTest("sufficiency", null, "rejected", farther / n, p, n)


def circuit_equivalence(
    full: npt.ArrayLike,
    circuit: npt.ArrayLike,
    clusters: Iterable[object],
    *,
    epsilon: float = EPSILON,
) -> CircuitTest:
    """Whether a circuit beats the model as often as the model beats it.

    H0: the chance that the circuit's metric is above the model's is within ``epsilon`` of one half. The
    statistic is the share of clusters (means over their pairs) in which it is above; p is the chance of
    a share as far from one half where the chance is at the edge, 1/2 + epsilon. Ties (to rounding) say
    nothing and are left out; with ties alone p is 1.

    Raises:
        InterpError: shapes or clusters that do not belong together, or an epsilon outside 0..1/2.
    """
    full, circuit = _pairs(full=full, circuit=circuit)
    if not 0 <= epsilon < 0.5:
        raise InterpError(f"epsilon is {epsilon}: a distance from one half, 0 to .5")
    difference = _cluster_means(circuit - full, clusters)
    difference = difference[np.abs(difference) > _tie(full, circuit)]
    n = len(difference)
    null = f"beats the model with a chance of 1/2, to {epsilon:g}"
    if not n:
        return CircuitTest("equivalence", null, "retained", 0.5, 1.0, 0)
    above = int((difference > 0).sum())
    k = np.arange(n + 1)
    extreme = np.abs(k - n / 2) >= abs(above - n / 2)
    p = float(binom.pmf(k[extreme], n, 0.5 + epsilon).sum())
    return CircuitTest("equivalence", null, "retained", above / n, min(p, 1.0), n)


def circuit_independence(
    full: npt.ArrayLike,
    complement: npt.ArrayLike,
    clusters: Iterable[object],
    *,
    permutations: int = PERMUTATIONS,
    seed: int = 0,
) -> CircuitTest:
    """Whether the model without the circuit still varies with the model.

    H0: the metric of the complement (the circuit's nodes ablated, all others kept) is independent of
    the model's over items. The statistic is the Hilbert-Schmidt independence criterion with Gaussian
    kernels (Gretton et al. 2007), their width the median distance; p by permutation of cluster means,
    counting the observed one, so that it is never 0.

    Raises:
        InterpError: shapes or clusters that do not belong together, or no permutations.
    """
    full, complement = _pairs(full=full, complement=complement)
    if permutations < 1:
        raise InterpError(f"permutations is {permutations}: give at least 1")
    names = list(clusters)
    k, other = (_kernel(_cluster_means(x, names)) for x in (full, complement))
    n, generator = len(k), rng(seed, "independence")
    observed = float((k * other).sum())
    orders = (generator.permutation(n) for _ in range(permutations))
    drawn = np.array([float((k * other[np.ix_(order, order)]).sum()) for order in orders])
    # sums in another order differ by rounding: equal tables are equal
    as_large = int((drawn >= observed - 1e-9 * max(1.0, abs(observed))).sum())
    null = "the model without it is independent of the model"
    statistic = observed / max(n - 1, 1) ** 2
    return CircuitTest(
        "independence", null, "retained", statistic, (1 + as_large) / (1 + permutations), n
    )


def circuit_minimality(
    circuit: npt.ArrayLike,
    without: npt.ArrayLike,
    inflated: npt.ArrayLike,
    units: Sequence[CircuitUnit],
    *,
    quantile: float = QUANTILE,
) -> pd.DataFrame:
    """Whether every node or edge of a circuit is needed: one row each.

    Its ``effect`` is the distance between the circuit and the circuit without it. It is compared with
    random inflated circuits: one that is not in the circuit is added, and taken out again. H0: the
    effect is beyond such an effect with a chance of at least ``quantile``; ``beyond`` is the share of
    them that it exceeds, ``p`` the binomial tail up to there, ``p_holm`` corrected over the rows. Where
    that is below 5 % it does no more than others would: the circuit is not minimal.

    Args:
        circuit: the circuit's metric ``[pair]``.
        without: that of the circuit without each of them ``[unit, pair]``.
        inflated: that of the circuit with one other more ``[draw, pair]``.
        units: the circuit's nodes or edges.
        quantile: see above.

    Raises:
        InterpError: shapes that do not belong together, or a quantile outside 0..1.
    """
    base = np.asarray(circuit, dtype=np.float64)
    without = _draws("without", without, len(base))
    inflated = _draws("inflated", inflated, len(base))
    _require_share("quantile", quantile)
    if len(without) != len(units):
        raise InterpError(f"{len(without)} runs without one for {len(units)} nodes or edges")
    effects, n = distance(without, base), len(inflated)
    others = distance(inflated, base)
    beyond = _farther(effects[:, None], others[None], _tie(base)).sum(-1)
    p = binom.cdf(beyond, n, quantile)
    return pd.DataFrame(
        {
            **unit_columns(units),
            "effect": effects,
            "beyond": beyond / n,
            "n": n,
            "p": p,
            "p_holm": holm(np.asarray(p, dtype=np.float64)),
        }
    )


def _tie(*values: FloatArray) -> float:
    """Differences of metrics up to here are rounding."""
    return _TIE * max(float(np.abs(each).max()) for each in values)


def _farther(a: FloatArray, b: FloatArray, tie: float) -> npt.NDArray[np.bool_]:
    """Which mean squares ``a`` are larger than ``b`` by more than a difference ``tie`` of metrics."""
    return np.asarray(np.sqrt(a) > np.sqrt(b) + tie)


def _kernel(values: FloatArray) -> FloatArray:
    """The centred Gaussian kernel matrix, its width the median distance of different items."""
    apart = np.abs(values[:, None] - values[None])
    above = apart[np.triu_indices(len(values), 1)]
    width = float(np.median(above)) if len(above) else 0.0
    kernel = np.exp(-(apart**2) / (2 * width**2)) if width > 0 else (apart == 0).astype(np.float64)
    rows = kernel.mean(0)
    centred: FloatArray = kernel - rows[None] - rows[:, None] + kernel.mean()
    return centred


def _cluster_means(values: FloatArray, clusters: Iterable[object]) -> FloatArray:
    names = [str(name) for name in clusters]
    if len(names) != len(values):
        raise InterpError(f"{len(names)} clusters for {len(values)} pairs: give one per pair")
    means = pd.Series(values).groupby(names, sort=False).mean()
    return np.asarray(means, dtype=np.float64)


def _pairs(**arrays: npt.ArrayLike) -> list[FloatArray]:
    found = [np.asarray(values, dtype=np.float64) for values in arrays.values()]
    if len({x.shape for x in found}) > 1 or found[0].ndim != 1 or not len(found[0]):
        shapes = ", ".join(f"{n} {list(x.shape)}" for n, x in zip(arrays, found, strict=True))
        raise InterpError(f"{shapes}: give one number per pair of each, [pair]")
    return found


def _draws(name: str, values: npt.ArrayLike, n_pairs: int) -> FloatArray:
    found = np.asarray(values, dtype=np.float64)
    if found.ndim != 2 or not len(found) or found.shape[1] != n_pairs:
        raise InterpError(
            f"{name} is {list(found.shape)}: give one row per circuit, [.., {n_pairs}]"
        )
    return found


def _require_share(name: str, value: float) -> None:
    if not 0 < value < 1:
        raise InterpError(f"{name} is {value}: a share of random circuits, between 0 and 1")
