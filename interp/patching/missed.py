"""How many of a grid's largest effects are expected among the cells that were not run.

What is known: an estimate of every cell, and the exact effect of some. An exact effect is taken to be

    effect = b * estimate + deviation

with ``b`` fitted to the cells that were run, and a Gaussian deviation (kriging, a Gaussian process on
the grid). Its standard deviation grows with the estimate and has a part that is local to the layer:
estimates fail most at the first layers. Of its variance a share is common to a column (a position or a
head) and fades from layer to layer, since the residual stream changes little from one layer to the next;
how large that share is and how far it reaches is fitted by likelihood. From that follows, for each cell
that was not run, the chance that it is larger than the k-th largest of those that were; the sum of these
chances is the expected number that is missed. They are Student's t, because the deviations of a layer
are estimated from the few cells that were run near it.

The model is fitted to cells that were drawn at random as well as to those that were chosen, else a cell
whose estimate is near 0 and whose effect is not would never be seen. It is a model: its calibration is
measured in ``analyses.benchmarks.attribution``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.linalg import cho_solve, cholesky, solve_triangular
from scipy.stats import t as student

from interp.stats import FloatArray, IntArray

_BY_ESTIMATE = 0.3
"""Standard deviation of the deviation, in units of the estimate."""

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


@dataclass(frozen=True, eq=False)
class ScreenedGrid:
    """The cells of a grid: layer, column (cells of one column share position and head), estimate."""

    layer: IntArray
    column: IntArray
    estimate: FloatArray

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
        mean, deviation = self._predicted(exact, run, others)
        # the deviation of a layer is estimated from the few cells that were run near it
        df = self._weights(run).sum(1)[self.layer[others]] + 1
        chances[others] = student.sf((bar - mean) / deviation, df)
        chances[others] += student.cdf((-bar - mean) / deviation, df)
        return chances

    def _predicted(
        self, exact: FloatArray, run: IntArray, others: IntArray
    ) -> tuple[FloatArray, FloatArray]:
        """Mean and standard deviation of the effects of the others, given those that were run."""
        slope = self._slope(exact, run)
        residual = exact[run] - slope * self.estimate[run]
        sd = self._deviation(residual, run)
        fits = [self._fit(residual, run, sd, *shared) for shared in _SHARED]
        _, factor, weights, (share, reach) = max(fits, key=lambda fit: fit[0])
        between = self._covariance(others, run, sd, share, reach)
        mean = slope * self.estimate[others] + between @ weights
        known = solve_triangular(factor, between.T, lower=True)
        variance = np.maximum(sd[others] ** 2 - (known**2).sum(0), _JITTER * sd[others] ** 2)
        return mean, np.sqrt(variance)

    def _slope(self, exact: FloatArray, run: IntArray) -> float:
        """Least squares through 0, between no use of the estimate and half as much again."""
        squares = float((self.estimate[run] ** 2).sum())
        fitted = float((exact[run] * self.estimate[run]).sum()) / squares if squares else 0.0
        return min(max(fitted, 0.0), 1.5)

    def _deviation(self, residual: FloatArray, run: IntArray) -> FloatArray:
        """Standard deviation of every cell's deviation before any is run."""
        with_estimate = _BY_ESTIMATE * self.estimate
        rest = np.maximum(residual**2 - with_estimate[run] ** 2, 0.0)
        weights = self._weights(run)
        local = (weights @ rest + _NEIGHBOURS * rest.mean()) / (weights.sum(1) + _NEIGHBOURS)
        floor = _JITTER * (residual**2).mean() + np.finfo(np.float64).tiny
        deviation: FloatArray = np.sqrt(local[self.layer] + with_estimate**2 + floor)
        return deviation

    def _weights(self, run: IntArray) -> FloatArray:
        """How much each cell that was run says of the deviations at each layer, ``[layer, run]``."""
        layers = np.arange(self.layer.max() + 1)
        weights: FloatArray = np.exp(-np.abs(layers[:, None] - self.layer[run]) / _NEIGHBOURS)
        return weights

    def _fit(
        self, residual: FloatArray, run: IntArray, sd: FloatArray, share: float, reach: float
    ) -> tuple[float, FloatArray, FloatArray, tuple[float, float]]:
        """Log likelihood, the covariance's factor, weights of the prediction, and what was tried."""
        covariance = self._covariance(run, run, sd, share, reach)
        covariance[np.diag_indices(len(run))] = sd[run] ** 2 * (1 + _JITTER)
        factor = cholesky(covariance, lower=True)
        weights = cho_solve((factor, True), residual)
        likelihood = -0.5 * float(residual @ weights) - float(np.log(np.diag(factor)).sum())
        return likelihood, factor, weights, (share, reach)

    def _covariance(
        self, a: IntArray, b: IntArray, sd: FloatArray, share: float, reach: float
    ) -> FloatArray:
        """Between the deviations of different cells."""
        same = self.column[a][:, None] == self.column[b]
        apart = np.abs(self.layer[a][:, None] - self.layer[b])
        found: FloatArray = sd[a][:, None] * sd[b] * share * same * np.exp(-apart / reach)
        return found
