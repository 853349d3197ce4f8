"""The effect on the answer that a study looks into, in every metric, with the control's three arms.

Patching, the lens and projections read one number of a prompt. Here the same prompts (first order of the
options) are scored by the options' full texts as well, so that every report can say whether its effect
depends on the metric, how much of the control is copying, and how small an effect counts as none.

    rows = score_sides(model, item, {"instructed": (texts, placebos)})  # in a step: one item
    table = totals_of(readings)
    claim = claim_of(table, "instructed")               # with delta from the control
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any, TypeAlias

import numpy as np
import pandas as pd
from transformer_lens.model_bridge import TransformerBridge

from analyses.contrast import CONTROL, CONTROL_ARMS, PromptBench, arm_fits, control_texts
from analyses.report.claims import NAN, Claim, delta_of
from interp.behaviour import score_variants
from interp.data import ChoiceItem
from interp.prompts import Condition, Placement, TextBank
from interp.stats import Interval, cluster_mean, effect, interval_columns, interval_of

METRICS: Mapping[str, str] = {
    "margin": "margin",
    "option_margin": "option margin",
    "p_gold": "P(a)",
}
"""Columns of the readings and their names; the first is the one that is patched, followed or claimed."""

Sides: TypeAlias = Mapping[str, tuple[tuple[Condition, ...], tuple[Condition, ...]]]
"""Per condition its texts, and what each is compared with (one prompt: the clean one)."""

TREATED, CONTROLS = "treated", "control"

SIDE_LABELS = ("item", "cluster", "context", "condition", "side", "against", "slot")
"""What names a row of :func:`score_sides`."""


def control_sides(
    bank: TextBank, item: ChoiceItem, arms: Iterable[str], *, beside: str, n_texts: int
) -> Sides:
    """The texts of the control's arms and their placebos, of those that the item can be asked."""
    sides = {}
    for arm in arms:
        if not arm_fits(bank.specs[arm], item):
            continue
        texts = control_texts(bank, item, beside=beside, n_texts=n_texts, arm=arm)
        sides[arm] = (texts, bank.placebos(texts))
    return sides


def condition_sides(bench: PromptBench[Any], item: ChoiceItem) -> Sides:
    """The texts of the bench's condition and their placebos, then the control's arms' and theirs."""
    bank, config = bench.bank, bench.config
    treated = bank.texts(config.condition, item, config.texts)
    control = control_sides(bank, item, bench.arms, beside=config.condition, n_texts=config.texts)
    return {config.condition: (treated, bank.placebos(treated)), **control}


def texts_of_sides(sides: Sides) -> list[Condition]:
    """Every text once, in the order of the conditions, treated before control."""
    return list(dict.fromkeys(text for both in sides.values() for side in both for text in side))


def score_sides(
    model: TransformerBridge, item: ChoiceItem, sides: Sides, *, placement: Placement = "after"
) -> pd.DataFrame:
    """One row per condition, side and text: the metrics of an item in the first order of its options.

    Columns: item, cluster, context, condition, side, against, slot, and the metrics.
    """
    variants = texts_of_sides(sides)
    frame = score_variants(model, item, variants, placement=placement, orders=[0])
    scores = dict(zip(variants, frame[list(METRICS)].to_dict("records"), strict=True))
    rows = []
    for condition, both in sides.items():
        for side, texts in zip((TREATED, CONTROLS), both, strict=True):
            labels = {
                "item": item.id,
                "cluster": item.cluster,
                "context": item.context_condition,
                "condition": condition,
                "side": side,
                "against": both[1][0].name,
            }
            rows += [{**labels, "slot": text.slot, **scores[text]} for text in texts]
    return pd.DataFrame(rows)


def totals_of(readings: pd.DataFrame, metric: str = "margin") -> pd.DataFrame:
    """The effect of every condition against its control: one row per condition, context and metric.

    ``readings``: rows of :func:`score_sides`; ``metric``: the one that is looked into, which comes first
    and is claimed. Columns: condition, against, context (``all`` first where
    there are several), metric, an interval's with its p. Items without a margin are left out. Texts and
    clusters of items are random; where every item has one of several wordings in turn, so are the pairs
    of wordings.
    """
    rows: list[dict[str, Any]] = []
    readings = readings[readings["margin"].notna()]
    for condition, own in readings.groupby("condition", sort=False):
        contexts = list(dict.fromkeys(own["context"]))
        for context in ["all", *contexts] if len(contexts) > 1 else contexts:
            here = own if context == "all" else own[own["context"] == context]
            key = {"condition": condition, "against": own["against"].iloc[0], "context": context}
            rows += [
                key | {"metric": name} | interval_columns(_difference(here, name))
                for name in dict.fromkeys([metric, *METRICS])
            ]
    return pd.DataFrame(rows)


def _difference(rows: pd.DataFrame, metric: str) -> Interval:
    """mean(treated) - mean(control) of a metric, over the items that both have."""
    tables = [
        rows[rows["side"] == side].pivot(index="slot", columns="item", values=metric)
        for side in (TREATED, CONTROLS)
    ]
    items = [name for name in tables[0].columns if name in tables[1].columns]
    arms = [table[items].to_numpy(float) for table in tables]
    clusters = rows.drop_duplicates("item").set_index("item")["cluster"].loc[items].tolist()
    asked = ~np.isnan(arms[0])
    if len(arms[0]) == 1 or (asked.sum(axis=0) > 1).any():
        return effect(arms[0], arms[1], clusters)
    means = [np.nanmean(arm, axis=0) for arm in arms]  # every item has one wording, in turn
    found = cluster_mean(means[0] - means[1], clusters, wordings=asked.argmax(axis=0).tolist())
    return replace(found, texts=(len(arms[0]), len(arms[1])))


def claim_of(totals: pd.DataFrame, condition: str, context: str = "") -> Claim:
    """The claim about a condition: its effect on the metric looked into, the others beside it.

    ``context``: all items by default. delta is a share of what naming the answer does, in the same
    items.
    """
    control = _claim(totals, CONTROL, context) if CONTROL in set(totals["condition"]) else None
    delta = NAN if control is None else delta_of(control)
    return replace(_claim(totals, condition, context), delta=delta)


def control_claims(totals: pd.DataFrame) -> dict[str, Claim]:
    """The control's arms that were run, by condition."""
    there = set(totals["condition"])
    return {name: claim_of(totals, name) for name in CONTROL_ARMS if name in there}


def _claim(totals: pd.DataFrame, condition: str, context: str) -> Claim:
    rows = totals[totals["condition"] == condition]
    rows = rows[rows["context"] == (context or rows["context"].iloc[0])]
    found = {str(row["metric"]): interval_of(row) for row in rows.to_dict("records")}
    first = next(iter(found))
    others = {METRICS[name]: one for name, one in found.items() if name != first}
    clean = bool((rows["against"] == "clean").any())
    return Claim(found[first], others=others, fixed_control=clean)


def verdict_table(totals: pd.DataFrame, difference: str) -> pd.DataFrame:
    """The totals for the report: a row per condition and context, metrics across, and the verdict."""
    rows = []
    for (condition, context), own in totals.groupby(["condition", "context"], sort=False):
        found = {str(row["metric"]): interval_of(row) for row in own.to_dict("records")}
        looked_into = next(iter(found))
        first = found[looked_into]
        claim = claim_of(totals, str(condition), str(context))
        rows.append(
            {
                "condition": condition,
                "context": context,
                **{f"{METRICS[name]}, {difference}": one for name, one in found.items()},
                f"p ({METRICS[looked_into]})": first.p,
                "verdict": claim.verdict,
                "items": first.n,
                "clusters": first.n_clusters,
                "wordings": " x ".join(map(str, first.texts or ())),
            }
        )
    return pd.DataFrame(rows).dropna(axis=1, how="all")
