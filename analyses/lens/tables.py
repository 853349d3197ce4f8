"""What a lens run measured: the effect at the output and per layer, partings, distances."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from analyses.contrast import CONTROL, Question, read_example
from analyses.lens.config import LensConfig
from analyses.report.claims import corrected_for
from analyses.study import Saved
from analyses.totals import totals_of
from interp.data import ChoiceItem
from interp.display import short_repr
from interp.lens import (
    LensConditions,
    divergence_table,
    layer_effects,
    parting_layer,
    settled_layer,
)
from interp.models import ModelCard
from interp.prompts import ConditionSpec
from interp.stats import ALPHA, interval_columns

KINDS = 2
"""Of claims: the answer, and layers."""


@dataclass(frozen=True)
class LensResult:
    """What a run measured.

    ``lens``: every reading. ``totals``: the effect at the output in every metric
    (:func:`analyses.totals.totals_of`), of the condition and the control's arms.
    ``effects``: per layer. The p of both are corrected for the two kinds of claims.
    ``parting``: per contrast, in layers. ``settled``: per condition.
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

    __repr__ = short_repr


def read(asked: Question[LensConfig], saved: Saved) -> LensResult:
    """The result of the saved readings."""
    config, items = asked.config, asked.items
    frame = saved.table("lens")
    used = set(frame["item"])
    left_out = tuple(item.id for item in items if item.id not in used)
    lens = LensConditions(frame, left_out, metric=config.metric)
    seed, contrasts = config.seed, (config.condition, CONTROL)
    effects = pd.concat(
        [layer_effects(lens, name, seed=seed) for name in contrasts], ignore_index=True
    )
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
        totals=corrected_for(totals_of(saved.table("readings"), config.metric), KINDS),
        effects=with_clear(corrected_for(effects, KINDS)),
        parting=pd.DataFrame(parting),
        settled=settled_layer(lens.frame, metric=config.metric),
        distances=divergence_table(lens),
        example=read_example(saved),
        report=saved.report,
    )


def with_clear(effects: pd.DataFrame) -> pd.DataFrame:
    """Layers with ``clear``: p, with all that it is corrected for, below .05."""
    return effects.assign(clear=effects["p_corrected"] < ALPHA)
