"""How many of a grid's largest effects are expected among the cells that were not run.

What is known: an estimate of every cell, the size of what it leaves out but for a factor (its
curvature: :mod:`interp.patching.estimates`), and the exact effect of some. An exact effect is taken
to be

    effect = b * estimate + deviation

with ``b`` fitted to the cells that were run, and a Gaussian deviation (kriging, a Gaussian process on
the grid). Its standard deviation grows with the curvature, by a factor that is local to the layer, and
with the estimate. Of its variance a share is common to a column (a position or a head) and fades from
layer to layer, since the residual stream changes little from one layer to the next; how large that share
is and how far it reaches is fitted by likelihood. From that follows, for each cell that was not run, the
chance that it is larger than the k-th largest of those that were; the sum of these chances is the
expected number that is missed. They are Student's t, because the deviations of a layer are estimated
from the few cells that were run near it.

The model is fitted to cells that were drawn at random as well as to those that were chosen, else a cell
whose estimate is near 0 and whose effect is not would never be seen. It is a model: its calibration is
measured in ``analyses.benchmarks.attribution``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt
from scipy.linalg import solve_triangular
from scipy.stats import t as student

from interp.stats import FloatArray, IntArray

_BY_ESTIMATE = 0.15
"""Standard deviation of the deviation, in units of the estimate."""

_BY_CURVATURE = 0.4
"""Power of the curvature that a deviation's size goes with: where it is large the effect saturates."""

_WIDER = 1.1
"""Deviations are that much larger than fitted, since what is fitted to the cells that were run describes
those best. This and the power were set on the exact effects of 14 BBQ pairs of the default model."""

_NEIGHBOURS = 1.0
"""Layers over which the local standard deviation is averaged, and weight of the whole grid's."""

_SHARED: Sequence[tuple[float, float]] = (
    (0.0, 1.0),
    (0.5, 4.0),
    (0.9, 1.5),
    (0.95, 4.0),
    (0.98, 10.0),
)
"""What is tried: a column's share of the variance, and the layers over which it fades."""

_JITTER = 1e-6

_LEAST = 0.01
"""Added to a size: where an estimate leaves nothing out, rounding is no large deviation."""


@dataclass(frozen=True, eq=False)
class ScreenedGrid:
    """The cells of a grid: layer, column (cells of one column share position and head), estimate, and
    curvature (0 or more, in any unit)."""

    layer: IntArray
    column: IntArray
    estimate: FloatArray
    curvature: FloatArray

    def chances(self, exact: FloatArray, k: int) -> FloatArray:
        """For each cell the chance that it is larger than the ``k``-th largest of those that were run.

        Args:
            exact: effects of the cells that were run, NaN of the others.
            k: how many of the largest are wanted.

        Returns:
            0 for cells that were run, and 1 for all others where fewer than ``k`` were.
        """
        run = np.flatnonzero(~np.isnan(exact))
        others = np.flatnonzero(np.isnan(exact))
        chances = np.zeros(len(exact))
        if len(run) < k or not np.ptp(exact[run]):
            chances[others] = 1.0
            return chances
        bar = np.sort(np.abs(exact[run]))[-k]
        mean, deviation = self._predicted(exact, run)
        # the deviation of a layer is estimated from the few cells that were run near it
        df = self._weights(run).sum(1)[self.layer] + 1
        found = student.sf((bar - mean) / deviation, df) + student.cdf(
            (-bar - mean) / deviation, df
        )
        chances[others] = found[others]
        return chances

    def _predicted(self, exact: FloatArray, run: IntArray) -> tuple[FloatArray, FloatArray]:
        """Mean and standard deviation of every cell's effect, given those that were run."""
        slope = self._slope(exact, run)
        residual = exact[run] - slope * self.estimate[run]
        sd = self._deviation(residual, run)
        columns = _columns(self.layer, self.column, run, residual / sd[run])
        share, reach = max(_SHARED, key=lambda s: sum(c.likelihood(*s) for c in columns))
        mean, variance = slope * self.estimate, np.ones(len(exact))
        for column in columns:
            at = column.cells
            expected, variance[at] = column.given_run(share, reach)
            mean[at] += sd[at] * expected
        return mean, _WIDER * sd * np.sqrt(variance)

    def _slope(self, exact: FloatArray, run: IntArray) -> float:
        """Weighted least squares through 0, between no use of the estimate and half as much again."""
        estimate, size = self.estimate[run], self._sizes[run]
        rest = exact[run] - self._bounded(exact[run], estimate, np.ones(len(run))) * estimate
        unit = float((rest**2 / size**2).mean())
        noise = unit * size**2 + (_BY_ESTIMATE * estimate) ** 2
        return self._bounded(exact[run], estimate, 1 / (noise + np.finfo(np.float64).tiny))

    @staticmethod
    def _bounded(exact: FloatArray, estimate: FloatArray, weight: FloatArray) -> float:
        squares = float((weight * estimate**2).sum())
        fitted = float((weight * exact * estimate).sum()) / squares if squares else 0.0
        return min(max(fitted, 0.0), 1.5)

    @cached_property
    def _sizes(self) -> FloatArray:
        """What the deviations go with, 1 in the mean or so: equal where no curvature is known."""
        mean = float(self.curvature.mean())
        relative = self.curvature / mean if mean > 0 else np.ones(len(self.curvature))
        sizes: FloatArray = relative**_BY_CURVATURE + _LEAST
        return sizes

    def _deviation(self, residual: FloatArray, run: IntArray) -> FloatArray:
        """Standard deviation of every cell's deviation before any is run."""
        with_estimate = (_BY_ESTIMATE * self.estimate) ** 2
        rest = np.maximum(residual**2 - with_estimate[run], 0.0) / self._sizes[run] ** 2
        weights = self._weights(run)
        local = (weights @ rest + _NEIGHBOURS * rest.mean()) / (weights.sum(1) + _NEIGHBOURS)
        floor = _JITTER * (residual**2).mean() + np.finfo(np.float64).tiny
        deviation: FloatArray = np.sqrt(local[self.layer] * self._sizes**2 + with_estimate + floor)
        return deviation

    def _weights(self, run: IntArray) -> FloatArray:
        """How much each cell that was run says of the deviations at each layer, ``[layer, run]``."""
        layers = np.arange(self.layer.max() + 1)
        weights: FloatArray = np.exp(-np.abs(layers[:, None] - self.layer[run]) / _NEIGHBOURS)
        return weights


@dataclass(frozen=True, eq=False)
class _Column:
    """The cells of a column: their layers, which were run, and those deviations in their own units."""

    cells: IntArray
    layer: IntArray
    run: npt.NDArray[np.bool_]
    deviation: FloatArray

    def likelihood(self, share: float, reach: float) -> float:
        """Log likelihood of the deviations that were seen, but for a constant."""
        factor, whitened = self._factored(share, reach)
        return -0.5 * float(whitened @ whitened) - float(np.log(np.diag(factor)).sum())

    def given_run(self, share: float, reach: float) -> tuple[FloatArray, FloatArray]:
        """Mean and variance of every cell's deviation, given those that were run."""
        factor, whitened = self._factored(share, reach)
        apart = np.abs(self.layer[self.run][:, None] - self.layer)
        known = solve_triangular(factor, share * np.exp(-apart / reach), lower=True)
        return whitened @ known, np.maximum(1 - (known**2).sum(0), _JITTER)

    def _factored(self, share: float, reach: float) -> tuple[FloatArray, FloatArray]:
        """The covariance's factor, and the deviations in units that are independent."""
        layer = self.layer[self.run]
        covariance = share * np.exp(-np.abs(layer[:, None] - layer) / reach)
        np.fill_diagonal(covariance, 1 + _JITTER)
        factor = np.linalg.cholesky(covariance)
        return factor, solve_triangular(factor, self.deviation, lower=True)


def _columns(
    layer: IntArray, column: IntArray, run: IntArray, deviation: FloatArray
) -> list[_Column]:
    """The columns of which some cell was run: others have nothing to tell."""
    seen = np.full(len(layer), np.nan)
    seen[run] = deviation
    found = []
    for number in np.unique(column[run]):
        cells = np.flatnonzero(column == number)
        was_run = ~np.isnan(seen[cells])
        found.append(_Column(cells, layer[cells], was_run, seen[cells][was_run]))
    return found
