"""What a trajectory says: the effect per layer, where runs part, where answers settle, divergences.

Layers are one family: what differs from zero is read from max-t over all of them. Where runs part and
answers settle are layers (0 = the embedding, n_layers = the output): their intervals have steps of one.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from interp.errors import InterpError
from interp.lens.conditions import Arms, LensConditions
from interp.lens.options import LensMetric
from interp.stats import (
    ALPHA,
    FloatArray,
    Interval,
    cluster_mean,
    effect,
    interval_columns,
    max_t_of_effects,
    rng,
)
from interp.stats.arrays import Groups, check_confidence, cluster_codes
from interp.stats.columns import require_columns

_PARTED = 0.5
_READ = ("margin", "option_margin", "log_prob_a", "log_prob_b", "rank_a", "rank_b", "layer")


def layer_effects(lens: LensConditions, contrast: str, *, seed: int) -> pd.DataFrame:
    """The effect of a condition on the lens's metric per layer: the margin (logit difference, nats), or
    the option margin (nats per token).

    Columns: ``contrast``, ``layer``, an interval's with its p (:mod:`interp.stats.columns`; texts and
    clusters of items as random), ``p_corrected`` (family-wise over layers: max-t, drawn with ``seed``),
    and ``clear``: p_corrected < .05.

    Raises:
        InterpError: a condition that was not read with its placebos.
    """
    arms = lens.arms(contrast)
    interval = effect(arms.treated, arms.control, arms.clusters)
    family = max_t_of_effects(
        arms.treated, arms.control, arms.clusters, seed=seed, labels=("lens", contrast)
    )
    p = np.asarray(family.p_corrected, dtype=float)
    return pd.DataFrame(
        {
            "contrast": contrast,
            "layer": arms.layers,
            **interval_columns(interval),
            "p_corrected": p,
            "clear": p < ALPHA,
        }
    )


def parting_layer(
    difference: pd.DataFrame | Arms,
    *,
    confidence: float = 0.95,
    n_resamples: int = 2000,
    seed: int,
) -> Interval:
    """The layer where two runs part: from it on, their mean difference is of its final kind.

    Exactly: the first layer from which the mean difference of the margins keeps the sign of its value
    at the output, and at least half its size, through to the output.

    Args:
        difference: rows of :meth:`LensTrajectory.difference` (or of :class:`LensConditions`'):
            ``layer``, ``cluster``, ``difference`` and ``pair`` or ``item``; clusters are resampled. Or
            :meth:`LensConditions.arms`: then the texts of either arm are resampled as well.
        confidence: of the interval.
        n_resamples: how often the layer is found anew, on a resample.
        seed: of the bootstrap.

    Returns:
        A percentile interval in layers. NaN with a ``reason`` where the difference at the output has an
        interval that contains 0 (the one of :func:`layer_effects`): then the runs do not part. With
        fewer than six texts a side it is too narrow (coverage .69 to .75 with one).

    Raises:
        InterpError: a missing column, or rows that are not one per unit and layer.
    """
    arms = difference if isinstance(difference, Arms) else _arms_of(difference)
    layers = np.asarray(arms.layers, dtype=float)
    groups = Groups.of(cluster_codes(arms.clusters, len(arms.items)))
    sample = (len(arms.items), len(groups), confidence)
    if len(groups) < 2:
        reason = "a single cluster: no interval"
        return Interval(np.nan, np.nan, np.nan, *sample, reason=reason)
    check_confidence(confidence)
    if not effect(
        arms.treated[-1], arms.control[-1], arms.clusters, confidence=confidence
    ).excludes(0):
        reason = "the difference at the output has an interval that contains 0"
        return Interval(np.nan, np.nan, np.nan, *sample, reason=reason)
    estimate = _parting(arms.difference().mean(-1, keepdims=True), layers)[0]
    draws = _parting(_resampled(arms, groups, n_resamples, seed), layers)
    tail = (1.0 - confidence) / 2.0
    low, high = np.nanquantile(draws, [tail, 1.0 - tail])
    return Interval(float(estimate), float(low), float(high), *sample)


def settled_layers(frame: pd.DataFrame, *, metric: LensMetric = "margin") -> pd.DataFrame:
    """Per prompt, the first layer from which the metric keeps the sign it has at the output.

    ``frame``: rows of a :class:`LensTrajectory` or of :class:`LensConditions`, with the column of the
    metric. One row per prompt with its labels and ``settled``; NaN where the output's is exactly 0.

    Raises:
        InterpError: a missing column, no rows, or several rows per prompt and layer.
    """
    require_columns(frame, ("layer", metric), "settled_layers: the frame")
    labels = _labels(frame)
    if frame.duplicated([*labels, "layer"]).any():
        raise InterpError("settled_layers: several rows per prompt and layer; give each once")
    wide = frame.pivot(index=labels, columns="layer", values=metric).sort_index(axis=1)
    order = pd.MultiIndex.from_frame(frame[labels].drop_duplicates())
    signs = np.sign(wide.loc[order].to_numpy(float))
    settled = _first_for_good(signs.T[-1:] == signs.T, wide.columns.to_numpy(float))
    settled = np.where(signs[:, -1] == 0, np.nan, settled)
    return order.to_frame(index=False).assign(settled=settled)


def settled_layer(
    frame: pd.DataFrame, *, metric: LensMetric = "margin", confidence: float = 0.95
) -> pd.DataFrame:
    """Mean of :func:`settled_layers` per condition, with an interval over clusters of items.

    Columns: ``contrast`` (where the frame has it), ``condition``, ``items`` (how many) and an interval's
    (:mod:`interp.stats.columns`), in layers; its ``n`` counts prompts. The texts count as fixed; a
    prompt without an answer at the output is left out.
    """
    prompts = settled_layers(frame, metric=metric)
    by = [name for name in ("contrast", "condition") if name in prompts]
    rows = []
    for key, here in prompts.groupby(by, sort=False):
        interval = cluster_mean(
            here["settled"].to_numpy(float), here["cluster"].tolist(), confidence=confidence
        )
        rows.append(
            {
                **dict(zip(by, key, strict=True)),
                "items": here["item"].nunique(),
                **interval_columns(interval),
            }
        )
    return pd.DataFrame(rows)


def _arms_of(frame: pd.DataFrame) -> Arms:
    """A tidy difference as one text against nothing."""
    unit = "pair" if "pair" in frame else "item"
    needed = ("layer", "cluster", "difference", unit)
    require_columns(frame, needed, "parting_layer (rows of difference()): the frame")
    if frame.duplicated([unit, "layer"]).any():
        raise InterpError(f"parting_layer: several rows per {unit} and layer; give one contrast")
    wide = frame.pivot(index="layer", columns=unit, values="difference").sort_index()
    if wide.isna().any(axis=None):
        raise InterpError(f"parting_layer: some {unit} has no difference at some layer")
    clusters = frame.drop_duplicates(unit).set_index(unit)["cluster"].loc[wide.columns].tolist()
    table = wide.to_numpy(float)[:, None]
    units = [str(name) for name in wide.columns]
    return Arms("", wide.index.tolist(), table, 0 * table, units, clusters)


def _resampled(arms: Arms, groups: Groups, n_resamples: int, seed: int) -> FloatArray:
    """Mean differences ``[layers, resamples]``: clusters and the texts of either arm drawn anew."""

    def weights_of(n_units: int, unit: str) -> FloatArray:
        generator = rng(seed, unit, "lens", arms.contrast)
        even = np.full(n_units, 1.0 / n_units)
        return generator.multinomial(n_units, even, size=n_resamples).astype(np.float64)

    weights = weights_of(len(groups), "clusters")
    counts = weights @ groups.sums(np.ones(len(arms.items)))
    means = []
    for name, arm in (("treated", arms.treated), ("control", arms.control)):
        texts = weights_of(arm.shape[1], name)
        total = np.einsum("ltr,rt->lr", groups.sums(arm) @ weights.T, texts)
        means.append(total / arm.shape[1])
    return np.asarray((means[0] - means[1]) / counts)


def _parting(curves: FloatArray, layers: FloatArray) -> FloatArray:
    """The parting layer of each curve ``[layers, n]``; NaN for one that ends at 0."""
    final = curves[-1:]
    parted = curves * np.sign(final) >= _PARTED * np.abs(final)
    return np.where(final[0] == 0, np.nan, _first_for_good(parted, layers))


def _first_for_good(holds: np.ndarray, layers: FloatArray) -> FloatArray:
    """The first layer from which ``holds [layers, n]`` is true to the end; the last always is."""
    from_here = np.logical_and.accumulate(holds[::-1], axis=0)[::-1]
    return layers[from_here.argmax(axis=0)]


def _labels(frame: pd.DataFrame) -> list[str]:
    """Columns that name a prompt."""
    divergences = [f"{name}{of}" for name in ("kl", "js", "overlap") for of in ("", "_clean")]
    return [name for name in frame.columns if name not in (*_READ, *divergences)]


def divergence_table(lens: LensConditions) -> pd.DataFrame:
    """Jensen-Shannon divergence and top-k overlap of two prompts, at the output and at the peak.

    Intervals ``js``, ``overlap`` and ``excess`` (over item clusters, texts fixed) at the output;
    ``excess``: an item's ``js`` minus that of two placebos of the same contrast (NaN with one text);
    ``peak_layer`` is where the mean divergence is largest and ``peak_js`` its size (picked for its
    size, so biased upward by selection).
    """
    frame, rows = lens.divergences(), []
    output = frame[frame["layer"] == frame["layer"].max()]
    for key, here in frame.groupby(["contrast", "condition", "against"], sort=False):
        row: dict[str, Any] = dict(zip(("contrast", "condition", "against"), key, strict=True))
        by_item = _by_item(output, row["contrast"], row["condition"], row["against"])
        scale = _by_item(output, row["contrast"], "placebo", "another placebo")
        by_item["excess"] = by_item["js"] - scale["js"].reindex(by_item.index)
        for name in ("js", "overlap", "excess"):
            values, clusters = by_item[name].to_numpy(float), by_item["cluster"].tolist()
            row |= interval_columns(cluster_mean(values, clusters), name)
        by_layer = here.groupby("layer")["js"].mean()
        peak = int(by_layer.to_numpy().argmax())
        row |= {"peak_layer": by_layer.index[peak], "peak_js": by_layer.iloc[peak]}
        rows.append(row)
    return pd.DataFrame(rows)


def _by_item(frame: pd.DataFrame, contrast: str, condition: str, against: str) -> pd.DataFrame:
    """Means over texts, one row per item, with its cluster."""
    chosen = frame[
        (frame["contrast"] == contrast)
        & (frame["condition"] == condition)
        & (frame["against"] == against)
    ]
    columns = {"cluster": "first", "js": "mean", "overlap": "mean"}
    return chosen.groupby("item", sort=False).agg(columns)
