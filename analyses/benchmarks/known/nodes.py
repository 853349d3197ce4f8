"""Scores of heads and MLPs at single positions, against those that a program uses."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pandas as pd
from transformer_lens.model_bridge import TransformerBridge

from analyses.benchmarks.known.scored import DECIMALS, Scores, by_method, scored_rows
from interp.known import Truth
from interp.patching import Cells, SweepSite, attribute, sweep
from interp.patching.result import SweepResult
from interp.patching.sites import AttributionMethod
from interp.prompts import PromptPair

_CELLS: Mapping[SweepSite, Cells] = {"z": "layer_head_pos", "mlp_out": "layer_pos"}
"""Heads and MLPs, each at single positions."""


def exact(model: TransformerBridge, pairs: Sequence[PromptPair]) -> Scores:
    """Every cell of the source run copied into the destination (denoising)."""
    return _sizes(
        {
            site: sweep(model, pairs, site=site, cells=cells, positions="all", progress=False)
            for site, cells in _CELLS.items()
        }
    )


def estimate(
    model: TransformerBridge,
    pairs: Sequence[PromptPair],
    *,
    method: AttributionMethod = "gradient",
    steps: int = 1,
) -> Scores:
    """Difference of the runs times the gradient on the destination, or RelP's coefficient."""
    found: dict[str, SweepResult] = {}
    for site, cells in _CELLS.items():
        found |= attribute(
            model, pairs, sites=[site], cells=cells, positions="all", method=method, steps=steps,
            progress=False,
        )  # fmt: skip
    return _sizes(found)


def node_rows(
    model: TransformerBridge, truth: Truth, pairs: Sequence[PromptPair]
) -> list[dict[str, object]]:
    """One row per method, over the cells of all heads and MLPs."""
    found = by_method(model, pairs, exact=exact, estimate=estimate)
    return scored_rows(truth.name, found, true_cells(truth, next(iter(found.values()))))


def true_cells(truth: Truth, scores: Scores) -> pd.Series[bool]:
    """Which cells the program uses: a node, at a position where it can change the answer."""
    used = {(node.label, position) for node in truth.used_nodes for position in node.positions}
    return pd.Series([cell in used for cell in scores.index], index=scores.index)


def _sizes(results: Mapping[str, SweepResult]) -> Scores:
    found: dict[tuple[str, int], float] = {}
    for site, result in results.items():
        sizes = (result.values - result.baseline).abs().nan_to_num().mean(-1)
        for layer in range(sizes.shape[0]):
            for head in range(sizes.shape[1]) if site == "z" else [None]:
                label = f"L{layer} MLP" if head is None else f"L{layer}H{head}"
                row = sizes[layer] if head is None else sizes[layer, head]
                found |= {(label, position): float(size) for position, size in enumerate(row)}
    return pd.Series(found).round(DECIMALS)
