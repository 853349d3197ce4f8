"""Which cells of a sweep say something of their place, and which do not.

Two kinds do not. A column that copies everything from the first difference on (:data:`ALL`) locates
nothing at a residual site: where both prompts are aligned it is the source run at every layer, the
ceiling of the map. And a column of which some tokens have no counterpart is patched in part: its effect
is that of the tokens that were patched, not of the span that it is named after.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from interp.patching.identities import TOLERANCE
from interp.patching.positions import ALL
from interp.patching.result import SweepResult


def is_localising(result: SweepResult) -> npt.NDArray[np.bool_]:
    """Cells of ``index_df`` that may be named as effects: neither everything nor patched in part."""
    return np.asarray(~patches_everything(result) & ~result.partly_patched())


def patches_everything(result: SweepResult) -> npt.NDArray[np.bool_]:
    """Cells of a residual site that copy everything from the first difference on."""
    if not result.site.startswith("resid") or "span" not in result.axis_names:
        return np.zeros(len(result.partly_patched()), dtype=bool)
    is_all = np.array([name == ALL for name in result.axis_labels["span"]])
    shape = [len(result.axis_labels[name]) for name in result.axis_names]
    at = result.axis_names.index("span")
    return np.broadcast_to(np.expand_dims(is_all, _others(shape, at)), shape).reshape(-1)


def is_ceiling(result: SweepResult) -> npt.NDArray[np.bool_]:
    """Of these, the ones that are the source run, as measured: the map's ceiling.

    They are where, in every pair, the lowest layer's cell equals the source's metric (to
    :data:`interp.patching.identities.TOLERANCE`). Between prompts of unequal length they are not, since
    some tokens have no counterpart.
    """
    everything = patches_everything(result)
    if result.has_metric_axis or not everything.any():
        return np.zeros_like(everything)
    lowest = np.argmin([int(label.partition("-")[0]) for label in result.axis_labels["layer"]])
    values = np.moveaxis(result.values.numpy(), result.axis_names.index("span"), 1)
    restored = values[lowest, result.axis_labels["span"].index(ALL)]
    gap = np.abs(restored - result.source_baseline.numpy())
    return everything if bool((gap <= TOLERANCE).all()) else np.zeros_like(everything)


def _others(shape: list[int], at: int) -> tuple[int, ...]:
    return tuple(axis for axis in range(len(shape)) if axis != at)
