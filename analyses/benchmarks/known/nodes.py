"""Scores of heads and MLPs at single positions, against those that a program uses."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TypeAlias

import numpy as np
import pandas as pd
from sklearn.metrics import roc_auc_score
from transformer_lens.model_bridge import TransformerBridge

from interp.known import Truth
from interp.patching import Cells, SweepSite, attribute, sweep
from interp.patching.result import SweepResult
from interp.prompts import PromptPair
from interp.stats import rng

N_PATH = 10
"""Steps of the integrated gradients."""

N_RANDOM = 100
"""Draws of random scores, whose mean is shown."""

DECIMALS = 3
"""Of a score: answers are 1 apart, and rotated weights of up to 10^4 round at 5e-4."""

_CELLS: Mapping[SweepSite, Cells] = {"z": "layer_head_pos", "mlp_out": "layer_pos"}
"""Heads and MLPs, each at single positions."""

Scores: TypeAlias = "pd.Series[float]"
"""One score per cell (label of the node, position): the mean size of its effect over pairs."""

Method: TypeAlias = Callable[[TransformerBridge, Sequence[PromptPair]], Scores]


def exact(model: TransformerBridge, pairs: Sequence[PromptPair]) -> Scores:
    """Every cell of the source run copied into the destination (denoising)."""
    return _sizes(
        {
            site: sweep(model, pairs, site=site, cells=cells, positions="all", progress=False)
            for site, cells in _CELLS.items()
        }
    )


def exact_noising(model: TransformerBridge, pairs: Sequence[PromptPair]) -> Scores:
    """The same the other way: every cell of the destination copied into the source run."""
    return exact(model, [pair.swap() for pair in pairs])


def gradient(model: TransformerBridge, pairs: Sequence[PromptPair], *, steps: int = 1) -> Scores:
    """Attribution patching: difference of the runs times the gradient on the destination."""
    found: dict[str, SweepResult] = {}
    for site, cells in _CELLS.items():
        found |= attribute(
            model, pairs, sites=[site], cells=cells, positions="all", steps=steps, progress=False
        )
    return _sizes(found)


def integrated_gradients(model: TransformerBridge, pairs: Sequence[PromptPair]) -> Scores:
    """The gradient averaged on the way of the inputs from one run to the other (EAP-IG inputs)."""
    return gradient(model, pairs, steps=N_PATH)


METHODS: Mapping[str, Method] = {
    "exact, denoising": exact,
    "exact, noising": exact_noising,
    "attribution": gradient,
    "integrated gradients": integrated_gradients,
}


def node_rows(
    model: TransformerBridge, truth: Truth, pairs: Sequence[PromptPair]
) -> list[dict[str, object]]:
    """One row per method: area under the ROC curve, and the share of true cells among the top ones."""
    rows = []
    for name, method in METHODS.items():
        scores = method(model, pairs)
        true = true_cells(truth, scores)
        rows.append(_row(name, _auroc(true, scores), _found(true, scores), true))
    generator = rng(0, "random scores", truth.name)
    drawn = [pd.Series(generator.random(len(true)), index=true.index) for _ in range(N_RANDOM)]
    areas = [_auroc(true, one) for one in drawn]
    found = [_found(true, one) for one in drawn]
    rows.append(_row("random", float(np.mean(areas)), float(np.mean(found)), true))
    return rows


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


def _auroc(true: pd.Series[bool], scores: Scores) -> float:
    return float(roc_auc_score(true, scores))


def _found(true: pd.Series[bool], scores: Scores) -> float:
    """Share of the true cells among as many of the highest scores; one that scores 0 is not found."""
    top = scores.nlargest(int(true.sum()))
    return float((true.loc[top.index] & (top > 0)).sum() / true.sum())


def _row(method: str, auroc: float, found: float, true: pd.Series[bool]) -> dict[str, object]:
    return {
        "method": method,
        "auroc": auroc,
        "found": found,
        "true_cells": int(true.sum()),
        "cells": len(true),
    }
