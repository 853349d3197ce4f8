"""Tables of a projection run: contrasts beside nulls, contributors, levels.

Contrasts are treated - placebo, over texts x clusters of items, in standard deviations of the
placebo prompts' projections on the same direction, layer and position, so that layers, components
and directions can be compared; ``dot`` is the same in the residual stream's units and ``class_units``
with the class means of the direction's sentences at +1 and -1. + = towards the positive class.

Positions that causality fixes (the ids are equal up to there) have no interval and no p: what is
measured there is rounding.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
import pandas as pd

from analyses.contrast import CONTROL, Question, read_example
from analyses.project.config import ProjectConfig
from analyses.report.verdicts import is_finding
from analyses.study import Saved
from interp.data import ChoiceItem
from interp.directions import DirectionStack, load_direction
from interp.directions.contrast_arrays import ContrastArrays
from interp.directions.contrast_reader import MEASURES
from interp.models import ModelCard
from interp.prompts import ConditionSpec
from interp.stats import (
    ALPHA,
    FloatArray,
    Interval,
    interval_column_names,
    interval_columns,
    intervals_of,
    permute_texts,
    sign_flip_max_t,
    two_way_bootstrap,
)

FITTED = "directions/morality.safetensors"
"""The direction of a run that was given none."""

_Values: TypeAlias = npt.NDArray[np.float32]


@dataclass(frozen=True)
class ProjectQuestion(Question[ProjectConfig]):
    """What is asked, with the direction of the user's file where there is one."""

    given: DirectionStack | None


@dataclass(frozen=True)
class ProjectResult:
    """What a run measured.

    ``contrasts``: per position, condition and cell. ``nulls``: along null directions.
    ``contributors``: the parts of the contrast at the direction's best layer. ``levels``: means of
    every condition. ``example``: a text of the condition and its placebo.
    """

    config: ProjectConfig
    card: ModelCard
    items: tuple[ChoiceItem, ...]
    spec: ConditionSpec
    direction: DirectionStack
    contrasts: pd.DataFrame
    nulls: pd.DataFrame
    contributors: pd.DataFrame
    levels: pd.DataFrame
    example: dict[str, str]
    report: Path


@dataclass(frozen=True, eq=False)
class Sample:
    """The readings of all items, and what their cells, parts and null directions are."""

    arrays: ContrastArrays
    cells: pd.DataFrame
    parts: pd.DataFrame
    nulls: pd.DataFrame
    direction: DirectionStack
    seed: int

    @property
    def asked(self) -> str:
        """The condition asked about; the other is the positive control."""
        return self.arrays.conditions[0]

    def nulls_at(self, position: str) -> pd.DataFrame:
        """``kind`` and ``name`` of the null directions of a position."""
        return self.nulls.loc[self.nulls["position"] == position, ["kind", "name"]]

    def bootstrap(self, arms: Sequence[_Values], labels: Sequence[str]) -> Interval:
        """Treated - placebo of arms ``[cell, text, item]``, over texts x clusters of items."""
        clusters = self.arrays.clusters
        return two_way_bootstrap(arms[0], arms[1], clusters, seed=self.seed, labels=labels)

    def flip_signs(self, arms: Sequence[_Values], labels: Sequence[str]) -> FloatArray:
        """Family-wise p of arms ``[cell, text, item]``: signs of clusters flipped, max-T."""
        shift = arms[0].mean(-2) - arms[1].mean(-2)
        test = sign_flip_max_t(shift, self.arrays.clusters, seed=self.seed, labels=labels)
        return np.asarray(test.p_corrected)


def read(asked: ProjectQuestion, saved: Saved) -> ProjectResult:
    """The result of the saved readings."""
    sample = _sample(asked, saved)
    return ProjectResult(
        config=asked.config,
        card=saved.card,
        items=asked.items,
        spec=asked.spec,
        direction=sample.direction,
        contrasts=contrast_table(sample),
        nulls=null_table(sample),
        contributors=contributor_table(sample),
        levels=level_table(sample),
        example=read_example(saved),
        report=saved.report,
    )


def _sample(asked: ProjectQuestion, saved: Saved) -> Sample:
    config = asked.config
    given = asked.given
    direction = load_direction(saved.path(FITTED)) if given is None else given
    cells, parts, nulls = (saved.table(t) for t in ("cells", "components", "null_directions"))
    n_nulls = [int((nulls["position"] == position).sum()) for position in config.positions]
    arrays = ContrastArrays.empty(
        [item.cluster for item in asked.items],
        config.positions,
        {config.condition: config.texts, CONTROL: 1},
        n_cells=len(cells),
        n_parts=len(parts),
        n_nulls=[len(direction.layers) * n for n in n_nulls],
    )
    index = {item.id: k for k, item in enumerate(asked.items)}
    for rows in saved.parts("projections"):
        arrays.add(index[rows["item"].iloc[0]], rows)
    return Sample(arrays, cells, parts, nulls, direction, config.seed)


def contrast_table(sample: Sample) -> pd.DataFrame:
    """One row per position, condition and cell.

    The interval is in placebo SDs; ``cosine`` and ``standardised`` are contrasts of cosines with
    their own. ``p`` differs from zero: sign-flip max-T over the layers (and heads) of the component;
    it speaks of these texts. ``sure``: interval and ``p`` make a finding. ``p_texts``: the texts'
    labels permuted, per cell. ``p_null`` (the condition asked about, the direction's own site): the
    share of covariance nulls whose largest |contrast| over layers reaches this one's. ``beyond``:
    sure, and beyond these nulls and every non-moral contrast of its layer.
    """
    return pd.concat(_per_condition(sample, _contrasts, skip_fixed=False), ignore_index=True)


def _per_condition(
    sample: Sample, table: Callable[[Sample, int, str], pd.DataFrame], *, skip_fixed: bool
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


def _contrasts(sample: Sample, p: int, condition: str) -> pd.DataFrame:
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
    frame["sure"] = _findings(frame)
    frame["beyond"] = False
    if condition == sample.asked and not fixed:
        _compare_with_nulls(frame, sample, p)
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


def _findings(frame: pd.DataFrame) -> list[bool]:
    pairs = zip(intervals_of(frame), frame["p"], strict=True)
    return [is_finding(interval, p) for interval, p in pairs]


def _compare_with_nulls(frame: pd.DataFrame, sample: Sample, p: int) -> None:
    """Fill ``p_null`` and ``beyond`` of the direction's own site."""
    kinds = sample.nulls_at(sample.arrays.positions[p])["kind"].to_numpy()
    if not len(kinds):
        return
    own = frame["component"] == sample.direction.site
    size = frame.loc[own, "estimate"].abs().to_numpy()
    contrasts = sample.arrays.null_contrasts(p, len(sample.direction.layers))
    nulls = np.nan_to_num(np.abs(contrasts))
    frame.loc[own, "p_null"] = _share_beyond(size, nulls[:, kinds == "covariance"])
    largest = nulls[:, kinds == "contrast"].max(axis=1)
    frame.loc[own, "beyond"] = (size > largest) & frame.loc[own, "sure"]
    frame["beyond"] &= frame["p_null"] < ALPHA


def _share_beyond(size: FloatArray, nulls: FloatArray) -> FloatArray:
    """Family-wise p over layers: the share of nulls that reach each size at any layer."""
    largest = nulls.max(axis=0)
    reached = (largest[None] >= size[:, None]).sum(-1)
    return np.where(np.isnan(size), np.nan, (1 + reached) / (1 + len(largest)))


def null_table(sample: Sample) -> pd.DataFrame:
    """The contrast of the condition asked about along every null, per position, null and layer.

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


def contributor_table(sample: Sample) -> pd.DataFrame:
    """The decomposition's contrast by part, per position and condition.

    In placebo SDs of the whole projection at the direction's best layer, so that the parts' estimates
    add up to that layer's own. ``p``: sign-flip max-T over all parts; ``sure`` as above.
    """
    frames = _per_condition(sample, _contributors, skip_fixed=True)
    names = ["position", "condition", *sample.parts, *interval_column_names(), "dot", "p", "sure"]
    return pd.concat(frames, ignore_index=True) if frames else pd.DataFrame(columns=names)


def _contributors(sample: Sample, p: int, condition: str) -> pd.DataFrame:
    arrays, cells, direction = sample.arrays, sample.cells, sample.direction
    whole = (cells["component"] == direction.site) & (cells["layer"] == direction.best_layer)
    spread = arrays.spread(p)[np.flatnonzero(whole)]
    arms = [arrays.parts[p, arm].transpose(2, 0, 1).astype(float) for arm in arrays.arms(condition)]
    labels = (arrays.positions[p], condition, "parts")
    interval = sample.bootstrap(arms, labels)
    frame = sample.parts.assign(
        **interval_columns(_per_unit(interval, spread)),
        dot=interval.estimate,
        p=sample.flip_signs(arms, labels),
    )
    return frame.assign(sure=_findings(frame))


def level_table(sample: Sample) -> pd.DataFrame:
    """Means of every condition, over items and texts, per position and cell.

    ``condition`` is ``placebo (revealing)`` for the control's own placebos. A span that the clean
    prompt lacks gives NaN there.
    """
    frames = []
    scale, offset = (sample.cells[c].to_numpy() for c in ("scale", "offset"))
    for p, position in enumerate(sample.arrays.positions):
        for (contrast, name), variants in sample.arrays.groups().items():
            means = sample.arrays.measured[p, variants].astype(float).mean(axis=(0, 1))
            frame = sample.cells.drop(columns=["scale", "offset"])
            own = contrast == CONTROL and name == "placebo"
            frame.insert(0, "condition", f"placebo ({CONTROL})" if own else name)
            frame.insert(0, "position", position)
            values = {measure: means[:, m] for m, measure in enumerate(MEASURES)}
            frames.append(frame.assign(class_units=(means[:, 0] - offset) / scale, **values))
    return pd.concat(frames, ignore_index=True)
