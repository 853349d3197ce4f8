"""Whether a map may be read: checks on a sweep that its own significance does not answer.

- :func:`top_overlap`: would other items of this kind name the same top cells? A ranking that changes
  with the sample is no finding, however small its p values (bar .8 with at least 100 items).
- :func:`moved_against`: which share of the pairs a cell moves against its own mean. A mean may stand for
  few items.
- :func:`interaction`: whether a cell does as much when it is put into the destination (denoising, is
  it sufficient?) as when it is taken out of the source (noising, is it necessary?). Without interaction
  with the rest of the model both are equal; where routes back each other up the second is smaller.

Example::

    restored, removed = sweep(model, pairs, site="z"), sweep(model, [p.swap() for p in pairs], site="z")
    top_overlap(restored, seed=0)            # 0.62
    interaction(restored, removed).p         # per cell
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from jaxtyping import Float64

from interp.errors import InterpError
from interp.patching.result import SweepResult
from interp.stats import Interval, rng
from interp.stats.arrays import Groups, cluster_codes

JACCARD_BAR = 0.8
"""Overlap of the top cells below which their names are those of this sample."""


def top_overlap(
    result: SweepResult,
    k: int = 10,
    *,
    among: npt.NDArray[np.bool_] | None = None,
    n_resamples: int = 1000,
    seed: int = 0,
) -> float:
    """Mean Jaccard index of the top ``k`` cells of a resample and those of the whole sample.

    Top: of largest mean effect, whatever its sign. Clusters are resampled with replacement. 1 says that
    every sample of this kind would name these cells; two random lists of k out of n cells share
    k / (2n - k).

    Args:
        result: one metric's.
        k: how many cells are named.
        among: which cells count, in the order of ``result.index_df``; None: all. Cells that restore the
            source run by identity name nothing.
        n_resamples, seed: of the bootstrap.

    Raises:
        InterpError: several metrics, a ``k`` that is not below the number of cells, a single cluster,
            or a cell that is undefined for some pair.
    """
    effects = _effects(result)
    flat = effects.reshape(-1, effects.shape[-1])
    flat = flat if among is None else flat[among]
    if not 1 <= k < len(flat):
        raise InterpError(f"top_overlap: k is {k}, and there are {len(flat)} cells: choose fewer")
    if np.isnan(flat).any():
        raise InterpError(
            "top_overlap: a cell is undefined for some pair; choose cells that all have"
        )
    groups = Groups.of(cluster_codes(result.clusters, flat.shape[-1]))
    if len(groups) < 2:
        raise InterpError(
            "top_overlap: the pairs are of a single cluster, nothing can be resampled"
        )
    whole = _top(flat.mean(-1), k)
    even = np.full(len(groups), 1.0 / len(groups))
    weights = rng(seed, "top overlap", result.site).multinomial(len(groups), even, size=n_resamples)
    sums, counts = groups.sums(flat), groups.sums(np.ones(flat.shape[-1]))
    # draw by draw: of all at once a map of many cells would be hundreds of megabytes
    shared = [len(whole & _top(sums @ draw / (draw @ counts), k)) for draw in weights]
    return float(np.mean([n / (2 * k - n) for n in shared]))


def moved_against(result: SweepResult) -> Float64[np.ndarray, "*cells"]:
    """Share of the pairs whose effect has the opposite sign of the cell's mean, 0 to 1.

    Half would be moved against a mean of noise. Pairs that a cell does not change count for neither; NaN
    where it changes none.

    Raises:
        InterpError: several metrics.
    """
    effects = _effects(result)
    signs = np.sign(np.nan_to_num(effects))
    mean = np.sign(np.nansum(effects, axis=-1, keepdims=True))
    moved = (signs != 0).sum(-1)
    against = (signs * mean < 0).sum(-1)
    return np.where(moved > 0, against / np.maximum(moved, 1), np.nan)


def interaction(denoising: SweepResult, noising: SweepResult) -> Interval:
    """What a cell does more when put into the destination than when taken out of the source.

    Per cell the mean over pairs of the ``denoising`` effect plus the ``noising`` effect (which has the
    other sign), in the metric's unit, with its interval and p of no interaction. Positive: the cell
    restores more than its removal costs, as under back-up; negative: it needs others to act (both
    together, not either).

    Args:
        denoising: a sweep of pairs.
        noising: the same sweep of the swapped pairs, in the same order.

    Raises:
        InterpError: sweeps of different cells or pairs, or that are not each other's reverse.
    """
    one, other = _effects(denoising), _effects(noising)
    if denoising.axis_names != noising.axis_names or one.shape != other.shape:
        raise InterpError(
            f"interaction: the sweeps have other cells or pairs, {list(one.shape)} and "
            f"{list(other.shape)}: sweep the same pairs, swapped"
        )
    _require_reverse(denoising, noising)
    return denoising.mean_of(one + other)


def _require_reverse(denoising: SweepResult, noising: SweepResult) -> None:
    there, back = denoising.baseline, noising.source_baseline
    if there is None or not np.allclose(there.numpy(), back.numpy(), atol=1e-3):
        raise InterpError(
            "interaction: the second sweep is not of the first one's pairs swapped: its source does not "
            "give what the first one's destination does"
        )


def _effects(result: SweepResult) -> npt.NDArray[np.float64]:
    if result.has_metric_axis:
        raise InterpError(
            f"several metrics: choose one, result[{result.metric_names[0]!r}] for example"
        )
    return np.asarray(result.effect().double().numpy())


def _top(means: npt.NDArray[np.float64], k: int) -> set[int]:
    return set(np.argsort(-np.abs(means), kind="stable")[:k].tolist())
