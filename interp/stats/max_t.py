"""Which cells of a family differ from 0: two-way studentised max-t.

**Idea.** Layers, heads, positions or rounds are many questions asked of the same wordings and the
same items. Every cell has its t ratio with a two-way standard error
(:mod:`interp.stats.two_way`), and its own p by Satterthwaite's t. The family's correction is the
chance that the smallest p of a family without any effect is as small: Gaussian multipliers, one per
wording and one per cluster and shared by all cells, times the cells' scores draw such families
with the cells' own correlations. Sources: Westfall and Young (1993) for the smallest p; Chernozhukov,
Chetverikov and Kato (2013) for Gaussian multipliers; Menzel (2021) for two-way multipliers.

**Few units.** Correlations estimated from few wordings and clusters are too large at random, which
would make the family look smaller than it is. They are shrunk towards independence as Schaefer and
Strimmer (2005) do.

**Cost.** ``n_draws * n_cells * (n_units + 10)`` operations; beside the input about 100 MB.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from interp.display import short_repr
from interp.errors import InterpError
from interp.stats.arrays import (
    FloatArray,
    IntArray,
    PerCell,
    blocks,
    check_array,
    cluster_codes,
    rng,
    rows_of_cells,
    scalar_or_array,
)
from interp.stats.effects import check_arms
from interp.stats.interval import CellIntervals, p_of_t, t_quantile, t_ratio
from interp.stats.two_way import TwoWay, of_arms, of_observations
from interp.thresholds import ALPHA

_CELLS_AT_ONCE = 1024


@dataclass(frozen=True)
class MaxT:
    """Test of a family of cells; arrays are ``[*cells]``.

    ``estimate`` and ``se`` in the unit of the values, ``statistic`` = estimate / se, ``df`` its
    degrees of freedom. ``p_corrected`` holds the chance of any false claim in the family,
    ``p_raw`` is per cell. ``low`` and ``high`` are simultaneous: all intervals of the family hold
    their values with confidence 1 - ``alpha``, and one excludes 0 where ``p_corrected <= alpha``,
    that is where ``|statistic| > critical``. ``n`` items in ``n_clusters`` clusters; ``texts``:
    wordings of the two arms, or None. ``reason`` is empty or says why a cell is NaN; such a cell is
    outside the family.
    """

    estimate: PerCell
    se: PerCell
    statistic: PerCell
    df: PerCell
    p_corrected: PerCell
    p_raw: PerCell
    low: PerCell
    high: PerCell
    critical: PerCell
    alpha: float
    n: PerCell
    n_clusters: PerCell
    texts: tuple[int, int] | None
    reason: PerCell

    __repr__ = short_repr


@dataclass(frozen=True)
class _Part:
    """Some cells that share their items; None where they have a single cluster."""

    cells: IntArray
    n: int
    clusters: IntArray
    found: TwoWay | None


def max_t_of_effects(
    treated: npt.ArrayLike,
    control: npt.ArrayLike,
    clusters: Iterable[object],
    *,
    alpha: float = ALPHA,
    n_draws: int = 2000,
    seed: int,
    labels: Sequence[object] = (),
) -> MaxT:
    """In which cells mean(treated) differs from mean(control), over wordings and clusters.

    ``treated [*cells, n_treated_wordings, n_items]``, ``control`` with its own number of wordings on
    the same cells and items; positive is a higher treated arm, in the unit of the values (nats of
    margin). An item that is undefined under a wording is left out of that cell. An arm with one
    wording adds no variance, and the test speaks of that wording alone. A cell that is 0 throughout
    has t = 0 and p = 1. A single cluster gives NaN with a reason.

    Raises:
        InterpError: arms on different cells or items, unmatched clusters, infinite values, alpha
            outside (0, 1), no draws.
    """
    _check(alpha, n_draws)
    arms = check_arms(treated, control)
    shape, codes = arms[0].shape[:-2], cluster_codes(clusters, arms[0].shape[-1])
    flat = [arm.reshape(math.prod(shape), *arm.shape[-2:]) for arm in arms]
    missing = [np.asarray(np.isnan(arm).any(axis=1)) for arm in flat]
    defined = ~np.logical_or(*missing)

    def parts() -> Iterator[_Part]:
        for cells, items in blocks(defined, _CELLS_AT_ONCE):
            inside = [_take(arm, cells, items) for arm in flat]
            found = of_arms(inside, codes[items], [np.ones(len(items))])
            yield _Part(cells, len(items), codes[items], found)

    texts = (arms[0].shape[-2], arms[1].shape[-2])
    return _corrected(parts(), shape, codes, texts, alpha, n_draws, rng(seed, "max_t", *labels))


def max_t(
    values: npt.ArrayLike,
    clusters: Iterable[object],
    *,
    wordings: Iterable[object] | None = None,
    alpha: float = ALPHA,
    n_draws: int = 2000,
    seed: int,
    labels: Sequence[object] = (),
) -> MaxT:
    """In which cells the mean of ``values [*cells, n_obs]`` differs from 0.

    An observation belongs to a cluster of items and, with ``wordings``, to a wording or a pair of
    wordings: a sweep's observation is one pair of prompts. Wordings and clusters may be crossed or
    not; where every observation has a wording of its own the two ways are one and are counted once.
    Without ``wordings`` the clusters alone are random. A NaN observation is left out of its cell.

    Raises:
        InterpError: unmatched clusters or wordings, infinite values, alpha outside (0, 1), no draws.
    """
    _check(alpha, n_draws)
    array = check_array("values", values)
    shape, flat = array.shape[:-1], rows_of_cells(array)
    codes = cluster_codes(clusters, array.shape[-1])
    ways = None if wordings is None else cluster_codes(wordings, array.shape[-1], "wording")
    one = np.zeros(array.shape[-1], dtype=np.intp) if ways is None else ways

    def parts() -> Iterator[_Part]:
        for cells, items in blocks(~np.isnan(flat), _CELLS_AT_ONCE):
            found = of_observations(_take(flat, cells, items), codes[items], one[items])
            yield _Part(cells, len(items), codes[items], found)

    return _corrected(parts(), shape, codes, None, alpha, n_draws, rng(seed, "max_t", *labels))


def _check(alpha: float, n_draws: int) -> None:
    if not 0.0 < alpha < 1.0 or n_draws < 1:
        raise InterpError(f"alpha {alpha}, n_draws {n_draws}: need 0 < alpha < 1, n_draws >= 1")


def _take(array: FloatArray, cells: IntArray, items: IntArray) -> FloatArray:
    rows = array[cells]
    return rows if len(items) == rows.shape[-1] else rows[..., items]


def _corrected(
    parts: Iterable[_Part],
    shape: tuple[int, ...],
    codes: IntArray,
    texts: tuple[int, int] | None,
    alpha: float,
    n_draws: int,
    generator: np.random.Generator,
) -> MaxT:
    """Per-cell t ratios of the parts, corrected over all of them."""
    from scipy.special import ndtr, ndtri

    n_cells, n_units = math.prod(shape), int(codes.max(initial=-1)) + 1
    of, t, scores = CellIntervals(n_cells), np.full(n_cells, np.nan), np.zeros((n_cells, 0))
    for part in parts:
        cells, found = part.cells, part.found
        present = np.unique(part.clusters)
        of.count(cells, part.n, len(present))
        if found is None:
            of.reason[cells] = "a single cluster: no test"
            continue
        n_wordings = found.wordings.shape[-1]
        if scores.shape[-1] < n_wordings + n_units:  # wordings first, in columns of their own
            wider = np.zeros((n_cells, n_wordings + n_units))
            wider[:, wider.shape[-1] - scores.shape[-1] :] = scores
            scores = wider
        scores[np.ix_(cells, np.arange(n_wordings))] = found.wordings
        scores[np.ix_(cells, scores.shape[-1] - n_units + present)] = found.clusters
        t[cells] = t_ratio(found.estimate, np.sqrt(found.variance))
        of.put_t(cells, found.estimate, found.variance, found.df, 1 - alpha)
    raw = of.fields["p"]
    alive = ~np.isnan(raw)
    corrected, critical = np.full(n_cells, np.nan), np.full(n_cells, np.nan)
    if alive.any():
        df = of.fields["df"][alive]
        largest = np.sort(_largest(scores[alive], df, n_draws, generator))
        df = (df + 1.0 / (1.0 / df).mean()) / 2  # a cell's own is noisy, which the far tail feels
        p = p_of_t(t[alive], df, of.n_clusters[alive])
        hits = n_draws - np.searchsorted(largest, -ndtri(p / 2), side="left")
        corrected[alive] = np.maximum((hits + 1) / (n_draws + 1), p)
        rank = math.floor(alpha * (n_draws + 1) + 1e-9) - 1
        bound = largest[::-1][rank] if rank >= 0 else np.inf
        bound = max(float(bound), float(-ndtri(alpha / 2)))
        critical[alive] = t_quantile(df, 1 - 2 * float(ndtr(-bound)))
    half = np.where(of.fields["se"] == 0.0, 0.0, critical * of.fields["se"])
    of.put(np.arange(n_cells), low=of.fields["estimate"] - half, high=of.fields["estimate"] + half)

    def folded(values: npt.NDArray[np.generic]) -> PerCell:
        return scalar_or_array(values.reshape(shape))

    names = ("estimate", "se", "df", "low", "high")
    return MaxT(
        **{name: folded(of.fields[name]) for name in names},
        statistic=folded(t),
        p_corrected=folded(corrected),
        p_raw=folded(raw),
        critical=folded(critical),
        alpha=alpha,
        n=folded(of.n),
        n_clusters=folded(of.n_clusters),
        texts=texts,
        reason=folded(of.reason.astype(str)),
    )


def _largest(
    scores: FloatArray, df: FloatArray, n_draws: int, generator: np.random.Generator
) -> FloatArray:
    """The largest |z| of a family without effects ``[n_draws]``, from scores ``[cells, units]``."""
    size = np.sqrt((scores**2).sum(-1, keepdims=True))
    real = size[:, 0] > 0
    units = scores[real] / size[real]
    shrunk = _shrinkage(units, df[real])
    own, shared = np.float32(np.sqrt(shrunk)), np.sqrt(1 - shrunk)
    units = (shared * units).astype(np.float32)  # draws need no more digits than that
    shape = (scores.shape[-1], n_draws)
    multipliers = generator.standard_normal(shape, dtype=np.float32)
    largest = np.zeros(n_draws, dtype=np.float32)
    for start in range(0, len(units), _CELLS_AT_ONCE):
        z = units[start : start + _CELLS_AT_ONCE] @ multipliers
        if own:
            noise = generator.standard_normal(z.shape, dtype=np.float32)
            noise *= own
            z += noise
        np.maximum(largest, z.max(0), out=largest)
        np.maximum(largest, -z.min(0), out=largest)
    return largest.astype(np.float64)


def _shrinkage(units: FloatArray, df: FloatArray) -> float:
    """How far the cells' correlations are drawn towards 0; ``units`` are rows of length 1."""
    m = len(units)
    if m < 2:
        return 0.0
    square = float((((units.T @ units) ** 2).sum() - m) / (m * (m - 1)))  # mean squared correlation
    noise = (1.0 - square) ** 2 * float((1.0 / df).mean())
    return min(1.0, noise / square) if square > 0 else 1.0
