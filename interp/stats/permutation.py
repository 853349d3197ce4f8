"""Permutation tests (labels of texts, signs of clusters over many cells) and Holm's correction."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from interp.errors import InterpError
from interp.stats.resampling import (
    FloatArray,
    Groups,
    IntArray,
    PerCell,
    check_array,
    cluster_codes,
    rng,
    rows_of_cells,
    scalar_or_array,
)
from interp.stats.thresholds import ALPHA

_MAX_EXACT_FLIPS = 4096
_TIE = 1e-10  # on a scale of order 1: absorbs the order of summation, far below real differences


@dataclass(frozen=True)
class PermutationTest:
    """A permutation of text labels: ``statistic`` = mean treated - mean control, two-sided ``p``.

    ``n_permutations`` counts the labellings compared, the observed one included; when ``exact``
    they are all there are. The smallest possible p is 1 / n_permutations, twice that for equal arms
    (the mirrored labelling is as extreme).
    """

    statistic: PerCell
    p: PerCell
    n_permutations: int
    exact: bool


@dataclass(frozen=True)
class MaxT:
    """Sign-flip test over a family of cells; arrays are ``[*cells]``.

    ``statistic`` is the t of the cluster means, signed. ``p_corrected`` holds the chance of any
    error in the family (family-wise), ``p_raw`` is per cell. ``p_corrected <= alpha`` exactly where
    ``|statistic| > critical``. ``n`` items in ``n_clusters`` units entered; a cell without any
    defined item is NaN and outside the family. ``n_permutations`` includes the observed signs.
    """

    statistic: PerCell
    p_corrected: PerCell
    p_raw: PerCell
    critical: float
    alpha: float
    n: int
    n_clusters: int
    n_permutations: int
    exact: bool


def permute_texts(
    treated_means: npt.ArrayLike,
    control_means: npt.ArrayLike,
    *,
    n_permutations: int = 20_000,
    seed: int,
    labels: Sequence[object] = (),
) -> PermutationTest:
    """Two-sided test that the labels of the texts do not matter: mean treated - mean control.

    ``treated_means [*cells, n_treated]`` and ``control_means [*cells, n_control]`` hold one number
    per text, its mean over items. With at most ``n_permutations`` labellings all are enumerated
    (six against six: 924) and p = hits / total; otherwise that many are drawn and p = (hits + 1) /
    (n + 1). A hit is at least as far from 0 as the observed difference, ties included. This is
    ``scipy.stats.permutation_test`` on the absolute difference, which refuses an arm of one text
    and loses ties when the observed difference is near 0.

    Raises:
        InterpError: A missing or infinite mean, an empty arm, arms of different cells.
    """
    first = check_array("treated_means", treated_means)
    second = check_array("control_means", control_means)
    if np.isnan(first).any() or np.isnan(second).any():
        raise InterpError("a text has a NaN mean: leave out that text, or the items it lacks")
    if first.shape[:-1] != second.shape[:-1] or 0 in (first.shape[-1], second.shape[-1]):
        raise InterpError(
            f"treated_means {list(first.shape)} and control_means {list(second.shape)}: give "
            "[*cells, n_texts] with the same cells and at least one text each"
        )
    if n_permutations < 1:
        raise InterpError(f"n_permutations is {n_permutations}: give at least 1")
    pooled = np.concatenate([first, second], axis=-1)
    pooled = pooled - pooled.mean(-1, keepdims=True)
    k, total = first.shape[-1], pooled.shape[-1]
    exact = math.comb(total, k) <= n_permutations
    generator = rng(seed, "permute_texts", *labels)
    observed = _contrast(pooled, np.arange(k)[None])[..., 0]
    slack = _TIE * np.abs(pooled).max(-1)
    hits, drawn = np.zeros(pooled.shape[:-1]), 0
    for chosen in _labellings(total, k, exact, n_permutations, generator):
        differences = np.abs(_contrast(pooled, chosen))
        hits += (differences >= (np.abs(observed) - slack)[..., None]).sum(-1)
        drawn += len(chosen)
    return PermutationTest(
        scalar_or_array(observed), scalar_or_array(np.asarray(hits / drawn)), drawn, exact
    )


def sign_flip_max_t(
    values: npt.ArrayLike,
    clusters: Iterable[object],
    *,
    alpha: float = ALPHA,
    n_permutations: int = 2000,
    seed: int,
    labels: Sequence[object] = (),
) -> MaxT:
    """Which cells of a family differ from 0, with correlation between cells accounted for.

    ``values`` is ``[*cells, n_items]`` (layers, heads, or a map). The units are the clusters'
    means; under the null each is symmetric about 0, and one flip per cluster, shared by all cells,
    keeps the cells' correlation. ``p_corrected`` is the share of flips whose largest |t| in the
    family reaches the cell's own |t|. With ``2**n_clusters <= 4096`` all flips are enumerated,
    otherwise ``n_permutations`` are drawn and the observed signs count as one more.

    A cluster in which some cell has no defined item is left out of the whole family, so that all
    cells share their units. A cell that is 0 throughout has t = 0 and p = 1; a constant other than
    0 has t = +-inf and the smallest p the flips allow (``2 / 2**n_clusters`` when enumerated).
    Fewer than two clusters give NaN. Source: Westfall and Young (1993), single-step maxT.

    Raises:
        InterpError: Unmatched clusters, infinite values, alpha outside (0, 1).
    """
    if not 0.0 < alpha < 1.0 or n_permutations < 1:
        raise InterpError(
            f"alpha {alpha}, n_permutations {n_permutations}: need 0 < alpha < 1, n >= 1"
        )
    array = check_array("values", values)
    shape, flat = array.shape[:-1], rows_of_cells(array)
    alive = ~np.isnan(flat).all(axis=-1)
    means, n_items = _cluster_means(flat[alive], cluster_codes(clusters, array.shape[-1]))
    n_units = means.shape[-1]
    t, corrected, raw = (np.full(len(flat), np.nan) for _ in range(3))
    exact = 2**n_units <= _MAX_EXACT_FLIPS
    if not alive.any() or n_units < 2:
        empty = scalar_or_array(t.reshape(shape))
        return MaxT(empty, empty, empty, np.nan, alpha, n_items, n_units, 0, exact)

    # z = sum / sqrt(sum of squares) orders flips as t does and stays finite for constant cells
    norms = np.sqrt((means**2).sum(-1, keepdims=True))
    units = np.divide(means, norms, out=np.zeros_like(means), where=norms > 0)
    observed = np.abs(units.sum(-1))
    maxima, hits = [], np.zeros(len(units))
    for signs in _signs(n_units, exact, n_permutations, rng(seed, "sign_flip_max_t", *labels)):
        null = np.abs(signs @ units.T)
        hits += (null >= observed - _TIE).sum(axis=0)
        maxima.append(null.max(axis=-1))
    largest = np.sort(np.concatenate(maxima))
    total = len(largest)
    reached = total - np.searchsorted(largest, observed - _TIE, side="left")
    t[alive] = _t_of(units.sum(-1), n_units)
    corrected[alive], raw[alive] = reached / total, hits / total
    bound = largest[::-1][math.floor(alpha * total + 1e-9)] + _TIE
    critical = float(_t_of(np.array([bound]), n_units)[0])
    stats = [scalar_or_array(x.reshape(shape)) for x in (t, corrected, raw)]
    return MaxT(stats[0], stats[1], stats[2], critical, alpha, n_items, n_units, total, exact)


def _cluster_means(values: FloatArray, codes: IntArray) -> tuple[FloatArray, int]:
    """Means ``[cells, clusters]`` of the clusters that all cells share, and the items used."""
    if not values.size:
        return np.empty((len(values), 0)), 0
    groups = Groups.of(codes)
    defined = np.asarray(~np.isnan(values))
    counts = groups.sums(defined.astype(np.float64))
    shared = np.asarray((counts > 0).all(axis=0))
    sums = groups.sums(np.where(defined, values, 0.0))
    n_items = int((defined.any(axis=0) & shared[groups.codes]).sum())
    return sums[:, shared] / counts[:, shared], n_items


def _contrast(pooled: FloatArray, chosen: IntArray) -> FloatArray:
    """Mean of the ``chosen [labellings, k]`` texts minus mean of the others."""
    texts = pooled.shape[-1]
    k = chosen.shape[-1]
    weights = np.full((len(chosen), texts), -1.0 / (texts - k))
    np.put_along_axis(weights, chosen, 1.0 / k, axis=-1)
    return pooled @ weights.T


def _labellings(
    texts: int, k: int, exact: bool, n_permutations: int, generator: np.random.Generator
) -> Iterator[IntArray]:
    """The ``k`` texts with the first label, ``[some, k]``: all ways, or the observed and random."""
    if exact:
        ways = itertools.combinations(range(texts), k)
        while batch := list(itertools.islice(ways, 256)):
            yield np.array(batch)
        return
    yield np.arange(k)[None]
    for start in range(0, n_permutations, 256):
        size = min(256, n_permutations - start)
        yield generator.permuted(np.tile(np.arange(texts), (size, 1)), axis=-1)[:, :k]


def _signs(
    n_units: int, exact: bool, n_permutations: int, generator: np.random.Generator
) -> Iterator[FloatArray]:
    """Sign patterns ``[some, n_units]``; the observed signs come first, then all or random ones."""
    if exact:
        every = np.array(list(itertools.product((1.0, -1.0), repeat=n_units)))
        yield from np.array_split(every, max(1, len(every) // 256))
        return
    yield np.ones((1, n_units))
    for start in range(0, n_permutations, 256):
        yield generator.choice((1.0, -1.0), size=(min(256, n_permutations - start), n_units))


def _t_of(z: FloatArray, n_units: int) -> FloatArray:
    """One-sample t of units whose sum over root sum of squares is ``z`` (|z| <= sqrt(n_units))."""
    residual = 1.0 - z**2 / n_units
    t = z * np.sqrt((n_units - 1) / n_units) / np.sqrt(np.maximum(residual, 1e-9))
    return np.where(residual < 1e-9, np.copysign(np.inf, z), t)
