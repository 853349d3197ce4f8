"""Means over items that come in clusters, and rates of success.

Example::

    cluster_mean(margins, clusters)                            # every item counts alike
    cluster_mean(margins, clusters, statistic="cluster_mean")  # every cluster counts alike
    success_rate(correct, clusters)
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence
from typing import Literal

import numpy as np
import numpy.typing as npt

from interp.errors import InterpError
from interp.stats.arrays import (
    FloatArray,
    Groups,
    blocks,
    check_array,
    check_binary,
    check_confidence,
    cluster_codes,
    rows_of_cells,
)
from interp.stats.interval import CellIntervals, Interval
from interp.stats.two_way import of_observations
from interp.stats.variance import Deletion

_CELLS_AT_ONCE = 2048


def random_wordings(wordings: Sequence[object]) -> Sequence[object] | None:
    """The wordings of some items as a random effect; None where all are one, which varies in nothing."""
    return wordings if len(set(wordings)) > 1 else None


def cluster_mean(
    values: npt.ArrayLike,
    clusters: Iterable[object],
    *,
    wordings: Iterable[object] | None = None,
    statistic: Literal["mean", "cluster_mean"] = "mean",
    confidence: float = 0.95,
) -> Interval:
    """Mean of ``values [*cells, n_items]`` with a t interval over clusters; ``p`` tests that it is 0.

    ``statistic="mean"`` counts every item alike; where clusters differ in size its variance is the
    delete-a-cluster jackknife with effective degrees of freedom (:mod:`interp.stats.variance`) and
    ``method`` is ``"jackknife_t"``, else the two agree and it is ``"t"``. ``"cluster_mean"`` counts
    every cluster alike. NaN items are left out. With ``wordings``, the (pair of) wordings of every item
    of ``values``, these are random as well (two-way cluster variance, as in
    :func:`~interp.stats.max_t.max_t`), and ``method`` is ``"cgm_t"``. A single cluster gives the
    estimate alone, with a reason.

    Raises:
        InterpError: cluster names that are missing or do not match the items; infinite values.
    """
    check_confidence(confidence)
    array = check_array("values", values)
    if wordings is not None:
        return _two_way_mean(array, clusters, wordings, confidence)
    flat, codes = rows_of_cells(array), cluster_codes(clusters, array.shape[-1])
    out, unequal = CellIntervals(len(flat)), False
    for cells, items in blocks(~np.isnan(flat), _CELLS_AT_ONCE):
        here, inside = codes[items], flat[np.ix_(cells, items)]
        groups = Groups.of(here)
        out.count(cells, len(items), len(groups))
        if statistic == "cluster_mean":
            inside = groups.sums(inside) / groups.sizes
            here = np.arange(len(groups))
        else:
            unequal |= bool((groups.sizes != groups.sizes[0]).any())
        estimate = inside.mean(-1)
        deletion = Deletion.of(here, np.ones(len(here)))
        if deletion is None:
            out.reason[cells] = "a single cluster: no interval"
            out.put(cells, estimate=estimate)
            continue
        scale = np.abs(inside).max(-1)
        found = deletion.component(inside).floor(scale)
        out.put_t(cells, estimate, found.variance, found.df, confidence)
    return out.interval(array.shape[:-1], confidence, "jackknife_t" if unequal else "t")


def _two_way_mean(
    array: FloatArray, clusters: Iterable[object], wordings: Iterable[object], confidence: float
) -> Interval:
    flat, n = rows_of_cells(array), array.shape[-1]
    codes, ways = cluster_codes(clusters, n), cluster_codes(wordings, n, "wording")
    out = CellIntervals(len(flat))
    for cells, items in blocks(~np.isnan(flat), _CELLS_AT_ONCE):
        inside = flat[np.ix_(cells, items)]
        out.count(cells, len(items), len(np.unique(codes[items])))
        found = of_observations(inside, codes[items], ways[items])
        if found is None:
            out.reason[cells] = "a single cluster: no interval"
            out.put(cells, estimate=inside.mean(-1))
        else:
            out.put_t(cells, found.estimate, found.variance, found.df, confidence)
    return out.interval(array.shape[:-1], confidence, "cgm_t")


def success_rate(
    successes: npt.ArrayLike, clusters: Iterable[object], *, confidence: float = 0.95
) -> Interval:
    """Proportion of ``successes [n_items]`` (0, 1 or NaN), a :func:`cluster_mean` within 0..1.

    When all or none succeed nothing varies, and the interval is the exact one of Clopper and
    Pearson with the *clusters* as trials (the cautious count: items of a cluster are not
    independent); ``method`` is then ``"clopper_pearson"``. There is no test: ``p`` is NaN.

    Raises:
        InterpError: a value other than 0, 1 or NaN, more than one axis, unmatched clusters.
    """
    values = check_binary("successes", successes)
    if values.ndim != 1:
        raise InterpError(f"successes {list(values.shape)}: give one axis, [n_items]")
    nan = float("nan")
    found = dataclasses.replace(cluster_mean(values, clusters, confidence=confidence), p=nan)
    if found.estimate not in (0.0, 1.0):
        return found.within(0.0, 1.0)
    one_sided = ((1 - confidence) / 2) ** (
        1 / found.n_clusters
    )  # all of n: the bound's closed form
    low, high = (one_sided, 1.0) if found.estimate == 1.0 else (0.0, 1.0 - one_sided)
    return dataclasses.replace(
        found, low=low, high=high, se=nan, df=nan, reason="", method="clopper_pearson"
    )
