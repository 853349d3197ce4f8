"""Scores of heads and MLPs, and of the edges between them, by patching, exact or estimated."""

from __future__ import annotations

from collections.abc import Sequence
from typing import get_args

import numpy as np
import pandas as pd
from tqdm.auto import tqdm
from transformer_lens.model_bridge import TransformerBridge

from interp.circuits.ablation import require_ablation
from interp.circuits.edge_effects import estimated_edge_effects, exact_edge_effects
from interp.circuits.names import OverPairs, ScoreMethod, UnitKind
from interp.circuits.units import circuit_units, require_unit, score_table
from interp.errors import InterpError
from interp.patching.attribution import attribute
from interp.patching.metrics import Metric, named_metrics, require_target
from interp.patching.positions import ALL
from interp.patching.result import SweepResult
from interp.patching.sites import AttributionMethod
from interp.patching.sweep import sweep
from interp.prompts import PromptPair
from interp.prompts.align import EQUAL_LENGTHS
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
            of four forwards a pair, the backward counted as two), ``"relp"`` (the same with the
            coefficients of relevance propagation) or ``"exact"`` (:func:`interp.patching.sweep`, a
            patched run each).
        steps: of the attribution's path (integrated gradients).
        over_pairs: ``"mean"``, or ``"mean_absolute"``: the mean of absolute effects, for
            pairs whose metric has no common direction, so that effects would cancel.
        metric: as in a sweep, one of them; the scores are in its unit.
        progress: show a bar.

    Returns:
        ``node``, ``layer``, ``head`` (missing for an MLP), ``score``: one row per node.

    Raises:
        InterpError: no pairs, an unknown method, steps of another method than ``"attribution"``,
            prompts that are the same or not aligned by index, and what a sweep or an attribution
            refuses.
    """
    return _scores(model, pairs, "nodes", method, steps, over_pairs, metric, progress)


def edge_scores(
    model: TransformerBridge,
    pairs: PromptPair | Sequence[PromptPair],
    *,
    method: ScoreMethod = "attribution",
    steps: int = 1,
    over_pairs: OverPairs = "mean",
    metric: str | Metric = "margin",
    progress: bool = True,
) -> pd.DataFrame:
    """The mean effect of patching each edge from source into destination.

    An edge is patched alone, at all positions: see :mod:`interp.circuits.edge_effects`. For the effect
    of taking it out of the source's run give ``[pair.swap() for pair in pairs]``.

    Args:
        model: a bridge in evaluation mode.
        pairs: one pair or several, aligned by index.
        method: ``"attribution"`` (EAP; with ``steps`` EAP-IG inputs), ``"relp"`` (EAP with the
            coefficients of relevance propagation), or ``"exact"``, a run for each of the model's edges:
            of a large model there are too many.
        steps, over_pairs, metric, progress: as in :func:`node_scores`.

    Returns:
        ``edge``, ``source``, ``destination``, ``input``, ``score``: one row per edge.

    Raises:
        InterpError: as :func:`node_scores`; a model whose stream is not the sum of its nodes.
    """
    return _scores(model, pairs, "edges", method, steps, over_pairs, metric, progress)


def _scores(
    model: TransformerBridge,
    pairs: PromptPair | Sequence[PromptPair],
    unit: UnitKind,
    method: ScoreMethod,
    steps: int,
    over_pairs: OverPairs,
    metric: str | Metric,
    progress: bool,
) -> pd.DataFrame:
    pairs = [pairs] if isinstance(pairs, PromptPair) else list(pairs)
    if not pairs:
        raise InterpError(f"no pairs to score {unit} on: the list is empty")
    if over_pairs not in get_args(OverPairs):
        raise InterpError(f"over_pairs is {over_pairs!r}; known: {', '.join(get_args(OverPairs))}")
    # added up one by one: of edges there may be many, on many pairs
    total = np.zeros(1)
    for pair in tqdm(pairs, desc=f"{unit[:-1]} scores", disable=not progress):
        effects = unit_effects(model, pair, unit=unit, method=method, steps=steps, metric=metric)
        total = total + (np.abs(effects) if over_pairs == "mean_absolute" else effects)
    return score_table(circuit_units(model, unit), total / len(pairs))


def unit_effects(
    model: TransformerBridge,
    pair: PromptPair,
    *,
    unit: UnitKind = "nodes",
    method: ScoreMethod = "attribution",
    steps: int = 1,
    metric: str | Metric = "margin",
) -> FloatArray:
    """The effect of patching each node or edge of one pair, ``[unit]`` as in ``circuit_units``."""
    require_unit(unit)
    if method not in get_args(ScoreMethod):
        raise InterpError(f"no method {method!r}; known: {', '.join(get_args(ScoreMethod))}")
    if pair.alignment.first_difference is None:
        raise InterpError(
            f"{pair.label}: its two prompts are the same, so that no {unit[:-1]} has an effect"
        )
    if method != "attribution" and steps != 1:
        raise InterpError(f"steps is for method='attribution': {method!r} takes none")
    if steps < 1:
        raise InterpError(f"steps is {steps}: the gradient is taken at one point at least")
    if not pair.alignment.by_index:
        raise InterpError(
            f"{pair.label}: its prompts are not aligned by index, so that a {unit[:-1]} could be "
            f"patched at some positions only: {EQUAL_LENGTHS}"
        )
    if unit == "edges":
        return _edge_effects(model, pair, method, steps, metric)
    return _node_effects(model, pair, method, steps, metric)


def _edge_effects(
    model: TransformerBridge,
    pair: PromptPair,
    method: ScoreMethod,
    steps: int,
    metric: str | Metric,
) -> FloatArray:
    metrics, several = named_metrics(metric)
    if several:
        raise InterpError(f"edges are scored with one metric, not {len(metrics)}: name one")
    require_ablation(model, [pair], "resample")
    require_target(model, [pair], metrics)
    if method == "exact":
        return exact_edge_effects(model, pair, metrics)
    return estimated_edge_effects(model, pair, metrics, steps, _rules_of(method))


def _node_effects(
    model: TransformerBridge,
    pair: PromptPair,
    method: ScoreMethod,
    steps: int,
    metric: str | Metric,
) -> FloatArray:
    if method == "exact":
        heads = sweep(model, pair, site="z", metric=metric, progress=False)
        mlps = sweep(model, pair, site="mlp_out", spans=[ALL], metric=metric, progress=False)
    else:
        # of an MLP one cell a position: first-order effects add up over positions
        found = attribute(
            model,
            pair,
            sites=("z", "mlp_out"),
            method=_rules_of(method),
            steps=steps,
            metric=metric,
            progress=False,
        )
        heads, mlps = found["z"], found["mlp_out"]
    by_layer = np.concatenate([_effects(heads), _effects(mlps).sum(-1, keepdims=True)], axis=1)
    return by_layer.reshape(-1)


def _rules_of(method: ScoreMethod) -> AttributionMethod:
    return "relp" if method == "relp" else "gradient"


def _effects(result: SweepResult) -> FloatArray:
    """The effects of one pair ``[layer, head or position]``."""
    values: FloatArray = result.effect()[..., 0].double().numpy()
    return values
