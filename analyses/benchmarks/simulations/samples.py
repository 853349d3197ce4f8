"""Samples with a known truth: clustered items, wordings crossed with items, families of cells."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from interp.stats.arrays import FloatArray, IntArray, rng

LAYERS, HEADS = 30, 270
EFFECT_AT = slice(20, 26)
"""The layers at which a family has an effect, where it has one."""

_LARGEST = 12


@dataclass(frozen=True)
class Draw:
    """One population: clusters of items, and noise of one shape.

    ``kind``: ``gaussian``; ``heavy-tailed`` (Student with 3 degrees of freedom, variance 1); or
    ``unbalanced``: Gaussian, with cluster sizes from a Pareto law, 1 to 12.
    """

    kind: str
    n_clusters: int
    generator: np.random.Generator

    @classmethod
    def of(cls, seed: int, kind: str, n_clusters: int, *labels: object) -> Draw:
        """The population of a row of the table, which its labels name."""
        return cls(kind, n_clusters, rng(seed, kind, n_clusters, *labels))

    def clusters(self, size: int = 1) -> IntArray:
        """The cluster of every item; ``size`` items per cluster unless unbalanced."""
        sizes = np.full(self.n_clusters, size)
        if self.kind == "unbalanced":
            drawn = np.round(self.generator.pareto(1.2, self.n_clusters) + 0.5)
            sizes = np.clip(drawn.astype(int), 1, _LARGEST)
        return np.repeat(np.arange(self.n_clusters), sizes)

    def noise(self, *shape: int) -> FloatArray:
        """Independent noise of variance 1."""
        if self.kind == "heavy-tailed":
            return self.generator.standard_t(3, size=shape) / np.sqrt(3)
        return self.generator.standard_normal(shape)


def arms(
    draw: Draw,
    n: int,
    wordings: tuple[int, int],
    clusters: IntArray,
    *,
    sd: tuple[float, float] = (0.15, 0.15),
    of_clusters: float = 0.4,
    residual: float = 0.3,
) -> list[FloatArray]:
    """Two arms ``[n, wordings, items]`` whose true effect is 0, with a demo run's components.

    ``sd``: of the arms' wordings; ``of_clusters``: of the effect between clusters, half of which
    varies between the items of a cluster too; ``residual``: of single (wording, item) pairs.
    """
    n_clusters, items = clusters.max() + 1, len(clusters)
    item = 3 * draw.noise(n, n_clusters)[:, clusters]
    effect = of_clusters * (draw.noise(n, n_clusters)[:, clusters] + 0.5 * draw.noise(n, items))
    found = []
    for k, spread, own in zip(wordings, sd, (effect, 0.0 * effect), strict=True):
        wording = spread * draw.noise(n, k, 1)
        found.append(wording + residual * draw.noise(n, k, items) + (item + own)[:, None])
    return found


def family(
    draw: Draw, cells: int, wordings: int, sd: float, effect: float = 0.0
) -> list[FloatArray]:
    """Two arms ``[cells, wordings, clusters]``: 30 layers (neighbours' r = .9) or 270 heads (r = .3)."""

    def field(*shape: int) -> FloatArray:
        if cells == LAYERS:
            noise = draw.noise(cells, *shape)
            for layer in range(1, cells):
                noise[layer] = 0.9 * noise[layer - 1] + np.sqrt(1 - 0.81) * noise[layer]
            return noise
        return np.sqrt(0.3) * draw.noise(1, *shape) + np.sqrt(0.7) * draw.noise(cells, *shape)

    n = draw.n_clusters
    treated, control = (sd * field(wordings)[..., None] + 0.3 * field(wordings, n) for _ in "ab")
    treated = treated + 0.4 * field(n)[:, None]
    treated[EFFECT_AT] += effect
    return [treated, control]


def roles(draw: Draw, clusters: IntArray) -> tuple[FloatArray, float, float]:
    """BBQ answers as columns ``[stereotyped, counter, answered, items]`` and the two true scores.

    Every cluster has its own probabilities of unknown, stereotyped and counter; heavy-tailed: far
    apart between clusters.
    """
    mean = np.array([1.5, 1.2, 1.0])
    alpha = mean * (0.5 if draw.kind == "heavy-tailed" else 1.5)
    chances = draw.generator.dirichlet(alpha, clusters.max() + 1)[clusters]
    role = (draw.generator.random(len(clusters))[:, None] > chances.cumsum(1)).sum(1)
    disambiguated = 2 * mean[1] / (mean[1] + mean[2]) - 1
    columns = np.stack([role == 1, role == 2, role > 0, np.ones(len(role))]).astype(float)
    return columns, disambiguated * (1 - mean[0] / mean.sum()), disambiguated


def sentences(
    generator: np.random.Generator, n_groups: int, shift: float, d_model: int = 60
) -> tuple[FloatArray, np.ndarray, IntArray]:
    """States ``[texts, d_model]`` of groups of four sentences, their labels and groups."""
    labels, groups = np.tile([True, False], 2 * n_groups), np.repeat(np.arange(n_groups), 4)
    signs = np.where(labels, 0.5, -0.5)[:, None]
    states = generator.standard_normal((len(labels), d_model))
    states += generator.standard_normal((n_groups, d_model))[groups]
    states += signs * 0.6 * generator.standard_normal((n_groups, d_model))[groups]
    states[:, 0] += signs[:, 0] * shift
    return states, labels, groups
