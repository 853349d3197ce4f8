"""The interval of a ROC-AUC over resampled groups."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TypeAlias

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
    rows_at_once,
    rows_of_cells,
    scalar_or_array,
)

_CELLS_AT_ONCE = 4096
"""Cells whose resamples are held at a time: 64 MiB per 2000 of them."""

_Cells: TypeAlias = tuple[FloatArray, FloatArray, Sequence[str]]
"""Estimates [cells], draws [cells, resamples], reasons [cells] of one pattern of definedness."""


def auc_interval(
    scores: npt.ArrayLike,
    labels: npt.ArrayLike,
    groups: Iterable[object],
    *,
    confidence: float = 0.95,
    n_resamples: int = 2000,
    seed: int,
) -> Interval:
    """ROC-AUC of ``scores [*cells, n_items]`` for the classes ``labels [n_items]`` (0/1).

    The AUC is P(score of a positive > score of a negative), ties counting one half: .5 is chance.
    Groups are resampled whole, alike in all cells. NaN scores are left out, and so are resamples
    without both classes; data without both are NaN with a ``reason``. Perfect separation gives the
    point [1, 1].

    Raises:
        InterpError: Labels other than 0/1, lengths that differ, infinite scores.
    """
    plan = ResamplingPlan(confidence, n_resamples, seed, ())
    values, truth = check_array("scores", scores), check_binary("labels", labels)
    if truth.ndim != 1 or values.shape[-1:] != truth.shape or np.isnan(truth).any():
        raise InterpError(
            f"scores {list(values.shape)} and labels {list(truth.shape)}: give [*cells, n_items] "
            "and [n_items], and every item a label"
        )

    def one(cells: IntArray, items: IntArray, clusters: Groups) -> _Cells:
        table = rows_of_cells(values)[np.ix_(cells, items)]
        weights = plan.all_weights(len(clusters), "clusters")
        draws = _weighted_aucs(table, truth[items], clusters, weights)
        estimate = _weighted_aucs(table, truth[items], clusters, np.ones((1, len(clusters))))[:, 0]
        return estimate, draws, ["only one class" if np.isnan(auc) else "" for auc in estimate]

    return _assemble(~np.isnan(values), cluster_codes(groups, len(truth)), one, plan)


def _weighted_aucs(
    scores: FloatArray, truth: FloatArray, clusters: Groups, weights: FloatArray
) -> FloatArray:
    """AUC ``[cells, resamples]`` of ``scores [cells, items]`` under weights of the clusters."""
    up, down = truth == 1, truth == 0
    of_up, of_down = clusters.codes[up], clusters.codes[down]
    out = np.zeros((len(scores), len(weights)))
    for rows in _blocks(len(weights), len(truth)):
        for_up, for_down = weights[rows][:, of_up], weights[rows][:, of_down]
        pairs = _nonzero(for_up.sum(-1) * for_down.sum(-1))
        for cell, values in enumerate(scores):
            for block in _blocks(int(up.sum()), int(down.sum())):
                above = values[up][block, None] - values[None, down]
                won = (above > 0) + (above == 0) / 2
                out[cell, rows] += ((for_up[:, block] @ won) * for_down).sum(-1)
        out[:, rows] /= pairs
    return out


def _blocks(n_rows: int, n_columns: int) -> Iterator[slice]:
    """Slices of rows that keep a table ``[rows, n_columns]`` small."""
    step = rows_at_once(max(n_columns, 1))
    return (slice(start, start + step) for start in range(0, n_rows, step))


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
