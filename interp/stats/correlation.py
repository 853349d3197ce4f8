"""Pearson's correlation, its interval on Fisher's scale.

On the scale ``z = artanh r`` the interval is nearly symmetric (Fisher, Metron 1921). Fisher's own
variance, 1 / (n - 3), holds for Gaussian pairs alone: with heavy tails it covers .72 to .86. The
variance is therefore the delete-a-cluster jackknife of z, with Student's t.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import numpy.typing as npt

from interp.errors import InterpError
from interp.stats.arrays import FloatArray, Groups, check_array, check_confidence, cluster_codes
from interp.stats.interval import Interval, p_of_t, t_quantile, t_ratio

_ONE = 1.0 - 1e-12

FEWEST = 4
"""Clusters below which there is no interval: without one, two would always correlate by +-1."""


def correlation(
    x: npt.ArrayLike,
    y: npt.ArrayLike,
    *,
    clusters: Iterable[object] | None = None,
    confidence: float = 0.95,
) -> Interval:
    """Pearson's r of ``x [n_items]`` and ``y [n_items]``; ``p`` tests that it is 0.

    With ``clusters`` it is the correlation of the clusters' means, every cluster counting alike. NaN
    in either leaves an item out. ``se`` is that of z = artanh r. Below four clusters, or where x or y
    does not vary (also without one cluster), there is no interval, with a reason.

    Raises:
        InterpError: lengths that differ, more than one axis, unmatched clusters, infinite values.
    """
    check_confidence(confidence)
    first, second = check_array("x", x), check_array("y", y)
    if first.ndim != 1 or first.shape != second.shape:
        raise InterpError(f"x {list(first.shape)} and y {list(second.shape)}: give [n_items] twice")
    codes = cluster_codes(range(len(first)) if clusters is None else clusters, len(first))
    defined = ~np.isnan(first) & ~np.isnan(second)
    first, second, n = first[defined], second[defined], int(defined.sum())
    nan = float("nan")
    if not n:
        return Interval(nan, nan, nan, 0, 0, confidence, "no defined item", "fisher_z")
    groups = Groups.of(codes[defined])
    units = len(groups)
    a, b = (groups.sums(v) / groups.sizes for v in (first, second))
    r = _pearson(a, b)
    if r != r:
        reason = "one of the two does not vary"
        return Interval(nan, nan, nan, n, units, confidence, reason, "fisher_z")
    if units < FEWEST:
        reason = f"{units} clusters: an interval needs {FEWEST}"
        return Interval(r, nan, nan, n, units, confidence, reason, "fisher_z")
    without = _without_one(a, b)
    if np.isnan(without).any():
        reason = "without one cluster one of the two does not vary: no interval"
        return Interval(r, nan, nan, n, units, confidence, reason, "fisher_z")
    z, left = (np.arctanh(np.clip(np.atleast_1d(v), -_ONE, _ONE)) for v in (r, without))
    se = np.sqrt((units - 1) / units * ((left - left.mean()) ** 2).sum(keepdims=True))
    df = np.array([units - 1.0])
    half, p = t_quantile(df, confidence) * se, p_of_t(t_ratio(z, se), df, units)
    low, high = (np.tanh(z - half), np.tanh(z + half)) if se[0] else (np.array([r]),) * 2
    bounds, tests = (float(low[0]), float(high[0])), (float(se[0]), float(df[0]), float(p[0]))
    return Interval(r, *bounds, n, units, confidence, "", "fisher_z", None, *tests)


def _without_one(x: FloatArray, y: FloatArray) -> FloatArray:
    """r without each of the units in turn; NaN where one of the two does not vary then."""
    m = len(x) - 1
    a, b = ((v - v.mean()) / v.std() for v in (x, y))
    # sums without unit k are the sums minus its own part; a and b sum to 0
    spread = [(v @ v - v**2) - v**2 / m for v in (a, b)]
    together = (a @ b - a * b) - a * b / m
    size = np.sqrt(np.maximum(spread[0], 0.0) * np.maximum(spread[1], 0.0))
    varies = np.minimum(*spread) > 1e-12 * m
    return np.divide(together, size, out=np.full(len(x), np.nan), where=varies)


def _pearson(x: FloatArray, y: FloatArray) -> float:
    """r; NaN where one of the two does not vary."""
    a, b = x - x.mean(), y - y.mean()
    spread = np.sqrt([a @ a, b @ b])
    if (spread <= 1e-13 * np.sqrt([x @ x, y @ y])).any():
        return float("nan")
    return float(np.clip((a / spread[0]) @ (b / spread[1]), -1.0, 1.0))
