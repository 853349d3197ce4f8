"""How far steps along directions move outcomes: effects per step, one number per direction, its place.

Rows are those of :class:`~interp.behaviour.outcomes.Outcomes` under every step, with the step's
``kind`` (:data:`LEARNED`, :data:`UNSTEERED` or a kind of null directions), ``direction`` and
``strength``. An *effect* is an outcome under a step minus the unsteered outcome of the same item. Two
numbers sum up a direction at the largest strength s:

- ``swing`` = (effect at +s - effect at -s) / 2, what depends on the step's sign, for ``margin`` and
  ``preference``. What any push of that size does (damage) cancels.
- ``mean`` = (effect at +s + effect at -s) / 2, for ``nll`` and ``kept``, where damage is the point.

Place of the learned direction (``p_null``): the share of directions, nulls and itself, whose absolute
number is at least as large as its own; it cannot be below 1 / (nulls + 1). A null's sign means nothing.
How far it lies above them is ``beyond``: its size less that of the largest null, with an interval.

    swings = swing_table(rows)
    swings.loc[swings["kind"] == "learned", ["outcome", "estimate", "low", "high", "p_null"]]
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from interp.stats import FloatArray, Interval, cluster_mean, interval_column_names, interval_columns

LEARNED = "learned"
UNSTEERED = "unsteered"
SWINGING = ("margin", "preference")
"""Outcomes with a sign; of the others the mean over both signs of the step is taken."""

PAIRED = (*SWINGING, "nll", "kept")
_UNIT = ["kind", "direction", "strength"]
_CELL = ["outcome", "subset"]


def effect_table(rows: pd.DataFrame) -> pd.DataFrame:
    """One row per outcome, subset and step: the mean effect, 95 % interval over clusters.

    ``rows``: one per step, outcome and item.
    """
    parts = []
    for (outcome, subset), cell in _cells(rows):
        steps, differences, clusters = _differences(cell)
        found = cluster_mean(differences, clusters)
        parts.append(steps.assign(outcome=outcome, subset=subset, **interval_columns(found)))
    frame = pd.concat(parts, ignore_index=True)
    return frame[[*_CELL, *_UNIT, *interval_column_names()]]


def swing_table(rows: pd.DataFrame) -> pd.DataFrame:
    """One row per outcome, subset and direction: its swing (or mean) at the largest strength.

    ``cost`` is the direction's mean change of ``nll`` over both signs; ``per_cost`` the number's size
    over that cost, NaN where the cost's interval does not lie above 0. For the learned direction alone:
    ``p_null`` is its place among the nulls, ``p_per_cost`` the same for ``per_cost``, and the interval
    ``beyond`` is its size less that of the largest null (which is biased upward by selection), paired
    over the same items.
    """
    largest = rows["strength"].abs().max()
    parts = []
    for (outcome, subset), cell in _cells(rows):
        steps, differences, clusters = _differences(cell)
        sign = -1.0 if outcome in SWINGING else 1.0
        names = steps[steps["strength"] == largest].reset_index(drop=True)
        up, down = (_at(steps, differences, names, s) for s in (largest, -largest))
        number = (up + sign * down) / 2
        found = cluster_mean(number, clusters)
        beyond = _beyond_nulls(number, (names["kind"] == LEARNED).to_numpy(), clusters)
        parts.append(
            names.assign(outcome=outcome, subset=subset, **interval_columns(found), **beyond)
        )
    frame = pd.concat(parts, ignore_index=True).drop(columns="strength")
    costs = frame[frame["outcome"] == "nll"].set_index(["kind", "direction"])[["estimate", "low"]]
    costs = costs.loc[list(zip(frame["kind"], frame["direction"], strict=True))]
    frame["cost"] = costs["estimate"].to_numpy()
    frame["per_cost"] = (frame["estimate"].abs() / frame["cost"]).where(costs["low"].to_numpy() > 0)
    frame["p_null"] = _places(frame, frame["estimate"].abs())
    frame["p_per_cost"] = _places(frame, frame["per_cost"])
    columns = [*_CELL, "kind", "direction", *interval_column_names()]
    more = ["p_null", *interval_column_names("beyond"), "cost", "per_cost", "p_per_cost"]
    return frame[[*columns, *more]]


def _beyond_nulls(
    number: FloatArray, learned: np.ndarray, clusters: Sequence[str]
) -> dict[str, object]:
    """Columns ``beyond``: the learned size less that of the largest null, item by item.

    Every direction is signed by its own mean, so that a null counts with its size.
    """
    means = np.nan_to_num(np.nanmean(number, axis=1))
    sizes = number * np.sign(means)[:, None]
    nothing = Interval(np.nan, np.nan, np.nan, 0, 0, reason="of the learned direction alone")
    own = nothing
    if learned.any() and not learned.all():
        largest = sizes[~learned][np.abs(means[~learned]).argmax()]
        own = cluster_mean(sizes[learned][0] - largest, clusters)
    rows = [interval_columns(own if is_own else nothing, "beyond") for is_own in learned]
    return {name: [row[name] for row in rows] for name in rows[0]}


def completion_table(rows: pd.DataFrame) -> pd.DataFrame:
    """How far continuations change, per strength of the learned direction: levels with intervals.

    ``kept`` and ``overlap`` are shares of the unsteered continuation's tokens (1 without a step);
    ``fluency`` is nats per token under the unsteered model.
    """
    own = rows[rows["kind"].isin([LEARNED, UNSTEERED])]
    own = own[own["outcome"].isin(["kept", "overlap", "fluency"])]
    found = []
    for (strength, outcome), cell in own.groupby(["strength", "outcome"]):
        level = cluster_mean(cell["value"].to_numpy(), cell["cluster"].tolist())
        found.append({"strength": strength, "outcome": outcome, **interval_columns(level)})
    return pd.DataFrame(found, columns=["strength", "outcome", *interval_column_names()])


def text_table(rows: pd.DataFrame) -> pd.DataFrame:
    """The generated continuations of the learned direction, one row per prompt and strength."""
    own = rows[rows["outcome"] == "overlap"]
    table = own.rename(columns={"item": "prompt", "value": "overlap", "text": "continuation"})
    table = table[["prompt", "strength", "overlap", "continuation"]]
    return table.sort_values(["prompt", "strength"], kind="stable").reset_index(drop=True)


def _cells(rows: pd.DataFrame) -> list[tuple[tuple[str, str], pd.DataFrame]]:
    paired = rows[rows["outcome"].isin(PAIRED)]
    groups = paired.groupby(_CELL, sort=False)
    return [((str(outcome), str(subset)), cell) for (outcome, subset), cell in groups]


def _differences(cell: pd.DataFrame) -> tuple[pd.DataFrame, FloatArray, list[str]]:
    """The steps, their effects ``[step, item]``, and every item's cluster."""
    is_baseline = cell["kind"] == UNSTEERED
    baseline = cell[is_baseline].set_index("item")
    steered = cell[~is_baseline]
    table = steered.pivot(index=_UNIT, columns="item", values="value")
    table = table.loc[pd.MultiIndex.from_frame(steered[_UNIT].drop_duplicates()), baseline.index]
    values = table.to_numpy(float) - baseline["value"].to_numpy(float)
    return table.index.to_frame(index=False), values, baseline["cluster"].tolist()


def _at(
    steps: pd.DataFrame, differences: FloatArray, names: pd.DataFrame, strength: float
) -> FloatArray:
    """The effects of the named directions at one strength, in their order."""
    at = steps[steps["strength"] == strength]
    row_of = {name: row for row, name in zip(at.index, at["direction"], strict=True)}
    return differences[[row_of[name] for name in names["direction"]]]


def _places(frame: pd.DataFrame, sizes: pd.Series) -> FloatArray:
    """p of every learned row; NaN for nulls, and where the learned direction has no number."""
    p = np.full(len(frame), np.nan)
    for _, cell in frame.groupby(_CELL, sort=False):
        own = cell.index[cell["kind"] == LEARNED][0]
        # a null without a cost has no finite effect per cost: it counts as the larger
        nulls = sizes[cell.index[cell["kind"] != LEARNED]].fillna(np.inf)
        if len(nulls) and not np.isnan(sizes[own]):
            p[own] = place_among(float(sizes[own]), nulls.to_numpy(float))
    return p


def place_among(own: float, nulls: Sequence[float] | FloatArray) -> float:
    """Share of directions, nulls and the own one, that are at least as large as the own one."""
    return (1 + int((np.asarray(nulls) >= own).sum())) / (1 + len(nulls))
