"""Shares of an effect: ratios of two means over the same items, with Fieller's interval.

Source: Fieller, Some problems in interval estimation, J. R. Statist. Soc. B 1954. The interval holds
every r for which ``mean(numerator - r * denominator)`` does not differ from 0 by its t test, so that
it has the t test's coverage however noisy the denominator is.

Example::

    share(patched - destination, source - destination, clusters)
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import numpy.typing as npt

from interp.errors import InterpError
from interp.stats.arrays import (
    FloatArray,
    IntArray,
    blocks,
    check_array,
    check_confidence,
    cluster_codes,
    rows_of_cells,
)
from interp.stats.interval import CellIntervals, Interval, p_of_t, t_quantile, t_ratio
from interp.stats.two_way import TwoWay, of_observations

_CELLS_AT_ONCE = 1024


def share(
    numerator: npt.ArrayLike,
    denominator: npt.ArrayLike,
    clusters: Iterable[object],
    wordings: Iterable[object] | None = None,
    *,
    confidence: float = 0.95,
) -> Interval:
    """mean(numerator) / mean(denominator) with Fieller's t interval; ``p`` tests that it is 0.

    ``numerator`` and ``denominator`` are ``[*cells, n_obs]`` and broadcast against each other, as
    patched - destination and source - destination do in a sweep (0 = destination, 1 = source; a
    number without unit). ``wordings`` names the wording, or pair of wordings, of every observation
    and makes the variances two-way, as in :func:`~interp.stats.max_t`. An observation undefined in
    either is left out of both. Where the denominator's own interval contains 0 the share is NaN and
    ``reason`` says so. Never a mean of per-item ratios, which one item with a tiny denominator
    would decide.

    Raises:
        InterpError: shapes that do not broadcast, unmatched clusters, infinite values.
    """
    check_confidence(confidence)
    above, below = _broadcast(
        check_array("numerator", numerator), check_array("denominator", denominator)
    )
    codes = cluster_codes(clusters, above.shape[-1])
    ways = np.zeros_like(codes)
    if wordings is not None:
        ways = cluster_codes(wordings, above.shape[-1], "wording")
    top, base = rows_of_cells(above), rows_of_cells(below)
    out = CellIntervals(len(top))
    for cells, items in blocks(~np.isnan(top) & ~np.isnan(base), _CELLS_AT_ONCE):
        out.count(cells, len(items), len(np.unique(codes[items])))
        pick = np.ix_(cells, items)
        _fill(out, cells, top[pick], base[pick], codes[items], ways[items], confidence)
    return out.interval(above.shape[:-1], confidence, "fieller")


def _fill(
    out: CellIntervals,
    cells: IntArray,
    top: FloatArray,
    base: FloatArray,
    clusters: IntArray,
    wordings: IntArray,
    confidence: float,
) -> None:
    """The shares of some cells that are defined on the same observations."""
    mean = base.mean(-1)
    ratio = np.divide(top.mean(-1), mean, out=np.full(len(mean), np.nan), where=mean != 0)
    rest = top - np.nan_to_num(ratio)[:, None] * base
    found = [of_observations(x, clusters, wordings) for x in (base, rest, top)]
    if found[0] is None:
        out.reason[cells] = "a single cluster: no interval"
        return
    of_base, of_rest, of_top = (x for x in found if x is not None)
    q = t_quantile(of_base.df, confidence)
    unusable = np.abs(mean) <= q * np.sqrt(of_base.variance)
    out.reason[cells[unusable]] = "the denominator's interval contains 0"
    low, high = _fieller(mean, of_base, of_rest, confidence)
    unbounded = ~unusable & np.isnan(low)
    out.reason[cells[unbounded]] = "Fieller's interval is unbounded"
    shown = ~unusable
    top_se = np.sqrt(of_top.variance)
    p = p_of_t(t_ratio(of_top.estimate, top_se), of_top.df, out.n_clusters[cells])
    out.put(
        cells[shown],
        estimate=ratio[shown],
        low=(ratio + low)[shown],
        high=(ratio + high)[shown],
        se=np.sqrt(of_rest.variance[shown]) / np.abs(mean[shown]),
        df=of_rest.df[shown],
        p=p[shown],
    )


def _fieller(
    mean: FloatArray, of_base: TwoWay, of_rest: TwoWay, confidence: float
) -> tuple[FloatArray, FloatArray]:
    """Bounds relative to the estimate: roots d of ``(d mean)^2 = q^2 var(rest - d base)``."""
    square = t_quantile(of_rest.df, confidence) ** 2
    covariance = _covariance(of_base, of_rest)
    a = mean**2 - square * of_base.variance
    b = square * covariance
    c = square * of_rest.variance
    root = np.sqrt(np.maximum(b**2 + a * c, 0.0))
    bounded = a > 0
    scale = np.where(bounded, a, np.nan)
    return (-b - root) / scale, (-b + root) / scale


def _covariance(a: TwoWay, b: TwoWay) -> FloatArray:
    """Of two estimates on the same observations: their scores' correlation times both errors."""
    one, other = (np.concatenate([x.wordings, x.clusters], axis=-1) for x in (a, b))
    size = np.sqrt((one**2).sum(-1) * (other**2).sum(-1))
    product = (one * other).sum(-1)
    related = np.divide(product, size, out=np.zeros_like(size), where=size > 0)
    return related * np.sqrt(a.variance * b.variance)


def _broadcast(a: FloatArray, b: FloatArray) -> tuple[FloatArray, FloatArray]:
    try:
        first, second = np.broadcast_arrays(a, b)
    except ValueError:
        raise InterpError(
            f"numerator {list(a.shape)} and denominator {list(b.shape)} do not broadcast: "
            "items are the last axis of both"
        ) from None
    return first, second
