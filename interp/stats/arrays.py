"""What every statistic shares: cells and items, clusters, random streams, and checks of the input."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from interp.errors import InterpError

FloatArray: TypeAlias = npt.NDArray[np.float64]
IntArray: TypeAlias = npt.NDArray[np.intp]
BoolArray: TypeAlias = npt.NDArray[np.bool_]

PerCell: TypeAlias = Any
"""A plain number, bool or str for one cell; an array ``[*cells]`` for values with leading axes."""


def rng(seed: int, *labels: object) -> np.random.Generator:
    """A generator keyed on ``seed`` and any labels, stable across processes and platforms.

    The derivation is that of ``transformer_lens.utilities.statistics.derive_generator`` (SHA-256 of
    the joined labels), so both libraries derive the same integer from the same key.
    """
    key = ":".join([str(seed), *(str(label) for label in labels)]).encode()
    derived = int.from_bytes(hashlib.sha256(key).digest()[:8], "little") & 0x7FFFFFFFFFFFFFFF
    return np.random.default_rng(derived)


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

    @property
    def sizes(self) -> IntArray:
        """Items per cluster."""
        return np.diff(self.starts, append=len(self.codes))

    def sums(self, values: FloatArray) -> FloatArray:
        """Per-cluster sums ``[..., n_clusters]`` of values ``[..., n_items]``."""
        return np.add.reduceat(values[..., self.order], self.starts, axis=-1)


def blocks(defined: BoolArray, at_once: int) -> Iterator[tuple[IntArray, IntArray]]:
    """Cells and items of every pattern of definedness ``[cells, n_items]``, ``at_once`` cells at most.

    Cells without a defined item are in no block.
    """
    if defined.all():  # the common case, without the sorting of rows
        cells, items = np.arange(len(defined)), np.arange(defined.shape[-1])
        if len(items):
            yield from ((cells[k : k + at_once], items) for k in range(0, len(cells), at_once))
        return
    patterns, pattern_of = np.unique(defined, axis=0, return_inverse=True)
    for index, pattern in enumerate(patterns):
        items = np.flatnonzero(pattern)
        cells = np.flatnonzero(pattern_of.ravel() == index)
        if len(items):
            yield from ((cells[k : k + at_once], items) for k in range(0, len(cells), at_once))


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


def check_confidence(confidence: float) -> None:
    """Refuse a confidence outside (0, 1)."""
    if not 0.0 < confidence < 1.0:
        raise InterpError(f"confidence is {confidence}: give a number between 0 and 1")


def cluster_codes(clusters: Iterable[object], n_items: int, unit: str = "cluster") -> IntArray:
    """Cluster number of each item, numbered in the sorted order of the names."""
    names = list(clusters)
    if len(names) != n_items:
        raise InterpError(f"{len(names)} {unit} names for {n_items} items: give one per item")
    for row, name in enumerate(names):
        if name is None or name != name:
            raise InterpError(f"item {row} has no {unit} ({name}): give a name, or its own number")
    return np.unique([str(name) for name in names], return_inverse=True)[1].ravel()
