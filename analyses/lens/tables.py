"""What a lens run measured: the effect at the output and per layer, partings, distances."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from analyses.contrast import CONTROL, Question, read_example
from analyses.lens.config import LensConfig
from analyses.study import Saved
from interp.data import ChoiceItem
from interp.lens import (
    LensConditions,
    divergence_table,
    layer_effects,
    parting_layer,
    settled_layer,
)
from interp.models import ModelCard
from interp.prompts import ConditionSpec
from interp.stats import interval_columns, text_effects


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
    left_out = tuple(item.id for item in items if item.id not in used)
    lens = LensConditions(frame, left_out, metric=config.metric)
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
        settled=settled_layer(lens.frame, metric=config.metric, seed=seed),
        distances=divergence_table(lens, seed=seed),
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
