"""Whether a map can be relied on beyond its p values: checks of its largest cells, and what they say."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pandas as pd

from analyses.report.prose import count
from interp.errors import InterpError
from interp.patching import (
    JACCARD_BAR,
    SweepResult,
    interaction,
    moved_against,
    top_overlap,
)
from interp.patching.axis_columns import with_labels
from interp.patching.localising import is_localising
from interp.stats import ALPHA, holm
from interp.viz.grids import cell_name

REVERSED = "reversed"
"""The arm in which the condition's pairs are patched the other way round."""

TOP = 10
ENOUGH_PAIRS = 100
"""From so many pairs on an overlap of the bar says that the ranking can be trusted."""

AGAINST = 1 / 3
"""A cell that moves more of the pairs against its mean is told of."""


def health_table(
    result: SweepResult, reversed_: SweepResult | None, doses: pd.DataFrame | None
) -> pd.DataFrame:
    """The largest cells and whether they can be relied on.

    Columns: ``cell``, its ``effect``, ``moved_against`` (share of pairs moved the other way) and, with
    checks, ``interaction`` (restored minus lost, with the p of no interaction corrected over these cells
    by Holm; NaN where the other way round has other cells) and ``dose`` (relative norm of the change).
    The ranking's ``overlap`` between resamples is the same in every row; NaN where it cannot be asked.
    """
    names = np.array([cell_name(row) for row in result.index_df.to_dict("records")])
    among = is_localising(result)
    free = np.flatnonzero(among)
    means = np.nan_to_num(np.nanmean(_flat(result.effect().double().numpy()), -1))
    top = free[np.argsort(-np.abs(means[free]), kind="stable")][:TOP]
    against = moved_against(result).reshape(-1)[top]
    table = pd.DataFrame({"cell": names[top], "effect": means[top], "moved_against": against})
    table["overlap"] = _overlap(result, among)
    table["pairs"] = len(result.pair_labels)
    if reversed_ is not None:
        both, p = np.full(len(names), np.nan), np.full(len(names), np.nan)
        if reversed_.axis_labels == result.axis_labels:
            found = interaction(result, reversed_)
            both, p = (np.asarray(v, dtype=float).reshape(-1) for v in (found.estimate, found.p))
        table["interaction"], table["p_interaction"] = both[top], holm(p[top])
    if doses is not None:
        of_cells = with_labels(doses).groupby(list(result.axis_names), sort=False)
        mean = of_cells["dose"].mean().reset_index()
        mean.index = pd.Index([cell_name(row) for row in mean.to_dict("records")])
        table["dose"] = mean["dose"].reindex(names[top]).to_numpy()
    return table


def _flat(values: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    return values.reshape(-1, values.shape[-1])


def _overlap(result: SweepResult, among: npt.NDArray[np.bool_]) -> float:
    try:
        return top_overlap(result, TOP, among=among)
    except InterpError:  # too few cells or clusters, or cells that some pairs lack
        return float("nan")


def read_health(table: pd.DataFrame) -> list[str]:
    """The checks that fail, one sentence each, and that the others hold."""
    said = [*_unstable(table), *_against(table), *_interacting(table)]
    if not said:
        return ["The checks of the largest cells all hold (table below)."]
    return said


def _unstable(table: pd.DataFrame) -> list[str]:
    overlap, pairs = float(table["overlap"].iloc[0]), int(table["pairs"].iloc[0])
    if np.isnan(overlap):
        return [
            "Whether another sample would name the same largest cells cannot be asked of so few "
            "clusters or cells."
        ]
    if overlap >= JACCARD_BAR and pairs >= ENOUGH_PAIRS:
        return []
    return [
        f"Check: in resamples of the items the {len(table)} largest cells overlap by {overlap:.2f} on "
        f"average (Jaccard index, {count(pairs, 'pair')}; the bar is {JACCARD_BAR} with {ENOUGH_PAIRS} "
        "pairs), so which cells lead is a fact about this sample."
    ]


def _against(table: pd.DataFrame) -> list[str]:
    rows = table[table["moved_against"] > AGAINST]
    if not len(rows):
        return []
    cells = "; ".join(
        f"{cell} {share:.0%}" for cell, share in rows[["cell", "moved_against"]].to_numpy()
    )
    return [f"Check: these move more than a third of the pairs against their own mean: {cells}."]


def _interacting(table: pd.DataFrame) -> list[str]:
    if "interaction" not in table:
        return []
    if table["interaction"].isna().all():
        return [
            "Check: patched the other way round the prompts have other cells, so that what a cell "
            "brings cannot be compared with what it costs."
        ]
    rows = table[table["p_interaction"] < ALPHA]
    if not len(rows):
        return []
    sign = np.sign(rows["effect"]) * np.sign(rows["interaction"])
    more = rows.loc[sign > 0, "cell"].tolist()
    less = rows.loc[sign < 0, "cell"].tolist()
    said = []
    if more:
        said.append(
            "Check: taken out of the source's run these cost less than they bring when put into the "
            f"destination's, as cells do that are backed up: {'; '.join(more)}."
        )
    if less:
        said.append(
            "Check: taken out of the source's run these cost more than they bring when put into the "
            f"destination's, as cells do that need others to act: {'; '.join(less)}."
        )
    return said
