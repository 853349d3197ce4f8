"""Scores of edges against those along which a program's variables pass.

The truth has no positions, and neither have these edges. The embedding's edges carry tokens and
positions together. A position is the same in both prompts of a pair, so that no exchange between two
prompts can show an edge that carries it alone: such an edge counts as false.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TypeAlias

import pandas as pd
from transformer_lens.model_bridge import TransformerBridge

from analyses.benchmarks.known.scored import DECIMALS, N_PATH, Scores, scored_rows
from interp.circuits import CircuitEdge, edge_scores
from interp.known import Truth
from interp.prompts import PromptPair

Method: TypeAlias = Callable[[TransformerBridge, Sequence[PromptPair]], pd.DataFrame]


def exact(model: TransformerBridge, pairs: Sequence[PromptPair]) -> pd.DataFrame:
    """Every edge alone from the source run into the destination (denoising)."""
    return edge_scores(model, pairs, method="exact", over_pairs="mean_absolute", progress=False)


def exact_noising(model: TransformerBridge, pairs: Sequence[PromptPair]) -> pd.DataFrame:
    """The same the other way: every edge from the destination into the source run."""
    return exact(model, [pair.swap() for pair in pairs])


def gradient(
    model: TransformerBridge, pairs: Sequence[PromptPair], *, steps: int = 1
) -> pd.DataFrame:
    """Edge attribution patching (EAP)."""
    return edge_scores(model, pairs, steps=steps, over_pairs="mean_absolute", progress=False)


def integrated_gradients(model: TransformerBridge, pairs: Sequence[PromptPair]) -> pd.DataFrame:
    """EAP with the gradient averaged on the way of the embeddings (EAP-IG inputs)."""
    return gradient(model, pairs, steps=N_PATH)


METHODS: Mapping[str, Method] = {
    "exact, denoising": exact,
    "exact, noising": exact_noising,
    "attribution": gradient,
    "integrated gradients": integrated_gradients,
}


def edge_rows(
    model: TransformerBridge, truth: Truth, pairs: Sequence[PromptPair]
) -> list[dict[str, object]]:
    """One row per method, over all edges of the model; ``missed`` names the true ones that score 0."""
    found = {name: _by_label(method(model, pairs)) for name, method in METHODS.items()}
    used = true_edges(truth)
    true = pd.Series({label: label in used for label in next(iter(found.values())).index})
    rows = scored_rows(truth, found, true)
    for row in rows:
        scores = found.get(str(row["method"]))
        missed = [] if scores is None else [k for k in true.index[true] if scores[k] == 0]
        row["missed"] = ", ".join(missed)
    return rows


def true_edges(truth: Truth) -> set[str]:
    """Labels of the edges that carry a used variable which can differ between two prompts."""
    return {
        CircuitEdge(edge.source, edge.destination, edge.input).label
        for edge in truth.edges
        if edge.used and edge.source != "pos_embed"
    }


def _by_label(scores: pd.DataFrame) -> Scores:
    return scores.set_index("edge")["score"].round(DECIMALS)
