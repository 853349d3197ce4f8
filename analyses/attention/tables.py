"""What an attention run measured: the mass on the instruction per head, and an example's patterns."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from analyses.attention.config import AttentionConfig
from analyses.contrast import CONTROL, Question
from analyses.study import Saved
from interp.activations import AttentionPatterns
from interp.data import ChoiceItem
from interp.display import short_repr
from interp.models import ModelCard
from interp.prompts import ConditionSpec, prompt_of_row
from interp.stats import ALPHA, FloatArray, cluster_mean, interval_columns, max_t


@dataclass(frozen=True)
class AttentionResult:
    """What a run measured.

    ``mass``: a row per prompt, layer and head. ``heads``: per contrast and head the mean mass of the
    treated prompts (``treated``) and of their placebos (``placebo``), and the difference with its
    interval and ``p_corrected`` over all heads. ``patterns``: of one item's two prompts, at the layers
    shown.
    """

    config: AttentionConfig
    card: ModelCard
    items: tuple[ChoiceItem, ...]
    spec: ConditionSpec
    mass: pd.DataFrame
    heads: pd.DataFrame
    patterns: dict[str, AttentionPatterns]
    report: Path

    __repr__ = short_repr

    def grid(self, contrast: str, column: str) -> FloatArray:
        """A column of ``heads`` as ``[layer, head]``."""
        return head_grid(self.heads[self.heads["contrast"] == contrast], column)

    def most_above_placebo(self, contrast: str) -> dict[Any, Any]:
        """The row of ``heads`` with the largest difference, whether it stands out or not."""
        return most_above_placebo(self.heads[self.heads["contrast"] == contrast])

    def standing_out(self, contrast: str) -> pd.DataFrame:
        """The heads that give the instruction more than its placebo with all heads corrected for."""
        rows = self.heads[self.heads["contrast"] == contrast]
        return rows[(rows["p_corrected"] < ALPHA) & (rows["estimate"] > 0)]

    @property
    def example(self) -> pd.DataFrame:
        """The rows of ``mass`` of the prompts whose patterns were kept."""
        names = ["item", "contrast", "slot"]
        return self.mass[(self.mass[names] == self.mass.loc[0, names]).all(axis=1)]


def read(asked: Question[AttentionConfig], saved: Saved) -> AttentionResult:
    """The result of the saved rows."""
    mass = saved.table("attention")
    contrasts = (asked.config.condition, CONTROL)
    return AttentionResult(
        config=asked.config,
        card=saved.card,
        items=asked.items,
        spec=asked.spec,
        mass=mass,
        heads=pd.concat(
            [head_table(mass, name, asked.config.seed) for name in contrasts], ignore_index=True
        ),
        patterns={
            row["condition"]: patterns_of(row) for row in saved.table("patterns").to_dict("records")
        },
        report=saved.report,
    )


def head_means(mass: pd.DataFrame, contrast: str) -> pd.DataFrame:
    """Mean mass per head, treated and placebo, and their difference in ``estimate``."""
    rows = mass[mass["contrast"] == contrast]
    arm = np.where(rows["condition"] == "placebo", "placebo", "treated")
    by_item = rows.groupby(["layer", "head", arm, "item"])["mass"].mean()
    means = by_item.groupby(level=[0, 1, 2]).mean().unstack(2)
    means = means.reset_index().rename_axis(columns=None)[["layer", "head", "treated", "placebo"]]
    return means.assign(estimate=means["treated"] - means["placebo"])


def head_table(mass: pd.DataFrame, contrast: str, seed: int) -> pd.DataFrame:
    """:func:`head_means` with intervals of the difference, and ``p_corrected`` over heads (max-t).

    A text and its placebo on one item are an observation; wordings and clusters of items are random.
    ``seed``: of the draws of max-t.
    """
    rows = mass[mass["contrast"] == contrast]
    is_placebo = rows["condition"] == "placebo"
    index, pair = ["layer", "head"], ["item", "slot"]
    treated, placebo = (
        part.pivot_table(index=index, columns=pair, values="mass", sort=True)
        for part in (rows[~is_placebo], rows[is_placebo])
    )
    difference = (treated - placebo[treated.columns]).to_numpy()
    of_item = rows.drop_duplicates("item").set_index("item")["cluster"]
    clusters = of_item.loc[treated.columns.get_level_values("item")].tolist()
    slots = treated.columns.get_level_values("slot").tolist()
    wordings, n = (slots if len(set(slots)) > 1 else None), len(set(slots))
    interval = replace(cluster_mean(difference, clusters, wordings=wordings), texts=(n, n))
    test = max_t(difference, clusters, wordings=wordings, seed=seed, labels=("heads", contrast))
    frame = head_means(mass, contrast).drop(columns="estimate")
    frame.insert(0, "contrast", contrast)
    return frame.assign(**interval_columns(interval), p_corrected=test.p_corrected)


def head_grid(rows: pd.DataFrame, column: str) -> FloatArray:
    """A column as ``[layer, head]``."""
    table = rows.pivot_table(index="layer", columns="head", values=column, sort=True)
    return np.asarray(table.to_numpy(dtype=float))


def most_above_placebo(heads: pd.DataFrame) -> dict[Any, Any]:
    """The row of :func:`head_means` or :func:`head_table` with the largest difference."""
    return heads.nlargest(1, "estimate").to_dict("records")[0]


def layers_shown(mass: pd.DataFrame, item: str, slot: int, condition: str) -> tuple[int, ...]:
    """Where the example is looked at: the layer of the head that stands out, and its strongest one."""
    standing_out = int(most_above_placebo(head_means(mass, condition))["layer"])
    own = mass[(mass["item"] == item) & (mass["slot"] == slot) & (mass["condition"] == condition)]
    by_layer = own.groupby("layer")["mass"].mean()
    return tuple(sorted({standing_out, int(by_layer.index[int(by_layer.argmax())])}))


def patterns_of(row: Mapping[Any, Any]) -> AttentionPatterns:
    """The patterns of a prompt from its row: ``weights`` is ``[layer, head, dest, src]``, flat."""
    prompt, layers = prompt_of_row(row), tuple(map(int, row["layers"]))
    weights = torch.tensor(row["weights"], dtype=torch.float32)
    n = len(prompt)
    return AttentionPatterns(weights.reshape(len(layers), -1, n, n), layers, prompt)
