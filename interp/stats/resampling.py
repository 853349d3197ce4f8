"""What every resampling of items shares: streams, clusters, resamples, and checks of the input."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from interp.errors import InterpError

FloatArray: TypeAlias = npt.NDArray[np.float64]
IntArray: TypeAlias = npt.NDArray[np.intp]

PerCell: TypeAlias = Any
"""A plain number, bool or str for one cell; an array ``[*cells]`` for values with leading axes."""

_CHUNK = 2_000_000  # numbers held at a time while resampling


def rng(seed: int, *labels: object) -> np.random.Generator:
    """A generator keyed on ``seed`` and any labels, stable across processes and platforms.

    The derivation is that of ``transformer_lens.utilities.statistics.derive_generator`` (SHA-256 of
    the joined labels), so both libraries derive the same integer from the same key.
    """
    key = ":".join([str(seed), *(str(label) for label in labels)]).encode()
    derived = int.from_bytes(hashlib.sha256(key).digest()[:8], "little") & 0x7FFFFFFFFFFFFFFF
    return np.random.default_rng(derived)


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


@dataclass(frozen=True)
class Groups:
    """The clusters of some items: ``codes`` 0..k-1 per item, ``order`` sorts items by code."""

    codes: IntArray
    order: IntArray
    starts: IntArray

    @classmethod
    def of(cls, codes: IntArray) -> Groups:
        """The groups of items with these codes; codes may skip numbers."""
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


def scalar_or_array(array: npt.NDArray[Any] | np.generic) -> PerCell:
    """A Python scalar for a single cell, the array itself otherwise."""
    return array if np.ndim(array) else array.item()


def rows_of_cells(array: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """The leading axes flattened into one: ``[cells, n_items]``, also without items."""
    return array.reshape(math.prod(array.shape[:-1]), array.shape[-1])


def check_array(name: str, values: npt.ArrayLike, min_axes: int = 1) -> FloatArray:
    """The values as float64; refuses infinite ones and too few axes. NaN (undefined) passes."""
    try:
        array = np.asarray(values, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise InterpError(f"{name} is no array of numbers ({error})") from error
    if array.ndim < min_axes:
        raise InterpError(f"{name} has {array.ndim} axes: needs at least {min_axes}, items last")
    if np.isinf(array).any():
        where = [int(i) for i in np.argwhere(np.isinf(array))[0]]
        raise InterpError(f"{name}{where} is infinite: mark an undefined item as NaN")
    return array


def check_binary(name: str, values: npt.ArrayLike) -> FloatArray:
    """The values as float64; refuses what is not 0, 1 or NaN."""
    array = check_array(name, values)
    wrong = array[~np.isnan(array) & (array != 0.0) & (array != 1.0)]
    if wrong.size:
        raise InterpError(f"{name} holds {wrong[0]:g}: give 0, 1, True or False")
    return array


def cluster_codes(clusters: Iterable[object], n_items: int) -> IntArray:
    """Cluster number of each item, numbered in the sorted order of the names."""
    names = list(clusters)
    if len(names) != n_items:
        raise InterpError(f"{len(names)} cluster names for {n_items} items: give one per item")
    for row, name in enumerate(names):
        if name is None or name != name:
            raise InterpError(f"item {row} has no cluster ({name}): give a name, or its own number")
    return np.unique([str(name) for name in names], return_inverse=True)[1].ravel()
