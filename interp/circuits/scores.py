"""Scores of heads and MLPs by patching, exact or estimated."""

from __future__ import annotations

from collections.abc import Sequence
from typing import get_args

import numpy as np
import pandas as pd
from tqdm.auto import tqdm
from transformer_lens.model_bridge import TransformerBridge

from interp.circuits.names import OverPairs, ScoreMethod
from interp.circuits.nodes import circuit_nodes, score_table
from interp.errors import InterpError
from interp.patching.attribution import attribute
from interp.patching.metrics import Metric
from interp.patching.plan import ALL
from interp.patching.result import SweepResult
from interp.patching.sweep import sweep
from interp.prompts import PromptPair
from interp.stats import FloatArray


def node_scores(
    model: TransformerBridge,
    pairs: PromptPair | Sequence[PromptPair],
    *,
    method: ScoreMethod = "attribution",
    steps: int = 1,
    over_pairs: OverPairs = "mean",
    metric: str | Metric = "margin",
    progress: bool = True,
) -> pd.DataFrame:
    """The mean effect of patching each head and each MLP from source into destination.

    A node is patched alone, at all aligned positions from the first difference on. For the effect of
    taking it out of the source's run give ``[pair.swap() for pair in pairs]``; its sign is then negative
    where the node carries the difference.

    Args:
        model: a bridge in evaluation mode.
        pairs: one pair or several.
        method: ``"attribution"`` (:func:`interp.patching.attribute`, first-order estimates at the cost
            of three forwards a pair) or ``"exact"`` (:func:`interp.patching.sweep`, a patched run each).
        steps: of the attribution's path (integrated gradients).
        over_pairs: ``"mean"``, or ``"mean_absolute"``: the mean of absolute effects, for
            pairs whose metric has no common direction, so that effects would cancel.
        metric: as in a sweep, one of them; the scores are in its unit.
        progress: show a bar.

    Returns:
        ``node``, ``layer``, ``head`` (missing for an MLP), ``score``: one row per node.

    Raises:
        InterpError: no pairs, an unknown method, steps of an exact method, prompts that are the same,
            and what a sweep refuses.
    """
    pairs = [pairs] if isinstance(pairs, PromptPair) else list(pairs)
    if not pairs:
        raise InterpError("no pairs to score nodes on: the list is empty")
    if over_pairs not in get_args(OverPairs):
        raise InterpError(f"over_pairs is {over_pairs!r}; known: {', '.join(get_args(OverPairs))}")
    each = [
        node_effects(model, pair, method=method, steps=steps, metric=metric)
        for pair in tqdm(pairs, desc="node scores", disable=not progress)
    ]
    effects = np.abs(each) if over_pairs == "mean_absolute" else np.asarray(each)
    return score_table(circuit_nodes(model), effects.mean(0))


def node_effects(
    model: TransformerBridge,
    pair: PromptPair,
    *,
    method: ScoreMethod = "attribution",
    steps: int = 1,
    metric: str | Metric = "margin",
) -> FloatArray:
    """The effect of patching each node of one pair, ``[node]`` in the order of ``circuit_nodes``."""
    if method not in get_args(ScoreMethod):
        raise InterpError(f"no method {method!r}; known: {', '.join(get_args(ScoreMethod))}")
    if pair.alignment.first_difference is None:
        raise InterpError(
            f"{pair.label}: its two prompts are the same, so that no node has an effect"
        )
    if method == "exact":
        if steps != 1:
            raise InterpError("steps is for method='attribution': an exact patch takes none")
        heads = sweep(model, pair, site="z", metric=metric, progress=False)
        mlps = sweep(model, pair, site="mlp_out", spans=[ALL], metric=metric, progress=False)
    else:
        # of an MLP one cell a position: first-order effects add up over positions
        found = attribute(
            model, pair, sites=("z", "mlp_out"), steps=steps, metric=metric, progress=False
        )
        heads, mlps = found["z"], found["mlp_out"]
    by_layer = np.concatenate([_effects(heads), _effects(mlps).sum(-1, keepdims=True)], axis=1)
    return by_layer.reshape(-1)


def _effects(result: SweepResult) -> FloatArray:
    """The effects of one pair ``[layer, head or position]``."""
    values: FloatArray = result.effect()[..., 0].double().numpy()
    return values
