"""Intervals of statistics that are functions of sums over items: scores, gaps, correlations.

Accuracy differences, BBQ's bias score or a correlation are no means of per-item numbers, but each
is a function of a few sums over items (counts, squares, products). Resampling clusters resamples
these sums, and the function is applied anew to every resample.

Example::

    # accuracy of group a minus accuracy of group b
    columns = np.stack([correct * a, a, correct * b, b])
    gap = sums_bootstrap(lambda s: s[0] / s[1] - s[2] / s[3], columns, clusters, seed=0)
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import numpy as np
import numpy.typing as npt

from interp.errors import InterpError
from interp.stats.intervals import Interval
from interp.stats.resampling import FloatArray, Groups, Plan, checked, cluster_codes


def sums_bootstrap(
    statistic: Callable[[FloatArray], FloatArray],
    columns: npt.ArrayLike,
    clusters: Iterable[object],
    *,
    n: int | None = None,
    undefined: str = "undefined",
    confidence: float = 0.95,
    n_resamples: int = 2000,
    seed: int,
    labels: Sequence[object] = (),
) -> Interval:
    """A function of the sums of ``columns [n_columns, n_items]``, with a percentile interval.

    ``statistic`` maps sums ``[n_columns, k]`` to values ``[k]``; what it makes of 0 / 0 counts as
    undefined. An undefined estimate is NaN with the reason ``undefined``; undefined resamples are
    left out. ``n`` is the number of items the estimate rests on, all of them by default. A single
    cluster gives the estimate without bounds.

    Raises:
        InterpError: A value that is missing or infinite, or clusters that do not match the items.
    """
    plan = Plan(confidence, n_resamples, seed, labels)
    array = checked("columns", columns, 2)
    if array.ndim != 2 or np.isnan(array).any():
        raise InterpError(f"columns {list(array.shape)}: give [n_columns, n_items] without NaN")
    groups = Groups.of(cluster_codes(clusters, array.shape[-1]))
    n = array.shape[-1] if n is None else n
    nan = float("nan")
    if not array.shape[-1]:
        return Interval(nan, nan, nan, n, 0, confidence, undefined)

    def of(sums: FloatArray) -> FloatArray:
        with np.errstate(divide="ignore", invalid="ignore"):
            values = np.asarray(statistic(sums), dtype=np.float64)
        return np.where(np.isfinite(values), values, nan)

    sums = groups.sums(array)
    estimate = float(of(sums.sum(-1, keepdims=True))[0])
    if np.isnan(estimate):
        return Interval(nan, nan, nan, n, len(groups), confidence, undefined)
    if len(groups) == 1:
        return Interval(estimate, nan, nan, n, 1, confidence, "a single cluster: no interval")
    draws = [of((w @ sums.T).T) for w in plan.weights(len(groups), "clusters")]
    pooled = np.concatenate(draws)
    if np.isnan(pooled).all():
        return Interval(estimate, nan, nan, n, len(groups), confidence, "no defined resample")
    low, high = plan.bounds(pooled)
    return Interval(estimate, float(low), float(high), n, len(groups), confidence)
