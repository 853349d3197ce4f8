"""Two-way cluster variance: wordings and clusters of items are both random.

The variance of an estimate that rests on several wordings and several clusters is the variance
between wordings, plus that between clusters, minus what both count, the noise of single (wording,
cluster) pairs. Source: Cameron, Gelbach and Miller, Robust inference with multiway clustering,
Journal of Business and Economic Statistics 2011. What both count is at most half of the
sum, and no more is ever subtracted.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from interp.stats.arrays import FloatArray, Groups, IntArray
from interp.stats.variance import Deletion, VariancePart, satterthwaite


@dataclass(frozen=True)
class TwoWay:
    """Estimates with two-way variances, per cell.

    ``estimate``, ``variance``, ``df`` are ``[cells]``. ``wordings [cells, units]`` and ``clusters
    [cells, units]`` are the scores of :class:`~interp.stats.variance.VariancePart`.
    """

    estimate: FloatArray
    variance: FloatArray
    df: FloatArray
    wordings: FloatArray
    clusters: FloatArray


def of_arms(
    arms: Sequence[FloatArray], codes: IntArray, sides: Sequence[FloatArray]
) -> TwoWay | None:
    """mean(arms[0]) - mean(arms[1]) of wordings crossed with items, ``[cells, wordings, items]``.

    ``sides``: the weights of the items, or those of two groups of items whose effects are
    subtracted. None where leaving out one cluster leaves nothing of a side.
    """
    deletion = Deletion.of(codes, *sides)
    if deletion is None:
        return None
    whole = [side / side.sum() for side in sides]
    contrast = whole[0] - whole[1] if len(sides) > 1 else whole[0]
    scale = np.maximum(*(np.abs(arm).max((1, 2)) for arm in arms))
    difference = arms[0].mean(1) - arms[1].mean(1)
    estimate = difference @ contrast
    wordings = [_between(arm @ contrast, sign) for arm, sign in zip(arms, (1, -1), strict=True)]
    both = [_pairs(arm, deletion.groups, whole) for arm in arms]
    return _combined(
        estimate,
        [part.floor(scale) for part in wordings if part is not None],
        deletion.component(difference).floor(scale),
        both[0] + both[1],
        scale,
    )


def of_observations(values: FloatArray, clusters: IntArray, wordings: IntArray) -> TwoWay | None:
    """Means of observations ``[cells, n]``, each of one wording and one cluster.

    Where every wording has the same observations of every cluster the wordings are crossed with
    the clusters, and what both count is the interaction; else it is the variance between the
    (wording, cluster) pairs that occur. One wording has no component.
    """
    ones = np.ones(len(clusters))
    of_clusters = Deletion.of(clusters, ones)
    if of_clusters is None:
        return None
    scale = np.abs(values).max(-1)
    estimate, of_wordings = values.mean(-1), Deletion.of(wordings, ones)
    between = of_clusters.component(values).floor(scale)
    if of_wordings is None:
        return _combined(estimate, [], between, np.zeros(len(values)), scale)
    rows, columns = of_wordings.groups, of_clusters.groups
    counts = np.zeros((len(rows), len(columns)))
    np.add.at(counts, (rows.codes, columns.codes), 1.0)
    if (counts == counts[0]).all():
        order = np.lexsort((columns.codes, rows.codes))
        table = values[:, order].reshape(len(values), len(rows), -1)
        groups = Groups.of(np.repeat(np.arange(len(columns)), counts[0].astype(int)))
        both = _pairs(table, groups, [np.full(table.shape[-1], 1 / table.shape[-1])])
    else:
        pair = Deletion.of(rows.codes * len(columns) + columns.codes, ones)
        both = np.zeros(len(values)) if pair is None else pair.component(values).variance
    return _combined(estimate, [of_wordings.component(values).floor(scale)], between, both, scale)


def _between(means: FloatArray, sign: int) -> VariancePart | None:
    """Of the wordings' means ``[cells, wordings]``; None for a single wording."""
    k = means.shape[-1]
    if k == 1:
        return None
    scores = sign * (means - means.mean(-1, keepdims=True)) / np.sqrt(k * (k - 1))
    return VariancePart((scores**2).sum(-1), np.full(len(means), k - 1.0), scores)


def _pairs(arm: FloatArray, groups: Groups, sides: Sequence[FloatArray]) -> FloatArray:
    """Variance of the mean of an arm by the interaction of wordings and clusters, ``[cells]``."""
    k = arm.shape[1]
    if k == 1:
        return np.zeros(len(arm))
    sums, squares = 0.0, 0.0
    apart = arm - arm.mean(1, keepdims=True)
    for sign, side in zip((1.0, -1.0), sides, strict=False):
        inner = apart - (apart @ side)[..., None]
        share = groups.sums(side)
        square, cube = (share**2).sum(), (share**3).sum()
        correction = square / max(square - 2 * cube + square**2, 1e-12)
        sums = sums + sign * np.sqrt(correction) * groups.sums(inner * side)
        squares = squares + square
    return (np.asarray(sums) ** 2).sum((1, 2)) / (k * (k - 1))


def _combined(
    estimate: FloatArray,
    wordings: Sequence[VariancePart],
    clusters: VariancePart,
    both: FloatArray,
    scale: FloatArray,
) -> TwoWay:
    of_wordings = sum((part.variance for part in wordings), np.zeros(len(estimate)))
    total = of_wordings + clusters.variance
    variance = np.maximum(total - both, total / 2)
    scores = [part.scores for part in wordings] or [np.zeros((len(estimate), 0))]
    estimate = np.where(np.abs(estimate) <= 1e-13 * scale, 0.0, estimate)
    return TwoWay(
        estimate,
        variance,
        _degrees(total, variance, wordings, clusters),
        np.concatenate(scores, -1),
        clusters.scores,
    )


def _degrees(
    total: FloatArray,
    variance: FloatArray,
    wordings: Sequence[VariancePart],
    clusters: VariancePart,
) -> FloatArray:
    """Satterthwaite's degrees of freedom, cautious about an arm of few wordings.

    The parts' variances are estimates: a part of 1 degree of freedom is often far too small, and
    then lends the sum the degrees of freedom of the others. So the parts enter with median-unbiased
    estimates of their variances, and the arm with fewer wordings with its upper 80 % limit. What was
    subtracted of the sum lowers the degrees of freedom in proportion.
    """
    from scipy.special import chdtri  # inverse of the upper tail of chi-squared

    most, parts = max((part.df[0] for part in wordings), default=0.0), []
    for part in (clusters, *wordings):
        tail = 0.5 if part is clusters or part.df[0] == most else 0.8
        parts.append((part.variance * part.df / chdtri(part.df, tail), part.df))
    whole = satterthwaite(sum(part for part, _ in parts), *parts)
    return whole * np.divide(variance, total, out=np.ones_like(total), where=total > 0)
