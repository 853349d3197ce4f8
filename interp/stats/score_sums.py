"""Intervals of statistics that are functions of sums over items: scores, gaps, odds.

Accuracy differences or BBQ's bias score are no means of per-item numbers, but each is a function of
a few sums over items (counts, squares, products). Leaving out a cluster changes these sums, and the
function is applied anew: the delete-a-cluster jackknife.

Example::

    # accuracy of group a minus accuracy of group b
    columns = np.stack([correct * a, a, correct * b, b])
    gap = of_sums(lambda s: s[0] / s[1] - s[2] / s[3], columns, clusters)
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

import numpy as np
import numpy.typing as npt

from interp.errors import InterpError
from interp.stats.arrays import FloatArray, Groups, check_array, check_confidence, cluster_codes
from interp.stats.interval import CellIntervals, Interval
from interp.stats.variance import Deletion

_STEP = 1e-6  # of the derivatives, relative to the largest sum


def of_sums(
    statistic: Callable[[FloatArray], FloatArray],
    columns: npt.ArrayLike,
    clusters: Iterable[object],
    *,
    n: int | None = None,
    undefined: str = "undefined",
    confidence: float = 0.95,
) -> Interval:
    """A smooth function of the sums of ``columns [n_columns, n_items]`` with a jackknife-t interval.

    ``statistic`` maps sums ``[n_columns, k]`` to values ``[k]``; what it makes of 0 / 0 counts as
    undefined. An undefined estimate is NaN with the reason ``undefined``; where leaving out one
    cluster makes it undefined, or leaving out any changes nothing, there is no interval. The
    variance is the delete-a-cluster jackknife (CV3); the degrees of freedom are those of the mean
    of the statistic's linear part (:mod:`interp.stats.variance`). ``n`` is the number of items
    the estimate rests on, all of them by default. ``p`` tests that the value is 0.

    Raises:
        InterpError: a value that is missing or infinite, or clusters that do not match the items.
    """
    check_confidence(confidence)
    array = check_array("columns", columns, 2)
    if array.ndim != 2 or np.isnan(array).any():
        raise InterpError(f"columns {list(array.shape)}: give [n_columns, n_items] without NaN")
    groups = Groups.of(cluster_codes(clusters, array.shape[-1]))
    out, cell = CellIntervals(1), np.zeros(1, dtype=np.intp)
    out.count(cell, array.shape[-1] if n is None else n, len(groups))
    out.reason[:] = undefined
    if not array.shape[-1]:
        return out.interval((), confidence, "jackknife_t")

    def of(sums: FloatArray) -> FloatArray:
        with np.errstate(divide="ignore", invalid="ignore"):
            values = np.asarray(statistic(sums), dtype=np.float64)
        return np.where(np.isfinite(values), values, np.nan)

    of_clusters = groups.sums(array)
    total = of_clusters.sum(-1, keepdims=True)
    estimate, without = of(total), of(total - of_clusters)
    if np.isnan(estimate[0]):
        return out.interval((), confidence, "jackknife_t")
    out.reason[:] = ""
    out.put(cell, estimate=estimate)
    deletion = Deletion.of(groups.codes, np.ones(array.shape[-1]))
    if deletion is None:
        out.reason[:] = "a single cluster: no interval"
    elif np.isnan(without).any():
        out.reason[:] = f"without one cluster {undefined}: no interval"
    else:
        u = len(groups)
        variance = (u - 1) / u * ((without - without.mean()) ** 2).sum(keepdims=True)
        if variance[0] <= (1e-13 * np.abs(without).max()) ** 2:  # all answers alike, say
            out.reason[:] = "it is the same without any cluster: no interval"
            return out.interval((), confidence, "jackknife_t")
        linear = deletion.component((_gradient(of, total) @ array)[None])
        out.put_t(cell, estimate, variance, linear.df, confidence)
    return out.interval((), confidence, "jackknife_t")


def _gradient(of: Callable[[FloatArray], FloatArray], total: FloatArray) -> FloatArray:
    """Derivatives of the statistic by the sums ``[n_columns]``; 0 where it has none."""
    step = _STEP * max(float(np.abs(total).max()), 1e-300)
    shifts = np.eye(len(total)) * step
    slopes = (of(total + shifts) - of(total - shifts)) / (2 * step)
    return np.nan_to_num(slopes)
