"""The variance of a mean over units (clusters, wordings) and the degrees of freedom it rests on.

**Variance.** Delete-one-unit jackknife, CV3 of MacKinnon, Nielsen and Webb (2023): a mean over
items is computed anew without each unit, ``v = (U - 1) / U * sum_u (m_without_u - m)^2``. With units
of equal size it is the variance of the units' means over U.

**Degrees of freedom.** Units of unequal size weigh unequally, and U - 1 is too many. The estimate
and each ``m_without_u`` are linear in the items, so that under a working model (Gaussian items, one
correlation within units, estimated by analysis of variance) the jackknife is distributed as ``sum_j
l_j chi2_1``. The degrees of freedom are those whose Student quantile equals the exact one of
estimate / sqrt(v) at 95 %; Bell and McCaffrey (2002) and Imbens and Kolesar (2016) match two moments
instead, which is the same where there are many and too few where one unit dominates. The model also
gives the jackknife's bias, which is divided out (as CR2 does). Equal sizes give U - 1 and no bias,
whatever the correlation.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from interp.stats.arrays import FloatArray, Groups, IntArray

_ROUNDING = 1e-13  # of the largest value: a standard error below it is rounding
_MANY = 30.0  # degrees of freedom above which two moments suffice
_CORRELATIONS = np.linspace(0.0, 1.0, 5)  # of the working model; between them by interpolation


@dataclass(frozen=True)
class VariancePart:
    """One source of variance of an estimate, per cell.

    ``variance [cells]`` in squared units of the values, ``df [cells]``; ``scores [cells, units]``:
    the change of the estimate when a unit is left out, scaled so that their squares sum to
    ``variance``.
    """

    variance: FloatArray
    df: FloatArray
    scores: FloatArray

    def floor(self, scale: FloatArray) -> VariancePart:
        """A variance that is rounding of values of this size ``[cells]`` becomes 0."""
        real = self.variance > (_ROUNDING * scale) ** 2
        return VariancePart(
            np.where(real, self.variance, 0.0), self.df, np.where(real[:, None], self.scores, 0.0)
        )


@dataclass(frozen=True)
class Deletion:
    """What leaving out one unit at a time does to a mean, or a difference of means, over some items.

    ``change [units, n_items]``: how the coefficients of the items change. ``jackknife`` and ``true``:
    the expected jackknife and the true variance, of independent items and of equal items within
    units. ``dfs``: the degrees of freedom at each of the working model's correlations.
    """

    groups: Groups
    change: FloatArray
    sides: tuple[FloatArray, ...]
    jackknife: tuple[float, float]
    true: tuple[float, float]
    dfs: FloatArray

    @classmethod
    def of(cls, codes: IntArray, *sides: FloatArray) -> Deletion | None:
        """Of the mean with item weights ``sides[0]``, minus that with weights ``sides[1]`` if given.

        None if a side would lose all its weight with one unit (also with a single unit).
        """
        return _deletion(codes.tobytes(), *(side.tobytes() for side in sides))

    @classmethod
    def _of(cls, codes: IntArray, sides: tuple[FloatArray, ...]) -> Deletion | None:
        groups = Groups.of(codes)
        member = np.zeros((len(groups), len(codes)))
        member[groups.codes, np.arange(len(codes))] = 1.0
        change, whole = np.zeros_like(member), np.zeros(len(codes))
        for sign, weights in zip((1.0, -1.0), sides, strict=False):
            total, lost = weights.sum(), member @ weights
            if not total > 0 or (total - lost <= 1e-12 * total).any():
                return None
            left = weights * (1.0 - member) / (total - lost)[:, None]
            change += sign * (left - weights / total)
            whole += sign * weights / total
        change *= np.sqrt((len(groups) - 1) / len(groups))
        apart, sums = change @ change.T, change @ member.T
        together, true = sums @ sums.T, (whole @ whole, ((member @ whole) ** 2).sum())
        if np.trace(together) <= 1e-12 * np.trace(apart):  # what units share cancels between sides
            together, true = apart, (true[0], true[0])
        return cls(
            groups,
            change,
            sides,
            (float(np.trace(apart)), float(np.trace(together))),
            (float(true[0]), float(true[1])),
            np.array([_degrees((1 - r) * apart + r * together) for r in _CORRELATIONS]),
        )

    def component(self, values: FloatArray) -> VariancePart:
        """The component of variance of values ``[cells, n_items]``."""
        rho = self._correlation(values)
        true, jackknife = (
            (1 - rho) * ends[0] + rho * ends[1] for ends in (self.true, self.jackknife)
        )
        scores = (values @ self.change.T) * np.sqrt(true / jackknife)[:, None]
        return VariancePart((scores**2).sum(-1), np.interp(rho, _CORRELATIONS, self.dfs), scores)

    def _correlation(self, values: FloatArray) -> FloatArray:
        """Correlation of the items of a unit ``[cells]``, by one-way analysis of variance."""
        n, units, sizes = len(self.groups.codes), len(self.groups), self.groups.sizes
        if n == units:
            return np.zeros(len(values))
        residual = np.array(values)
        for side in self.sides:
            residual -= (values @ side / side.sum())[:, None] * (side > 0)
        means = self.groups.sums(residual) / sizes
        within = ((residual - means[:, self.groups.codes]) ** 2).sum(-1) / (n - units)
        between = (sizes * (means - residual.mean(-1, keepdims=True)) ** 2).sum(-1) / (units - 1)
        size = (n - (sizes**2).sum() / n) / (units - 1)
        of_units = np.maximum(between - within, 0.0) / size
        total = of_units + within
        return np.divide(of_units, total, out=np.zeros_like(total), where=total > 0)


@lru_cache(maxsize=16)
def _deletion(codes: bytes, *sides: bytes) -> Deletion | None:
    """Blocks of cells that are defined on the same items share it."""
    return Deletion._of(np.frombuffer(codes, np.intp), tuple(np.frombuffer(s) for s in sides))


def satterthwaite(total: FloatArray, *parts: tuple[FloatArray, FloatArray]) -> FloatArray:
    """Degrees of freedom ``[cells]`` of a variance that sums to ``total``, of (variance, df) parts."""
    spread = sum(variance**2 / df for variance, df in parts)
    most = np.array(sum(df for _, df in parts), dtype=np.float64)
    return np.divide(total**2, spread, out=most, where=np.asarray(spread) > 0)


def _degrees(form: FloatArray) -> float:
    """Degrees of freedom of a variance whose Gaussian quadratic form this is, ``[units, units]``."""
    trace = np.trace(form)
    of_moments = float(trace**2 / (form**2).sum())
    if of_moments > _MANY:
        return of_moments
    from scipy.optimize import brentq
    from scipy.special import stdtridf

    shares = np.clip(np.linalg.eigvalsh(form), 0.0, None)[:, None] / trace
    nodes, weights = _legendre()
    sines = np.sin((nodes + 1) * np.pi / 4) ** 2

    def excess(quantile: float) -> float:
        # P(|Z| > q sqrt(sum l_j chi2_1)) - .05 by Craig's formula for the tail of Z
        logs = np.log1p(quantile**2 * shares / sines).sum(0)
        return float(weights @ np.exp(-logs / 2)) / 2 - 0.05

    return float(stdtridf(0.975, brentq(excess, 1.9, 64.0)))


@lru_cache(maxsize=1)
def _legendre() -> tuple[FloatArray, FloatArray]:
    nodes, weights = np.polynomial.legendre.leggauss(40)
    return nodes, weights
