"""Tables of a whole sample's contrasts: beside null directions, by part, and levels.

Contrasts are treated - placebo, over texts x clusters of items, in standard deviations of the
placebo prompts' projections on the same direction, layer and position, so that layers, components
and directions can be compared; ``dot`` is the same in the residual stream's units and ``class_units``
with the class means of the direction's sentences at +1 and -1. + = towards the positive class.

Positions that causality fixes (the ids are equal up to there) have no interval and no p: what is
measured there is rounding.

Layers, components, heads and positions of a condition are one family: what differs from zero is read
from ``p_corrected`` (max-t over all of them).

    sample = ContrastSample(arrays, cells, parts, nulls, direction, seed=0)
    contrast_table(sample)[["position", "condition", "layer", "estimate", "p_corrected", "p_null"]]
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TypeAlias

import numpy as np
import pandas as pd
from jaxtyping import Float

from interp.directions.contrast_arrays import ContrastArrays
from interp.directions.contrast_reader import MEASURES
from interp.directions.direction import DirectionStack
from interp.stats import (
    FloatArray,
    Interval,
    effect,
    interval_column_names,
    interval_columns,
    max_t_of_effects,
)

_Arms: TypeAlias = Sequence[Float[np.ndarray, "cell text item"]]
"""Treated and placebo."""


@dataclass(frozen=True, eq=False)
class ContrastSample:
    """The readings of all items, and what their cells, parts and null directions are."""

    arrays: ContrastArrays
    cells: pd.DataFrame
    parts: pd.DataFrame
    nulls: pd.DataFrame
    direction: DirectionStack
    seed: int

    def nulls_at(self, position: str) -> pd.DataFrame:
        """``kind`` and ``name`` of the null directions of a position."""
        return self.nulls.loc[self.nulls["position"] == position, ["kind", "name"]]

    def effect(self, arms: _Arms) -> Interval:
        """Treated - placebo, with texts and clusters of items as random."""
        return effect(arms[0], arms[1], self.arrays.clusters)

    def dots(self, position: int, condition: str, measure: int = 0) -> _Arms:
        """A measure (the dot product) of a condition and of its placebos, at one position."""
        measured = self.arrays.measured[position]
        return [
            measured[arm, :, :, measure].transpose(2, 0, 1) for arm in self.arrays.arms(condition)
        ]

    def family(self, condition: str) -> Float[np.ndarray, "position cell"]:
        """p of treated - placebo over all cells and positions that can change, max-t; else NaN."""
        free = np.flatnonzero(~self.arrays.fixed)
        p = np.full((len(self.arrays.positions), len(self.cells)), np.nan)
        if len(free):
            arms = zip(*(self.dots(int(k), condition) for k in free), strict=True)
            treated, control = (np.concatenate(arm).astype(float) for arm in arms)
            labels = (condition, "cells")
            test = max_t_of_effects(
                treated, control, self.arrays.clusters, seed=self.seed, labels=labels
            )
            p[free] = np.asarray(test.p_corrected, dtype=float).reshape(len(free), -1)
        return p


def contrast_table(sample: ContrastSample) -> pd.DataFrame:
    """One row per position, condition and cell.

    The interval is in placebo SDs, with its own p; ``cosine`` and ``standardised`` are contrasts of
    cosines with their own. ``p_corrected`` differs from zero: max-t over all layers, components, heads
    and positions of the condition. ``p_null`` (the first condition, the direction's own site): the share
    of covariance nulls whose largest |contrast| over layers reaches this one's. ``fixed``: nothing can
    change there.
    """
    families = {condition: sample.family(condition) for condition in sample.arrays.conditions}

    def contrasts(sample: ContrastSample, p: int, condition: str) -> pd.DataFrame:
        return _contrasts(sample, p, condition, families[condition][p])

    return pd.concat(_per_condition(sample, contrasts, skip_fixed=False), ignore_index=True)


def _per_condition(
    sample: ContrastSample,
    table: Callable[[ContrastSample, int, str], pd.DataFrame],
    *,
    skip_fixed: bool,
) -> list[pd.DataFrame]:
    """The rows of every position and condition that has placebos."""
    frames = []
    for p, position in enumerate(sample.arrays.positions):
        if skip_fixed and sample.arrays.fixed[p]:
            continue
        for condition in sample.arrays.conditions:
            frame = table(sample, p, condition)
            frame.insert(0, "condition", condition)
            frame.insert(0, "position", position)
            frames.append(frame)
    return frames


def _contrasts(
    sample: ContrastSample, p: int, condition: str, p_corrected: Float[np.ndarray, " cell"]
) -> pd.DataFrame:
    arrays, fixed = sample.arrays, bool(sample.arrays.fixed[p])
    by_measure = [sample.dots(p, condition, m) for m in range(len(MEASURES))]
    intervals = [sample.effect(arms) for arms in by_measure]
    if fixed:
        intervals = [_without_bounds(interval) for interval in intervals]
    dots = np.asarray(intervals[0].estimate)
    frame = sample.cells.drop(columns=["scale", "offset"]).assign(
        **interval_columns(_per_unit(intervals[0], arrays.spread(p))),
        dot=dots,
        class_units=dots / sample.cells["scale"].to_numpy(),
    )
    for name, interval in zip(MEASURES[1:], intervals[1:], strict=True):
        frame = frame.assign(**interval_columns(interval, name))
    frame = frame.assign(p_corrected=p_corrected, p_null=np.nan)
    kinds = sample.nulls_at(arrays.positions[p])["kind"].to_numpy()
    if len(kinds) and condition == arrays.conditions[0] and not fixed:
        own = frame["component"] == sample.direction.site
        nulls = arrays.null_contrasts(p, len(sample.direction.layers))[:, kinds == "covariance"]
        frame.loc[own, "p_null"] = _share_beyond(frame.loc[own, "estimate"].to_numpy(), nulls)
    return frame.assign(fixed=fixed)


def _without_bounds(interval: Interval) -> Interval:
    """For a place where nothing can change: its estimate is rounding."""
    nothing = np.full(np.shape(interval.estimate), np.nan)
    return replace(
        interval, low=nothing, high=nothing, se=nothing, p=nothing, reason="nothing can change here"
    )


def _per_unit(interval: Interval, unit: FloatArray) -> Interval:
    reason = np.where(np.isnan(unit), "the placebo prompts do not vary", interval.reason)
    scaled = {name: getattr(interval, name) / unit for name in ("estimate", "low", "high", "se")}
    return replace(interval, **scaled, reason=reason)


def _share_beyond(contrasts: FloatArray, nulls: FloatArray) -> FloatArray:
    """Family-wise p over layers: the share of nulls ``[layer, null]`` that reach each size anywhere."""
    largest = np.nan_to_num(np.abs(nulls)).max(axis=0)
    reached = (largest[None] >= np.abs(contrasts)[:, None]).sum(-1)
    return np.where(np.isnan(contrasts), np.nan, (1 + reached) / (1 + len(largest)))


def null_table(sample: ContrastSample) -> pd.DataFrame:
    """The contrast of the first condition along every null, per position, null and layer.

    ``kind``: ``covariance``, ``contrast`` (a non-moral one) or ``placebo`` (between placebo texts).
    ``estimate`` in placebo SDs along that null.
    """
    frames, layers = [], sample.direction.layers
    for p, position in enumerate(sample.arrays.positions):
        nulls = sample.nulls_at(position)
        if sample.arrays.fixed[p] or nulls.empty:
            continue
        rows = nulls.loc[nulls.index.repeat(len(layers))].reset_index(drop=True)
        rows.insert(0, "position", position)
        contrasts = sample.arrays.null_contrasts(p, len(layers))
        frames.append(rows.assign(layer=[*layers] * len(nulls), estimate=contrasts.T.reshape(-1)))
    names = ["position", "kind", "name", "layer", "estimate"]
    return pd.concat(frames, ignore_index=True) if frames else pd.DataFrame(columns=names)


def contributor_table(sample: ContrastSample) -> pd.DataFrame:
    """The decomposition's contrast by part, per position and condition.

    In placebo SDs of the whole projection at the direction's best layer, so that the parts' estimates
    add up to that layer's own. ``p_corrected``: max-t over all parts of all positions of the condition.
    """
    frames = _per_condition(sample, _contributors, skip_fixed=True)
    names = ["position", "condition", *sample.parts, *interval_column_names(), "dot", "p_corrected"]
    if not frames:
        return pd.DataFrame(columns=names)
    table = pd.concat(frames, ignore_index=True)
    for condition, rows in table.groupby("condition", sort=False):
        arms = [
            _parts(sample, int(p), str(condition)) for p in np.flatnonzero(~sample.arrays.fixed)
        ]
        treated, control = (np.concatenate(arm) for arm in zip(*arms, strict=True))
        labels = (condition, "parts")
        test = max_t_of_effects(
            treated, control, sample.arrays.clusters, seed=sample.seed, labels=labels
        )
        table.loc[rows.index, "p_corrected"] = test.p_corrected
    return table


def _parts(sample: ContrastSample, p: int, condition: str) -> _Arms:
    arrays = sample.arrays
    return [arrays.parts[p, arm].transpose(2, 0, 1).astype(float) for arm in arrays.arms(condition)]


def _contributors(sample: ContrastSample, p: int, condition: str) -> pd.DataFrame:
    arrays, cells, direction = sample.arrays, sample.cells, sample.direction
    whole = (cells["component"] == direction.site) & (cells["layer"] == direction.best_layer)
    spread = arrays.spread(p)[np.flatnonzero(whole)]
    interval = sample.effect(_parts(sample, p, condition))
    return sample.parts.assign(
        **interval_columns(_per_unit(interval, spread)), dot=interval.estimate, p_corrected=np.nan
    )


def level_table(sample: ContrastSample) -> pd.DataFrame:
    """Means of every condition, over items and texts, per position and cell.

    ``condition`` is ``placebo (revealing)`` for the placebos of another condition than the first. A
    span that the clean prompt lacks gives NaN there.
    """
    frames = []
    scale, offset = (sample.cells[c].to_numpy() for c in ("scale", "offset"))
    for p, position in enumerate(sample.arrays.positions):
        for (contrast, name), variants in sample.arrays.groups().items():
            means = sample.arrays.measured[p, variants].astype(float).mean(axis=(0, 1))
            frame = sample.cells.drop(columns=["scale", "offset"])
            other = name == "placebo" and contrast != sample.arrays.conditions[0]
            frame.insert(0, "condition", f"placebo ({contrast})" if other else name)
            frame.insert(0, "position", position)
            values = {measure: means[:, m] for m, measure in enumerate(MEASURES)}
            frames.append(frame.assign(class_units=(means[:, 0] - offset) / scale, **values))
    return pd.concat(frames, ignore_index=True)
