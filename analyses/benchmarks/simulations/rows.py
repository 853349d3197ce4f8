"""The rows of the table: what is simulated, and the band it has to fall into."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from scipy.special import ndtr
from scipy.stats import rankdata

from analyses.benchmarks.simulations.samples import (
    EFFECT_AT,
    HEADS,
    LAYERS,
    Draw,
    arms,
    family,
    roles,
    sentences,
)
from interp import stats
from interp.stats.arrays import FloatArray, IntArray
from interp.stats.means import cluster_mean

COVERAGE, SIZE = (0.93, 0.97), (0.03, 0.07)
KINDS = ("gaussian", "heavy-tailed", "unbalanced")
CLUSTERS = (6, 12, 60)


Run: TypeAlias = Callable[[int, int], FloatArray]
"""``run(n, seed)``: the events ``[samples]`` whose share is reported."""


@dataclass(frozen=True)
class Row:
    """One line of the table."""

    statistic: str
    sample: str
    measure: str
    band: tuple[float, float]
    n: int
    run: Run


def _holds(interval: stats.Interval, truth: float) -> FloatArray:
    """Whether intervals hold the truth; those that are not reported are left out."""
    low, high = np.atleast_1d(interval.low), np.atleast_1d(interval.high)
    shown = ~np.isnan(low)
    return ((low <= truth) & (truth <= high))[shown].astype(float)


def rows() -> Iterator[Row]:
    """All rows, in the order of the table."""
    for kind in KINDS:
        for n in CLUSTERS:
            sample = f"{n} clusters, {kind}"
            yield Row(
                "effect", f"6 x 6 wordings, {sample}", "coverage", COVERAGE, 4000, _effect(kind, n)
            )
    for wordings, sd, n in (
        ((6, 2), (0.2, 0.2), 60),
        ((6, 2), (0.05, 0.4), 60),
        ((2, 6), (0.4, 0.05), 60),
        ((15, 6), (0.05, 0.4), 60),
        ((6, 1), (0.2, 0.0), 24),
        ((2, 2), (0.2, 0.2), 60),
        ((6, 6), (0.4, 0.4), 60),
        ((6, 6), (0.0, 0.0), 60),
    ):
        sample = f"{wordings[0]} x {wordings[1]} wordings (sd {sd[0]}, {sd[1]}), {n} clusters"
        yield Row(
            "effect", sample, "coverage", COVERAGE, 4000, _effect("gaussian", n, wordings, sd)
        )
    for n in (12, 60):
        yield Row(
            "effect_gap", f"6 x 6, {n} clusters", "coverage", COVERAGE, 1000, _gap("gaussian", n)
        )
    for name, samples, of in (
        ("cluster_mean", 4000, _mean),
        ("share", 4000, _share),
        ("bias score, ambiguous", 3000, _bias(True)),
        ("bias score, disambiguated", 3000, _bias(False)),
        ("correlation", 2000, _correlation),
    ):
        for kind in KINDS:
            for n in CLUSTERS:
                sample = f"{n} clusters, {kind}"
                yield Row(name, sample, "coverage", COVERAGE, samples, of(kind, n))
    for groups, shift in ((140, 0.0), (140, 0.5), (40, 0.5), (16, 0.8)):
        sample = f"{groups} groups, shift {shift}, 2 x 5 folds"
        yield Row("corrected_cv", sample, "coverage", (0.90, 1.0), 300, _auc(groups, shift))
    yield from _tests()


def _tests() -> Iterator[Row]:
    """Size and power."""
    for name, cells, samples in (("layers", LAYERS, 2000), ("heads", HEADS, 400)):
        for n in CLUSTERS:
            for sd in (0.0, 0.15, 0.3):
                sample = f"{cells} {name}, wordings sd {sd}, {n} clusters"
                run = _family(cells, n, sd)
                yield Row("max_t_of_effects", sample, "size", SIZE, samples, run)
    for n in (12, 60):
        sample, run = f"30 layers, heavy-tailed, {n} clusters", _family(LAYERS, n, 0.15, KINDS[1])
        yield Row("max_t_of_effects", sample, "size", SIZE, 2000, run)
        sample = f"30 layers, six pairs of wordings, one per cluster, {n} clusters"
        yield Row("max_t", sample, "size", SIZE, 2000, _pairs(n))
    sample = "effect .4 at 6 of 30 layers, 60 clusters: share of the oracle's power"
    yield Row("max_t_of_effects", sample, "power", (0.9, 1.0), 2000, _power(0.4))
    for n in (6, 10, 60):
        sample, run = f"{n} items, r = 0", _correlation("gaussian", n, 0.0, size=True)
        yield Row("correlation", sample, "size", SIZE, 2000, run)
    for n, size in ((24, 1), (60, 1), (198, 2)):
        sample = f"{n} answers in clusters of {size}"
        yield Row("calibration_error", sample, "size", SIZE, 1000, _calibration(n, size))
    sample = "effect = delta, 6 x 6 wordings, 60 clusters"
    yield Row("equivalence", sample, "size", SIZE, 4000, _equivalence)
    sample = "20 effects, 6 x 6 wordings, 24 clusters"
    yield Row("Family (Holm)", sample, "size", SIZE, 500, _holm)


def _effect(
    kind: str,
    n_clusters: int,
    wordings: tuple[int, int] = (6, 6),
    sd: tuple[float, float] = (0.15, 0.15),
) -> Run:
    def run(n: int, seed: int) -> FloatArray:
        found = []
        for part, size in enumerate(_parts(n, kind)):  # new cluster sizes in every part
            draw = Draw.of(seed, kind, n_clusters, "effect", wordings, sd, part)
            clusters = draw.clusters()
            treated, control = arms(draw, size, wordings, clusters, sd=sd)
            found.append(_holds(stats.effect(treated, control, clusters), 0.0))
        return np.concatenate(found)

    return run


def _parts(n: int, kind: str) -> list[int]:
    """Samples split over populations: unbalanced clusters have new sizes in each of twenty."""
    count = 20 if kind == "unbalanced" else 4
    return [len(part) for part in np.array_split(np.arange(n), min(count, n))]


def _gap(kind: str, n_clusters: int) -> Run:
    def run(n: int, seed: int) -> FloatArray:
        draw = Draw.of(seed, kind, n_clusters, "gap")
        clusters = draw.clusters()
        inside = np.arange(len(clusters)) < len(clusters) // 3
        treated, control = arms(draw, n, (6, 6), clusters)
        pairs = zip(treated, control, strict=True)
        return np.concatenate([_holds(stats.effect_gap(*x, clusters, inside), 0.0) for x in pairs])

    return run


def _mean(kind: str, n_clusters: int) -> Run:
    def run(n: int, seed: int) -> FloatArray:
        found = []
        for part, size in enumerate(_parts(n, kind)):
            draw = Draw.of(seed, kind, n_clusters, "mean", part)
            clusters = draw.clusters(2)
            values = draw.noise(size, n_clusters)[:, clusters] + draw.noise(size, len(clusters))
            found.append(_holds(cluster_mean(values, clusters), 0.0))
        return np.concatenate(found)

    return run


def _share(kind: str, n_clusters: int) -> Run:
    def run(n: int, seed: int) -> FloatArray:
        found = []
        for part, size in enumerate(_parts(n, kind)):
            draw = Draw.of(seed, kind, n_clusters, "share", part)
            clusters = draw.clusters()
            shape = (size, len(clusters))
            whole = 0.5 + 0.4 * draw.noise(size, n_clusters)[:, clusters] + 0.3 * draw.noise(*shape)
            top = 0.3 * whole + 0.2 * draw.noise(*shape)
            found.append(_holds(stats.share(top, whole, clusters), 0.3))
        return np.concatenate(found)

    return run


def _bias(ambiguous: bool) -> Callable[[str, int], Run]:
    def of(kind: str, n_clusters: int) -> Run:
        def run(n: int, seed: int) -> FloatArray:
            draw, found = Draw.of(seed, kind, n_clusters, "bias", ambiguous), []
            for _ in range(n):
                clusters = draw.clusters(2)
                columns, *truths = roles(draw, clusters)
                score = _ambiguous if ambiguous else _disambiguated
                interval = stats.of_sums(score, columns, clusters)
                found.append(_holds(interval, truths[0] if ambiguous else truths[1]))
            return np.concatenate(found)

        return run

    return of


def _disambiguated(sums: FloatArray) -> FloatArray:
    return 2 * sums[0] / (sums[0] + sums[1]) - 1


def _ambiguous(sums: FloatArray) -> FloatArray:
    return _disambiguated(sums) * sums[2] / sums[3]


def _correlation(kind: str, n_clusters: int, r: float = 0.4, *, size: bool = False) -> Run:
    def run(n: int, seed: int) -> FloatArray:
        draw, found = Draw.of(seed, kind, n_clusters, "correlation", r), []
        clusters = draw.clusters()
        sizes = np.bincount(clusters)
        own = 0.7 if kind == "unbalanced" else 0.0  # of items within clusters, in x and y alike
        truth = r / (1 + own**2 * float((1 / sizes).mean()))
        for _ in range(n):
            x = draw.noise(n_clusters)
            y = r * x + np.sqrt(1 - r**2) * draw.noise(n_clusters)
            x, y = (v[clusters] + own * draw.noise(len(clusters)) for v in (x, y))
            interval = stats.correlation(x, y, clusters=clusters)
            found.append(np.array([interval.p <= 0.05]) if size else _holds(interval, truth))
        return np.concatenate(found).astype(float)

    return run


def _auc(n_groups: int, shift: float) -> Run:
    def run(n: int, seed: int) -> FloatArray:
        draw = Draw.of(seed, "gaussian", n_groups, "auc", shift)
        truth, found = 0.5, []
        if shift:
            states, labels, _ = sentences(draw.generator, 2500, shift)
            axes = (
                _axis(*sentences(draw.generator, int(0.8 * n_groups), shift)[:2]) for _ in range(40)
            )
            truth = float(np.mean([_rank_auc(states @ axis, labels) for axis in axes]))
        for _ in range(n):
            states, labels, groups = sentences(draw.generator, n_groups, shift)
            scores = []
            for _ in range(2):
                for test in np.array_split(draw.generator.permutation(n_groups), 5):
                    out = np.isin(groups, test)
                    axis = _axis(states[~out], labels[~out])
                    scores.append(_rank_auc(states[out] @ axis, labels[out]))
            found.append(_holds(stats.corrected_cv(scores, test_share=0.2), truth))
        return np.concatenate(found)

    return run


def _axis(states: FloatArray, labels: np.ndarray) -> FloatArray:
    return states[labels].mean(0) - states[~labels].mean(0)


def _rank_auc(scores: FloatArray, labels: np.ndarray) -> float:
    up = int(labels.sum())
    wins = rankdata(scores)[labels].sum() - up * (up + 1) / 2
    return float(wins / (up * (len(labels) - up)))


def _family(cells: int, n_clusters: int, sd: float, kind: str = "gaussian") -> Run:
    def run(n: int, seed: int) -> FloatArray:
        draw, found = Draw.of(seed, kind, n_clusters, "family", cells, sd), []
        for k in range(n):
            treated, control = family(draw, cells, 6, sd)
            units = range(n_clusters)
            test = stats.max_t_of_effects(treated, control, units, n_draws=1000, seed=k)
            found.append((test.p_corrected <= 0.05).any())
        return np.array(found, dtype=float)

    return run


def _pairs(n_clusters: int) -> Run:
    """A sweep's pairs: one observation per cluster, in turn under one of six pairs of wordings."""
    wordings: IntArray = np.arange(n_clusters) % 6

    def run(n: int, seed: int) -> FloatArray:
        draw, found = Draw.of(seed, "gaussian", n_clusters, "pairs"), []
        for k in range(n):
            treated, control = family(draw, LAYERS, 6, 0.15)
            values = (treated - control)[:, wordings, np.arange(n_clusters)]
            test = stats.max_t(values, range(n_clusters), wordings=wordings, n_draws=1000, seed=k)
            found.append((test.p_corrected <= 0.05).any())
        return np.array(found, dtype=float)

    return run


def _power(effect: float) -> Run:
    """Per sample: found in any layer that has the effect, over the share the oracle finds."""

    def run(n: int, seed: int) -> FloatArray:
        draw, found = Draw.of(seed, "gaussian", 60, "power", effect), []
        for k in range(n):
            treated, control = family(draw, LAYERS, 6, 0.15, effect)
            test = stats.max_t_of_effects(treated, control, range(60), n_draws=1000, seed=k)
            hit = (test.p_corrected[EFFECT_AT] <= 0.05).any()
            found.append((hit, test.p_raw[EFFECT_AT][3] <= 0.05))
        any_layer, oracle = np.array(found, dtype=float).T
        return any_layer / oracle.mean()

    return run


def _calibration(n_answers: int, size: int) -> Run:
    def run(n: int, seed: int) -> FloatArray:
        draw, found = Draw.of(seed, "gaussian", n_answers, "calibration"), []
        clusters = np.arange(n_answers) // size
        for k in range(n):
            stated = draw.generator.uniform(0.34, 0.9, n_answers)
            if size > 1:  # outcomes of a cluster go together
                shared = draw.noise(n_answers)[clusters]
                latent = np.sqrt(0.5) * shared + np.sqrt(0.5) * draw.noise(n_answers)
                uniform = ndtr(latent)
            else:
                uniform = draw.generator.random(n_answers)
            error = stats.calibration_error(stated, uniform < stated, clusters, seed=k, n_draws=200)
            found.append(error.p <= 0.05)
        return np.array(found, dtype=float)

    return run


def _equivalence(n: int, seed: int) -> FloatArray:
    draw = Draw.of(seed, "gaussian", 60, "equivalence")
    clusters, delta = draw.clusters(), 0.5
    treated, control = arms(draw, n, (6, 6), clusters)
    found = stats.effect(treated + delta, control, clusters)
    return np.array(
        [stats.equivalence(found.at(k), delta).p <= 0.05 for k in range(n)], dtype=float
    )


def _holm(n: int, seed: int) -> FloatArray:
    draw = Draw.of(seed, "gaussian", 24, "holm")
    clusters = draw.clusters()
    families = [arms(draw, n, (6, 6), clusters) for _ in range(20)]
    p = np.stack([stats.effect(above, below, clusters).p for above, below in families])
    return np.array([(stats.holm(claims) <= 0.05).any() for claims in p.T], dtype=float)
