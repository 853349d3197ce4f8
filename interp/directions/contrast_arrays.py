"""The readings of a whole sample as arrays, filled an item at a time.

Rows are those that a :class:`~interp.directions.contrast_reader.ContrastReader` gives of an item's
prompts, with their labels. They are read from a file one item after the other, so that what grows with
the sample is a few numbers per prompt: along null directions, of which there are many, sums alone are
held.

    arrays = ContrastArrays.empty(clusters, ["last"], {"instructed": 6, "revealing": 1}, ...)
    for index, rows in enumerate(parts):
        arrays.add(index, rows)
    treated, placebo = (arrays.measured[0, arm] for arm in arrays.arms("instructed"))
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
import pandas as pd

from interp.directions.contrast_reader import MEASURES
from interp.stats import FloatArray

Variant: TypeAlias = tuple[str, str, int]
"""Contrast, condition and slot: a text of the contrast's own condition, or a placebo of it."""


@dataclass(eq=False)
class ContrastArrays:
    """The numbers of all prompts.

    ``conditions`` have placebos beside them; along null directions the first of them is read.
    ``measured [position, variant, item, cell, measure]`` and ``parts [position, variant, item,
    part]`` are NaN where nothing was read. ``null_sums [position][treated, placebo, placebo
    squared][layer * null]`` are sums over items and texts. ``fixed``: positions at which nothing can
    change, of any item.
    """

    conditions: tuple[str, ...]
    clusters: tuple[str, ...]
    positions: tuple[str, ...]
    variants: dict[Variant, int]
    measured: npt.NDArray[np.float32]
    parts: npt.NDArray[np.float32]
    null_sums: list[FloatArray]
    fixed: npt.NDArray[np.bool_]

    @classmethod
    def empty(
        cls,
        clusters: Sequence[str],
        positions: Sequence[str],
        n_texts: Mapping[str, int],
        *,
        n_cells: int,
        n_parts: int,
        n_nulls: Sequence[int],
    ) -> ContrastArrays:
        """Arrays of the right size.

        Args:
            clusters: of every item.
            positions: where prompts are read.
            n_texts: texts of every condition that has placebos, and as many of them.
            n_cells: cells of a reader.
            n_parts: its parts.
            n_nulls: layers times null directions, of every position.
        """
        variants: list[Variant] = [("clean", "clean", 0)]
        for contrast, n in n_texts.items():
            variants += [(contrast, name, k) for name in (contrast, "placebo") for k in range(n)]
        shape = (len(positions), len(variants), len(clusters))
        return cls(
            conditions=tuple(n_texts),
            clusters=tuple(clusters),
            positions=tuple(positions),
            variants={variant: k for k, variant in enumerate(variants)},
            measured=np.full((*shape, n_cells, len(MEASURES)), np.nan, dtype=np.float32),
            parts=np.full((*shape, n_parts), np.nan, dtype=np.float32),
            null_sums=[np.zeros((3, n)) for n in n_nulls],
            fixed=np.ones(len(positions), dtype=bool),
        )

    def add(self, item: int, rows: pd.DataFrame) -> None:
        """The rows of one item.

        Columns: ``contrast``, ``condition``, ``slot``, ``position``, ``fixed``, a list per measure over
        cells, ``parts`` over parts and ``nulls`` over layers x nulls (empty but for the first
        condition).
        """
        for row in rows.to_dict("records"):
            p = self.positions.index(row["position"])
            v = self.variants[row["contrast"], row["condition"], row["slot"]]
            for m, name in enumerate(MEASURES):
                self.measured[p, v, item, :, m] = row[name]
            self.parts[p, v, item] = row["parts"]
            self.fixed[p] &= bool(row["fixed"])
            if row["contrast"] == self.conditions[0]:
                dots = np.asarray(row["nulls"], dtype=np.float64)
                if row["condition"] == "placebo":
                    self.null_sums[p][1:] += np.stack([dots, dots**2])
                else:
                    self.null_sums[p][0] += dots

    def arms(self, condition: str) -> tuple[list[int], list[int]]:
        """The variants of a condition, and those of its placebos."""
        treated, placebo = (
            [k for (contrast, name, _), k in self.variants.items() if (contrast, name) == wanted]
            for wanted in ((condition, condition), (condition, "placebo"))
        )
        return treated, placebo

    def groups(self) -> dict[tuple[str, str], list[int]]:
        """The variants of every contrast and condition: the texts that a mean is taken over."""
        groups: dict[tuple[str, str], list[int]] = {}
        for (contrast, name, _), k in self.variants.items():
            groups.setdefault((contrast, name), []).append(k)
        return groups

    def spread(self, position: int) -> FloatArray:
        """SD of each cell's dot product over the first condition's placebo prompts, ``[cell]``.

        NaN where they do not vary.
        """
        _, placebo = self.arms(self.conditions[0])
        spread = self.measured[position, placebo, :, :, 0].astype(float).std(axis=(0, 1))
        return np.where(spread > 0, spread, np.nan)

    def null_contrasts(self, position: int, n_layers: int) -> FloatArray:
        """First condition - placebo along every null, ``[layer, null]``, in its own placebo SDs."""
        n_prompts = len(self.clusters) * len(self.arms(self.conditions[0])[0])
        treated, placebo, squares = self.null_sums[position] / n_prompts
        variance = squares - placebo**2
        spread = np.sqrt(np.where(variance > 0, variance, np.nan))
        return ((treated - placebo) / spread).reshape(n_layers, -1)
