"""An estimate with its confidence interval, and how one is made from a standard error."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np

from interp.errors import InterpError
from interp.stats.arrays import FloatArray, IntArray, PerCell, scalar_or_array

IntervalMethod: TypeAlias = Literal[
    "cgm_t",
    "t",
    "jackknife_t",
    "fieller",
    "fisher_z",
    "corrected_cv",
    "calibrated_null",
    "clopper_pearson",
]
"""How bounds were found; ``docs/methods.md`` has a section on each."""


NAN = float("nan")
"""One object, so that intervals without a test are equal: ``is`` comes before ``==`` in tuples."""


@dataclass(frozen=True)
class Interval:
    """An estimate with its confidence interval, in the unit of the values.

    Fields are plain numbers for one cell and arrays ``[*cells]`` for many (:meth:`at` picks one).
    ``n`` counts the items used, ``n_clusters`` the clusters they form. ``reason`` is empty or says
    why a number is NaN. ``texts``: how many wordings the two arms of an effect had (treated,
    control); with 1 the interval speaks of that wording alone. ``se`` and ``df``: standard error and
    degrees of freedom; ``p``: two-sided, of the function's null hypothesis (0 unless it says
    otherwise). All three are NaN where there is none.
    """

    estimate: PerCell
    low: PerCell
    high: PerCell
    n: PerCell
    n_clusters: PerCell
    confidence: float = 0.95
    reason: PerCell = ""
    method: IntervalMethod = "t"
    texts: tuple[int, int] | None = None
    se: PerCell = NAN
    df: PerCell = NAN
    p: PerCell = NAN

    def excludes(self, value: float | int) -> PerCell:
        """Whether ``value`` lies outside the closed interval; False where there is no interval."""
        outside = (np.asarray(self.low) > value) | (np.asarray(self.high) < value)
        return outside if np.ndim(outside) else bool(outside)

    def within(self, low: float, high: float) -> Interval:
        """The part of the interval that a quantity bounded by ``low`` and ``high`` can take.

        A share has no values beyond 1: cutting them off changes no coverage.
        """
        cut = {
            name: scalar_or_array(np.clip(np.asarray(getattr(self, name), dtype=float), low, high))
            for name in ("low", "high")
        }
        return dataclasses.replace(self, **cut)

    def at(self, *index: int) -> Interval:
        """The interval of one cell, with plain numbers; ``index`` addresses the leading axes.

        Raises:
            InterpError: Another number of indices than there are leading axes.
        """
        shape = np.shape(self.estimate)
        if len(index) != len(shape):
            raise InterpError(f"cell {list(index)}: the interval has {len(shape)} axes")
        cell = {
            name: np.broadcast_to(getattr(self, name), shape)[index].item()
            for name in _PER_CELL_FIELDS
        }
        tests = {name: NAN for name in ("se", "df", "p") if cell[name] != cell[name]}
        return dataclasses.replace(self, **cell | tests)

    def __str__(self) -> str:
        if np.ndim(self.estimate):
            return f"Interval over cells {list(np.shape(self.estimate))}"
        text = f"{self.estimate:.3f} [{self.low:.3f}, {self.high:.3f}]"
        return f"{text} ({self.reason})" if self.reason else text


_PER_CELL_FIELDS = ("estimate", "low", "high", "n", "n_clusters", "reason", "se", "df", "p")


class CellIntervals:
    """Intervals of flattened cells, filled block by block and folded back to ``[*cells]``."""

    def __init__(self, n_cells: int) -> None:
        names = ("estimate", "low", "high", "se", "df", "p")
        self.fields: dict[str, FloatArray] = {name: np.full(n_cells, np.nan) for name in names}
        self.n, self.n_clusters = (np.zeros(n_cells, dtype=np.int64) for _ in range(2))
        self.reason = np.full(n_cells, "no defined item", dtype=object)

    def count(self, cells: IntArray, n: int, n_clusters: int) -> None:
        """The items and clusters of some cells, which now have no reason against them."""
        self.n[cells], self.n_clusters[cells], self.reason[cells] = n, n_clusters, ""

    def put(self, cells: IntArray, **fields: FloatArray) -> None:
        """Values of some fields."""
        for name, values in fields.items():
            self.fields[name][cells] = values

    def put_t(
        self,
        cells: IntArray,
        estimate: FloatArray,
        variance: FloatArray,
        df: FloatArray,
        confidence: float,
    ) -> None:
        """The t intervals of estimates with these variances and degrees of freedom."""
        se = np.sqrt(variance)
        half = t_quantile(df, confidence) * se
        p = p_of_t(t_ratio(estimate, se), df, self.n_clusters[cells])
        self.put(
            cells, estimate=estimate, low=estimate - half, high=estimate + half, se=se, df=df, p=p
        )

    def interval(
        self,
        shape: tuple[int, ...],
        confidence: float,
        method: IntervalMethod,
        texts: tuple[int, int] | None = None,
    ) -> Interval:
        """The interval over ``[*cells]`` of this shape; plain numbers for a single cell."""
        of = {name: scalar_or_array(x.reshape(shape)) for name, x in self.fields.items()}
        return Interval(
            **of,
            n=scalar_or_array(self.n.reshape(shape)),
            n_clusters=scalar_or_array(self.n_clusters.reshape(shape)),
            reason=scalar_or_array(self.reason.astype(str).reshape(shape)),
            confidence=confidence,
            method=method,
            texts=texts,
        )


def t_ratio(estimate: FloatArray, se: FloatArray) -> FloatArray:
    """estimate / se; 0 / 0 is 0 (nothing happened anywhere), another constant is infinite."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(estimate == 0.0, 0.0, estimate / se)


def t_quantile(df: FloatArray, confidence: float) -> FloatArray:
    """The half-width of a t interval in standard errors."""
    from scipy.special import stdtrit

    return np.asarray(stdtrit(df, 0.5 + confidence / 2))


def p_of_t(t: FloatArray, df: FloatArray, n_clusters: IntArray | int) -> FloatArray:
    """Two-sided p of t ratios.

    A constant other than 0 has no standard error (t is infinite). Its p is the smallest that
    flipping the signs of the clusters allows, ``2 / 2**n_clusters``.
    """
    from scipy.special import stdtr

    smallest = np.exp2(1.0 - np.asarray(n_clusters, dtype=np.float64))
    return np.where(np.isinf(t), np.minimum(1.0, smallest), 2.0 * stdtr(df, -np.abs(t)))
