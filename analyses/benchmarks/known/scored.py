"""How well scores of cells or edges tell the true ones from the others."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TypeAlias, TypeVar

import numpy as np
import pandas as pd
from sklearn.metrics import roc_auc_score
from transformer_lens.model_bridge import TransformerBridge

from interp.prompts import PromptPair
from interp.stats import rng

N_PATH = 10
"""Steps of the integrated gradients."""

N_RANDOM = 100
"""Draws of random scores, whose mean is shown."""

DECIMALS = 3
"""Of a score: answers are 1 apart, and rotated weights of up to 10^4 round at 5e-4."""

Scores: TypeAlias = "pd.Series[float]"
"""One score per cell or edge: the mean size of its effect over pairs."""


Found = TypeVar("Found")


def by_method(
    model: TransformerBridge,
    pairs: Sequence[PromptPair],
    *,
    exact: Callable[[TransformerBridge, Sequence[PromptPair]], Found],
    estimate: Callable[..., Found],
) -> dict[str, Found]:
    """What every method finds, by its name.

    ``exact(model, pairs)`` copies from the source run into the destination (denoising); the swapped
    pairs are the other way (noising). ``estimate(model, pairs, method="gradient", steps=1)`` is
    attribution, with more steps integrated gradients: the gradient averaged on the way of the inputs
    (EAP-IG inputs); with ``method="relp"`` relevance patching.
    """
    return {
        "exact, denoising": exact(model, pairs),
        "exact, noising": exact(model, [pair.swap() for pair in pairs]),
        "attribution": estimate(model, pairs),
        "integrated gradients": estimate(model, pairs, steps=N_PATH),
        "relp": estimate(model, pairs, method="relp"),
    }


def scored_rows(
    name: str, scores_of: Mapping[str, Scores], true: pd.Series[bool]
) -> list[dict[str, object]]:
    """One row per method: area under the ROC curve, and the share of true ones among the top.

    ``name``: the model's, by which the random scores are drawn.
    """
    rows = [
        _row(method, _auroc(true, scores), _found(true, scores), true)
        for method, scores in scores_of.items()
    ]
    generator = rng(0, "random scores", name)
    drawn = [pd.Series(generator.random(len(true)), index=true.index) for _ in range(N_RANDOM)]
    areas = [_auroc(true, one) for one in drawn]
    found = [_found(true, one) for one in drawn]
    return [*rows, _row("random", float(np.mean(areas)), float(np.mean(found)), true)]


def _auroc(true: pd.Series[bool], scores: Scores) -> float:
    return float(roc_auc_score(true, scores))


def _found(true: pd.Series[bool], scores: Scores) -> float:
    """Share of the true ones among as many of the highest scores; one that scores 0 is not found."""
    top = scores.nlargest(int(true.sum()))
    return float((true.loc[top.index] & (top > 0)).sum() / true.sum())


def _row(method: str, auroc: float, found: float, true: pd.Series[bool]) -> dict[str, object]:
    return {
        "method": method,
        "auroc": auroc,
        "found": found,
        "true": int(true.sum()),
        "scored": len(true),
    }
