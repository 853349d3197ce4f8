"""Rank (RQ1 of arXiv 2407.15286): where the better answer was already on top, does it help more?

The rank of gold is read from the first cyclic order of the clean prompt, the gain (corrected -
placebo) from the other orders: read from one prompt, a low rank would be followed by a gain from
regression to the mean alone.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
from transformer_lens.model_bridge import TransformerBridge

from interp.behaviour import gain_by_rank, score_variants
from interp.data import ChoiceItem
from interp.errors import InterpError
from interp.prompts import Condition, Placement
from interp.stats import (
    FloatArray,
    Interval,
    cluster_mean,
    interval_columns,
    random_wordings,
    require_columns,
)
from interp.superficiality.finding import Finding
from interp.superficiality.rows import metric_name

RANK = "rank"

METRIC = "option_margin"
"""What a gain is a gain of."""

RANKS_OF = ("item", "cluster", "condition", "control_of", "slot", "order", "gold_rank", METRIC,
            "correct")  # fmt: skip
"""Columns of :func:`measure_ranks`: those that :func:`interp.behaviour.gain_by_rank` reads."""


def measure_ranks(
    model: TransformerBridge,
    item: ChoiceItem,
    corrected: Condition,
    placebo: Condition,
    *,
    placement: Placement = "before",
) -> pd.DataFrame:
    """The clean prompt in its first order, both texts in the others: columns :data:`RANKS_OF`.

    Raises:
        InterpError: a prompt beyond the context.
    """
    clean = Condition("clean", "clean", None)
    later = list(range(1, len(item.choices)))
    rows = [
        score_variants(model, item, [clean], placement=placement, orders=[0]),
        score_variants(model, item, [corrected, placebo], placement=placement, orders=later),
    ]
    return pd.concat(rows, ignore_index=True)[list(RANKS_OF)]


def rank_finding(ranks: pd.DataFrame) -> Finding:
    """The gain where gold was ranked first minus that elsewhere, nats.

    Wordings and clusters are random; each item has one of the wordings. The table has gain and accuracy
    per rank.

    Args:
        ranks: of :func:`measure_ranks`.

    Raises:
        InterpError: a missing column, or no item with a rank and a gain.
    """
    require_columns(ranks, RANKS_OF, "the table of ranks")
    (condition,) = set(ranks["condition"]) - {"clean", "placebo"}
    own = ranks.assign(slot=np.where(ranks["condition"] == "clean", ranks["slot"], 0))
    by_rank = gain_by_rank(own, condition=condition, metric="option_margin")
    gain = _gains(ranks, condition)
    first = ranks[(ranks["condition"] == "clean") & (ranks["order"] == 0)].set_index("item")
    top = (first["gold_rank"].loc[gain.index] == 1).to_numpy()
    found = _contrast(gain["gain"].to_numpy(), top, gain["cluster"].tolist(), gain["slot"].tolist())
    of = metric_name(METRIC)
    contrast = {"rank": "top - rest", "measure": "gain", **interval_columns(found)}
    table = pd.DataFrame([*by_rank.table.to_dict("records"), contrast]).astype({"rank": str})
    reading = f"Where the better answer came first, the gain is {found} nats above that elsewhere."
    return Finding(
        RANK,
        f"gain where gold ranked first - elsewhere, nats of {of}",
        found,
        float(found.p),
        "the gain does not depend on the rank before",
        int(found.n),
        reading if not np.isnan(found.estimate) else f"Not measured: {found.reason}.",
        table,
    )


def _gains(ranks: pd.DataFrame, condition: str) -> pd.DataFrame:
    """Per item the mean gain over the orders behind the first, with its cluster and wording."""
    later = ranks[(ranks["order"] > 0) & ranks["condition"].isin([condition, "placebo"])]
    means = later.pivot_table(
        index=["item", "cluster", "slot"], columns="condition", values=METRIC, dropna=False
    )
    means = means.dropna()
    if means.empty:
        raise InterpError("no item has both a rank before and a gain on its other orders")
    gain = (means[condition] - means["placebo"]).rename("gain").reset_index()
    return gain.set_index("item")


def _contrast(
    gain: FloatArray, top: np.ndarray, clusters: list[str], wordings: list[int]
) -> Interval:
    """Mean gain at the top minus that of the rest; NaN with a reason where one of them is empty.

    The interval is that of the mean of its influence values, which are items' parts in the contrast.
    """
    if top.all() or not top.any():
        nan = float("nan")
        n_clusters = len(set(clusters))
        return Interval(
            nan, nan, nan, len(gain), n_clusters, reason="needs items at rank 1 and at others"
        )
    values = np.full(len(gain), gain[top].mean() - gain[~top].mean())
    for side, sign in ((top, 1), (~top, -1)):
        values[side] += sign * (gain[side] - gain[side].mean()) / side.mean()
    return cluster_mean(values, clusters, wordings=random_wordings(wordings))
