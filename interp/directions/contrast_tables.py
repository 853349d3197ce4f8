"""Tables of a whole sample's contrasts: beside null directions, by part, and levels.

Contrasts are treated - placebo, over texts x clusters of items, in standard deviations of the
placebo prompts' projections on the same direction, layer and position, so that layers, components
and directions can be compared; ``dot`` is the same in the residual stream's units and ``class_units``
with the class means of the direction's sentences at +1 and -1. + = towards the positive class.

Positions that causality fixes (the ids are equal up to there) have no interval and no p: what is
measured there is rounding.

    sample = ContrastSample(arrays, cells, parts, nulls, direction, seed=0)
    contrast_table(sample)[["position", "condition", "layer", "estimate", "p", "p_null"]]
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
    interval_column_names,
    interval_columns,
    permute_texts,
    sign_flip_max_t,
    two_way_bootstrap,
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

    def bootstrap(self, arms: _Arms, labels: Sequence[str]) -> Interval:
        """Treated - placebo, over texts x clusters of items."""
        clusters = self.arrays.clusters
        return two_way_bootstrap(arms[0], arms[1], clusters, seed=self.seed, labels=labels)

    def flip_signs(self, arms: _Arms, labels: Sequence[str]) -> FloatArray:
        """Family-wise p of treated - placebo: signs of clusters flipped, max-T."""
        shift = arms[0].mean(-2) - arms[1].mean(-2)
        test = sign_flip_max_t(shift, self.arrays.clusters, seed=self.seed, labels=labels)
        return np.asarray(test.p_corrected)


def contrast_table(sample: ContrastSample) -> pd.DataFrame:
    """One row per position, condition and cell.

    The interval is in placebo SDs; ``cosine`` and ``standardised`` are contrasts of cosines with
    their own. ``p`` differs from zero: sign-flip max-T over the layers (and heads) of the component;
    it speaks of these texts. ``p_texts``: the texts' labels permuted, per cell. ``p_null`` (the first
    condition, the direction's own site): the share of covariance nulls whose largest |contrast| over
    layers reaches this one's. ``fixed``: nothing can change there.
    """
    return pd.concat(_per_condition(sample, _contrasts, skip_fixed=False), ignore_index=True)


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


def _contrasts(sample: ContrastSample, p: int, condition: str) -> pd.DataFrame:
    arrays, fixed = sample.arrays, bool(sample.arrays.fixed[p])
    labels = (arrays.positions[p], condition)
    by_measure = [
        [arrays.measured[p, arm, :, :, m].transpose(2, 0, 1) for arm in arrays.arms(condition)]
        for m in range(len(MEASURES))
    ]
    intervals = [sample.bootstrap(arms, labels) for arms in by_measure]
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
    frame["p"] = frame["p_texts"] = np.nan
    if not fixed:
        means = (arm.astype(float).mean(-1) for arm in by_measure[0])
        frame["p_texts"] = permute_texts(*means, seed=sample.seed, labels=labels).p
        for component, cells in frame.groupby("component", sort=False).groups.items():
            family = [arm[np.asarray(cells)] for arm in by_measure[0]]
            frame.loc[cells, "p"] = sample.flip_signs(family, (*labels, str(component)))
    frame["p_null"] = np.nan
    kinds = sample.nulls_at(arrays.positions[p])["kind"].to_numpy()
    if len(kinds) and condition == arrays.conditions[0] and not fixed:
        own = frame["component"] == sample.direction.site
        nulls = arrays.null_contrasts(p, len(sample.direction.layers))[:, kinds == "covariance"]
        frame.loc[own, "p_null"] = _share_beyond(frame.loc[own, "estimate"].to_numpy(), nulls)
    return frame.assign(fixed=fixed)


def _without_bounds(interval: Interval) -> Interval:
    """For a place where nothing can change: its estimate is rounding."""
    nothing = np.full(np.shape(interval.estimate), np.nan)
    return replace(interval, low=nothing, high=nothing, reason="nothing can change here")


def _per_unit(interval: Interval, unit: FloatArray) -> Interval:
    reason = np.where(np.isnan(unit), "the placebo prompts do not vary", interval.reason)
    bounds = (interval.low / unit, interval.high / unit)
    return replace(
        interval, estimate=interval.estimate / unit, low=bounds[0], high=bounds[1], reason=reason
    )


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
    add up to that layer's own. ``p``: sign-flip max-T over all parts.
    """
    frames = _per_condition(sample, _contributors, skip_fixed=True)
    names = ["position", "condition", *sample.parts, *interval_column_names(), "dot", "p"]
    return pd.concat(frames, ignore_index=True) if frames else pd.DataFrame(columns=names)


def _contributors(sample: ContrastSample, p: int, condition: str) -> pd.DataFrame:
    arrays, cells, direction = sample.arrays, sample.cells, sample.direction
    whole = (cells["component"] == direction.site) & (cells["layer"] == direction.best_layer)
    spread = arrays.spread(p)[np.flatnonzero(whole)]
    arms = [arrays.parts[p, arm].transpose(2, 0, 1).astype(float) for arm in arrays.arms(condition)]
    labels = (arrays.positions[p], condition, "parts")
    interval = sample.bootstrap(arms, labels)
    return sample.parts.assign(
        **interval_columns(_per_unit(interval, spread)),
        dot=interval.estimate,
        p=sample.flip_signs(arms, labels),
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
