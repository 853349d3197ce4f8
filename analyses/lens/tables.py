"""What a lens run measured: the effect at the output and per layer, partings, distances."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from analyses.contrast import CONTROL, Question, read_example
from analyses.lens.config import LensConfig
from analyses.study import Saved
from interp.data import ChoiceItem
from interp.lens import LensConditions, layer_effects, parting_layer, settled_layer
from interp.models import ModelCard
from interp.prompts import ConditionSpec
from interp.stats import cluster_bootstrap, interval_columns, text_effects


@dataclass(frozen=True)
class LensResult:
    """What a run measured.

    ``lens``: every reading. ``totals``: the effect at the output, per contrast and context.
    ``effects``: per layer. ``parting``: per contrast, in layers. ``settled``: per condition.
    ``distances``: divergences at the output and where they are largest. ``example``: a text of the
    condition and its placebo.
    """

    config: LensConfig
    card: ModelCard
    items: tuple[ChoiceItem, ...]
    spec: ConditionSpec
    lens: LensConditions
    totals: pd.DataFrame
    effects: pd.DataFrame
    parting: pd.DataFrame
    settled: pd.DataFrame
    distances: pd.DataFrame
    example: dict[str, str]
    report: Path


def read(asked: Question[LensConfig], saved: Saved) -> LensResult:
    """The result of the saved readings."""
    config, items = asked.config, asked.items
    frame = saved.table("lens")
    used = set(frame["item"])
    lens = LensConditions(frame, tuple(item.id for item in items if item.id not in used))
    seed, contrasts = config.seed, (config.condition, CONTROL)
    effects = [layer_effects(lens, name, seed=seed) for name in contrasts]
    parting = [
        {"contrast": name} | interval_columns(parting_layer(lens.arms(name), seed=seed))
        for name in contrasts
    ]
    return LensResult(
        config=config,
        card=saved.card,
        items=items,
        spec=asked.spec,
        lens=lens,
        totals=output_effects(lens, {i.id: i.context_condition for i in items}, seed),
        effects=pd.concat(effects, ignore_index=True),
        parting=pd.DataFrame(parting),
        settled=settled_layer(lens.frame, seed=seed),
        distances=distances(lens, seed),
        example=read_example(saved),
        report=saved.report,
    )


def output_effects(lens: LensConditions, contexts: Mapping[str, str], seed: int) -> pd.DataFrame:
    """The effect on the output's margin per contrast: :func:`interp.stats.text_effects`."""
    rows = []
    for name in lens.contrasts:
        arms = lens.arms(name)
        effects = text_effects(
            arms.treated[-1],
            arms.control[-1],
            arms.clusters,
            [contexts[item] for item in arms.items],
            seed=seed,
            labels=("lens", name),
        )
        rows += [{"contrast": name, **row} for row in effects]
    return pd.DataFrame(rows)


def distances(lens: LensConditions, seed: int) -> pd.DataFrame:
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
            row |= interval_columns(cluster_bootstrap(values, clusters, seed=seed), name)
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
