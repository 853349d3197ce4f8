"""What an attention run measured: the mass on the instruction per head, and an example's patterns."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from analyses.attention.config import AttentionConfig, named_heads
from analyses.contrast import CONTROL, Question
from analyses.study import Saved
from interp.activations import AttentionPatterns, SpanAttention
from interp.activations.span_attention import LATER, mean_span_attention
from interp.data import ChoiceItem
from interp.display import short_repr
from interp.errors import InterpError
from interp.models import ModelCard
from interp.prompts import ConditionSpec, prompt_of_row
from interp.stats import ALPHA, FloatArray, cluster_mean, interval_columns, max_t, random_wordings
from interp.viz.attention_view import Head

MOST_HEADS = 6
"""How many heads are chosen where none are named; the layers of these are kept of the example."""


@dataclass(frozen=True)
class AttentionResult:
    """What a run measured.

    ``mass``: a row per prompt, layer and head. ``heads``: per contrast and head the mean mass of the
    treated prompts (``treated``) and of their placebos (``placebo``), and the difference with its
    interval and ``p_corrected`` over all heads. ``spans``: by condition (and ``placebo``) the mass from
    every span to every span, the mean over items with one wording each (none in runs of before it
    was saved). ``patterns``: of one item's two prompts, at the layers of the heads that are ``shown``
    token by token.
    """

    config: AttentionConfig
    card: ModelCard
    items: tuple[ChoiceItem, ...]
    spec: ConditionSpec
    mass: pd.DataFrame
    heads: pd.DataFrame
    spans: dict[str, SpanAttention]
    patterns: dict[str, AttentionPatterns]
    shown: tuple[Head, ...]
    report: Path

    __repr__ = short_repr

    def grid(self, contrast: str, column: str) -> FloatArray:
        """A column of ``heads`` as ``[layer, head]``."""
        return head_grid(self.heads[self.heads["contrast"] == contrast], column)

    def span_to_span(self) -> pd.DataFrame:
        """A row per condition, layer, head, query span and key span: ``mass``, and ``n_prompts``.

        Query spans are the prompt's and ``later positions``, those after the key span.
        """
        frames = [
            masses.to_dataframe().assign(condition=name, n_prompts=masses.n_prompts)
            for name, masses in self.spans.items()
        ]
        columns = ["condition", "layer", "head", "query", "key", "mass", "n_prompts"]
        if not frames:
            return pd.DataFrame(columns=columns)
        return pd.concat(frames, ignore_index=True)[columns].dropna(ignore_index=True)

    def most_above_placebo(self, contrast: str) -> dict[Any, Any]:
        """The row of ``heads`` with the largest difference, whether it stands out or not."""
        return most_above_placebo(self.heads[self.heads["contrast"] == contrast])

    def standing_out(self, contrast: str) -> pd.DataFrame:
        """The heads that give the instruction more than its placebo with all heads corrected for."""
        rows = self.heads[self.heads["contrast"] == contrast]
        return rows[(rows["p_corrected"] < ALPHA) & (rows["estimate"] > 0)]


def read(asked: Question[AttentionConfig], saved: Saved) -> AttentionResult:
    """The result of the saved rows."""
    mass = saved.table("attention")
    blocked = saved.table("knockout") if saved.has("knockout") else None
    patterns = {
        row["condition"]: patterns_of(row) for row in saved.table("patterns").to_dict("records")
    }
    kept = next(iter(patterns.values())).layers
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
        spans=mean_spans(saved.table("spans")) if saved.has("spans") else {},
        patterns=patterns,
        shown=choose_heads(asked.config, mass, blocked, layers=kept),
        report=saved.report,
    )


def mean_spans(rows: pd.DataFrame) -> dict[str, SpanAttention]:
    """The mean over items of every condition's masses from span to span."""
    return {
        str(name): mean_span_attention([masses_of(row) for row in own.to_dict("records")])
        for name, own in rows.groupby("condition", sort=False)
    }


def choose_heads(
    config: AttentionConfig,
    mass: pd.DataFrame,
    blocked: pd.DataFrame | None = None,
    *,
    layers: Sequence[int] | None = None,
) -> tuple[Head, ...]:
    """The heads that were named, or the six of the largest values by the configuration's choice.

    ``blocked``: effects of knockouts; ``layers``: among which heads are chosen, None takes all.
    """
    named = named_heads(config.heads)
    if named:
        return named
    means = head_means(mass, config.condition)
    values = means["treated"] if config.heads == "instruction" else means["estimate"]
    if blocked is not None:
        by_head = blocked.groupby(["layer", "head"])["effect"].mean().abs()
        values = by_head.loc[list(zip(means["layer"], means["head"], strict=True))].reset_index(
            drop=True
        )
    order = means.assign(value=values)
    if layers is not None:
        order = order[order["layer"].isin(layers)]
    top = order.nlargest(MOST_HEADS, "value")
    return tuple((int(layer), int(head)) for layer, head in top[["layer", "head"]].to_numpy())


def require_heads(config: AttentionConfig, cfg: Any) -> None:
    """Refuse a named head that the model does not have."""
    for layer, head in named_heads(config.heads):
        if layer >= cfg.n_layers or head >= cfg.n_heads:
            raise InterpError(
                f"--heads L{layer}H{head}: the model has layers 0..{cfg.n_layers - 1} and heads "
                f"0..{cfg.n_heads - 1}"
            )


def span_attention(done: AttentionResult, arm: str) -> SpanAttention:
    """From span to span, of the ``treated`` prompts or of their ``placebo``.

    From all later positions to the instruction it is the mean over all wordings, as in ``heads``.
    """
    contrast = done.config.condition
    to_instruction = torch.tensor(done.grid(contrast, arm), dtype=torch.float32)
    masses = done.spans.get(contrast if arm == "treated" else arm)
    if masses is None:
        rows = done.mass[done.mass["contrast"] == contrast]
        n_prompts, layers = (
            len(rows[["item", "slot"]].drop_duplicates()),
            range(len(to_instruction)),
        )
        values = to_instruction[:, :, None, None]
        return SpanAttention(values, tuple(layers), (LATER,), ("instruction",), n_prompts)
    values = masses.values.clone()
    values[:, :, masses.queries.index(LATER), masses.keys.index("instruction")] = to_instruction
    return replace(masses, values=values)


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
    wordings, n = random_wordings(slots), len(set(slots))
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


def masses_of(row: Mapping[Any, Any]) -> SpanAttention:
    """The masses of a prompt from its row: ``mass`` is ``[layer, head, query, key]``, flat."""
    queries, keys = tuple(map(str, row["queries"])), tuple(map(str, row["keys"]))
    values = torch.tensor(row["mass"], dtype=torch.float32)
    values = values.reshape(-1, int(row["n_heads"]), len(queries), len(keys))
    return SpanAttention(values, tuple(range(len(values))), queries, keys)


def patterns_of(row: Mapping[Any, Any]) -> AttentionPatterns:
    """The patterns of a prompt from its row: ``weights`` is ``[layer, head, dest, src]``, flat."""
    prompt, layers = prompt_of_row(row), tuple(map(int, row["layers"]))
    weights = torch.tensor(row["weights"], dtype=torch.float32)
    n = len(prompt)
    return AttentionPatterns(weights.reshape(len(layers), -1, n, n), layers, prompt)
