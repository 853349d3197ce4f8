"""Confidence intervals: means, shares, effects of instructions, AUC and success rates."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Sequence
from typing import Literal, TypeAlias

import numpy as np
import numpy.typing as npt

from interp.errors import InterpError
from interp.stats.interval import Interval
from interp.stats.resampling import (
    FloatArray,
    Groups,
    IntArray,
    ResamplingPlan,
    check_array,
    check_binary,
    cluster_codes,
    rows_of_cells,
    scalar_or_array,
)

_CELLS_AT_ONCE = 4096
"""Cells whose resamples are held at a time: 64 MiB per 2000 of them."""

_Cells: TypeAlias = tuple[FloatArray, FloatArray, Sequence[str]]
"""Estimates [cells], draws [cells, resamples], reasons [cells] of one pattern of definedness."""


def cluster_bootstrap(
    values: npt.ArrayLike,
    clusters: Iterable[object],
    *,
    statistic: Literal["mean", "cluster_mean"] = "mean",
    confidence: float = 0.95,
    n_resamples: int = 2000,
    seed: int,
    labels: Sequence[object] = (),
) -> Interval:
    """Mean of ``values [*cells, n_items]`` with a percentile interval over resampled clusters.

    ``clusters`` names the cluster of each item; all items of a drawn cluster enter together.
    ``statistic="mean"`` weighs items equally, ``"cluster_mean"`` weighs clusters equally (the mean
    of the clusters' means, which :func:`sign_flip_max_t` tests).

    Raises:
        InterpError: Cluster names that are missing or do not match the items; infinite values.
    """
    plan = ResamplingPlan(confidence, n_resamples, seed, labels)
    array = check_array("values", values)

    def one(cells: IntArray, items: IntArray, groups: Groups) -> _Cells:
        sums = groups.sums(rows_of_cells(array)[np.ix_(cells, items)])
        counts = groups.sums(np.ones(len(items)))
        if statistic == "cluster_mean":
            sums, counts = sums / counts, np.ones_like(counts)
        draws = [(w @ sums.T).T / (w @ counts) for w in plan.weights(len(groups), "clusters")]
        estimate = sums.sum(-1) / counts.sum()
        return estimate, np.concatenate(draws, axis=-1), [""] * len(cells)

    return _assemble(~np.isnan(array), cluster_codes(clusters, array.shape[-1]), one, plan)


def ratio_bootstrap(
    numerator: npt.ArrayLike,
    denominator: npt.ArrayLike,
    clusters: Iterable[object],
    *,
    confidence: float = 0.95,
    n_resamples: int = 2000,
    seed: int,
    labels: Sequence[object] = (),
) -> Interval:
    """A share: mean(numerator) / mean(denominator), both bootstrapped jointly over clusters.

    ``numerator`` and ``denominator`` are ``[*cells, n_items]`` and broadcast against each other, as
    patched - destination and source - destination do in a sweep (0 = destination, 1 = source; the
    share is a number without unit). An item undefined in either is left out of both. Where the
    denominator's own interval contains 0 the share is NaN and ``reason`` says so. This is never a
    mean of per-item ratios, which a single item with a tiny denominator would decide.

    Raises:
        InterpError: Shapes that do not broadcast, unmatched clusters, infinite values.
    """
    plan = ResamplingPlan(confidence, n_resamples, seed, labels)
    above, below = _broadcast(
        check_array("numerator", numerator), check_array("denominator", denominator)
    )

    def one(cells: IntArray, items: IntArray, groups: Groups) -> _Cells:
        pick = np.ix_(cells, items)
        top, base = (groups.sums(rows_of_cells(x)[pick]) for x in (above, below))
        top_draws, base_draws = [], []
        for w in plan.weights(len(groups), "clusters"):
            top_draws.append((w @ top.T).T)
            base_draws.append((w @ base.T).T)
        tops, bases = np.concatenate(top_draws, axis=-1), np.concatenate(base_draws, axis=-1)
        low, high = plan.bounds(bases)
        unusable = (low <= 0.0) & (high >= 0.0)
        bases[bases == 0.0] = np.nan
        draws, estimate = tops / bases, top.sum(-1) / _nonzero(base.sum(-1))
        reason = "the denominator's interval contains 0"
        estimate[unusable], draws[unusable] = np.nan, np.nan
        return estimate, draws, [reason if bad else "" for bad in unusable]

    defined = ~np.isnan(above) & ~np.isnan(below)
    return _assemble(
        defined, cluster_codes(clusters, above.shape[-1]), one, plan, keep_single=False
    )


def two_way_bootstrap(
    treated: npt.ArrayLike,
    control: npt.ArrayLike,
    clusters: Iterable[object],
    *,
    weights: npt.ArrayLike | None = None,
    confidence: float = 0.95,
    n_resamples: int = 2000,
    seed: int,
    labels: Sequence[object] = (),
) -> Interval:
    """Effect of instructions: mean(treated) - mean(control), over texts crossed with item clusters.

    ``treated`` is ``[*cells, n_treated_texts, n_items]``; ``control`` has its own number of texts
    on the same cells and items; both in nats of margin. Each resample draws the texts of either arm
    and the item clusters independently; both arms see the same clusters, so items stay paired. With
    a single text in an arm that arm's texts are not resampled and the interval speaks of that text
    alone (see ``texts``). An item undefined under any text is left out of all. With ``weights
    [n_items]`` (>= 0; 0 leaves an item out) the means over items are weighted.

    Crossed resampling counts the noise of single cells more than once (wide for noisy items), while
    few texts make it narrow (six: by a factor of about .9): report :func:`permute_texts` too.
    Source: A. B. Owen, The pigeonhole bootstrap, Annals of Applied Statistics 2007.

    Raises:
        InterpError: Arms on different items or cells, negative weights, unmatched clusters.
    """
    plan = ResamplingPlan(confidence, n_resamples, seed, labels)
    arms = [check_array("treated", treated, 2), check_array("control", control, 2)]
    if arms[0].shape[:-2] != arms[1].shape[:-2] or arms[0].shape[-1] != arms[1].shape[-1]:
        raise InterpError(
            f"treated {list(arms[0].shape)} and control {list(arms[1].shape)} differ outside the "
            "text axis: give [*cells, n_texts, n_items] on the same items"
        )
    item_weights = _item_weights(weights, arms[0].shape[-1])
    texts = (arms[0].shape[-2], arms[1].shape[-2])
    drawn = plan.text_weights(texts)

    def one(cells: IntArray, items: IntArray, groups: Groups) -> _Cells:
        weight = item_weights[items]
        counts = groups.sums(weight)
        tables = [
            groups.sums(arm.reshape(-1, *arm.shape[-2:])[cells][..., items] * weight)
            for arm in arms
        ]
        chunks = []
        for w, of_texts in plan.crossed_weights(len(groups), drawn):
            means = [
                np.einsum("ctr,rt->cr", table @ w.T, text_weights) / table.shape[1]
                for table, text_weights in zip(tables, of_texts, strict=True)
            ]
            chunks.append((means[0] - means[1]) / (w @ counts))
        means = [table.sum(-1).mean(-1) / counts.sum() for table in tables]
        return means[0] - means[1], np.concatenate(chunks, axis=-1), [""] * len(cells)

    defined = ~(np.isnan(arms[0]).any(-2) | np.isnan(arms[1]).any(-2)) & (item_weights > 0)
    result = _assemble(defined, cluster_codes(clusters, defined.shape[-1]), one, plan)
    return dataclasses.replace(result, texts=texts)


def success_rate(
    successes: npt.ArrayLike,
    clusters: Iterable[object],
    *,
    confidence: float = 0.95,
    n_resamples: int = 2000,
    seed: int,
    labels: Sequence[object] = (),
) -> Interval:
    """Proportion of ``successes [n_items]`` (0, 1 or NaN) with a cluster bootstrap interval.

    When all or none succeed a bootstrap collapses to a point. The interval is then the exact one of
    TransformerLens with the *clusters* as trials (the cautious count: items of a cluster are not
    independent), and ``method`` is ``"clopper_pearson"``.

    Raises:
        InterpError: A value other than 0, 1 or NaN, more than one axis, unmatched clusters.
    """
    values = check_binary("successes", successes)
    if values.ndim != 1:
        raise InterpError(f"successes {list(values.shape)}: give one axis, [n_items]")
    result = cluster_bootstrap(
        values, clusters, confidence=confidence, n_resamples=n_resamples, seed=seed, labels=labels
    )
    if result.estimate not in (0.0, 1.0):
        return result
    from transformer_lens.utilities.statistics import success_rate_ci  # slow to import

    exact = success_rate_ci([result.estimate == 1.0] * result.n_clusters, confidence=confidence)
    return dataclasses.replace(
        result, low=exact.ci_low, high=exact.ci_high, reason="", method="clopper_pearson"
    )


def _assemble(
    defined: npt.NDArray[np.bool_],
    codes: IntArray,
    one: Callable[[IntArray, IntArray, Groups], _Cells],
    plan: ResamplingPlan,
    *,
    keep_single: bool = True,
) -> Interval:
    """Run ``one`` on each set of cells that are defined on the same items, and collect the fields.

    Cells that share their items share the resamples, and a cell's result is the one it would have
    alone. A single cluster gives the estimate (or NaN where it needs an interval) and no bounds.
    """
    shape, flat = defined.shape[:-1], rows_of_cells(defined)
    estimate, low, high = (np.full(len(flat), np.nan) for _ in range(3))
    n, n_clusters = (np.zeros(len(flat), dtype=np.int64) for _ in range(2))
    reason = np.full(len(flat), "no defined item", dtype=object)
    patterns, pattern_of = np.unique(flat, axis=0, return_inverse=True)
    for index, pattern in enumerate(patterns):
        cells, items = np.flatnonzero(pattern_of.ravel() == index), np.flatnonzero(pattern)
        if not len(items):
            continue
        groups = Groups.of(codes[items])
        n[cells], n_clusters[cells] = len(items), len(groups)
        for start in range(0, len(cells), _CELLS_AT_ONCE):
            block = cells[start : start + _CELLS_AT_ONCE]
            estimate[block], draws, reason[block] = one(block, items, groups)
            if len(groups) > 1:
                usable = ~np.isnan(draws).all(axis=-1)
                low[block[usable]], high[block[usable]] = plan.bounds(draws[usable])
            else:
                reason[block] = "a single cluster: no interval"
                estimate[block] = estimate[block] if keep_single else np.nan
    values, counts = (estimate, low, high), (n, n_clusters)
    e, lo, hi, items_used, units = (scalar_or_array(x.reshape(shape)) for x in (*values, *counts))
    return Interval(
        e,
        lo,
        hi,
        items_used,
        units,
        plan.confidence,
        scalar_or_array(reason.astype(str).reshape(shape)),
    )


def _nonzero(array: FloatArray) -> FloatArray:
    return np.where(array == 0.0, np.nan, array)


def _broadcast(a: FloatArray, b: FloatArray) -> tuple[FloatArray, FloatArray]:
    try:
        first, second = np.broadcast_arrays(a, b)
    except ValueError:
        raise InterpError(
            f"numerator {list(a.shape)} and denominator {list(b.shape)} do not broadcast: "
            "items are the last axis of both"
        ) from None
    return first, second


def _item_weights(weights: npt.ArrayLike | None, n_items: int) -> FloatArray:
    array = np.ones(n_items) if weights is None else check_array("weights", weights)
    if array.shape != (n_items,) or not (array >= 0).all():
        raise InterpError(f"weights {list(array.shape)}: give {n_items} numbers >= 0, one per item")
    return array
