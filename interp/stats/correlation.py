"""Pearson's correlation with Fisher's interval.

Source: Fisher, On the probable error of a coefficient of correlation, Metron 1921.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

import numpy as np
import numpy.typing as npt

from interp.errors import InterpError
from interp.stats.arrays import Groups, check_array, check_confidence, cluster_codes
from interp.stats.interval import Interval

FEWEST = 4
"""Clusters below which there is no interval: Fisher's z has the variance 1 / (clusters - 3)."""


def correlation(
    x: npt.ArrayLike,
    y: npt.ArrayLike,
    *,
    clusters: Iterable[object] | None = None,
    confidence: float = 0.95,
) -> Interval:
    """Pearson's r of ``x [n_items]`` and ``y [n_items]``; ``p`` tests that it is 0.

    With ``clusters`` it is the correlation of the clusters' means, every cluster counting alike. NaN
    in either leaves an item out. ``se`` is that of z = artanh r, ``df`` NaN (z is Gaussian). Below
    four clusters, or where x or y does not vary, there is no interval, with a reason.

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
    a, b = a - a.mean(), b - b.mean()
    size = math.sqrt(float(a @ a) * float(b @ b))
    if size == 0.0:
        reason = "one of the two does not vary"
        return Interval(nan, nan, nan, n, units, confidence, reason, "fisher_z")
    r = min(1.0, max(-1.0, float(a @ b) / size))
    if units < FEWEST:
        reason = f"{units} clusters: an interval needs {FEWEST}"
        return Interval(r, nan, nan, n, units, confidence, reason, "fisher_z")
    from scipy.special import ndtr, ndtri

    se = 1.0 / math.sqrt(units - 3)
    with np.errstate(divide="ignore"):
        z = float(np.arctanh(r))
    half = float(ndtri(0.5 + confidence / 2)) * se
    p = 2.0 * float(ndtr(-abs(z) / se))
    low, high = math.tanh(z - half), math.tanh(z + half)
    return Interval(r, low, high, n, units, confidence, "", "fisher_z", None, se, nan, p)
