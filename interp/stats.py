"""Intervals, permutation tests and multiple-testing corrections on per-item numbers.

**Idea.** A result keeps one number per item; this module turns such numbers into a claim. Items
that share a template are not independent, so the unit of resampling is the *cluster*, never the
item. The wordings of an instruction are a random factor too: an effect of instructions is
bootstrapped over texts and item clusters at once, and tested by permuting the labels of the texts.

**Conventions.** Items stand on the last axis, ``[*cells, n_items]``; with leading axes every field
of a result is an array ``[*cells]``. NaN marks an undefined item: it is left out and ``n`` counts
what remains. Items that are their own clusters are written ``clusters=range(n)``. Effects keep the
unit of the values (nats of margin) and are positive when the treated arm is higher.

**Randomness.** ``seed`` and ``labels`` name a stream (:func:`rng`); equal arguments give equal
bytes. Cluster resamples depend on the seed, the labels and the sorted cluster names alone, so calls
on the same clusters and seed are paired.

**Limits.** Percentile intervals are narrow below about 20 clusters, and a point where values do not
vary; one cluster gives no interval (NaN, with a ``reason``). Time grows with ``n_resamples *
n_clusters * n_cells``; memory is about ``16 * n_resamples * n_cells`` bytes.

Example::

    clusters = [item.cluster for item in items]
    effect = two_way_bootstrap(corrected, placebo, clusters, seed=0)  # each [texts, items]
    test = permute_texts(corrected.mean(1), placebo.mean(1), seed=0)
    print(effect, test.p)  # 0.120 [0.050, 0.190] 0.0043
    layers = sign_flip_max_t(shift, clusters, seed=0)  # shift [layers, items]
"""

from __future__ import annotations

import dataclasses
import hashlib
import itertools
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import numpy as np
import numpy.typing as npt

from interp.errors import InterpError

FloatArray: TypeAlias = npt.NDArray[np.float64]
IntArray: TypeAlias = npt.NDArray[np.intp]

PerCell: TypeAlias = Any
"""A plain number, bool or str for one cell; an array ``[*cells]`` for values with leading axes."""

_CHUNK = 2_000_000  # numbers held at a time while resampling
_MAX_EXACT_FLIPS = 4096
_TIE = 1e-10  # on a scale of order 1: absorbs the order of summation, far below real differences


def rng(seed: int, *labels: object) -> np.random.Generator:
    """A generator keyed on ``seed`` and any labels, stable across processes and platforms.

    The derivation is that of ``transformer_lens.utilities.statistics.derive_generator`` (SHA-256 of
    the joined labels), so both libraries derive the same integer from the same key.
    """
    key = ":".join([str(seed), *(str(label) for label in labels)]).encode()
    derived = int.from_bytes(hashlib.sha256(key).digest()[:8], "little") & 0x7FFFFFFFFFFFFFFF
    return np.random.default_rng(derived)


@dataclass(frozen=True)
class Interval:
    """An estimate with its confidence interval, in the unit of the values.

    Fields are plain numbers for one cell and arrays ``[*cells]`` for many (:meth:`at` picks one).
    ``n`` counts the items used, ``n_clusters`` the units resampled. ``reason`` is empty or says why
    a number is NaN. ``texts``: how many texts the arms of a two-way bootstrap had (treated,
    control); an arm with 1 was not resampled over texts.
    """

    estimate: PerCell
    low: PerCell
    high: PerCell
    n: PerCell
    n_clusters: PerCell
    confidence: float = 0.95
    reason: PerCell = ""
    method: Literal["bootstrap", "clopper_pearson"] = "bootstrap"
    texts: tuple[int, int] | None = None

    def excludes(self, value: float | int) -> PerCell:
        """Whether ``value`` lies outside the closed interval; False where there is no interval."""
        outside = (np.asarray(self.low) > value) | (np.asarray(self.high) < value)
        return outside if np.ndim(outside) else bool(outside)

    def at(self, *index: int) -> Interval:
        """The interval of one cell, with plain numbers; ``index`` addresses the leading axes.

        Raises:
            InterpError: Another number of indices than there are leading axes.
        """
        if len(index) != np.ndim(self.estimate):
            raise InterpError(f"cell {list(index)}: the interval has {np.ndim(self.estimate)} axes")
        cell = {name: np.asarray(getattr(self, name))[index].item() for name in _PER_CELL_FIELDS}
        return dataclasses.replace(self, **cell)

    def __str__(self) -> str:
        if np.ndim(self.estimate):
            return f"Interval over cells {list(np.shape(self.estimate))}"
        text = f"{self.estimate:.3f} [{self.low:.3f}, {self.high:.3f}]"
        return f"{text} ({self.reason})" if self.reason else text


_PER_CELL_FIELDS = ("estimate", "low", "high", "n", "n_clusters", "reason")


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


@dataclass(frozen=True)
class _Plan:
    """How to resample, checked once."""

    confidence: float
    n_resamples: int
    seed: int
    labels: Sequence[object]

    def __post_init__(self) -> None:
        if not 0.0 < self.confidence < 1.0:
            raise InterpError(f"confidence is {self.confidence}: give a number between 0 and 1")
        if self.n_resamples < 1:
            raise InterpError(f"n_resamples is {self.n_resamples}: give at least 1")

    def weights(self, n_units: int, unit: str) -> Iterator[FloatArray]:
        """How often each unit is drawn, in chunks ``[some_resamples, n_units]``."""
        generator = rng(self.seed, unit, *self.labels)
        step = max(1, _CHUNK // n_units)
        for start in range(0, self.n_resamples, step):
            size = min(step, self.n_resamples - start)
            counts = generator.multinomial(n_units, np.full(n_units, 1.0 / n_units), size=size)
            yield counts.astype(np.float64)

    def all_weights(self, n_units: int, unit: str) -> FloatArray:
        return np.concatenate(list(self.weights(n_units, unit)))

    def bounds(self, draws: FloatArray) -> FloatArray:
        """Percentile bounds ``[2, cells]`` of draws ``[cells, resamples]``, NaN draws left out."""
        tail = (1.0 - self.confidence) / 2.0
        quantile = np.nanquantile if np.isnan(draws).any() else np.quantile
        return np.asarray(quantile(draws, [tail, 1.0 - tail], axis=-1))


@dataclass(frozen=True)
class _Groups:
    """The clusters of some items: ``codes`` 0..k-1 per item, ``order`` sorts items by code."""

    codes: IntArray
    order: IntArray
    starts: IntArray

    @classmethod
    def of(cls, codes: IntArray) -> _Groups:
        _, starts, dense = np.unique(np.sort(codes), return_index=True, return_inverse=True)
        order = np.argsort(codes, kind="stable")
        unsorted = np.empty_like(dense)
        unsorted[order] = dense
        return cls(unsorted, order, starts)

    def __len__(self) -> int:
        return len(self.starts)

    def sums(self, values: FloatArray) -> FloatArray:
        """Per-cluster sums ``[..., n_clusters]`` of values ``[..., n_items]``."""
        return np.add.reduceat(values[..., self.order], self.starts, axis=-1)


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
    plan = _Plan(confidence, n_resamples, seed, labels)
    array = _checked("values", values)

    def one(cells: IntArray, items: IntArray, groups: _Groups) -> _Cells:
        sums = groups.sums(_rows(array)[np.ix_(cells, items)])
        counts = groups.sums(np.ones(len(items)))
        if statistic == "cluster_mean":
            sums, counts = sums / counts, np.ones_like(counts)
        draws = [(w @ sums.T).T / (w @ counts) for w in plan.weights(len(groups), "clusters")]
        estimate = sums.sum(-1) / counts.sum()
        return estimate, np.concatenate(draws, axis=-1), [""] * len(cells)

    return _assemble(~np.isnan(array), _codes(clusters, array.shape[-1]), one, plan)


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
    plan = _Plan(confidence, n_resamples, seed, labels)
    above, below = _broadcast(
        _checked("numerator", numerator), _checked("denominator", denominator)
    )

    def one(cells: IntArray, items: IntArray, groups: _Groups) -> _Cells:
        pick = np.ix_(cells, items)
        top, base = (groups.sums(_rows(x)[pick]) for x in (above, below))
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
    return _assemble(defined, _codes(clusters, above.shape[-1]), one, plan, keep_single=False)


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
    few texts make it narrow (six: by a factor of about .9): read it beside :func:`permute_texts`.
    Source: A. B. Owen, The pigeonhole bootstrap, Annals of Applied Statistics 2007.

    Raises:
        InterpError: Arms on different items or cells, negative weights, unmatched clusters.
    """
    plan = _Plan(confidence, n_resamples, seed, labels)
    arms = [_checked("treated", treated, 2), _checked("control", control, 2)]
    if arms[0].shape[:-2] != arms[1].shape[:-2] or arms[0].shape[-1] != arms[1].shape[-1]:
        raise InterpError(
            f"treated {list(arms[0].shape)} and control {list(arms[1].shape)} differ outside the "
            "text axis: give [*cells, n_texts, n_items] on the same items"
        )
    item_weights = _item_weights(weights, arms[0].shape[-1])
    texts = (arms[0].shape[-2], arms[1].shape[-2])
    drawn = [
        plan.all_weights(k, name) for k, name in zip(texts, ("treated", "control"), strict=True)
    ]

    def one(cells: IntArray, items: IntArray, groups: _Groups) -> _Cells:
        weight = item_weights[items]
        counts = groups.sums(weight)
        tables = [
            groups.sums(arm.reshape(-1, *arm.shape[-2:])[cells][..., items] * weight)
            for arm in arms
        ]
        chunks, start = [], 0
        for w in plan.weights(len(groups), "clusters"):
            rows, start = slice(start, start + len(w)), start + len(w)
            means = [
                np.einsum("ctr,rt->cr", table @ w.T, text_weights[rows]) / table.shape[1]
                for table, text_weights in zip(tables, drawn, strict=True)
            ]
            chunks.append((means[0] - means[1]) / (w @ counts))
        means = [table.sum(-1).mean(-1) / counts.sum() for table in tables]
        return means[0] - means[1], np.concatenate(chunks, axis=-1), [""] * len(cells)

    defined = ~(np.isnan(arms[0]).any(-2) | np.isnan(arms[1]).any(-2)) & (item_weights > 0)
    result = _assemble(defined, _codes(clusters, defined.shape[-1]), one, plan)
    return dataclasses.replace(result, texts=texts)


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
    first = _checked("treated_means", treated_means)
    second = _checked("control_means", control_means)
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
    return PermutationTest(_plain(observed), _plain(np.asarray(hits / drawn)), drawn, exact)


def sign_flip_max_t(
    values: npt.ArrayLike,
    clusters: Iterable[object],
    *,
    alpha: float = 0.05,
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
    array = _checked("values", values)
    shape, flat = array.shape[:-1], _rows(array)
    alive = ~np.isnan(flat).all(axis=-1)
    means, n_items = _cluster_means(flat[alive], _codes(clusters, array.shape[-1]))
    n_units = means.shape[-1]
    t, corrected, raw = (np.full(len(flat), np.nan) for _ in range(3))
    exact = 2**n_units <= _MAX_EXACT_FLIPS
    if not alive.any() or n_units < 2:
        empty = _plain(t.reshape(shape))
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
    stats = [_plain(x.reshape(shape)) for x in (t, corrected, raw)]
    return MaxT(stats[0], stats[1], stats[2], critical, alpha, n_items, n_units, total, exact)


def holm(p_values: npt.ArrayLike) -> FloatArray:
    """Holm's step-down adjusted p-values over all entries, in the shape given; NaN stays NaN.

    A NaN (a row that was not measured) does not count as a test. Source: Holm (1979).

    Raises:
        InterpError: A p-value outside 0..1.
    """
    p = np.asarray(p_values, dtype=np.float64)
    if ((p < 0) | (p > 1)).any():
        raise InterpError(f"p-value {p[(p < 0) | (p > 1)].flat[0]} is outside 0..1")
    adjusted = np.full(p.shape, np.nan)
    tested = ~np.isnan(p)
    ordered = np.argsort(p[tested], kind="stable")
    factors = np.arange(len(ordered), 0, -1)
    steps = np.minimum(1.0, np.maximum.accumulate(p[tested][ordered] * factors))
    back = np.empty_like(steps)
    back[ordered] = steps
    adjusted[tested] = back
    return adjusted


def auc_interval(
    scores: npt.ArrayLike,
    labels: npt.ArrayLike,
    groups: Iterable[object],
    *,
    confidence: float = 0.95,
    n_resamples: int = 2000,
    seed: int,
) -> Interval:
    """ROC-AUC of ``scores [n_items]`` for the classes ``labels [n_items]`` (0/1), over groups.

    The AUC is P(score of a positive > score of a negative), ties counting one half: .5 is chance.
    Groups are resampled whole. NaN scores are left out, and so are resamples without both classes;
    data without both are NaN with a ``reason``. Perfect separation gives the point [1, 1].

    Raises:
        InterpError: Labels other than 0/1, lengths that differ, infinite scores.
    """
    plan = _Plan(confidence, n_resamples, seed, ())
    values, truth = _checked("scores", scores), _binary("labels", labels)
    if values.ndim != 1 or values.shape != truth.shape or np.isnan(truth).any():
        raise InterpError(
            f"scores {list(values.shape)} and labels {list(truth.shape)}: give [n_items] each, and "
            "every item a label"
        )

    def one(cells: IntArray, items: IntArray, clusters: _Groups) -> _Cells:
        order = np.argsort(values[items], kind="stable")
        starts = np.flatnonzero(np.diff(values[items][order], prepend=-np.inf))
        positive, code = truth[items][order], clusters.codes[order]

        def auc(weights: FloatArray) -> FloatArray:
            up = np.add.reduceat(weights[:, code] * positive, starts, axis=-1)
            down = np.add.reduceat(weights[:, code] * (1 - positive), starts, axis=-1)
            wins = (up * (np.cumsum(down, axis=-1) - down / 2)).sum(-1)
            return wins / _nonzero(up.sum(-1) * down.sum(-1))

        step = max(1, _CHUNK // len(items))
        weights = plan.all_weights(len(clusters), "clusters")
        draws = np.concatenate([auc(weights[i : i + step]) for i in range(0, len(weights), step)])
        estimate = auc(np.ones((1, len(clusters))))
        return estimate, draws[None], ["only one class" if np.isnan(estimate[0]) else ""]

    return _assemble(~np.isnan(values), _codes(groups, len(values)), one, plan)


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
    values = _binary("successes", successes)
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
    one: Callable[[IntArray, IntArray, _Groups], _Cells],
    plan: _Plan,
    *,
    keep_single: bool = True,
) -> Interval:
    """Run ``one`` on each set of cells that are defined on the same items, and collect the fields.

    Cells that share their items share the resamples, and a cell's result is the one it would have
    alone. A single cluster gives the estimate (or NaN where it needs an interval) and no bounds.
    """
    shape, flat = defined.shape[:-1], _rows(defined)
    estimate, low, high = (np.full(len(flat), np.nan) for _ in range(3))
    n, n_clusters = (np.zeros(len(flat), dtype=np.int64) for _ in range(2))
    reason = np.full(len(flat), "no defined item", dtype=object)
    patterns, pattern_of = np.unique(flat, axis=0, return_inverse=True)
    for index, pattern in enumerate(patterns):
        cells, items = np.flatnonzero(pattern_of.ravel() == index), np.flatnonzero(pattern)
        if not len(items):
            continue
        groups = _Groups.of(codes[items])
        n[cells], n_clusters[cells] = len(items), len(groups)
        estimate[cells], draws, reason[cells] = one(cells, items, groups)
        if len(groups) > 1:
            usable = ~np.isnan(draws).all(axis=-1)
            low[cells[usable]], high[cells[usable]] = plan.bounds(draws[usable])
        else:
            reason[cells] = "a single cluster: no interval"
            estimate[cells] = estimate[cells] if keep_single else np.nan
    values, counts = (estimate, low, high), (n, n_clusters)
    e, lo, hi, items_used, units = (_plain(x.reshape(shape)) for x in (*values, *counts))
    return Interval(
        e, lo, hi, items_used, units, plan.confidence, _plain(reason.astype(str).reshape(shape))
    )


def _plain(array: npt.NDArray[Any] | np.generic) -> PerCell:
    """A Python scalar for a single cell, the array itself otherwise."""
    return array if np.ndim(array) else array.item()


def _rows(array: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """The leading axes flattened into one: ``[cells, n_items]``, also without items."""
    return array.reshape(math.prod(array.shape[:-1]), array.shape[-1])


def _nonzero(array: FloatArray) -> FloatArray:
    return np.where(array == 0.0, np.nan, array)


def _checked(name: str, values: npt.ArrayLike, min_axes: int = 1) -> FloatArray:
    array = np.asarray(values, dtype=np.float64)
    if array.ndim < min_axes:
        raise InterpError(f"{name} has {array.ndim} axes: needs at least {min_axes}, items last")
    if np.isinf(array).any():
        where = [int(i) for i in np.argwhere(np.isinf(array))[0]]
        raise InterpError(f"{name}{where} is infinite: mark an undefined item as NaN")
    return array


def _binary(name: str, values: npt.ArrayLike) -> FloatArray:
    array = _checked(name, values)
    wrong = array[~np.isnan(array) & (array != 0.0) & (array != 1.0)]
    if wrong.size:
        raise InterpError(f"{name} holds {wrong[0]:g}: give 0, 1, True or False")
    return array


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
    array = np.ones(n_items) if weights is None else _checked("weights", weights)
    if array.shape != (n_items,) or not (array >= 0).all():
        raise InterpError(f"weights {list(array.shape)}: give {n_items} numbers >= 0, one per item")
    return array


def _codes(clusters: Iterable[object], n_items: int) -> IntArray:
    """Cluster number of each item, numbered in the sorted order of the names."""
    names = list(clusters)
    if len(names) != n_items:
        raise InterpError(f"{len(names)} cluster names for {n_items} items: give one per item")
    for row, name in enumerate(names):
        if name is None or name != name:
            raise InterpError(f"item {row} has no cluster ({name}): give a name, or its own number")
    return np.unique([str(name) for name in names], return_inverse=True)[1].ravel()


def _cluster_means(values: FloatArray, codes: IntArray) -> tuple[FloatArray, int]:
    """Means ``[cells, clusters]`` of the clusters that all cells share, and the items used."""
    if not values.size:
        return np.empty((len(values), 0)), 0
    groups = _Groups.of(codes)
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
