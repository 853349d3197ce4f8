"""Intervals of statistics that are functions of sums over items: scores, gaps, correlations.

Accuracy differences, BBQ's bias score or a correlation are no means of per-item numbers, but each
is a function of a few sums over items (counts, squares, products). Resampling clusters resamples
these sums, and the function is applied anew to every resample.

Example::

    # accuracy of group a minus accuracy of group b
    columns = np.stack([correct * a, a, correct * b, b])
    gap = sums_bootstrap(lambda s: s[0] / s[1] - s[2] / s[3], columns, clusters, seed=0)
    # effect of instructions on the items of group a minus that on the others
    gap = two_way_gap(corrected, placebo, clusters, a, seed=0)
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from interp.errors import InterpError
from interp.stats.interval import Interval
from interp.stats.resampling import (
    FloatArray,
    Groups,
    ResamplingPlan,
    check_array,
    check_binary,
    cluster_codes,
)


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
    plan = ResamplingPlan(confidence, n_resamples, seed, labels)
    array = check_array("columns", columns, 2)
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
    draws = (of((w @ sums.T).T) for w in plan.weights(len(groups), "clusters"))
    return _interval(estimate, draws, n, len(groups), plan, undefined)


def two_way_gap(
    treated: npt.ArrayLike,
    control: npt.ArrayLike,
    clusters: Iterable[object],
    inside: npt.ArrayLike,
    *,
    undefined: str = "needs items inside the group and outside",
    confidence: float = 0.95,
    n_resamples: int = 2000,
    seed: int,
    labels: Sequence[object] = (),
) -> Interval:
    """Effect of instructions on the items ``inside`` a group minus their effect on the other items.

    ``treated [n_treated_texts, n_items]`` and ``control [n_control_texts, n_items]`` in nats of
    margin; ``inside [n_items]`` holds 0 and 1. Both effects are mean(treated) - mean(control); texts
    of either arm and item clusters are resampled as in :func:`two_way_bootstrap`, the same for both
    groups. An item undefined under any text is left out.

    Raises:
        InterpError: Arms on different items, an ``inside`` of other length or values, unmatched
            clusters.
    """
    plan = ResamplingPlan(confidence, n_resamples, seed, labels)
    arms = [check_array("treated", treated, 2), check_array("control", control, 2)]
    member = check_binary("inside", inside)
    if any(arm.ndim != 2 or arm.shape[1:] != member.shape for arm in arms):
        shapes = ", ".join(str(list(array.shape)) for array in (*arms, member))
        raise InterpError(
            f"treated, control and inside are {shapes}: give [n_texts, n_items] twice and [n_items]"
        )
    codes = cluster_codes(clusters, len(member))
    defined = ~(np.isnan(arms[0]).any(0) | np.isnan(arms[1]).any(0) | np.isnan(member))
    n, texts = int(defined.sum()), (len(arms[0]), len(arms[1]))
    if not n:
        nan = float("nan")
        return Interval(nan, nan, nan, 0, 0, confidence, undefined, texts=texts)
    arms, member, groups = (
        [arm[:, defined] for arm in arms],
        member[defined],
        Groups.of(codes[defined]),
    )

    def effect(side: FloatArray, clusters_drawn: FloatArray, drawn: list[FloatArray]) -> FloatArray:
        """On one side, per resample; the weights are ``[resamples, n_clusters or n_texts]``."""
        totals = [
            np.einsum("rt,tc,rc->r", of_texts, groups.sums(arm * side), clusters_drawn) / len(arm)
            for arm, of_texts in zip(arms, drawn, strict=True)
        ]
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.asarray((totals[0] - totals[1]) / (clusters_drawn @ groups.sums(side)))

    def gap(clusters_drawn: FloatArray, drawn: list[FloatArray]) -> FloatArray:
        sides = (effect(side, clusters_drawn, drawn) for side in (member, 1.0 - member))
        return next(sides) - next(sides)

    estimate = float(gap(np.ones((1, len(groups))), [np.ones((1, k)) for k in texts])[0])
    draws = [gap(*drawn) for drawn in plan.crossed_weights(len(groups), plan.text_weights(texts))]
    return replace(_interval(estimate, draws, n, len(groups), plan, undefined), texts=texts)


def _interval(
    estimate: float,
    draws: Iterable[FloatArray],
    n: int,
    n_clusters: int,
    plan: ResamplingPlan,
    undefined: str,
) -> Interval:
    """Percentile bounds, unless the estimate is undefined or rests on a single cluster."""
    nan, confidence = float("nan"), plan.confidence
    if np.isnan(estimate):
        return Interval(nan, nan, nan, n, n_clusters, confidence, undefined)
    if n_clusters == 1:
        return Interval(estimate, nan, nan, n, 1, confidence, "a single cluster: no interval")
    pooled = np.concatenate(list(draws))
    if np.isnan(pooled).all():
        return Interval(estimate, nan, nan, n, n_clusters, confidence, "no defined resample")
    low, high = plan.bounds(pooled)
    return Interval(estimate, float(low), float(high), n, n_clusters, confidence)
