"""What an attention run measured: the mass on the instruction per head, and an example's patterns."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from analyses.attention.config import AttentionConfig
from analyses.contrast import CONTROL, Question
from analyses.study import Saved
from interp.activations import AttentionPatterns
from interp.data import ChoiceItem
from interp.models import ModelCard
from interp.prompts import ConditionSpec, prompt_of_row
from interp.stats import FloatArray, cluster_bootstrap, interval_columns


@dataclass(frozen=True)
class AttentionResult:
    """What a run measured.

    ``mass``: a row per prompt, layer and head. ``heads``: per contrast and head the mean mass of the
    treated prompts (``treated``) and of their placebos (``placebo``), and the difference with its
    interval over clusters of items. ``patterns``: of one item's two prompts, at the layers shown.
    """

    config: AttentionConfig
    card: ModelCard
    items: tuple[ChoiceItem, ...]
    spec: ConditionSpec
    mass: pd.DataFrame
    heads: pd.DataFrame
    patterns: dict[str, AttentionPatterns]
    report: Path

    def grid(self, contrast: str, column: str) -> FloatArray:
        """A column of ``heads`` as ``[layer, head]``."""
        return head_grid(self.heads[self.heads["contrast"] == contrast], column)

    @property
    def example(self) -> pd.DataFrame:
        """The rows of ``mass`` of the prompts whose patterns were kept."""
        first = self.mass.iloc[0]
        return self.mass[
            (self.mass["item"] == first["item"])
            & (self.mass["contrast"] == first["contrast"])
            & (self.mass["slot"] == first["slot"])
        ]


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
        patterns=_patterns(saved.table("patterns"), saved.table("prompts")),
        report=saved.report,
    )


def head_table(mass: pd.DataFrame, contrast: str, seed: int) -> pd.DataFrame:
    """Mean mass per head, treated and placebo, and the difference, means over texts then items."""
    rows = mass[mass["contrast"] == contrast]
    keys = ["layer", "head"]
    by_item = {
        arm: rows[(rows["condition"] == "placebo") == (arm == "placebo")].pivot_table(
            index=keys, columns="item", values="mass", sort=True
        )
        for arm in ("treated", "placebo")
    }
    difference = by_item["treated"] - by_item["placebo"]
    clusters = rows.drop_duplicates("item").set_index("item")["cluster"].loc[difference.columns]
    interval = cluster_bootstrap(difference.to_numpy(), clusters, seed=seed, labels=(contrast,))
    frame = difference.index.to_frame(index=False)
    frame.insert(0, "contrast", contrast)
    means = {arm: table.mean(axis=1).to_numpy() for arm, table in by_item.items()}
    return frame.assign(**means, **interval_columns(interval))


def head_grid(rows: pd.DataFrame, column: str) -> FloatArray:
    """A column as ``[layer, head]``."""
    table = rows.pivot_table(index="layer", columns="head", values=column, sort=True)
    return np.asarray(table.to_numpy(dtype=float))


def most_above_placebo(difference: FloatArray) -> tuple[int, int]:
    """The (layer, head) with the largest difference."""
    layer, head = np.unravel_index(int(difference.argmax()), difference.shape)
    return int(layer), int(head)


def layers_shown(mass: pd.DataFrame, item: str, slot: int, condition: str) -> tuple[int, ...]:
    """Where the example is looked at: the layer of the head that stands out, and its strongest one."""
    rows = head_table(mass, condition, seed=0)
    standing_out, _ = most_above_placebo(head_grid(rows, "estimate"))
    own = mass[(mass["item"] == item) & (mass["slot"] == slot) & (mass["condition"] == condition)]
    strongest = int(head_grid(own, "mass").mean(axis=1).argmax())
    return tuple(sorted({standing_out, strongest}))


def _patterns(rows: pd.DataFrame, prompts: pd.DataFrame) -> dict[str, AttentionPatterns]:
    found = {}
    for prompt in prompts.to_dict("records"):
        own = rows[rows["condition"] == prompt["condition"]]
        layers = tuple(int(layer) for layer in dict.fromkeys(own["layer"]))
        n_heads, n = own["head"].nunique(), len(prompt["ids"])
        values = torch.from_numpy(np.stack(own["weights"].tolist()).astype(np.float32))
        shape = (len(layers), n_heads, n, n)
        found[str(prompt["condition"])] = AttentionPatterns(
            values.reshape(shape), layers, prompt_of_row(prompt)
        )
    return found
