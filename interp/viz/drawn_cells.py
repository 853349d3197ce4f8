"""What a map shows of a sweep, cell by cell, before any of it is drawn."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from interp.display import short_repr
from interp.patching.localising import is_localising
from interp.patching.result import SweepResult
from interp.stats import ALPHA
from interp.viz.places import place_labels


@dataclass(frozen=True, eq=False)
class DrawnCells:
    """Two axes of a sweep, ``[row, column]``; ``picked`` names the position each cell shows."""

    rows: Sequence[str]
    columns: Sequence[str]
    z: npt.NDArray[np.float64]
    low: npt.NDArray[np.float64]
    high: npt.NDArray[np.float64]
    reason: npt.NDArray[np.object_]
    n: npt.NDArray[np.int64]
    p: npt.NDArray[np.float64]
    n_clusters: int
    partly: npt.NDArray[np.bool_]
    """Cells that are patched in part: no value, significance or colour of theirs is shown."""
    measured: npt.NDArray[np.float64]
    """Their values, and those of all others."""
    counts: npt.NDArray[np.object_]
    """Per cell ``7 of 9 tokens not patched``, or nothing."""
    localising: npt.NDArray[np.bool_]
    """Cells that say something of their place: the others are not outlined."""
    picked: npt.NDArray[np.object_] | None

    __repr__ = short_repr

    def significant(self, n_maps: int = 1) -> npt.NDArray[np.bool_]:
        """Cells with a family-wise p below .05, over all cells of ``n_maps`` maps (Bonferroni)."""
        return np.asarray((self.p * n_maps < ALPHA) & self.localising)


def drawn_cells(result: SweepResult, value: str) -> DrawnCells:
    """The cells of ``value`` (``effect`` or ``share``)."""
    interval = result.effect_interval() if value == "effect" else result.share()
    test = result.max_t()
    names = ("estimate", "low", "high", "reason", "n")
    fields = [np.asarray(getattr(interval, name)) for name in names]
    fields.append(np.asarray(test.p_corrected, dtype=float))
    fields = [np.broadcast_to(values, fields[0].shape) for values in fields]
    partly = result.partly_patched().reshape(fields[0].shape)
    # what is patched in part is neither coloured nor marked nor picked as a head's largest position
    shown = [np.where(partly, np.nan, values) for values in (fields[0], fields[-1])]
    localising = is_localising(result).reshape(partly.shape)
    fields = [shown[0], *fields[1:-1], shown[1], partly, fields[0], _counts(result), localising]
    picked = None
    if fields[0].ndim == 3:
        at = np.nan_to_num(np.abs(fields[0]), nan=-1.0).argmax(axis=-1)
        fields = [np.take_along_axis(values, at[..., None], -1)[..., 0] for values in fields]
        picked = np.array(place_labels(result), dtype=object)[at]
    rows, columns = (
        place_labels(result) if name == "pos" else result.axis_labels[name]
        for name in result.axis_names[:2]
    )
    z, low, high, reason, n, p, partly, measured, counts, localising = fields
    reason, n_clusters = reason.astype(object), len(set(result.clusters))
    return DrawnCells(
        rows, columns, z, low, high, reason, n, p, n_clusters, partly, measured, counts, localising,
        picked,
    )  # fmt: skip


def _counts(result: SweepResult) -> npt.NDArray[np.object_]:
    """What is not patched of each cell's column, in the shape of the grid."""
    columns = result.columns_of_cells()
    said = np.array([result.not_patched(k) for k in range(int(columns.max()) + 1)], dtype=object)
    return said[columns].reshape(result.values.shape[:-1])
