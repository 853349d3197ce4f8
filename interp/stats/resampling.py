"""Resamples of items: what the percentile bootstrap shares. Superseded; see ``docs/methods.md``."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from interp.errors import InterpError
from interp.stats.arrays import (
    FloatArray,
    Groups,
    IntArray,
    PerCell,
    check_array,
    check_binary,
    cluster_codes,
    rng,
    rows_of_cells,
    scalar_or_array,
)

__all__ = [
    "FloatArray",
    "Groups",
    "IntArray",
    "PerCell",
    "ResamplingPlan",
    "check_array",
    "check_binary",
    "cluster_codes",
    "rng",
    "rows_at_once",
    "rows_of_cells",
    "scalar_or_array",
]

_CHUNK = 2_000_000  # numbers held at a time while resampling


def rows_at_once(width: int) -> int:
    """How many resamples of ``width`` numbers each are held at a time."""
    return max(1, _CHUNK // width)


@dataclass(frozen=True)
class ResamplingPlan:
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
        step = rows_at_once(n_units)
        for start in range(0, self.n_resamples, step):
            size = min(step, self.n_resamples - start)
            counts = generator.multinomial(n_units, np.full(n_units, 1.0 / n_units), size=size)
            yield counts.astype(np.float64)

    def all_weights(self, n_units: int, unit: str) -> FloatArray:
        """:meth:`weights` in one piece ``[n_resamples, n_units]``, the same stream."""
        return np.concatenate(list(self.weights(n_units, unit)))

    def text_weights(self, texts: tuple[int, int]) -> list[FloatArray]:
        """:meth:`all_weights` of the texts of a treated and a control arm."""
        return [
            self.all_weights(k, arm) for k, arm in zip(texts, ("treated", "control"), strict=True)
        ]

    def crossed_weights(
        self, n_clusters: int, text_weights: Sequence[FloatArray]
    ) -> Iterator[tuple[FloatArray, list[FloatArray]]]:
        """Chunks of resamples: the weights of clusters, and those of each arm's texts."""
        start = 0
        for weights in self.weights(n_clusters, "clusters"):
            rows, start = slice(start, start + len(weights)), start + len(weights)
            yield weights, [of_arm[rows] for of_arm in text_weights]

    def bounds(self, draws: FloatArray) -> FloatArray:
        """Percentile bounds ``[2, cells]`` of draws ``[cells, resamples]``, NaN draws left out."""
        tail = (1.0 - self.confidence) / 2.0
        quantile = np.nanquantile if np.isnan(draws).any() else np.quantile
        return np.asarray(quantile(draws, [tail, 1.0 - tail], axis=-1))
