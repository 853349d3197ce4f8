"""Tables of a patching run: the effect to explain, the spans' shares, the largest cells."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
import pandas as pd

from interp.patching import SweepResult
from interp.prompts import TokenizedPrompt
from interp.stats import Interval, cluster_bootstrap, ratio_bootstrap, two_way_bootstrap
from interp.viz.grids import cell_name
from interp.viz.sweeps import largest_cells

CONTROL = "revealing"
"""The condition of the positive control."""

TOP = 20
Results = Mapping[tuple[str, str], SweepResult]


def named(result: SweepResult, prompt: TokenizedPrompt) -> pd.DataFrame:
    """A pair's table, with positions named by :func:`place_name`; ``token`` keeps the token."""
    frame = result.to_dataframe()
    if "pos" not in frame:
        return frame
    labels = result.axis_labels["pos"]
    places = [place_name(prompt, int(label.rsplit("_", 1)[1])) for label in labels]
    return frame.assign(
        token=frame["pos"], pos=frame["pos"].map(dict(zip(labels, places, strict=True)))
    )


def place_name(prompt: TokenizedPrompt, position: int) -> str:
    """``instruction +3``: a position by its span and its offset there; the last one is ``last``.

    So the positions that are read meet, whatever the tokens that a pair's options share.
    """
    span = prompt.span_of(position)
    if position == len(prompt) - 1:
        return f"{span} last"
    return f"{span} +{position - prompt.spans[span].start}"


def sweep_totals(frames: Mapping[str, pd.DataFrame], seed: int) -> pd.DataFrame:
    """The effect there is to explain, mean(source - destination), per condition and context.

    Interval: over clusters of items, and over texts as well where there are several.
    """
    rows = []
    for condition, frame in frames.items():
        pairs = frame.drop_duplicates("pair")
        contexts = list(dict.fromkeys(pairs["context"]))
        for context in ["all", *contexts] if len(contexts) > 1 else ["all"]:
            chosen = pairs if context == "all" else pairs[pairs["context"] == context]
            interval = _total(chosen, seed)
            rows.append(
                {
                    "condition": condition,
                    "context": contexts[0] if len(contexts) == 1 else context,
                    "effect": interval.estimate,
                    "low": interval.low,
                    "high": interval.high,
                    "pairs": len(chosen),
                    "items": chosen["item"].nunique(),
                    "clusters": int(interval.n_clusters),
                    "texts": chosen["slot"].nunique(),
                    "reason": interval.reason,
                }
            )
    return pd.DataFrame(rows)


def total_of(totals: pd.DataFrame, condition: str) -> Interval:
    """The total over all items of a condition, from :func:`sweep_totals`."""
    row = totals[totals["condition"] == condition].iloc[0]
    effect, low, high = (float(row[name]) for name in ("effect", "low", "high"))
    return Interval(
        effect, low, high, int(row["items"]), int(row["clusters"]), reason=row["reason"]
    )


def _total(pairs: pd.DataFrame, seed: int) -> Interval:
    items = pairs.drop_duplicates("item").set_index("item")["cluster"]
    source, destination = (
        pairs.pivot(index="slot", columns="item", values=name)[items.index].to_numpy(float)
        for name in ("source", "destination")
    )
    clusters = items.tolist()
    if len(source) == 1:
        difference = (source - destination)[0]
        return cluster_bootstrap(difference, clusters, seed=seed, labels=("total",))
    return two_way_bootstrap(source, destination, clusters, seed=seed, labels=("total",))


def whole_summary(results: Results) -> pd.DataFrame:
    """One row per condition, site and span: mean effect, share of the total, largest cell.

    A span's number is the mean over its cells (layers, positions, heads). Grids by head without
    positions have one row per layer.
    """
    parts = []
    for (condition, site), result in results.items():
        part = _summary(result)
        part.insert(0, "site", site)
        part.insert(0, "condition", condition)
        parts.append(part)
    return pd.concat(parts, ignore_index=True)


def _summary(result: SweepResult) -> pd.DataFrame:
    effects = result.effect().double().numpy().reshape(len(result.index_df), -1)
    groups = _groups(result)
    names = list(dict.fromkeys(groups))
    means = np.stack([_mean(effects[groups == name]) for name in names])
    assert result.baseline is not None  # the engine always records it
    total = (result.source_baseline - result.baseline).double().numpy()
    mean = cluster_bootstrap(means, result.clusters, seed=result.seed, labels=("span",))
    share = ratio_bootstrap(means, total, result.clusters, seed=result.seed, labels=("span share",))
    cells = _mean(effects.T)
    size = np.nan_to_num(np.abs(cells), nan=-1.0)
    largest = [int(np.where(groups == name, size, -2.0).argmax()) for name in names]
    labels = result.cell_labels()
    return pd.DataFrame(
        {
            "span": names,
            "cells": [int((groups == name).sum()) for name in names],
            "effect": mean.estimate,
            "low": mean.low,
            "high": mean.high,
            "share": share.estimate,
            "share_low": share.low,
            "share_high": share.high,
            "largest_cell": [labels[k] for k in largest],
            "largest_effect": cells[largest],
            "reason": share.reason,
        }
    )


def _groups(result: SweepResult) -> npt.NDArray[np.object_]:
    """The span of every cell."""
    index = result.index_df
    if "span" in index:
        return index["span"].to_numpy(dtype=object)
    if "pos" in index:
        return index["pos"].str.rsplit(" ", n=1).str[0].to_numpy(dtype=object)
    return ("layer " + index["layer"].astype(str)).to_numpy(dtype=object)


def _mean(values: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Mean over the first axis of what is there; NaN where nothing is."""
    there = ~np.isnan(values)
    count = there.sum(axis=0)
    return np.divide(
        np.where(there, values, 0.0).sum(axis=0),
        count,
        out=np.full(values.shape[1], np.nan),
        where=count > 0,
    )


def top_table(results: Results, k: int = TOP) -> pd.DataFrame:
    """The largest cells of every sweep but ceilings, with intervals and family-wise p (max-T)."""
    parts = []
    for (condition, site), result in results.items():
        top = largest_cells(result, k)
        cells = [cell_name(row) for row in top.to_dict("records")]
        numbers = top.rename(columns={"estimate": "effect"})[["effect", "low", "high", "p"]]
        parts.append(numbers.assign(condition=condition, site=site, cell=cells))
    columns = ["condition", "site", "cell", "effect", "low", "high", "p"]
    return pd.concat(parts, ignore_index=True)[columns]
